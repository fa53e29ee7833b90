//! What is left of a query while it is read, and the pieces that all of LogQL is made of.
use regex::{Regex, RegexBuilder};

use super::super::labels;
use super::unit;

/// Longest query.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Matchers, filters, stages, functions and operators of a query.
const PARTS_MAX: usize = 64;
/// Deepest nesting of brackets.
const DEPTH_MAX: usize = 32;
/// A regular expression, compiled.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse error at byte {at}: {what}")]
pub(crate) struct ParseError {
    /// Where, in bytes from the start.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) what: String,
}

/// A result of reading.
pub(super) type Parsed<T> = Result<T, ParseError>;

/// What is left of a query; it never begins with a space.
pub(super) struct Input<'a> {
    text: &'a str,
    rest: &'a str,
    parts: usize,
    depth: usize,
}

impl<'a> Input<'a> {
    /// # Errors
    /// For a text that is too long.
    pub(super) fn new(text: &'a str) -> Parsed<Self> {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("the query has {} bytes, the limit is {TEXT_BYTES_MAX}: shorten it", text.len());
            return Err(ParseError { at: TEXT_BYTES_MAX, what });
        }
        Ok(Self { text, rest: skipped(text), parts: 0, depth: 0 })
    }

    pub(super) fn at(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    pub(super) fn wrong<T>(&self, what: impl Into<String>) -> Parsed<T> {
        Err(ParseError { at: self.at(), what: what.into() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn starts_with(&self, token: &str) -> bool {
        self.rest.starts_with(token)
    }

    /// Takes `token`, if it comes next.
    pub(super) fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = skipped(rest);
                true
            }
            None => false,
        }
    }

    /// # Errors
    /// If `token` does not come next.
    pub(super) fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { self.wrong(format!("'{token}' was expected")) }
    }

    /// Counts one more part.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn part(&mut self) -> Parsed<()> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return self.wrong(format!("more than {PARTS_MAX} matchers, filters, stages and operators"));
        }
        Ok(())
    }

    /// Reads something that may hold its like.
    ///
    /// # Errors
    /// When it is too deep; those of `read`.
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return self.wrong(format!("nested more than {DEPTH_MAX} deep"));
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    /// The name that comes next, which is not taken; empty for none.
    pub(super) fn peek_name(&self) -> &'a str {
        let end = self.rest.find(|c: char| !labels::is_part_of_name(c)).unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    /// Takes `word`, if it is the name that comes next.
    pub(super) fn keyword(&mut self, word: &str) -> bool {
        self.peek_name() == word && self.take(word)
    }

    /// The name of a label.
    ///
    /// # Errors
    /// When none comes next.
    pub(super) fn name(&mut self) -> Parsed<String> {
        let name = self.peek_name();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return self.wrong("the name of a label was expected");
        }
        self.take(name);
        Ok(name.to_owned())
    }

    /// A quoted text.
    ///
    /// # Errors
    /// When none comes next.
    pub(super) fn string(&mut self) -> Parsed<String> {
        let Some((value, rest)) = labels::string(self.rest) else {
            return self.wrong("a quoted string was expected");
        };
        self.rest = skipped(rest);
        Ok(value.into_owned())
    }

    /// A quoted regular expression; matchers of labels compare it with the whole value.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn regex(&mut self, whole: bool) -> Parsed<(String, Regex)> {
        let before = self.rest;
        let text = self.string()?;
        let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
        // On its own first: `a)|(b` is an expression only between the brackets that make it match the whole value.
        let built = build(&text).and_then(|regex| if whole { build(&whole_text(&text)) } else { Ok(regex) });
        match built {
            Ok(regex) => Ok((text, regex)),
            Err(error) => {
                self.rest = before;
                self.wrong(format!("bad regular expression: {error}"))
            }
        }
    }

    /// What looks like a number with or without a unit; it is not taken.
    pub(super) fn peek_number(&self) -> &'a str {
        let mut before = ' ';
        let end = self.rest.find(|c: char| {
            let sign = matches!(c, '+' | '-') && (before == ' ' || matches!(before, 'e' | 'E'));
            before = c;
            !(sign || c.is_ascii_alphanumeric() || matches!(c, '.' | 'µ'))
        });
        &self.rest[..end.unwrap_or(self.rest.len())]
    }

    /// A number without a unit.
    ///
    /// # Errors
    /// When none comes next.
    pub(super) fn number(&mut self) -> Parsed<f64> {
        let word = self.peek_number();
        match word.parse::<f64>() {
            Ok(number) => {
                self.take(word);
                Ok(number)
            }
            Err(_) => self.wrong("a number was expected"),
        }
    }

    /// Nanoseconds.
    ///
    /// # Errors
    /// When no duration comes next.
    pub(super) fn duration(&mut self) -> Parsed<i64> {
        let word = self.peek_number();
        match unit::duration_ns(word) {
            Some(ns) => {
                self.take(word);
                Ok(ns)
            }
            None => self.wrong("a duration was expected, like 5m"),
        }
    }
}

/// A pattern that must match the whole of a text.
pub(super) fn whole_text(pattern: &str) -> String {
    format!("^(?s:{pattern})$")
}

/// Without spaces and comments before it.
fn skipped(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix('#') {
            Some(comment) => text = comment.split_once('\n').map_or("", |(_, rest)| rest),
            None => return text,
        }
    }
}
