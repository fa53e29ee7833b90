//! Sums, differences and products of histograms.
//!
//! Two exponential histograms are brought to the coarser schema and to a zero bucket that no populated bucket of either
//! reaches into; custom borders must be the same.
use std::borrow::Cow;

use super::{Histogram, ResetHint};
use crate::native::exponential_border;

/// Why two histograms cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incompatible {
    /// One has custom borders, the other has not.
    Schemas,
    /// Both have custom borders, and not the same.
    Borders,
}

impl Histogram {
    /// Adds `other`.
    pub(crate) fn add(&mut self, other: &Self) -> Result<(), Incompatible> {
        self.combine(other, 1.0)
    }

    /// Takes `other` away; counts may become negative.
    pub(crate) fn subtract(&mut self, other: &Self) -> Result<(), Incompatible> {
        self.combine(other, -1.0)
    }

    /// Of a mean of `count - 1` histograms makes the one of `count`, with `next` among them.
    pub(crate) fn average_in(&mut self, next: &Self, count: f64) -> Result<(), Incompatible> {
        let (mut change, mut share) = (next.clone(), self.clone());
        change.divide(count);
        share.divide(count);
        change.subtract(&share)?;
        self.add(&change)
    }

    fn combine(&mut self, other: &Self, sign: f64) -> Result<(), Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible::Schemas);
        }
        if self.is_custom() && self.custom != other.custom {
            return Err(Incompatible::Borders);
        }
        self.reset_hint = hint_of_both(self.reset_hint, other.reset_hint);
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if self.is_custom() {
            merge(&mut self.positive, &other.positive, sign);
            return Ok(());
        }
        let other_zero_count = self.widen_zero(other);
        self.zero_count += sign * other_zero_count;
        let (schema, threshold) = (self.schema.min(other.schema), self.zero_threshold);
        self.reduce_to(schema);
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            let theirs = reduced(theirs, other.schema, schema);
            // What lies within the zero bucket has been counted there.
            let start = first_beyond(&theirs, schema, threshold);
            merge(mine, &theirs[start..], sign);
        }
        Ok(())
    }

    /// Multiplies counts and sum.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.each_count(|count| *count *= factor);
    }

    /// Divides counts and sum; nothing is left of buckets divided by zero.
    pub(crate) fn divide(&mut self, by: f64) {
        self.each_count(|count| *count /= by);
        if by == 0.0 {
            self.positive.clear();
            self.negative.clear();
        }
    }

    fn each_count(&mut self, change: impl Fn(&mut f64)) {
        [&mut self.count, &mut self.sum, &mut self.zero_count].into_iter().for_each(&change);
        self.positive.iter_mut().chain(&mut self.negative).for_each(|bucket| change(&mut bucket.1));
    }

    /// Drops empty buckets.
    pub(crate) fn compact(&mut self) {
        self.positive.retain(|bucket| bucket.1 != 0.0);
        self.negative.retain(|bucket| bucket.1 != 0.0);
    }

    /// To a coarser exponential schema, or the same.
    pub(crate) fn reduce_to(&mut self, schema: i32) {
        if schema < self.schema {
            for side in [&mut self.positive, &mut self.negative] {
                *side = reduced(side, self.schema, schema).into_owned();
            }
            self.schema = schema;
        }
    }

    /// Whether all observations are the same; empty buckets do not count, NaN is itself.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        fn populated(side: &[(i32, f64)]) -> impl Iterator<Item = (i32, u64)> + '_ {
            side.iter().filter(|bucket| bucket.1 != 0.0).map(|bucket| (bucket.0, bucket.1.to_bits()))
        }
        let bits = |histogram: &Self| [histogram.count, histogram.sum, histogram.zero_count].map(f64::to_bits);
        self.schema == other.schema
            && bits(self) == bits(other)
            && self.zero_threshold == other.zero_threshold
            && self.custom == other.custom
            && populated(&self.positive).eq(populated(&other.positive))
            && populated(&self.negative).eq(populated(&other.negative))
    }

    /// Widens the zero bucket until neither histogram has a populated bucket across its border; how many observations
    /// `other` has in it then.
    fn widen_zero(&mut self, other: &Self) -> f64 {
        let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
        while threshold != self.zero_threshold {
            if self.zero_threshold > threshold {
                (count, threshold) = other.zero_count_within(self.zero_threshold);
            }
            if threshold > self.zero_threshold {
                (self.zero_count, self.zero_threshold) = self.zero_count_within(threshold);
                self.drop_within_zero();
            }
        }
        count
    }

    /// Observations within a zero bucket of at least `threshold`, and the width that it must have so that no populated
    /// bucket crosses its border.
    pub(super) fn zero_count_within(&self, mut threshold: f64) -> (f64, f64) {
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold);
        }
        'wider: loop {
            let mut count = self.zero_count;
            for side in [&self.positive, &self.negative] {
                for &(index, in_bucket) in side {
                    let (inner, outer) = (self.border(index.saturating_sub(1)), self.border(index));
                    if inner >= threshold {
                        break;
                    }
                    count += in_bucket;
                    if outer > threshold {
                        if in_bucket != 0.0 {
                            threshold = outer;
                            continue 'wider;
                        }
                        break;
                    }
                }
            }
            return (count, threshold);
        }
    }

    fn drop_within_zero(&mut self) {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        for side in [&mut self.positive, &mut self.negative] {
            let is_outside = |index: i32| exponential_border(schema, index.saturating_sub(1)) >= threshold;
            side.retain(|&(index, count)| is_outside(index) && count != 0.0);
        }
    }
}

