//! A histogram without the observations above or below a threshold.
//!
//! Of a bucket that the threshold divides stays the share that is estimated to lie on its side; all of the others stay or go.
//! The sum is not known any more and is estimated anew, from the middles of what stays of each bucket. Where nothing goes,
//! count and sum stay as they are.
use super::estimate::share_below;
use super::{Bucket, Histogram};

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Those up to the threshold.
    Below,
    /// Those from the threshold on.
    Above,
}

/// A threshold and the side of it that stays.
#[derive(Clone, Copy)]
struct Cut {
    threshold: f64,
    kept: Kept,
}

/// What stays of a whole histogram.
#[derive(Default)]
struct Rest {
    count: f64,
    sum: f64,
    is_less: bool,
}

impl Histogram {
    /// Drops the observations that do not lie on the side `kept` of `threshold`.
    pub(crate) fn trim(&mut self, threshold: f64, kept: Kept) {
        let (cut, mut rest) = (Cut { threshold, kept }, Rest::default());
        self.compact();
        let mut zero = self.zero();
        self.halve_zero(&mut zero);
        let is_custom = self.is_custom();
        for i in 0..self.positive.len() {
            let (index, count) = self.positive[i];
            let bucket = self.above_zero(index, count);
            self.positive[i].1 = rest.take(&bucket, cut.of(&bucket, is_custom));
        }
        for i in 0..self.negative.len() {
            let (index, count) = self.negative[i];
            let bucket = self.below_zero(index, count);
            self.negative[i].1 = rest.take(&bucket, cut.of(&bucket, is_custom));
        }
        if self.zero_count > 0.0 {
            self.zero_count = rest.take(&zero, cut.of(&zero, true));
        }
        if rest.is_less {
            (self.count, self.sum) = (rest.count, rest.sum);
            self.compact();
        }
    }
}

impl Rest {
    /// Adds what stays of `bucket`, observations of about one value; how many they are.
    fn take(&mut self, bucket: &Bucket, (count, value): (f64, f64)) -> f64 {
        self.count += count;
        self.sum += count * value;
        self.is_less |= count != bucket.count;
        count
    }
}

impl Cut {
    /// How many observations of `bucket` stay, and their value, about.
    fn of(self, bucket: &Bucket, is_linear: bool) -> (f64, f64) {
        let Bucket { lower, upper, count, .. } = *bucket;
        let Self { threshold, kept } = self;
        let (is_whole, is_divided) = match kept {
            Kept::Below => (upper <= threshold, lower < threshold),
            Kept::Above => (lower >= threshold, upper > threshold),
        };
        if is_whole {
            return (count, middle(lower, upper, is_linear));
        }
        if !is_divided {
            return (0.0, 0.0);
        }
        if lower.is_infinite() || upper.is_infinite() {
            return self.of_unbounded(bucket);
        }
        let below = share_below(bucket, threshold, is_linear);
        match kept {
            Kept::Below => (below, middle(lower, threshold, is_linear)),
            Kept::Above => (count - below, middle(threshold, upper, is_linear)),
        }
    }

    /// As [`Cut::of`] where a bucket without a border on one side is divided: its observations are taken to be infinite. But
    /// a lowest bucket that ends above zero is taken to begin there, and says nothing of what is below.
    fn of_unbounded(self, bucket: &Bucket) -> (f64, f64) {
        let Bucket { lower, upper, count, .. } = *bucket;
        let Self { threshold, kept } = self;
        let begins_at_zero = lower.is_infinite() && upper.is_finite() && upper > 0.0;
        match kept {
            Kept::Below if begins_at_zero && threshold > 0.0 => (count * threshold / upper, threshold / 2.0),
            Kept::Below if lower.is_infinite() && upper <= 0.0 => (count, threshold),
            Kept::Above if begins_at_zero && threshold >= 0.0 => {
                (count * (1.0 - threshold / upper), (threshold + upper) / 2.0)
            }
            Kept::Above if lower.is_finite() => (count, threshold),
            _ => (0.0, 0.0),
        }
    }
}

