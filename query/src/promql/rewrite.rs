//! Syntax that the parser does not know, put into words that it knows.
//!
//! | written | the parser reads |
//! |---|---|
//! | `[5m * 2]`, `offset (1h + step())` | their values, which are constants of the query |
//! | `step()`, `range()`, `start()`, `end()` as numbers | the number of seconds |
//! | `anchored`, `smoothed` behind a selector | a matcher on [`EDGES`], a label that no series has |
//! | `</`, `>/` | `< bool`, `> bool`, of which [`Rewritten::trims`] tells them apart |
//! | `1_000` | `1000` |
//! | `` `\d+` `` | the same string in double quotes |
//! | `a=~"b.*"` | `a="b.*"` with a mark, see [`pattern`] |
//!
//! What is switched off is refused by name.
use std::borrow::Cow;

use super::Limits;
use super::duration_expr::{self, Instants, Written};
use super::fault::Fault;
use super::feature::Feature;
use super::pattern;
use super::regex_cost::{self, COST_MAX};
use super::token::{Kind, Token};
use crate::error::Error;

/// The label whose matcher says how a selector treats the borders of its range.
pub(crate) const EDGES: &str = "\u{1}";
/// Values of [`EDGES`]: a matcher is as long as the word that it stands for, so that lines break where they should.
pub(crate) const WORDS: [(&str, &str); 2] = [("anchored", "a"), ("smoothed", "s")];

/// Words before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words after which an operand follows.
const BEFORE_OPERANDS: [&str; 11] =
    ["and", "or", "unless", "atan2", "bool", "by", "without", "on", "ignoring", "group_left", "group_right"];

/// A text for the parser.
#[derive(Debug)]
pub(crate) struct Rewritten<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Which of the `<` and `>` in the text, in its order, trim histograms; ascending.
    pub(crate) trims: Vec<usize>,
    /// Whether [`pattern::show`] has something to put back.
    pub(crate) hides_patterns: bool,
}

/// What becomes of patterns that the parser need not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patterns {
    Hidden,
    AsWritten,
}

/// `text`, whose tokens are `tokens`, for the parser.
///
/// # Errors
/// `Invalid` with the place of what is wrong, unknown or switched off.
pub(crate) fn rewrite<'a>(
    text: &'a str,
    tokens: &[Token<'a>],
    limits: &Limits,
    instants: Instants,
    patterns: Patterns,
) -> Result<Rewritten<'a>, Error> {
    let mut rewriter = Rewriter {
        text,
        tokens,
        limits,
        instants,
        hides: patterns == Patterns::Hidden && pattern::may_hide(text),
        hides_patterns: false,
        edits: Vec::new(),
        selector: None,
        modifiers_at: 0,
        list_end: 0,
        regex_cost: 0,
        angles: 0,
        trims: Vec::new(),
    };
    let mut at = 0;
    while at < tokens.len() {
        at = rewriter.token(at).map_err(|stop| match stop {
            Stop::Fault(fault) => fault.error(text),
            Stop::SwitchedOff(at, error) => Fault::new(at, error.message).error(text),
        })?;
    }
    let Rewriter { edits, trims, hides_patterns, .. } = rewriter;
    Ok(Rewritten { text: edited(text, edits), trims, hides_patterns })
}

/// Why a text is refused.
enum Stop {
    Fault(Fault),
    /// A feature is needed that is off, at a byte.
    SwitchedOff(usize, Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Bytes of a text that something else takes the place of.
pub(crate) struct Edit {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) text: String,
}

/// `text` with all of `edits`; one that overlaps with another before it is left out.
pub(crate) fn edited(text: &str, mut edits: Vec<Edit>) -> Cow<'_, str> {
    if edits.is_empty() {
        return Cow::Borrowed(text);
    }
    edits.sort_by_key(|edit| edit.from);
    let (mut out, mut copied) = (String::with_capacity(text.len() + 64), 0);
    for edit in &edits {
        if edit.from < copied {
            continue;
        }
        out.push_str(&text[copied..edit.from]);
        out.push_str(&edit.text);
        copied = edit.to;
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Where the last selector takes one more matcher, and what stands around it there.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    before: &'static str,
    after: &'static str,
    is_taken: bool,
}

struct Rewriter<'a, 't> {
    text: &'a str,
    tokens: &'t [Token<'a>],
    limits: &'t Limits,
    instants: Instants,
    /// Whether patterns may be hidden, and whether one is.
    hides: bool,
    hides_patterns: bool,
    edits: Vec<Edit>,
    selector: Option<Place>,
    /// The token at which modifiers of the last selector may stand.
    modifiers_at: usize,
    /// The token after the last list of labels.
    list_end: usize,
    regex_cost: u64,
    /// `<` and `>` so far.
    angles: usize,
    trims: Vec<usize>,
}

