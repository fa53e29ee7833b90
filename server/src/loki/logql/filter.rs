//! `| level="error" or (status >= 500 and took > 1.5s)`: lines by their labels.
use regex::Regex;

use super::entry::Entry;
use super::input::{Input, Parsed};
use super::selector::Op;
use super::unit;

/// A comparison of a label with a text.
#[derive(Clone, Debug)]
pub(super) struct TextTest {
    pub(super) name: String,
    op: Op,
    value: String,
    regex: Option<Regex>,
}

impl TextTest {
    pub(super) fn read(name: String, op: Op, input: &mut Input<'_>) -> Parsed<Self> {
        let (value, regex) = match op {
            Op::Equal | Op::NotEqual => (input.string()?, None),
            Op::Regex | Op::NotRegex => {
                let (text, regex) = input.regex(true)?;
                (text, Some(regex))
            }
        };
        Ok(Self { name, op, value, regex })
    }

    pub(super) fn holds(&self, value: &str) -> bool {
        let matches = self.regex.as_ref().map_or_else(|| self.value == value, |regex| regex.is_match(value));
        matches == matches!(self.op, Op::Equal | Op::Regex)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Order {
    fn take(input: &mut Input<'_>) -> Option<Self> {
        let orders = [
            ("==", Self::Equal),
            ("!=", Self::NotEqual),
            (">=", Self::GreaterEqual),
            ("<=", Self::LessEqual),
            (">", Self::Greater),
            ("<", Self::Less),
            ("=", Self::Equal),
        ];
        orders.into_iter().find(|(token, _)| !input.starts_with("=~") && input.take(token)).map(|(_, order)| order)
    }

    fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::LessEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterEqual => a >= b,
        }
    }
}

/// How the text of a label becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Number,
    Duration,
    Bytes,
}

impl Reading {
    fn of(self, text: &str) -> Option<f64> {
        match self {
            Self::Number => text.parse().ok(),
            Self::Duration => unit::duration_ns(text).map(|ns| ns as f64),
            Self::Bytes => unit::bytes(text),
        }
    }
}

/// Which lines go on.
#[derive(Clone, Debug)]
pub(super) enum LabelFilter {
    Text(TextTest),
    Number { name: String, order: Order, reading: Reading, value: f64 },
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl LabelFilter {
    pub(super) fn read(input: &mut Input<'_>) -> Parsed<Self> {
        let mut any = vec![Self::all(input)?];
        while input.keyword("or") {
            any.push(Self::all(input)?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Self::Any(any) })
    }

    fn all(input: &mut Input<'_>) -> Parsed<Self> {
        let mut all = vec![Self::one(input)?];
        while input.keyword("and") || input.take(",") {
            all.push(Self::one(input)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Self::All(all) })
    }

    fn one(input: &mut Input<'_>) -> Parsed<Self> {
        input.part()?;
        if input.take("(") {
            let inside = input.nested(Self::read)?;
            input.expect(")")?;
            return Ok(inside);
        }
        let name = input.name()?;
        let Some(order) = Order::take(input) else {
            return match Op::take(input) {
                Some(op) => Ok(Self::Text(TextTest::read(name, op, input)?)),
                None => input.wrong("one of = == != =~ !~ > >= < <= was expected"),
            };
        };
        if input.starts_with("\"") || input.starts_with("`") {
            let op = match order {
                Order::Equal => Op::Equal,
                Order::NotEqual => Op::NotEqual,
                _ => return input.wrong("a text is compared with = != =~ !~ only; write the number without quotes"),
            };
            return Ok(Self::Text(TextTest::read(name, op, input)?));
        }
        if input.starts_with("ip(") {
            return input.wrong("ip(…) is not supported");
        }
        let word = input.peek_number();
        let read = [Reading::Number, Reading::Duration, Reading::Bytes]
            .into_iter()
            .find_map(|reading| Some((reading, reading.of(word)?)));
        match read {
            Some((reading, value)) if !word.is_empty() => {
                input.take(word);
                Ok(Self::Number { name, order, reading, value })
            }
            _ => input.wrong("a quoted string, a number, a duration or a size was expected"),
        }
    }

    /// Whether `entry` goes on. A label that is no number is an error of the line, which goes on with it.
    pub(super) fn apply(&self, entry: &mut Entry<'_>) -> bool {
        match self {
            Self::Text(test) => test.holds(entry.get(&test.name)),
            // Only texts can leave out what has an error.
            Self::Number { .. } if entry.failed() => true,
            Self::Number { name, order, reading, value } => {
                if !entry.has(name) {
                    return false;
                }
                match reading.of(entry.get(name)) {
                    Some(number) => order.holds(number, *value),
                    None => {
                        let why = format!("{name} is not what it is compared with");
                        entry.fail("LabelFilterErr", why);
                        true
                    }
                }
            }
            Self::All(all) => all.iter().all(|filter| filter.apply(entry)),
            Self::Any(any) => any.iter().any(|filter| filter.apply(entry)),
        }
    }
}
