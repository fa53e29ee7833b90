//! What a histogram says of the observations behind it: quantiles, fractions, variance.
//!
//! Inside an exponential bucket observations are taken to be spread evenly over the logarithm, inside the zero bucket and
//! custom ones evenly over the value.
use super::super::number::Sum;
use super::{Bucket, Histogram};

/// What observations that are not numbers, which are in no bucket, do to a quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NanObservations {
    /// It is one of them.
    IsResult,
    /// They count as larger than all.
    SkewResult,
}

impl Histogram {
    /// The `q`-quantile.
    pub(crate) fn quantile(&self, q: f64) -> (f64, Option<NanObservations>) {
        if q < 0.0 {
            return (f64::NEG_INFINITY, None);
        }
        if q > 1.0 {
            return (f64::INFINITY, None);
        }
        if self.count == 0.0 || q.is_nan() {
            return (f64::NAN, None);
        }
        // From the nearer end; observations that are not numbers are at the far one.
        if self.sum.is_nan() || q < 0.5 {
            self.at_rank(q * self.count, true, &mut self.buckets())
        } else {
            self.at_rank((1.0 - q) * self.count, false, &mut self.buckets().rev())
        }
    }

    fn at_rank(
        &self,
        mut rank: f64,
        upwards: bool,
        buckets: &mut dyn Iterator<Item = Bucket>,
    ) -> (f64, Option<NanObservations>) {
        let (mut bucket, mut count) = (Bucket::default(), 0.0);
        for next in &mut *buckets {
            bucket = next;
            count += bucket.count;
            if bucket.count != 0.0 && count >= rank {
                break;
            }
        }
        if self.is_custom() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return (bucket.upper, None);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return (bucket.lower, None);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            self.halve_zero(&mut bucket);
        }
        count = if count > self.count { self.count } else { count };
        if count < rank {
            return if self.sum.is_nan() { (f64::NAN, Some(NanObservations::IsResult)) } else { (bucket.upper, None) };
        }
        rank = if upwards { rank - (count - bucket.count) } else { count - rank };
        let mut skew = None;
        if self.sum.is_nan() {
            // Prometheus counts what is left, and then estimates inside of the last bucket that it has seen.
            for next in buckets {
                bucket = next;
                count += bucket.count;
            }
            skew = (count < self.count).then_some(NanObservations::SkewResult);
        }
        (self.inside(&bucket, rank / bucket.count), skew)
    }

    /// A zero bucket beside buckets of one sign only is taken to hold that sign only.
    pub(super) fn halve_zero(&self, bucket: &mut Bucket) {
        match (self.negative.is_empty(), self.positive.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }

    /// The value below which `fraction` of the bucket lies.
    fn inside(&self, bucket: &Bucket, fraction: f64) -> f64 {
        let Bucket { lower, upper, .. } = *bucket;
        if self.is_custom() || (lower <= 0.0 && upper >= 0.0) {
            return lower + (upper - lower) * fraction;
        }
        let (log_lower, log_upper) = (lower.abs().log2(), upper.abs().log2());
        if lower > 0.0 {
            (log_lower + (log_upper - log_lower) * fraction).exp2()
        } else {
            -(log_upper + (log_lower - log_upper) * (1.0 - fraction)).exp2()
        }
    }

    /// The share of observations between `low` and `high`, and whether some are left out because they are not numbers.
    pub(crate) fn fraction(&self, low: f64, high: f64) -> (f64, bool) {
        if self.count == 0.0 || low.is_nan() || high.is_nan() {
            return (f64::NAN, false);
        }
        if low >= high {
            return (0.0, false);
        }
        let (mut low_rank, mut high_rank, mut before) = (None, None, 0.0);
        for mut bucket in self.buckets() {
            let is_linear = self.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0);
            if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                self.halve_zero(&mut bucket);
            }
            for (border, rank) in [(low, &mut low_rank), (high, &mut high_rank)] {
                if rank.is_some() {
                    continue;
                }
                if bucket.lower >= border {
                    *rank = Some(before);
                } else if bucket.upper > border {
                    *rank = Some(before + share_below(&bucket, border, is_linear));
                }
            }
            before += bucket.count;
        }
        let (mut count, mut has_nan) = (self.count, false);
        if self.sum.is_nan() {
            count = before;
            has_nan = count < self.count;
        }
        let limited = |rank: Option<f64>| match rank {
            Some(rank) if rank > count => count,
            Some(rank) => rank,
            None => count,
        };
        ((limited(high_rank) - limited(low_rank)) / self.count, has_nan)
    }

    /// The variance, observations taken to be in the middle of their buckets.
    pub(crate) fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let mut squares = Sum::default();
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            let distance = self.middle(&bucket) - mean;
            squares.add(bucket.count * distance * distance);
        }
        (squares.sum + squares.compensation) / self.count
    }

    /// Arithmetic for custom buckets, geometric for exponential ones, zero for the one around it.
    fn middle(&self, bucket: &Bucket) -> f64 {
        if self.is_custom() {
            return (bucket.upper + bucket.lower) / 2.0;
        }
        if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            return 0.0;
        }
        let size = (bucket.upper * bucket.lower).sqrt();
        if bucket.upper < 0.0 { -size } else { size }
    }
}