/// Where the buckets begin that end beyond `threshold`.
pub(super) fn first_beyond(side: &[(i32, f64)], schema: i32, threshold: f64) -> usize {
    side.iter().position(|bucket| exponential_border(schema, bucket.0) > threshold).unwrap_or(side.len())
}

/// The buckets of a side in a coarser schema, or the same.
pub(super) fn reduced(side: &[(i32, f64)], from: i32, to: i32) -> Cow<'_, [(i32, f64)]> {
    if from <= to {
        return Cow::Borrowed(side);
    }
    let by = (from - to).min(31);
    let mut merged: Vec<(i32, f64)> = Vec::new();
    for &(index, count) in side {
        let index = (index.saturating_sub(1) >> by) + 1;
        match merged.last_mut() {
            Some(last) if last.0 == index => last.1 += count,
            _ => merged.push((index, count)),
        }
    }
    Cow::Owned(merged)
}

/// Adds `sign` times the counts of `other`: in place as long as it has no bucket that `into` lacks.
fn merge(into: &mut Vec<(i32, f64)>, other: &[(i32, f64)], sign: f64) {
    let mut at = 0;
    for (i, &(index, count)) in other.iter().enumerate() {
        while into.get(at).is_some_and(|bucket| bucket.0 < index) {
            at += 1;
        }
        match into.get_mut(at) {
            Some(bucket) if bucket.0 == index => bucket.1 += sign * count,
            _ => return insert(into, at, &other[i..], sign),
        }
    }
}

/// As [`merge`], from position `at` of `into` on.
fn insert(into: &mut Vec<(i32, f64)>, at: usize, other: &[(i32, f64)], sign: f64) {
    let mut mine = into.split_off(at).into_iter().peekable();
    for &(index, count) in other {
        while let Some(bucket) = mine.next_if(|bucket| bucket.0 < index) {
            into.push(bucket);
        }
        let old = mine.next_if(|bucket| bucket.0 == index).map_or(0.0, |bucket| bucket.1);
        into.push((index, old + sign * count));
    }
    into.extend(mine);
}

/// A gauge makes a gauge; otherwise what only one knows, or both know differently, is not known.
fn hint_of_both(a: ResetHint, b: ResetHint) -> ResetHint {
    if a == b {
        a
    } else if a == ResetHint::Gauge || b == ResetHint::Gauge {
        ResetHint::Gauge
    } else {
        ResetHint::Unknown
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::native::CUSTOM_SCHEMA;

    fn positive(schema: i32, buckets: &[(i32, f64)]) -> Histogram {
        let count = buckets.iter().map(|bucket| bucket.1).sum();
        Histogram { schema, count, sum: count, positive: buckets.to_vec(), ..Histogram::default() }
    }

    #[test]
    fn a_sum_has_the_coarser_schema() {
        let mut sum = positive(1, &[(1, 1.0), (2, 2.0), (3, 4.0)]);
        sum.add(&positive(0, &[(-3, 1.0), (1, 8.0)])).unwrap();
        assert_eq!((sum.schema, sum.count), (0, 16.0));
        assert_eq!(sum.positive, [(-3, 1.0), (1, 11.0), (2, 4.0)]);
    }

    #[test]
    fn what_is_taken_from_itself_leaves_nothing() {
        let one = positive(0, &[(1, 1.0), (5, 2.0)]);
        let mut difference = one.clone();
        difference.subtract(&one).unwrap();
        difference.compact();
        assert!(difference.equals(&Histogram::default()));
    }

    #[test]
    fn the_zero_bucket_widens_to_a_border_of_a_populated_bucket() {
        let mut sum = Histogram { zero_threshold: 0.3, zero_count: 1.0, ..positive(0, &[(2, 5.0)]) };
        // (0.25, 0.5] is cut by 0.3.
        sum.add(&positive(0, &[(-1, 2.0), (1, 3.0)])).unwrap();
        assert_eq!((sum.zero_threshold, sum.zero_count), (0.5, 3.0));
        assert_eq!(sum.positive, [(1, 3.0), (2, 5.0)]);
    }

    #[test]
    fn custom_borders_must_be_the_same() {
        let custom = |borders: &[f64]| Histogram {
            schema: CUSTOM_SCHEMA,
            custom: Arc::from(borders),
            ..positive(CUSTOM_SCHEMA, &[(0, 1.0)])
        };
        assert_eq!(custom(&[1.0]).add(&custom(&[2.0])), Err(Incompatible::Borders));
        assert_eq!(custom(&[1.0]).add(&positive(0, &[])), Err(Incompatible::Schemas));
        let mut sum = custom(&[1.0]);
        sum.add(&custom(&[1.0])).unwrap();
        assert_eq!(sum.positive, [(0, 2.0)]);
    }

    #[test]
    fn nothing_is_left_of_buckets_divided_by_zero() {
        let mut quotient = positive(0, &[(1, 1.0)]);
        quotient.divide(0.0);
        assert!(quotient.count.is_infinite() && quotient.positive.is_empty());
    }
}
