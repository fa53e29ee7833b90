//! Arithmetic as Prometheus does it: compensated sums, quantiles by interpolation, least squares.
use super::value::is_absent;

/// A sum with Neumaier's compensation (A. Neumaier, 1974).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) sum: f64,
    pub(crate) compensation: f64,
}

impl Sum {
    /// Adds `x`.
    pub(crate) fn add(&mut self, x: f64) {
        let total = self.sum + x;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= x.abs() {
            self.compensation += (self.sum - total) + x;
        } else {
            self.compensation += (x - total) + self.sum;
        }
        self.sum = total;
    }

    /// That of all `values`, added one after another.
    pub(crate) fn of(values: &[f64]) -> Self {
        Self::default().plus(values).unwrap_or_else(|| {
            let mut sum = Self::default();
            values.iter().for_each(|&x| sum.add(x));
            sum
        })
    }

    /// After adding all `values`: the very bits that [`Sum::add`] gives, unless a sum on the way is not finite. What an addition
    /// loses is taken as D. Knuth does (The Art of Computer Programming, volume 2, 4.2.2): exact as well, and nothing has to be
    /// compared.
    fn plus(self, values: &[f64]) -> Option<Self> {
        let Self { mut sum, mut compensation } = self;
        for &x in values {
            let total = sum + x;
            let part = total - sum;
            compensation += (sum - (total - part)) + (x - part);
            sum = total;
        }
        (sum.is_finite() && compensation.is_finite()).then_some(Self { sum, compensation })
    }

    /// The sum.
    pub(crate) fn value(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.compensation }
    }
}

/// A mean that goes on when the sum overflows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    /// The sum, or the mean once `incremental`.
    total: Sum,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// Adds `x`.
    pub(crate) fn add(&mut self, x: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.total = Sum { sum: x, compensation: 0.0 };
            return;
        }
        if !self.incremental {
            let mut next = self.total;
            next.add(x);
            if !next.sum.is_infinite() {
                self.total = next;
                return;
            }
            self.incremental = true;
            self.total.sum /= self.count - 1.0;
            self.total.compensation /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        self.total = Sum { sum: weight * self.total.sum, compensation: weight * self.total.compensation };
        self.total.add(x / self.count);
    }

    /// That of all `values`, added one after another.
    pub(crate) fn of(values: &[f64]) -> Self {
        let plain = values.split_first().and_then(|(&first, rest)| {
            let total = Sum { sum: first, compensation: 0.0 }.plus(rest)?;
            Some(Self { total, count: values.len() as f64, incremental: false })
        });
        plain.unwrap_or_else(|| {
            let mut mean = Self::default();
            values.iter().for_each(|&x| mean.add(x));
            mean
        })
    }

    /// The mean; NaN of nothing.
    pub(crate) fn value(self) -> f64 {
        if self.incremental {
            self.total.sum + self.total.compensation
        } else {
            self.total.sum / self.count + self.total.compensation / self.count
        }
    }
}

/// Sums beside each other, each with Neumaier's compensation and with what it is a sum of.
#[derive(Default)]
pub(crate) struct Sums {
    sum: Vec<f64>,
    compensation: Vec<f64>,
    count: Vec<f64>,
}

impl Sums {
    /// Becomes so many, of nothing.
    pub(crate) fn begin(&mut self, len: usize) {
        for numbers in [&mut self.sum, &mut self.compensation, &mut self.count] {
            numbers.clear();
            numbers.resize(len, 0.0);
        }
    }

    /// Adds to each sum the value that stands at its place, if there is one; all at once, as [`Sum::plus`] does.
    pub(crate) fn add(&mut self, values: &[f64]) {
        let sums = self.sum.iter_mut().zip(&mut self.compensation).zip(&mut self.count);
        for (((sum, compensation), count), &x) in sums.zip(values) {
            let total = *sum + x;
            let part = total - *sum;
            let lost = (*sum - (total - part)) + (x - part);
            // Chosen without a branch, so that several are added by one instruction.
            let present = !is_absent(x);
            *sum = if present { total } else { *sum };
            *compensation = if present { *compensation + lost } else { *compensation };
            *count += if present { 1.0 } else { 0.0 };
        }
    }

    /// Of how many values the sum at `at` is.
    pub(crate) fn count(&self, at: usize) -> f64 {
        self.count[at]
    }

    /// What [`Sum::of`] finds, unless a sum on the way was infinite.
    pub(crate) fn sum(&self, at: usize) -> Option<Sum> {
        let (sum, compensation) = (self.sum[at], self.compensation[at]);
        if sum.is_nan() {
            return Some(Sum { sum, compensation: 0.0 });
        }
        (sum.is_finite() && compensation.is_finite()).then_some(Sum { sum, compensation })
    }

    /// What [`Mean::of`] finds, unless a sum on the way was not finite.
    pub(crate) fn mean(&self, at: usize) -> Option<Mean> {
        let total = self.sum(at).filter(|total| total.sum.is_finite())?;
        Some(Mean { total, count: self.count[at], incremental: false })
    }
}

/// The `q`-quantile of `values` by linear interpolation between ranks, NaN first; puts them in another order.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (values.len() - 1) as f64;
    let weight = rank - rank.floor();
    // Two of them are wanted, so they need not be sorted: the next larger one is the smallest of those behind.
    let (_, &mut lower, behind) = values.select_nth_unstable_by(rank.floor() as usize, nan_first);
    let upper = behind.iter().copied().min_by(nan_first).unwrap_or(lower);
    lower * (1.0 - weight) + upper * weight
}

