//! Functions of single values.

/// -1, 0 or 1; NaN of NaN.
pub(super) fn sgn(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// To the nearest multiple of `to`, halves up.
pub(super) fn round(value: f64, to: f64) -> f64 {
    // The inverse is exact for the usual fractions (0.1, 0.01, …), which are not exact themselves.
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// The larger; NaN if either is NaN, unless the other is larger than everything.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    let is_nan = (a.is_nan() || b.is_nan()) && a != f64::INFINITY && b != f64::INFINITY;
    if is_nan { f64::NAN } else { a.max(b) }
}

/// The smaller; NaN if either is NaN, unless the other is smaller than everything.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    let is_nan = (a.is_nan() || b.is_nan()) && a != f64::NEG_INFINITY && b != f64::NEG_INFINITY;
    if is_nan { f64::NAN } else { a.min(b) }
}

/// Into `low..=high`; nothing when these are the wrong way round.
pub(super) fn clamp(value: f64, low: f64, high: f64) -> Option<f64> {
    (high >= low || high.is_nan() || low.is_nan()).then(|| larger(low, smaller(high, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_up_and_fractions_are_exact() {
        assert_eq!((round(2.5, 1.0), round(-2.5, 1.0), round(0.25, 0.1), round(7.0, 5.0)), (3.0, -2.0, 0.3, 5.0));
    }

    #[test]
    fn a_clamp_the_wrong_way_round_is_nothing() {
        assert_eq!(clamp(5.0, 3.0, 1.0), None);
        assert_eq!(clamp(5.0, 1.0, 3.0), Some(3.0));
        assert!(clamp(f64::NAN, 1.0, 3.0).is_some_and(f64::is_nan));
    }
}
