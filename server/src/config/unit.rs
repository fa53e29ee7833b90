//! Sizes and durations as people write them: `8MiB`, `30s`.
use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes; written as a number or with KiB, MiB, GiB (kB, MB, GB are accepted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// A span of time; written with units: `250ms`, `30s`, `1h30m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl ByteSize {
    /// As a `usize`.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<usize> for ByteSize {
    fn from(bytes: usize) -> Self {
        Self(bytes as u64)
    }
}

const BYTE_UNITS: [(&str, u64); 9] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

const TIME_UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// A duration such as `250ms`, `1.5s` or `1h30m`; `None` when it is not one.
pub fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total_ns = 0u128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (_, ns) = TIME_UNITS.iter().find(|(name, _)| *name == &after[..letters])?;
        let part = number * *ns as f64;
        if !part.is_finite() || part > u64::MAX as f64 {
            return None;
        }
        total_ns += part as u128;
        rest = &after[letters..];
    }
    u64::try_from(total_ns).ok().map(Duration::from_nanos)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BYTE_UNITS[..3].iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        match TIME_UNITS[..7].iter().rev().find(|(_, factor)| ns > 0 && ns.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", ns / factor),
            None => write!(f, "0"),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct ByteSizeVisitor;

impl Visitor<'_> for ByteSizeVisitor {
    type Value = ByteSize;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as 8MiB")
    }
    fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }
    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size cannot be negative"))
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
        parse_bytes(text)
            .map(ByteSize)
            .ok_or_else(|| E::custom(format!("{text:?} is not a size; write for example 8MiB")))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByteSizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(f64),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => parse_span(&text)
                .map(Span)
                .ok_or_else(|| D::Error::custom(format!("{text:?} is not a duration; write for example 30s"))),
            Written::Number(0.0) => Ok(Self(Duration::ZERO)),
            Written::Number(number) => {
                Err(D::Error::custom(format!("duration {number} has no unit; write for example {number}s")))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn spans_print_as_they_parse() {
        for text in ["250ms", "30s", "90m", "7d", "2h", "1us", "3ns", "0"] {
            assert_eq!(Span(parse_span(text).unwrap()).to_string(), text);
        }
        assert_eq!(parse_span("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_span("1.5s"), Some(Duration::from_millis(1500)));
        for text in ["", "5", "s", "1x", "-1s", "1e400s", "999999999999w"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_print_as_they_parse() {
        for text in ["8MiB", "1GiB", "64KiB", "1000", "0"] {
            assert_eq!(ByteSize(parse_bytes(text).unwrap()).to_string(), text);
        }
        assert_eq!(parse_bytes("2 MB"), Some(2_000_000));
        assert_eq!(parse_bytes("2 mib"), None);
        assert_eq!(parse_bytes("99999999999GiB"), None);
    }
}
