//! Patterns that the parser need not compile.
//!
//! It makes an automaton of each, which takes longer than many an answer, and only to know that it can. Of a plain pattern that
//! is clear: the parser reads `a="…web-1|web-2"`, with a mark before the value, and the operator is put back in its tree.
use std::sync::LazyLock;

use foretell_engine::PlainPattern;
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser as parsed;
use regex::Regex;

use super::rewrite::Edit;
use super::token::{Kind, Token};

/// What a value begins with whose matcher is one of a pattern.
const MARK: char = '\u{2}';

/// What stands in the parser's tree for all of them. As them, it does not accept the empty string.
static SOME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^x$").ok());

/// Whether no value of `text` can begin with the mark unless it was put there.
pub(crate) fn may_hide(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        // Numbers of characters are written `\x02`, `\u0002`, `\002`.
        let numbered = |next: char| next.is_ascii_digit() || "xuU".contains(next);
        if c == MARK || c == '\\' && chars.next().is_some_and(numbered) {
            return false;
        }
    }
    SOME.is_some()
}

/// What hides the pattern of the matcher whose operator and value are these tokens, if it is a plain one.
pub(crate) fn hide(operator: &Token<'_>, value: &Token<'_>) -> Option<[Edit; 2]> {
    let equal = match operator.text {
        "=~" => "=",
        "!~" => "!=",
        _ => return None,
    };
    let quote = value.text.chars().next().filter(|_| value.kind == Kind::Text)?;
    let inner = value.text.get(1..value.text.len() - 1)?;
    // Of a raw string with backslashes another one is made.
    if quote == '`' && inner.contains('\\') {
        return None;
    }
    PlainPattern::of(&unescaped(inner)?)?;
    let edit = |at: usize, length: usize, text: String| Edit { from: at, to: at + length, text };
    Some([
        edit(operator.at, operator.text.len(), equal.to_owned()),
        edit(value.at, quote.len_utf8(), format!("{quote}{MARK}")),
    ])
}

/// A text without escapes but that of the backslash.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next() != Some('\\') {
            return None;
        }
        out.push(c);
    }
    Some(out)
}

/// Puts the operators of a selector's hidden patterns back.
pub(crate) fn show(selector: &mut parsed::VectorSelector) {
    let Some(some) = &*SOME else { return };
    let matchers = &mut selector.matchers;
    for matcher in matchers.matchers.iter_mut().chain(matchers.or_matchers.iter_mut().flatten()) {
        let Some(pattern) = matcher.value.strip_prefix(MARK) else { continue };
        let op = match matcher.op {
            MatchOp::Equal => MatchOp::Re(some.clone()),
            _ => MatchOp::NotRe(some.clone()),
        };
        *matcher = Matcher::new(op, &matcher.name, pattern);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Limits;
    use super::super::duration_expr::Instants;
    use super::super::fault::locate;
    use super::super::parse::read_rewritten;
    use super::super::rewrite::{Patterns, rewrite};
    use super::super::token::tokens;
    use super::*;

    /// As the parser alone reads it.
    fn alone(text: &str) -> Result<String, String> {
        parsed::parse(text).map(|expr| expr.to_string())
    }

    #[test]
    fn a_text_with_hidden_patterns_is_read_as_it_is_written() {
        let limits = Limits::default();
        for (text, hidden) in [
            ("a{b=~\"c|d\"}", 1),
            ("a{b!~'c.+',e=~\"f(g|h)\"} / {__name__=~\"i.*\",j=~\"k+\"}", 3),
            ("sum by (b) (rate(a{b=~`c|d`}[5m])) > bool quantile(0.9, a{b!~\"c\"} offset 1m)", 2),
            ("a{b=~\"10\\\\.0\\\\.0\\\\.1:9100\"}", 1),
            ("max_over_time((-{a=~\"b\" or c!~\"d\", e=\"f\"})[5m:1m])", 2),
            ("a{b=~\"c\",d=\"c\"}", 1),
            ("a{b=~`c\\.`}", 0),
            ("a{b=~\"\"}", 0),
            ("a{b=~\".*\"}", 0),
            ("a{b=~\"c\",d=\"\\x02e\"}", 0),
            ("a{b=~\"c\",d=\"\u{2}e\"}", 0),
            ("{\"a.b\"=~\"c|d\",\"e\"}", 1),
            ("a{b=~ # what follows\n \"c\"}", 1),
            ("label_replace(a{b=~\"c\"}, \"d\", \"$1\", \"b\", \"c|d\")", 1),
        ] {
            let tokens: Vec<Token<'_>> = tokens(text).collect();
            let rewritten = rewrite(text, &tokens, &limits, Instants::default(), Patterns::Hidden);
            let rewritten = rewritten.map_err(|error| error.message).unwrap();
            assert_eq!(rewritten.text.matches(MARK).count(), hidden.max(text.matches(MARK).count()), "{text}");
            assert_eq!(rewritten.hides_patterns, hidden > 0, "{text}");
            let (read, _) = read_rewritten(text, &limits, Instants::default()).unwrap();
            // Raw strings with backslashes are read as they are meant, not as the parser alone does.
            if !text.contains("`c\\.`") {
                assert_eq!(Ok(read.to_string()), alone(text), "{text}");
            }
        }
    }

    #[test]
    fn nothing_is_hidden_where_a_value_could_begin_with_the_mark() {
        assert!(may_hide(r#"a{b="\\x02",c="\"d\n"}"#));
        for text in ["\\x02", "\\u0002", "\\U00000002", "\\002", "\\\\\\x02", "\u{2}"] {
            assert!(!may_hide(&format!("a{{b=\"{text}\"}}")), "{text}");
        }
    }

    #[test]
    fn hidden_patterns_do_not_change_what_is_refused() {
        for text in ["{a!~\"b\"}", "a{__name__=~\"b\"}", "a{b=~\"c\"} +", "sum(a{b=~\"c\"}[5m])", "{a=~\"b\",c=\"d}"] {
            let (limits, instants) = (Limits::default(), Instants::default());
            let tokens: Vec<Token<'_>> = tokens(text).collect();
            let written = rewrite(text, &tokens, &limits, instants, Patterns::AsWritten);
            let written = written.map_err(|error| error.message).unwrap();
            let expect = locate(text, &tokens, &alone(&written.text).unwrap_err());
            assert_eq!(read_rewritten(text, &limits, instants).unwrap_err().message, expect.message, "{text}");
        }
    }
}
