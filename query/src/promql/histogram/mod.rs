//! Native histograms: what a sample holds, and what PromQL does with one.
//!
//! A bucket is (index, count). Exponential schemas put bucket `i` between two powers of 2^(2^-schema), on each side of a
//! bucket around zero; the custom schema puts it between two of the borders that the histogram brings along.
//!
//! | module | owns |
//! |---|---|
//! | [`arithmetic`] | sums, differences, products; two histograms brought to one layout |
//! | [`reset`] | whether a counter started again |
//! | [`estimate`] | quantiles, fractions, variance |
//! | [`text`] | a histogram as a label value |
//! | [`trim`] | without what is above or below a threshold |
//! | [`read`] | from records of the engine |
//!
//! Invariants: indexes of a side increase; the width of the zero bucket is a number, not negative; a histogram with custom
//! borders has no zero bucket and no negative side.
mod arithmetic;
mod estimate;
mod read;
mod reset;
mod text;
mod trim;

use std::sync::Arc;

use crate::native::{CUSTOM_SCHEMA, exponential_border};

pub(crate) use arithmetic::Incompatible;
pub(crate) use estimate::NanObservations;
pub(crate) use read::{may_have, read};
pub(crate) use trim::Kept;

/// What is known of a counter's restart before a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHint {
    /// To be found by comparing.
    #[default]
    Unknown,
    /// It restarted.
    Reset,
    /// It did not.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// A native histogram. Counts are floats, as results of arithmetic are.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Resolution: 2^schema buckets a power of two, or −53 for custom borders.
    pub schema: i32,
    /// What is known of a restart.
    pub reset_hint: ResetHint,
    /// Observations.
    pub count: f64,
    /// Sum of the observations.
    pub sum: f64,
    /// Half the width of the bucket around zero.
    pub zero_threshold: f64,
    /// Observations in the bucket around zero.
    pub zero_count: f64,
    /// (index, count) of negative buckets, nearest to zero first.
    pub negative: Vec<(i32, f64)>,
    /// (index, count) of positive buckets, upwards.
    pub positive: Vec<(i32, f64)>,
    /// Upper borders of custom buckets; the last bucket has none.
    pub custom: Arc<[f64]>,
}

/// A bucket with its borders.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Lower border.
    pub lower: f64,
    /// Upper border.
    pub upper: f64,
    /// Whether the lower border itself belongs to it.
    pub lower_inclusive: bool,
    /// Whether the upper border itself belongs to it.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
}

impl Histogram {
    /// Whether borders are custom ones.
    pub(crate) fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// All buckets from the lowest to the highest. One that reaches into the zero bucket ends at it.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let below = self.negative.iter().rev().map(|&(index, count)| self.outside_zero(self.below_zero(index, count)));
        let zero = (self.zero_count > 0.0).then(|| self.zero());
        let above = self.positive.iter().map(|&(index, count)| self.outside_zero(self.above_zero(index, count)));
        below.chain(zero).chain(above)
    }

    /// The bucket around zero.
    fn zero(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    fn above_zero(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = (self.border(index.saturating_sub(1)), self.border(index));
        if self.is_custom() {
            return Bucket { lower, upper, lower_inclusive: index == 0, upper_inclusive: true, count };
        }
        Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count }
    }

    fn below_zero(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = (-self.border(index), -self.border(index.saturating_sub(1)));
        Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count }
    }

    fn outside_zero(&self, mut bucket: Bucket) -> Bucket {
        if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
            bucket.upper = -self.zero_threshold;
        } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
            bucket.lower = self.zero_threshold;
        }
        bucket
    }

    /// The upper border of bucket `index`, away from zero.
    fn border(&self, index: i32) -> f64 {
        if !self.is_custom() {
            return exponential_border(self.schema, index);
        }
        match usize::try_from(index) {
            Ok(index) => self.custom.get(index).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        }
    }

    /// Numbers that it holds, about.
    pub(crate) fn weight(&self) -> usize {
        8 + 2 * (self.negative.len() + self.positive.len())
    }

    /// Only what `histogram_count`, `histogram_sum` and `histogram_avg` look at.
    pub(crate) fn without_buckets(&self, reset_hint: ResetHint) -> Self {
        let custom = Arc::clone(&self.custom);
        Self { reset_hint, schema: self.schema, count: self.count, sum: self.sum, custom, ..Self::default() }
    }

    /// With nothing known of a restart: what came before is no longer the sample before.
    pub(crate) fn out_of_sequence(&self) -> Self {
        let reset_hint = if self.reset_hint == ResetHint::Gauge { ResetHint::Gauge } else { ResetHint::Unknown };
        Self { reset_hint, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_go_upwards_and_end_at_the_zero_bucket() {
        let histogram = Histogram {
            zero_threshold: 0.75,
            zero_count: 2.0,
            negative: vec![(0, 1.0), (1, 3.0)],
            positive: vec![(0, 4.0), (2, 5.0)],
            ..Histogram::default()
        };
        let borders: Vec<(f64, f64, f64)> = histogram.buckets().map(|b| (b.lower, b.upper, b.count)).collect();
        let want = [(-2.0, -1.0, 3.0), (-1.0, -0.75, 1.0), (-0.75, 0.75, 2.0), (0.75, 1.0, 4.0), (2.0, 4.0, 5.0)];
        assert_eq!(borders, want);
    }

    #[test]
    fn custom_buckets_lie_between_the_borders_it_brings() {
        let histogram = Histogram {
            schema: CUSTOM_SCHEMA,
            positive: vec![(0, 1.0), (2, 2.0)],
            custom: Arc::new([5.0, 10.0]),
            ..Histogram::default()
        };
        let borders: Vec<(f64, f64)> = histogram.buckets().map(|b| (b.lower, b.upper)).collect();
        assert_eq!(borders, [(f64::NEG_INFINITY, 5.0), (10.0, f64::INFINITY)]);
    }
}
