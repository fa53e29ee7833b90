//! An expression in the usual layout.
//!
//! The parser lays out what it knows. What [`super::rewrite`] has put into words that it knows is put back afterwards: matchers
//! on [`EDGES`], `< bool` that is a trim, numbers in parentheses that are constants of the query. As a number may also have
//! been written, the expression is laid out as part of two queries, and must look the same.
use std::panic::{AssertUnwindSafe, catch_unwind};

use promql_parser::parser as parsed;

use super::Limits;
use super::duration_expr::Instants;
use super::parse::{parse, parse_for, read_rewritten};
use super::rewrite::{EDGES, Edit, WORDS, edited};
use super::token::{Kind, Token, tokens};
use crate::error::{Error, Result};

/// Terms of an expression that is laid out: each operator of a chain is indented more than the one before, so that the layout
/// grows with the square of their number.
const TERMS_MAX: usize = 1024;

/// The two queries; their constants are numbers about as long as the calls that they stand for.
const QUERIES: [Instants; 2] = [
    Instants { start_ms: 10_010_000, end_ms: 99_010_000, step_ms: 7_010_000 },
    Instants { start_ms: 10_030_000, end_ms: 99_040_000, step_ms: 7_030_000 },
];
const CONSTANTS: [&str; 4] = ["start", "end", "step", "range"];

/// `text` in the usual layout.
///
/// # Errors
/// `Invalid` for what is not PromQL, has too many terms, and for what would be lost on the way.
pub(crate) fn format(text: &str, limits: &Limits) -> Result<String> {
    let limits = &Limits { terms_max: limits.terms_max.min(TERMS_MAX), ..limits.clone() };
    parse_for(text, limits, QUERIES[0])?;
    laid_out(text, limits, parsed::Expr::prettify)?
        .ok_or_else(|| Error::invalid("durations of step() and range() cannot be laid out yet"))
}