/// How many observations of the bucket are below `border`, which is inside of it.
pub(super) fn share_below(bucket: &Bucket, border: f64, is_linear: bool) -> f64 {
    let Bucket { lower, upper, count, .. } = *bucket;
    if is_linear {
        return count * (border - lower) / (upper - lower);
    }
    let (log_lower, log_upper, log_border) = (lower.abs().log2(), upper.abs().log2(), border.abs().log2());
    if border > 0.0 {
        count * ((log_border - log_lower) / (log_upper - log_lower))
    } else {
        count * (1.0 - (log_border - log_upper) / (log_lower - log_upper))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::native::CUSTOM_SCHEMA;

    fn check(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
    }

    fn exponential() -> Histogram {
        // 4 observations in (1, 2], 4 in (2, 4]
        Histogram { count: 8.0, sum: 20.0, positive: vec![(1, 4.0), (2, 4.0)], ..Histogram::default() }
    }

    #[test]
    fn quantiles_grow_by_the_logarithm_inside_exponential_buckets() {
        check(exponential().quantile(0.25).0, std::f64::consts::SQRT_2);
        check(exponential().quantile(0.5).0, 2.0);
        check(exponential().quantile(0.75).0, 2.0 * std::f64::consts::SQRT_2);
        check(exponential().quantile(1.0).0, 4.0);
        assert_eq!(exponential().quantile(2.0).0, f64::INFINITY);
        assert!(exponential().quantile(f64::NAN).0.is_nan());
    }

    #[test]
    fn quantiles_of_negative_observations_are_mirrored() {
        let mirrored = Histogram { negative: exponential().positive, positive: Vec::new(), ..exponential() };
        check(mirrored.quantile(0.25).0, -2.0 * std::f64::consts::SQRT_2);
    }

    #[test]
    fn a_zero_bucket_beside_positive_ones_is_positive() {
        let histogram = Histogram { zero_threshold: 0.5, zero_count: 8.0, count: 16.0, ..exponential() };
        check(histogram.quantile(0.25).0, 0.25);
    }

    #[test]
    fn custom_buckets_are_linear_and_the_last_has_no_end() {
        let custom = Histogram {
            schema: CUSTOM_SCHEMA,
            count: 4.0,
            positive: vec![(0, 1.0), (1, 2.0), (2, 1.0)],
            custom: Arc::new([1.0, 3.0]),
            ..Histogram::default()
        };
        check(custom.quantile(0.5).0, 2.0);
        check(custom.quantile(0.125).0, 0.5);
        check(custom.quantile(0.99).0, 3.0);
    }

    #[test]
    fn observations_that_are_not_numbers_are_told() {
        let histogram = Histogram { count: 10.0, sum: f64::NAN, ..exponential() };
        assert_eq!(histogram.quantile(0.5).1, Some(NanObservations::SkewResult));
        assert_eq!(histogram.quantile(0.9).1, Some(NanObservations::IsResult));
        assert!(histogram.fraction(0.0, 4.0).1);
    }

    #[test]
    fn a_fraction_is_the_inverse_of_a_quantile() {
        check(exponential().fraction(0.0, 2.0).0, 0.5);
        check(exponential().fraction(f64::NEG_INFINITY, std::f64::consts::SQRT_2).0, 0.25);
        check(exponential().fraction(2.0, f64::INFINITY).0, 0.5);
        check(exponential().fraction(4.0, 2.0).0, 0.0);
    }

    #[test]
    fn variance_is_taken_from_the_middles_of_buckets() {
        let one = Histogram {
            count: 2.0,
            sum: 2.0 * std::f64::consts::SQRT_2,
            positive: vec![(1, 2.0)],
            ..Histogram::default()
        };
        check(one.variance(), 0.0);
    }
}