/// Increasing, NaN before all.
pub(crate) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// Least squares through points (seconds relative to `origin_ms`, value): slope per second and value at `origin_ms`.
pub(crate) fn regression(ts: &[i64], values: &[f64], origin_ms: i64) -> (f64, f64) {
    let (mut n, mut constant) = (0.0, true);
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    let first = values[0];
    for (&t, &y) in ts.iter().zip(values) {
        constant &= y == first || n == 0.0;
        n += 1.0;
        let x = (t - origin_ms) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    if constant {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let total = |sum: Sum| sum.sum + sum.compensation;
    let (x, y, xy, xx) = (total(x_sum), total(y_sum), total(xy_sum), total(xx_sum));
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

/// Whether two counts of a cumulative histogram differ only by rounding.
pub(crate) fn almost_equal(a: f64, b: f64, tolerance: f64) -> bool {
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < tolerance * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < tolerance
}

/// `value` in the shorter of the usual forms: with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn general(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 || (1e-4..1e6).contains(&size) {
        return super::value::format(value);
    }
    let text = format!("{value:e}");
    let Some((mantissa, power)) = text.split_once('e') else { return text };
    let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::value::ABSENT;
    use super::*;

    #[test]
    fn very_large_and_very_small_numbers_have_an_exponent() {
        let cases = [(1e-5, "1e-05"), (0.5, "0.5"), (1e6, "1e+06"), (f64::INFINITY, "+Inf"), (-0.0, "-0")];
        for (value, text) in cases {
            assert_eq!(general(value), text);
        }
    }

    #[test]
    fn a_sum_keeps_what_plain_addition_loses() {
        let mut sum = Sum::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|x| sum.add(x));
        assert_eq!(sum.value(), 2.0);
    }

    #[test]
    fn a_mean_of_huge_values_does_not_overflow() {
        let mut mean = Mean::default();
        [f64::MAX, f64::MAX, f64::MAX].into_iter().for_each(|x| mean.add(x));
        assert!((mean.value() / f64::MAX - 1.0).abs() < 1e-12);
    }

    #[test]
    fn values_added_at_once_give_the_bits_of_values_added_one_by_one() {
        let mut random = 7u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 11
        };
        let odd = [f64::MAX, f64::MIN, f64::INFINITY, f64::NAN, -0.0, 0.0, f64::MIN_POSITIVE, 5e-324, 1e308];
        for round in 0..20_000 {
            let len = next() as usize % 40;
            let value = |next: &mut dyn FnMut() -> u64| match round % 4 {
                0 => (next() % 1000) as f64 / 10.0,
                1 => (next() as f64 - 4.5e15) * 10f64.powi((next() % 40) as i32 - 20),
                2 => f64::from_bits((next() << 11) | (next() % 2048)),
                _ if next().is_multiple_of(8) => odd[next() as usize % odd.len()],
                _ => (next() % 1000) as f64 * 1e305,
            };
            let values: Vec<f64> = (0..len).map(|_| value(&mut next)).collect();
            let (mut sum, mut mean) = (Sum::default(), Mean::default());
            values.iter().for_each(|&x| sum.add(x));
            values.iter().for_each(|&x| mean.add(x));
            let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(same(Sum::of(&values).value(), sum.value()), "{values:?}");
            assert!(same(Mean::of(&values).value(), mean.value()), "{values:?}");
            // Beside another sum, and with gaps.
            let mut sums = Sums::default();
            sums.begin(2);
            values.iter().enumerate().for_each(|(i, &x)| {
                sums.add(&[ABSENT, x]);
                sums.add(&[if i < 3 { 0.5 } else { ABSENT }, ABSENT]);
            });
            assert_eq!((sums.count(0), sums.count(1)), (values.len().min(3) as f64, values.len() as f64));
            assert_eq!(sums.sum(0).unwrap().value(), 0.5 * values.len().min(3) as f64);
            let finite = Sum::default().plus(&values).is_some();
            assert_eq!(sums.mean(1).is_some(), finite, "{values:?}");
            assert!(!finite || same(sums.mean(1).unwrap().value(), mean.value()), "{values:?}");
            assert!(!finite || sums.sum(1).is_some());
            assert!(sums.sum(1).is_none_or(|found| same(found.value(), sum.value())), "{values:?}");
        }
    }

    #[test]
    fn quantiles_interpolate_and_nan_counts_as_smallest() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0, 4.0]), 2.5);
        assert_eq!(quantile(1.0, &mut [3.0, f64::NAN]), 3.0);
        assert!(quantile(0.0, &mut [3.0, f64::NAN]).is_nan());
        assert_eq!(quantile(1.1, &mut [3.0]), f64::INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }

    #[test]
    fn a_quantile_is_that_of_the_sorted_values() {
        let mut random = 1u64;
        for len in 1..200 {
            let mut next = || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                random >> 40
            };
            let values: Vec<f64> =
                (0..len).map(|_| if next() % 20 == 0 { f64::NAN } else { (next() % 50) as f64 }).collect();
            let q = next() as f64 / (1u64 << 24) as f64;
            let mut sorted = values.clone();
            sorted.sort_by(nan_first);
            let rank = q * (len - 1) as f64;
            let (lower, weight) = (rank.floor() as usize, rank - rank.floor());
            let upper = (lower + 1).min(len - 1);
            let expect = sorted[lower] * (1.0 - weight) + sorted[upper] * weight;
            assert_eq!(quantile(q, &mut values.clone()).to_bits(), expect.to_bits(), "{q} of {values:?}");
        }
    }

    #[test]
    fn regression_of_a_line_is_the_line() {
        let (slope, intercept) = regression(&[0, 1000, 2000], &[1.0, 3.0, 5.0], 1000);
        assert_eq!((slope, intercept), (2.0, 3.0));
    }
}
