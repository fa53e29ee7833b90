//! Durations as rule files write them: `1h30m`, `90s`, `0`.
//!
//! Units come largest first and each at most once, as Prometheus demands; a day has 24 hours, a year 365 days.

use foretell_query::promql::duration_ms;

const NS_PER_MS: i64 = 1_000_000;

/// Nanoseconds of `text`.
///
/// # Errors
/// What is wrong with it, and what to write.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let bad = || {
        format!(
            "{text:?} is not a duration: write whole numbers with units y, w, d, h, m, s or ms, such as 90s or 1h30m"
        )
    };
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err(bad());
    }
    let ms = duration_ms(text).ok().and_then(|ms| i64::try_from(ms).ok());
    ms.and_then(|ms| ms.checked_mul(NS_PER_MS)).ok_or_else(bad)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_prometheus() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("5ms", 5),
            ("1d1ms", 86_400_001),
            ("2w", 1_209_600_000),
        ] {
            assert_eq!(parse(text).unwrap(), ms * NS_PER_MS, "{text}");
        }
        for text in ["", "5", "m", "1x", "-1m", "30m1h", "1m1m", "1.5h", "1h ", "999999999y"] {
            assert!(parse(text).unwrap_err().contains("such as 90s"), "{text}");
        }
    }
}
