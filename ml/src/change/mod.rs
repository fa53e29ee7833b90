//! Change points of a series.

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The mean.
    Mean,
    /// The spread.
    Variance,
    /// The slope.
    Trend,
}

/// One change point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// Index of the first observation of the new segment.
    pub index: usize,
    /// Kind.
    pub kind: ChangeKind,
    /// p-value against "no change here".
    pub p_value: f64,
    /// Mean (or spread, or slope) before.
    pub before: f64,
    /// ... and after.
    pub after: f64,
}

/// Finds change points in `values` (NaN rows skipped, indexes refer to the input).
pub fn change_points(_values: &[f64]) -> Vec<ChangePoint> {
    todo!()
}