/// The value that stands for all between two borders.
fn middle(lower: f64, upper: f64, is_linear: bool) -> f64 {
    if lower.is_infinite() && upper.is_infinite() {
        0.0
    } else if lower.is_infinite() {
        if upper > 0.0 { upper / 2.0 } else { upper }
    } else if upper.is_infinite() {
        lower
    } else if is_linear {
        (lower + upper) / 2.0
    } else {
        // Both borders are on the same side of zero.
        (lower * upper).abs().sqrt().copysign(lower + upper)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::native::CUSTOM_SCHEMA;

    fn exponential() -> Histogram {
        Histogram {
            count: 34.0,
            sum: 123.75,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: vec![(0, 2.0), (1, 4.0), (2, 8.0), (3, 16.0)],
            negative: vec![(0, 1.0), (1, 2.0)],
            ..Histogram::default()
        }
    }

    fn custom(borders: &[f64], counts: &[f64]) -> Histogram {
        Histogram {
            schema: CUSTOM_SCHEMA,
            count: counts.iter().sum(),
            sum: 7.0,
            positive: (0..).zip(counts.iter().copied()).collect(),
            custom: Arc::from(borders),
            ..Histogram::default()
        }
    }

    /// Count and sum of what stays.
    fn trimmed(mut histogram: Histogram, kept: Kept, threshold: f64) -> (f64, f64) {
        histogram.trim(threshold, kept);
        (histogram.count, histogram.sum)
    }

    fn check((count, sum): (f64, f64), (want_count, want_sum): (f64, f64)) {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(count, want_count) && near(sum, want_sum), "({count}, {sum}) is not ({want_count}, {want_sum})");
    }

    #[test]
    fn a_histogram_on_the_right_side_stays_as_it_is() {
        for (kept, threshold) in [(Kept::Above, f64::NEG_INFINITY), (Kept::Below, f64::INFINITY), (Kept::Below, 8.0)] {
            let mut same = exponential();
            same.trim(threshold, kept);
            assert!(same.equals(&exponential()));
        }
    }

    #[test]
    fn nothing_stays_on_the_wrong_side() {
        for (kept, threshold) in [(Kept::Above, f64::INFINITY), (Kept::Below, f64::NEG_INFINITY)] {
            let mut nothing = exponential();
            nothing.trim(threshold, kept);
            assert!(nothing.equals(&Histogram { zero_threshold: 0.001, ..Histogram::default() }));
            assert_eq!(trimmed(custom(&[5.0], &[1.0, 100.0]), kept, threshold), (0.0, 0.0));
        }
    }

    #[test]
    fn a_border_of_buckets_divides_none() {
        let root = std::f64::consts::SQRT_2;
        check(trimmed(exponential(), Kept::Above, 2.0), (24.0, 8.0 * 2.0 * root + 16.0 * 4.0 * root));
        check(trimmed(exponential(), Kept::Below, -1.0), (2.0, -2.0 * root));
    }

    #[test]
    fn a_divided_bucket_is_even_over_the_logarithm() {
        let root = std::f64::consts::SQRT_2;
        // Half of (1, 2] lies below the root of two.
        let (below, above) = (trimmed(exponential(), Kept::Below, root), trimmed(exponential(), Kept::Above, root));
        let rest = 2.0 * root / 2.0 - root / 2.0 - 2.0 * root;
        check(below, (8.0, rest + 2.0 * root.sqrt()));
        check(above, (26.0, 2.0 * (2.0 * root).sqrt() + 80.0 * root));
        let mut negative = exponential();
        negative.trim(-root, Kept::Below);
        assert_eq!(negative.negative.len(), 1);
        assert!((negative.negative[0].1 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_zero_bucket_lies_where_the_other_buckets_do() {
        let zero = Histogram { count: 5.0, zero_threshold: 0.1, zero_count: 5.0, ..Histogram::default() };
        check(trimmed(zero.clone(), Kept::Above, 0.0), (2.5, 0.125));
        check(trimmed(zero.clone(), Kept::Below, 0.05), (3.75, -0.09375));
        let positive = Histogram { count: 6.0, positive: vec![(0, 1.0)], ..zero };
        let half = 0.5f64.sqrt();
        assert_eq!(trimmed(positive.clone(), Kept::Above, 0.0), (6.0, 0.0));
        check(trimmed(positive, Kept::Above, 0.05), (3.5, 2.5 * 0.075 + half));
    }

    #[test]
    fn a_lowest_custom_bucket_begins_at_zero_if_it_ends_above() {
        let borders = [5.0, 10.0, 15.0, 20.0];
        let counts = [1.0, 6.0, 4.0, 3.0, 1.0];
        check(trimmed(custom(&borders, &counts), Kept::Below, 13.0), (9.4, 2.5 + 45.0 + 2.4 * 11.5));
        check(trimmed(custom(&borders, &counts), Kept::Above, 13.0), (5.6, 1.6 * 14.0 + 52.5 + 20.0));
        check(trimmed(custom(&borders, &counts), Kept::Below, 2.5), (0.5, 0.625));
        // What lies in the last bucket is larger than any threshold.
        check(trimmed(custom(&borders, &counts), Kept::Below, 50.0), (14.0, 150.0));
        assert_eq!(trimmed(custom(&borders, &counts), Kept::Above, 0.0), (15.0, 7.0));
        check(trimmed(custom(&[5.0], &[1.0, 100.0]), Kept::Above, -10.0), (100.0, 500.0));
    }

    #[test]
    fn a_custom_bucket_below_zero_has_no_beginning() {
        let borders = [-10.0, 5.0, 10.0, 15.0, 20.0];
        let counts = [2.0, 1.0, 6.0, 4.0, 3.0, 1.0];
        check(trimmed(custom(&borders, &counts), Kept::Below, 2.0), (2.8, -20.0 - 0.8 * 4.0));
        check(trimmed(custom(&borders, &counts), Kept::Below, -15.0), (2.0, -30.0));
        check(trimmed(custom(&borders, &counts), Kept::Above, -15.0), (15.0, -2.5 + 45.0 + 50.0 + 52.5 + 20.0));
    }
}