/// `text` in the usual layout on one line; as it is written, if that would be lost on the way.
///
/// # Errors
/// `Invalid` for what is not PromQL.
pub(crate) fn one_line(text: &str, limits: &Limits) -> Result<String> {
    parse(text, limits)?;
    let line = laid_out(text, limits, ToString::to_string)?;
    Ok(line.unwrap_or_else(|| text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// `text` as `print` prints it; `None` if that depends on the query.
fn laid_out(text: &str, limits: &Limits, print: fn(&parsed::Expr) -> String) -> Result<Option<String>> {
    let mut both = Vec::with_capacity(QUERIES.len());
    for instants in QUERIES {
        let (expr, trims) = read_rewritten(text, limits, instants)?;
        let printed = catch_unwind(AssertUnwindSafe(|| print(&expr)))
            .map_err(|_| Error::invalid("the expression cannot be laid out"))?;
        both.push(put_back(&printed, instants, &trims));
    }
    both.dedup();
    Ok(both.pop().filter(|_| both.is_empty()))
}

/// `printed` with the syntax that was rewritten.
fn put_back(printed: &str, instants: Instants, trims: &[usize]) -> String {
    let tokens: Vec<Token<'_>> = tokens(printed).collect();
    let constants = CONSTANTS.map(|name| {
        let seconds = instants.constant(name).unwrap_or_default() as f64 / 1000.0;
        (name, seconds.to_string())
    });
    let (mut edits, mut angles) = (Vec::new(), 0);
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Symbol if token.is("<") || token.is(">") => {
                if trims.binary_search(&angles).is_ok()
                    && let Some(modifier) = tokens.get(at + 1)
                {
                    let text = format!("{}/", token.text);
                    edits.push(Edit { from: token.at, to: modifier.end(), text });
                }
                angles += 1;
            }
            Kind::Number => {
                let constant = constants.iter().find(|(_, seconds)| seconds == token.text);
                let around = at.checked_sub(1).and_then(|before| tokens.get(before)).zip(tokens.get(at + 1));
                if let (Some((name, _)), Some((open, close))) = (constant, around)
                    && open.is("(")
                    && close.is(")")
                {
                    edits.push(Edit { from: open.at, to: close.end(), text: format!("{name}()") });
                }
            }
            Kind::Text if token.text.trim_matches('"') == EDGES => edges(&tokens, at, &mut edits),
            _ => {}
        }
    }
    edited(printed, edits).into_owned()
}

/// The matcher on [`EDGES`] at the token `at` becomes a modifier behind the selector, where Prometheus writes it.
fn edges(tokens: &[Token<'_>], at: usize, edits: &mut Vec<Edit>) {
    let is = |at: usize, symbol: &str| tokens.get(at).is_some_and(|token| token.is(symbol));
    let Some(value) = tokens.get(at + 2).filter(|_| at > 0 && is(at + 1, "=")) else { return };
    let word = WORDS.iter().find(|(_, short)| value.text.trim_matches('"') == *short).map_or("", |(word, _)| *word);
    let Some(close) = (at..tokens.len()).find(|&close| is(close, "}")) else { return };
    let (first, last) = match (is(at - 1, "{"), is(at + 3, ",")) {
        (true, false) => (at - 1, at + 3),
        (_, true) => (at, at + 3),
        (false, false) => (at - 1, at + 2),
    };
    let (Some(first), Some(last)) = (tokens.get(first), tokens.get(last)) else { return };
    edits.push(Edit { from: first.at, to: last.end(), text: String::new() });
    let mut end = close;
    if is(close + 1, "[") {
        let bracket = (close..tokens.len()).find(|&at| is(at, "]")).unwrap_or(close);
        // A subquery is no part of the selector.
        if !(close..bracket).any(|at| is(at, ":")) {
            end = bracket;
        }
    } else if is(close + 1, "@") {
        let mut instant = close + 2;
        while is(instant, "-") {
            instant += 1;
        }
        end = if is(instant + 1, "(") && is(instant + 2, ")") { instant + 2 } else { instant };
    }
    if let Some(end) = tokens.get(end).map(Token::end) {
        edits.push(Edit { from: end, to: end, text: format!(" {word}") });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { features: super::super::Features::all(), ..Limits::default() }
    }

    fn laid_out(text: &str) -> String {
        format(text, &limits()).unwrap_or_else(|error| error.message)
    }

    #[test]
    fn newer_syntax_is_laid_out_too() {
        for (text, expect) in [
            ("sum  by(job)(up @ start() offset 5m)", "sum by (job) (up @ start() offset 5m)"),
            ("step()+1", "step() + 1"),
            ("-end()-abs( vector(start()) )*range()", "-end() - abs(vector(start())) * range()"),
            ("rate( a[5m]  anchored )", "rate(a[5m] anchored)"),
            ("rate(a{b=\"c\"}[5m] offset 1m @ 10 smoothed)", "rate(a{b=\"c\"}[5m] smoothed @ 10.000 offset 1m)"),
            ("{b=\"c\",a=\"d\"} anchored offset 1m", "{a=\"d\",b=\"c\"} anchored offset 1m"),
            ("a @ end() offset 1m smoothed", "a @ end() smoothed offset 1m"),
            ("max_over_time((a smoothed)[5m:1m])", "max_over_time((a smoothed)[5m:1m])"),
            ("h</2", "h </ 2"),
            ("(a<1)</on(x)group_left() (b > bool 2) >/3", "(a < 1) </ on (x) group_left () (b > bool 2) >/ 3"),
        ] {
            assert_eq!(laid_out(text), expect, "{text}");
        }
    }

    #[test]
    fn what_is_laid_out_means_the_same_and_stays_as_it_is() {
        for text in [
            "rate(a[5m] anchored) </ start()",
            "histogram_quantile(0.9, rate(a_long_name_of_a_native_histogram{job=\"x\"}[5m]) </ 5 >/ on (job) bbbbbbbbbbbbbb)",
            "a > bool 1 < 2 </ 3 == 4",
            "{a=\"b\"} @ 10.000 smoothed",
        ] {
            let once = laid_out(text);
            assert_eq!(laid_out(&once), once, "{text}");
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join("");
            assert_eq!(words(&once), words(text));
        }
    }

    #[test]
    fn what_a_layout_would_lose_is_not_laid_out() {
        for text in ["a[step() + 2m]", "a offset (range() + 1)"] {
            assert!(laid_out(text).contains("cannot be laid out yet"), "{text}: {}", laid_out(text));
            assert_eq!(one_line(&format!(" {text}\n"), &limits()).as_deref().ok(), Some(text));
        }
        assert_eq!(laid_out("a[5m * 2]"), "a[10m]");
        assert_eq!(one_line("a +\n start()", &limits()).as_deref().ok(), Some("a + start()"));
    }
}
