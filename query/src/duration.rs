//! Durations as people write them: `30s`, `1m`, `1h30m`, `500ms`, `7d`.
//!
//! Lengths are fixed: a day is 24 hours, a week 7 days, a year 365 days. Calendar months do not exist here.
use crate::error::{Error, Result};

/// Units with their length in nanoseconds, longest names first where one is a prefix of another.
const UNITS: [(&str, i64); 10] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
    ("y", 31_536_000_000_000_000),
];

/// Nanoseconds of `text`, a sequence of whole numbers with a unit: `1h30m`.
///
/// # Errors
/// `Invalid` for anything else, for zero, and beyond 292 years.
pub fn parse(text: &str) -> Result<i64> {
    let bad = || {
        Error::invalid(format!(
            "'{text}' is not a duration: write numbers with units ns, us, ms, s, m, h, d, w or y, for example '90s' or '1h30m'"
        ))
    };
    let mut rest = text.trim();
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(rest.len());
        let (_, length) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(bad)?;
        rest = rest[letters..].trim_start();
        total = number.checked_mul(*length).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
    }
    if total == 0 {
        return Err(bad());
    }
    Ok(total)
}

/// The shortest exact text of `ns`, such that [`parse`] gives it back.
pub fn format(mut ns: i64) -> String {
    let mut text = String::new();
    for (unit, length) in [UNITS[7], UNITS[6], UNITS[5], UNITS[4], UNITS[3], UNITS[1], UNITS[0]] {
        if ns / length != 0 {
            text.push_str(&std::format!("{}{unit}", ns / length));
            ns %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        assert_eq!(parse("1m").ok(), Some(60_000_000_000));
        assert_eq!(parse("1h30m").ok(), Some(5_400_000_000_000));
        assert_eq!(parse(" 2d 1ns ").ok(), Some(172_800_000_000_001));
        assert_eq!(parse("5µs").ok(), Some(5_000));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "m", "1", "1x", "-1m", "0s", "1.5h", "99999999999y", "1m1", "m1", "1 m m"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn format_is_the_inverse_of_parse() {
        for ns in [1, 999, 1_000, 60_000_000_000, 86_400_000_000_000, 5_400_000_000_001, i64::MAX] {
            assert_eq!(parse(&format(ns)).ok(), Some(ns));
        }
    }
}
