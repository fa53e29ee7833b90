//! Which attribute values set two sets of rows apart.
//!
//! | module | owns |
//! |---|---|
//! | [`count`] | rows of each value and each pair of values, in bounded memory |
//! | [`judge`] | scores, p-values, and which pairs say more than their values |
//!
//! The question is that of contrast sets (Bay and Pazzani 2001, "Detecting group differences: mining contrast sets"):
//! sets of values whose share differs between two groups. A pair is told only when it sets the groups apart among the
//! rows of either of its values alone, as their "surprising" contrast sets.
mod count;
mod judge;
#[cfg(test)]
mod tests;

pub use count::Contrast;

/// A value, or a pair of values of two dimensions, and its rows on either side.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Dimension, counted from 0, and value; `None` is the value of rows without one.
    pub value: (usize, Option<String>),
    /// The second of a pair, of a later dimension.
    pub and: Option<(usize, Option<String>)>,
    /// Rows with it among the selected ones, and among those of the baseline.
    pub rows: [u64; 2],
    /// The same as shares of all rows of either side.
    pub shares: [f64; 2],
    /// Share among the selected rows by that in the baseline; infinite without any row there.
    pub lift: f64,
    /// Bits, 0 to 1: how much a row's having it tells about its side, when both are equally likely before. Of the nearer
    /// ends of the 95 % intervals of both shares, so that few rows score low; 0 when those overlap.
    pub score: f64,
    /// Against equal shares, corrected for the number of values and pairs looked at.
    pub p_value: f64,
}

/// Most dimensions.
pub const DIMS_MAX: usize = 16;
/// Most differences told.
pub const DIFFERENCES_MAX: usize = 1_000;
/// Values are told apart by their first so many bytes.
pub const VALUE_BYTES_MAX: usize = 256;
