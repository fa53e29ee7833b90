//! How much one value moves a running mean.

/// Weight of the newest of `count` (>= 1) values: its equal share, but never less than `least`. A division is slow and
/// needed only while the past is short.
pub(super) fn gain(count: u16, least: f64) -> f64 {
    let count = f64::from(count);
    if count * least < 1.0 { 1.0 / count } else { least }
}
