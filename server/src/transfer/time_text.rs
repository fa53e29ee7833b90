//! Times and values as text.
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use clap::ValueEnum;

/// The NaN that Go, and so Prometheus, makes of the text `NaN`.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// What numbers in a column of times count since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Epoch {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
    /// Nanoseconds
    Ns,
}

impl Epoch {
    /// Nanoseconds since 1970.
    pub(super) fn nanos(self, count: i64) -> Result<i64, String> {
        let factor = match self {
            Self::S => 1_000_000_000,
            Self::Ms => 1_000_000,
            Self::Us => 1_000,
            Self::Ns => 1,
        };
        count.checked_mul(factor).ok_or_else(|| format!("time {count} is outside the years 1677 to 2262"))
    }
}

/// RFC 3339, or a number of `epoch` units, as nanoseconds since 1970.
pub(super) fn instant(text: &str, epoch: Option<Epoch>) -> Result<i64, String> {
    match epoch {
        Some(epoch) => epoch.nanos(text.trim().parse().map_err(|_| format!("time {text:?} is not a whole number"))?),
        None => string_to_timestamp_nanos(text.trim()).map_err(|_| {
            let hint = if text.trim().parse::<f64>().is_ok() { "; --epoch says what numbers count" } else { "" };
            format!("time {text:?} is not RFC 3339 between 1677 and 2262, such as 2026-01-31T12:00:00Z{hint}")
        }),
    }
}

/// A sample's value. Text has one NaN: the one that Prometheus reads.
pub(super) fn value(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().map_err(|_| format!("value {text:?} is not a number"))?;
    Ok(if value.is_nan() { f64::from_bits(NAN_BITS) } else { value })
}

/// Decimal seconds with at most three digits after the point, as milliseconds; without a detour through floats.
pub(super) fn seconds_as_ms(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.')?;
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let fraction = fraction.trim_end_matches('0');
    if !all_digits(digits) || fraction.len() > 3 || !(fraction.is_empty() || all_digits(fraction)) {
        return None;
    }
    let ms = digits.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(format!("{fraction:0<3}").parse().ok()?)?;
    Some(if whole.starts_with('-') { -ms } else { ms })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_and_of_one_kind() {
        assert_eq!(instant("1970-01-01T00:00:01.000000001Z", None), Ok(1_000_000_001));
        assert_eq!(instant(" 1970-01-01T01:00:00+01:00", None), Ok(0));
        assert_eq!(instant("-5", Some(Epoch::Ms)), Ok(-5_000_000));
        assert!(instant("5", None).unwrap_err().contains("--epoch"));
        assert!(instant("soon", None).unwrap_err().contains("RFC 3339"));
        assert!(instant("1e3", Some(Epoch::S)).is_err());
        assert!(instant(&i64::MAX.to_string(), Some(Epoch::S)).unwrap_err().contains("2262"));
    }

    #[test]
    fn seconds_do_not_pass_through_floats() {
        assert_eq!(seconds_as_ms("1785000000.001"), Some(1_785_000_000_001));
        assert_eq!(seconds_as_ms("-0.500"), Some(-500));
        assert_eq!(seconds_as_ms("9223372036854775.807"), Some(i64::MAX));
        for bad in ["1", "1.0001", "1.5e3", ".5", "1.-5", "", "9223372036854775.808", "1..5"] {
            assert_eq!(seconds_as_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_keep_their_bits_but_for_nan() {
        for bits in [0x8000_0000_0000_0000, 1, f64::MAX.to_bits(), f64::NEG_INFINITY.to_bits(), 0.1f64.to_bits()] {
            let text = format!("{:?}", f64::from_bits(bits));
            assert_eq!(value(&text).unwrap().to_bits(), bits, "{text}");
        }
        assert_eq!(value("+Inf"), Ok(f64::INFINITY));
        assert_eq!(value("NaN").unwrap().to_bits(), NAN_BITS);
        assert!(value("").is_err() && value("1,5").is_err());
    }
}
