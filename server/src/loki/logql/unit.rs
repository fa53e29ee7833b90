//! Durations and sizes, as LogQL writes them and as lines hold them.

const DURATIONS: [(&str, f64); 10] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3_600e9),
    ("d", 86_400e9),
    ("w", 604_800e9),
    ("y", 31_536_000e9),
];

/// Nanoseconds of `1h30m`, `1.5s`, `-2ms`; `None` for what is no duration, a number without a unit (but 0) too.
pub(crate) fn duration_ns(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = DURATIONS.iter().find(|(name, _)| *name == &rest[..end])?.1;
        total += number * unit;
        rest = &rest[end..];
        any = true;
    }
    (any && total < 9e18).then_some((sign * total) as i64)
}

/// Bytes of `5KB`, `1.5 MiB`, `10`.
pub(crate) fn bytes(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (power, base) = match unit.strip_suffix('i') {
        Some(unit) => (unit, 1024.0_f64),
        None => (unit, 1000.0),
    };
    let power = match power {
        "" if base == 1000.0 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    Some(number * base.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ns) in [
            ("5m", Some(300_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("-2ms", Some(-2_000_000)),
            ("3µs", Some(3_000)),
            ("0", Some(0)),
            ("5", None),
            ("m", None),
            ("", None),
            ("5q", None),
            ("99999999y", None),
        ] {
            assert_eq!(duration_ns(text), ns, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("10", Some(10.0)),
            ("5KB", Some(5_000.0)),
            ("5kb", Some(5_000.0)),
            ("1.5 MiB", Some(1_572_864.0)),
            ("2G", Some(2e9)),
            ("1B", Some(1.0)),
            ("1q", None),
            ("iB", None),
            ("1i", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }
}
