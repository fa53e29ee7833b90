//! Durations of ranges and offsets: `5m`, and expressions of them such as `5m * 2` or `max(step(), 30s)`. They are constants
//! of a query, so their value is known when it is parsed.
use super::fault::Fault;
use super::token::{Kind, Token};

/// The instants that a query asks for, which `step()`, `range()`, `start()` and `end()` tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Instants {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// 0 for an instant query.
    pub(crate) step_ms: i64,
}

impl Instants {
    /// Milliseconds that a function without arguments stands for.
    pub(crate) fn constant(&self, name: &str) -> Option<i64> {
        Some(match name.to_ascii_lowercase().as_str() {
            "step" => self.step_ms,
            "range" => self.end_ms.saturating_sub(self.start_ms),
            "start" => self.start_ms,
            "end" => self.end_ms,
            _ => return None,
        })
    }
}

/// Units, longest first, with their lengths in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
/// 292 years: what nanoseconds in 64 bits hold, as in Prometheus.
pub(super) const SECONDS_MAX: f64 = 9_223_372_036.0;

/// A duration of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) ms: i64,
    /// Whether it is a single literal, which needs no feature.
    pub(crate) is_literal: bool,
    /// Index of the token after it.
    pub(crate) end: usize,
}

/// Reads an expression from `tokens[from..]`.
///
/// # Errors
/// For what is no duration, and for a value that is none.
pub(crate) fn expression(text: &str, tokens: &[Token<'_>], from: usize, instants: Instants) -> Result<Written, Fault> {
    read(text, tokens, from, instants, |reader| reader.expression(0))
}

/// Reads an operand with an optional sign: what `offset` takes without parentheses.
///
/// # Errors
/// As [`expression`].
pub(crate) fn operand(text: &str, tokens: &[Token<'_>], from: usize, instants: Instants) -> Result<Written, Fault> {
    read(text, tokens, from, instants, |reader| reader.operand())
}

/// `ms`, which must be positive, as the parser reads it.
pub(crate) fn format(ms: i64) -> String {
    let (year, second) = (UNITS[0].1 as i64, 1_000);
    let parts = [(ms / year, "y"), (ms % year / second, "s"), (ms % second, "ms")];
    parts.iter().filter(|part| part.0 > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

fn read(
    text: &str,
    tokens: &[Token<'_>],
    from: usize,
    instants: Instants,
    read: impl FnOnce(&mut Reader<'_>) -> Result<f64, Fault>,
) -> Result<Written, Fault> {
    let mut reader = Reader { text, tokens, at: from, instants };
    let seconds = read(&mut reader)?;
    if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
        return Err(Fault::new(tokens.get(from).map_or(text.len(), |token| token.at), "duration out of range"));
    }
    let sign = usize::from(tokens.get(from).is_some_and(|token| token.is("-") || token.is("+")));
    let is_literal = reader.at == from + sign + 1;
    Ok(Written { ms: (seconds * 1000.0).round() as i64, is_literal, end: reader.at })
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token<'a>],
    at: usize,
    instants: Instants,
}

impl<'a> Reader<'a> {
    fn next(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, symbol: &str) -> Result<(), Fault> {
        match self.next() {
            Some(token) if token.is(symbol) => {
                self.at += 1;
                Ok(())
            }
            other => Err(Fault::unexpected(other, self.text, &format!("in a duration, expected {symbol:?}"))),
        }
    }

    /// Operators that bind at least as strongly as `least`; seconds.
    fn expression(&mut self, least: u8) -> Result<f64, Fault> {
        let mut left = self.operand()?;
        while let Some((operator, binds)) = self.next().and_then(|token| Some((token, strength(token)?)))
            && binds >= least
        {
            self.at += 1;
            // `^` groups to the right, the others to the left.
            let right = self.expression(if operator.is("^") { binds } else { binds + 1 })?;
            left = match operator.text {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                "^" => left.powf(right),
                _ if right == 0.0 => return Err(Fault::new(operator.at, "division by zero in a duration")),
                "/" => left / right,
                _ => left % right,
            };
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<f64, Fault> {
        let Some(token) = self.next() else { return Err(Fault::unexpected(None, self.text, "in a duration")) };
        self.at += 1;
        match token.kind {
            Kind::Duration => literal(token),
            Kind::Number => number(token.text).ok_or_else(|| Fault::new(token.at, "bad number in a duration")),
            Kind::Symbol if token.is("-") => Ok(-self.expression(POWER)?),
            Kind::Symbol if token.is("+") => self.expression(POWER),
            Kind::Symbol if token.is("(") => {
                let value = self.expression(0)?;
                self.take(")")?;
                Ok(value)
            }
            Kind::Name if token.is_name(&["step", "range"]) => {
                self.take("(")?;
                self.take(")")?;
                Ok(self.instants.constant(token.text).unwrap_or_default() as f64 / 1000.0)
            }
            Kind::Name if token.is_name(&["min", "max", "min_of", "max_of"]) => {
                self.take("(")?;
                let first = self.expression(0)?;
                self.take(",")?;
                let second = self.expression(0)?;
                self.take(")")?;
                let is_min = token.text[..3].eq_ignore_ascii_case("min");
                Ok(if is_min { first.min(second) } else { first.max(second) })
            }
            _ => Err(Fault::unexpected(
                Some(token),
                self.text,
                "in a duration, expected a duration such as 5m, step(), range(), min() or max()",
            )),
        }
    }
}

const POWER: u8 = 3;

fn strength(operator: &Token<'_>) -> Option<u8> {
    if operator.kind != Kind::Symbol {
        return None;
    }
    match operator.text {
        "+" | "-" => Some(1),
        "*" | "/" | "%" => Some(2),
        "^" => Some(POWER),
        _ => None,
    }
}

/// Milliseconds of `1h30m`: units from the longest to the shortest, each once. A day has 24 hours, a year 365 days.
///
/// # Errors
/// Why `text` is no duration.
pub fn duration_ms(text: &str) -> Result<u64, &'static str> {
    let (mut rest, mut units, mut total_ms) = (text, UNITS.as_slice(), 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let count: u64 = rest[..digits].parse().map_err(|_| "expected a number before each unit")?;
        let letters = rest[digits..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len() - digits);
        let unit = &rest[digits..digits + letters];
        let place = units.iter().position(|(name, _)| *name == unit);
        let place = place.ok_or("units are y w d h m s ms, from the longest to the shortest, each once")?;
        let part = count.checked_mul(units[place].1);
        total_ms = part.and_then(|part| total_ms.checked_add(part)).ok_or("out of range")?;
        units = &units[place + 1..];
        rest = &rest[digits + letters..];
    }
    Ok(total_ms)
}

/// Seconds of a duration, which must not be 0.
fn literal(token: &Token<'_>) -> Result<f64, Fault> {
    let bad = |why: &str| Fault::new(token.at, format!("bad duration {:?}: {why}", token.text));
    match duration_ms(token.text).map_err(bad)? {
        0 => Err(bad("duration must be greater than 0")),
        ms => Ok(ms as f64 / 1000.0),
    }
}

/// A number as the parser reads it: decimal, hexadecimal, or octal behind a zero.
fn number(text: &str) -> Option<f64> {
    let text = text.replace('_', "").to_ascii_lowercase();
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(|value| value as f64);
    }
    if let Some(digits) = text.strip_prefix('0')
        && let Ok(value) = u64::from_str_radix(digits, 8)
    {
        return Some(value as f64);
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    /// Milliseconds and number of tokens read.
    fn ms(text: &str) -> Result<(i64, usize), Fault> {
        let tokens: Vec<Token<'_>> = tokens(text).collect();
        let instants = Instants { start_ms: 0, end_ms: 3_600_000, step_ms: 15_000 };
        expression(text, &tokens, 0, instants).map(|written| (written.ms, written.end))
    }

    #[test]
    fn the_examples_of_the_documentation_have_the_values_it_says() {
        for (text, seconds) in [
            ("5m * 2", 600),
            ("10m - 1m", 540),
            ("(5+2) * 1m", 420),
            ("1h / 2", 1800),
            ("4h % 3h", 3600),
            ("(2 ^ 3) * 1m", 480),
            ("step() + 1", 16),
            ("max(step(), 5s)", 15),
            ("min(2 * step() + 5s, 5m)", 35),
            ("range() / 2", 1800),
            ("2 ^ 3 ^ 2", 512),
            ("-2 ^ 2 + 5", 1),
            ("1h30m", 5400),
        ] {
            assert_eq!(ms(text).map(|read| read.0).ok(), Some(seconds * 1000), "{text}");
        }
    }

    #[test]
    fn an_expression_ends_where_it_cannot_go_on() {
        assert_eq!(ms("5m : 1m").map(|read| read.1).ok(), Some(1));
        assert_eq!(ms("5m foo").map(|read| read.1).ok(), Some(1));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "5x", "1m1h", "1m1m", "0s", "5m / 0", "5m % 0s", "9999y", "foo", "step", "(5m", "min(1m)", "1e400"]
        {
            assert!(ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_parser_reads_what_is_written_for_it() {
        assert_eq!(format(31_536_000_000 * 200 + 61_500), "200y61s500ms");
        assert_eq!(format(1), "1ms");
    }
}