impl Rewriter<'_, '_> {
    /// Works on the token `at` and those that belong to it; the one after them.
    fn token(&mut self, at: usize) -> Result<usize, Stop> {
        let token = self.tokens[at];
        match token.kind {
            Kind::Text => self.string(token)?,
            Kind::Number => self.number(token),
            Kind::Name => return self.name(at),
            Kind::Symbol if token.is("{") => return self.braces(at),
            Kind::Symbol if token.is("[") => return self.brackets(at),
            Kind::Symbol if token.is("@") => return Ok(self.instant(at)),
            Kind::Symbol if token.is("<") || token.is(">") => self.angles += 1,
            Kind::Symbol if token.is("</") || token.is(">/") => self.trim(at)?,
            _ => {}
        }
        Ok(at + 1)
    }

    fn is(&self, at: usize, symbol: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(symbol))
    }

    fn need(&self, feature: Feature, token: &Token<'_>, what: &str) -> Result<(), Stop> {
        self.limits.features.need(feature, what).map_err(|error| Stop::SwitchedOff(token.at, error))
    }

    fn replace(&mut self, from: usize, to: usize, text: String) {
        self.edits.push(Edit { from, to, text });
    }

    fn name(&mut self, at: usize) -> Result<usize, Stop> {
        let token = self.tokens[at];
        let is_call = self.is(at + 1, "(");
        if self.is_after_operand(at) {
            if token.is_name(&["offset"]) {
                return self.offset(at);
            }
            if token.is_name(&["anchored", "smoothed"]) {
                return self.edges(at);
            }
        }
        if is_call && token.is_name(&LISTS) {
            return self.labels(at + 1);
        }
        if is_call && token.is_name(&["fill", "fill_left", "fill_right"]) {
            self.need(Feature::FillModifiers, &token, &format!("the modifier {:?}", token.text))?;
        } else if is_call && self.is(at + 2, ")") {
            if let Some(ms) = self.instants.constant(token.text) {
                self.replace(token.at, self.tokens[at + 2].end(), format!("({})", ms as f64 / 1000.0));
                return Ok(at + 3);
            }
        } else if !is_call && !self.is_after_operand(at) {
            self.selector = Some(Place { at: token.end(), before: "{", after: "}", is_taken: false });
            self.modifiers_at = at + 1;
        }
        Ok(at + 1)
    }

    /// Whether an operand ends before the token `at`, so that only an operator or a modifier may follow.
    fn is_after_operand(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).map(|before| self.tokens[before]) else { return false };
        match before.kind {
            Kind::Name => !before.is_name(&BEFORE_OPERANDS),
            Kind::Symbol => matches!(before.text, ")" | "]" | "}") && self.list_end != at,
            _ => true,
        }
    }

    /// Names of labels, which are no keywords.
    fn labels(&mut self, open: usize) -> Result<usize, Stop> {
        let close = (open..self.tokens.len()).find(|&at| self.is(at, ")")).unwrap_or(self.tokens.len());
        for at in open..close {
            if self.tokens[at].kind == Kind::Text {
                self.string(self.tokens[at])?;
            }
        }
        self.list_end = close + 1;
        Ok(close + 1)
    }

    /// The matchers of a selector.
    fn braces(&mut self, open: usize) -> Result<usize, Stop> {
        let close = (open..self.tokens.len()).find(|&at| self.is(at, "}")).unwrap_or(self.tokens.len());
        for at in open..close {
            if self.tokens[at].kind == Kind::Text {
                self.string(self.tokens[at])?;
                if self.hides
                    && let Some(edits) = pattern::hide(&self.tokens[at - 1], &self.tokens[at])
                {
                    self.edits.extend(edits);
                    self.hides_patterns = true;
                }
            }
        }
        if let Some(brace) = self.tokens.get(close) {
            let before = if close == open + 1 || self.is(close - 1, ",") { "" } else { "," };
            self.selector = Some(Place { at: brace.at, before, after: "", is_taken: false });
            self.modifiers_at = close + 1;
        }
        Ok(close + 1)
    }

    /// The range of a selector, or range and step of a subquery.
    fn brackets(&mut self, open: usize) -> Result<usize, Stop> {
        let range = self.positive_duration(open + 1)?;
        let mut written = duration_expr::format(range.ms);
        let mut close = range.end;
        let is_subquery = self.is(close, ":");
        if is_subquery {
            written.push(':');
            close += 1;
            if !self.is(close, "]") {
                let step = self.positive_duration(close)?;
                written.push_str(&duration_expr::format(step.ms));
                close = step.end;
            }
        }
        if !self.is(close, "]") {
            return Err(Fault::unexpected(self.tokens.get(close), self.text, "in a range, expected \"]\"").into());
        }
        self.replace(self.tokens[open].end(), self.tokens[close].at, written);
        if is_subquery {
            self.selector = None;
        }
        Ok(self.modified(open, close + 1))
    }

    fn positive_duration(&self, from: usize) -> Result<Written, Stop> {
        let written = duration_expr::expression(self.text, self.tokens, from, self.instants)?;
        let first = self.tokens[from];
        if !written.is_literal {
            self.need(Feature::DurationExpressions, &first, "arithmetic in durations")?;
        }
        if written.ms <= 0 {
            return Err(Fault::new(first.at, "duration must be greater than 0").into());
        }
        Ok(written)
    }

    /// `offset` and how far.
    fn offset(&mut self, at: usize) -> Result<usize, Stop> {
        let written = duration_expr::operand(self.text, self.tokens, at + 1, self.instants)?;
        if !written.is_literal {
            self.need(Feature::DurationExpressions, &self.tokens[at + 1], "arithmetic in durations")?;
        }
        let sign = if written.ms < 0 { "-" } else { "" };
        let text = match written.ms {
            0 => String::new(),
            ms => format!("offset {sign}{}", duration_expr::format(ms.abs())),
        };
        self.replace(self.tokens[at].at, self.tokens[written.end - 1].end(), text);
        Ok(self.modified(at, written.end))
    }

    /// `@` and an instant.
    fn instant(&mut self, at: usize) -> usize {
        let mut end = at + 1;
        while self.is(end, "-") || self.is(end, "+") {
            end += 1;
        }
        if let Some(token) = self.tokens.get(end).copied() {
            match token.kind {
                Kind::Number => self.number(token),
                Kind::Name if self.is(end + 1, "(") && self.is(end + 2, ")") => end += 2,
                _ => {}
            }
            end += 1;
        }
        self.modified(at, end)
    }

    /// `anchored` or `smoothed`.
    fn edges(&mut self, at: usize) -> Result<usize, Stop> {
        let token = self.tokens[at];
        self.need(Feature::ExtendedRanges, &token, &format!("the modifier {:?}", token.text))?;
        let place = self.selector.filter(|_| self.modifiers_at == at).ok_or_else(|| {
            Fault::new(token.at, format!("{:?} can only follow a series selector, not a subquery", token.text))
        })?;
        if place.is_taken {
            return Err(Fault::new(token.at, "a selector is either anchored or smoothed, once").into());
        }
        let value = WORDS.iter().find(|(word, _)| token.is_name(&[*word])).map_or("", |(_, value)| *value);
        let matcher = format!("{}\"{EDGES}\"=\"{value}\"{}", place.before, place.after);
        self.replace(place.at, place.at, matcher);
        self.replace(token.at, token.end(), String::new());
        self.selector = Some(Place { is_taken: true, ..place });
        Ok(self.modified(at, at + 1))
    }

    /// A modifier reaches from the token `at` up to `end`; if it is the last selector's, more may follow there.
    fn modified(&mut self, at: usize, end: usize) -> usize {
        if self.modifiers_at == at {
            self.modifiers_at = end;
        }
        end
    }

    /// `</` or `>/`.
    fn trim(&mut self, at: usize) -> Result<(), Stop> {
        let token = self.tokens[at];
        if let Some(next) = self.tokens.get(at + 1).filter(|next| next.is_name(&["bool"])) {
            return Err(Fault::new(next.at, "bool modifier can only be used on comparison operators").into());
        }
        self.trims.push(self.angles);
        self.angles += 1;
        self.replace(token.at, token.end(), format!("{} bool ", &token.text[..1]));
        Ok(())
    }

    fn number(&mut self, token: Token<'_>) {
        if token.text.contains('_') {
            self.replace(token.at, token.end(), token.text.replace('_', ""));
        }
    }

    fn string(&mut self, token: Token<'_>) -> Result<(), Stop> {
        self.regex_cost = self.regex_cost.saturating_add(regex_cost::cost(token.text));
        if self.regex_cost > COST_MAX {
            return Err(Fault::new(
                token.at,
                "the regular expressions of the query are too large together: repeat less often",
            )
            .into());
        }
        // The parser looks for escapes in raw strings, too.
        if token.text.starts_with('`') && token.text.contains('\\') {
            let inner = &token.text[1..token.text.len() - 1];
            let escaped = inner.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.replace(token.at, token.end(), format!("\"{escaped}\""));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::feature::Features;
    use super::super::token::tokens;
    use super::*;

    fn rewritten(text: &str, features: Features) -> Result<String, String> {
        let tokens: Vec<Token<'_>> = tokens(text).collect();
        let limits = Limits { features, ..Limits::default() };
        let instants = Instants { start_ms: -500, end_ms: 3_600_000, step_ms: 15_000 };
        rewrite(text, &tokens, &limits, instants, Patterns::AsWritten)
            .map(|rewritten| rewritten.text.into_owned())
            .map_err(|error| error.message)
    }

    #[test]
    fn newer_syntax_becomes_older_syntax() {
        for (text, expect) in [
            ("foo[5m*2]", "foo[600s]"),
            ("foo[(5+2) * 1m] offset (1h / 2)", "foo[420s] offset 1800s"),
            ("foo offset (step() - 30s)", "foo offset -15s"),
            ("foo offset (1h - 60m) + 1", "foo  + 1"),
            ("sum(foo)[1h+30m:max(step(), 20s)]", "sum(foo)[5400s:20s]"),
            ("foo[1h:]", "foo[3600s:]"),
            ("a + step() * start()", "a + (15) * (-0.5)"),
            ("foo @ start() offset 5m", "foo @ start() offset 300s"),
            ("rate(foo[5m] anchored)", "rate(foo{\"\u{1}\"=\"a\"}[300s] )"),
            ("foo{a=\"b\",} offset 1m SMOOTHED", "foo{a=\"b\",\"\u{1}\"=\"s\"} offset 60s "),
            ("{a=\"b\"} @ 1_0 smoothed offset 1m", "{a=\"b\",\"\u{1}\"=\"s\"} @ 10  offset 60s"),
            ("h</2 + on(a)g", "h< bool 2 + on(a)g"),
            ("h >/ on (a) group_left g", "h > bool  on (a) group_left g"),
            ("1_000 + a_1", "1000 + a_1"),
            ("a{b=~`\\d+\"`}", "a{b=~\"\\\\d+\\\"\"}"),
        ] {
            assert_eq!(rewritten(text, Features::all()).as_deref(), Ok(expect), "{text}");
        }
    }

    #[test]
    fn trims_are_told_from_comparisons_by_their_place() {
        let text = "(a < 1) </ 2 >= 3 > topk(1, b >/ 4)";
        let tokens: Vec<Token<'_>> = tokens(text).collect();
        let (limits, instants) = (Limits::default(), Instants::default());
        let rewritten = rewrite(text, &tokens, &limits, instants, Patterns::AsWritten).map_err(|error| error.message);
        assert_eq!(rewritten.map(|rewritten| rewritten.trims), Ok(vec![1, 3]));
    }

    #[test]
    fn names_stay_names() {
        for text in [
            "sum by (offset, start, fill) (offset{anchored=\"smoothed\"})",
            "a * on(step) offset",
            "fill + smoothed",
            "start and end",
            "\"1_0\"",
            "m1_2",
            "offset",
        ] {
            assert_eq!(rewritten(text, Features::default()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_switched_off_is_refused_by_name_and_place() {
        for (text, expect) in [
            ("foo[5m*2]", "1:5: parse error: arithmetic in durations is switched off: add \"promql-duration-expr\""),
            ("a + fill(0) b", "1:5: parse error: the modifier \"fill\" is switched off"),
            ("rate(a[5m] smoothed)", "1:12: parse error: the modifier \"smoothed\" is switched off"),
        ] {
            let error = rewritten(text, Features::default()).err().unwrap_or_default();
            assert!(error.contains(expect), "{text}: {error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "foo[0]",
            "foo[-5m]",
            "foo[]",
            "foo[5m",
            "foo[5m 1m]",
            "foo offset",
            "sum(foo) anchored",
            "sum(foo)[5m:1m] smoothed",
            "foo[5m] anchored smoothed",
            "h </ bool 5",
            "foo[5m/0]",
            "{a=~\"(.{1000}){1000}\"}",
        ] {
            assert!(rewritten(text, Features::all()).is_err(), "{text}");
        }
    }
}
