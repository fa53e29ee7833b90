//! Quantiles and fractions of histograms: of native ones, and of classic ones, whose cumulative buckets are one series each
//! with an upper bound in the label `le`.
use foretell_engine::LabelSet;
use hashbrown::HashMap;

use super::super::annotation::{Note, Notes};
use super::super::histogram::{Histogram, NanObservations};
use super::super::labels::without_name;
use super::super::number::almost_equal;
use super::super::parallel::{GoOn, Pace};
use super::super::value::{ABSENT, Column, Columns, is_absent};
use crate::error::Result;

const BOUND: &str = "le";
/// Counts that differ by less, relatively, are taken as equal.
const TOLERANCE: f64 = 1e-12;

/// A bucket: upper bound and how many observations were not above it.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// The classic histograms of a vector by their labels without the bound.
#[derive(Default)]
struct Classic<'a> {
    index: HashMap<LabelSet, usize>,
    /// Labels, and the series with their bounds.
    histograms: Vec<(LabelSet, Vec<(f64, &'a Column)>)>,
}

/// The quantile `q[step]` of each histogram in `columns`; series whose `le` is no number are left out.
///
/// # Errors
/// `Execution` when two results have the same labels; those of `go_on`.
pub(super) fn quantiles(q: &[f64], columns: &[Column], notes: &Notes, go_on: &GoOn<'_>) -> Result<Vec<Column>> {
    let invalid = q.iter().filter(|q| !(0.0..=1.0).contains(*q));
    invalid.for_each(|&q| notes.add(&Note::InvalidQuantile(q)));
    let classic = |step: usize, labels: &LabelSet, buckets: &mut Vec<Bucket>| {
        let (quantile, is_forced) = quantile(q[step], buckets);
        if is_forced {
            notes.add(&Note::ForcedMonotonic(labels.metric_name().to_owned()));
        }
        quantile
    };
    let native = |step: usize, histogram: &Histogram| {
        let (quantile, nan) = histogram.quantile(q[step]);
        match nan {
            Some(NanObservations::IsResult) => notes.add(&Note::NanIsQuantile(String::new())),
            Some(NanObservations::SkewResult) => notes.add(&Note::NanSkewsQuantile(String::new())),
            None => {}
        }
        quantile
    };
    each(columns, q.len(), (notes, go_on), classic, native)
}

/// The share of observations in `low[step]..=high[step]` of each histogram in `columns`.
///
/// # Errors
/// `Execution` when two results have the same labels; those of `go_on`.
pub(super) fn fractions(
    (low, high): (&[f64], &[f64]),
    columns: &[Column],
    notes: &Notes,
    go_on: &GoOn<'_>,
) -> Result<Vec<Column>> {
    let classic = |step: usize, _: &LabelSet, buckets: &mut Vec<Bucket>| fraction(low[step], high[step], buckets);
    let native = |step: usize, histogram: &Histogram| {
        let (fraction, has_nan) = histogram.fraction(low[step], high[step]);
        if has_nan {
            notes.add(&Note::NanOutsideFraction(String::new()));
        }
        fraction
    };
    each(columns, low.len(), (notes, go_on), classic, native)
}

/// `native` of each native histogram, and `classic` of the labels and buckets, sorted by bound, of each classic one, at each step.
fn each(
    columns: &[Column],
    steps: usize,
    (notes, go_on): (&Notes, &GoOn<'_>),
    classic: impl Fn(usize, &LabelSet, &mut Vec<Bucket>) -> f64,
    native: impl Fn(usize, &Histogram) -> f64,
) -> Result<Vec<Column>> {
    let (found, pace) = (Classic::of(columns, notes), Pace::new(go_on));
    // Where a native histogram stands beside the classic one of the same labels, neither is told.
    let mut hidden: HashMap<usize, Vec<bool>> = HashMap::new();
    let mut results = Columns::default();
    for column in columns.iter().filter(|column| column.has_histograms()) {
        let at = found.index.get(&unbounded(&column.labels)).copied();
        let mut values = vec![ABSENT; steps];
        for (step, value) in values.iter_mut().enumerate() {
            let Some(histogram) = column.histogram(step) else { continue };
            pace.spend(histogram.weight())?;
            if let Some(at) = at.filter(|&at| found.is_at(at, step)) {
                notes.add(&Note::MixedClassicAndNative(column.labels.metric_name().to_owned()));
                hidden.entry(at).or_insert_with(|| vec![false; steps])[step] = true;
            } else {
                *value = native(step, histogram);
            }
        }
        results.add(Column::floats(without_name(&column.labels), values))?;
    }
    let mut buckets = Vec::new();
    for (at, (labels, members)) in found.histograms.iter().enumerate() {
        let mut values = Vec::with_capacity(steps);
        for step in 0..steps {
            pace.spend(members.len())?;
            buckets.clear();
            let present = members.iter().map(|&(bound, column)| Bucket { bound, count: column.values[step] });
            buckets.extend(present.filter(|bucket| !is_absent(bucket.count)));
            buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
            let is_hidden = hidden.get(&at).is_some_and(|steps| steps[step]);
            values.push(if buckets.is_empty() || is_hidden { ABSENT } else { classic(step, labels, &mut buckets) });
        }
        results.add(Column::floats(without_name(labels), values))?;
    }
    Ok(results.finish())
}

/// What the series of one histogram have in common.
fn unbounded(labels: &LabelSet) -> LabelSet {
    labels.without(BOUND)
}

impl<'a> Classic<'a> {
    fn of(columns: &'a [Column], notes: &Notes) -> Self {
        let mut classic = Self::default();
        for column in columns.iter().filter(|column| column.values.iter().any(|&value| !is_absent(value))) {
            let text = column.labels.get(BOUND).unwrap_or("");
            let Ok(bound) = text.parse() else {
                notes.add(&Note::BadBucketLabel(column.labels.metric_name().to_owned(), text.to_owned()));
                continue;
            };
            let at = *classic.index.entry(unbounded(&column.labels)).or_insert_with_key(|labels| {
                classic.histograms.push((labels.clone(), Vec::new()));
                classic.histograms.len() - 1
            });
            classic.histograms[at].1.push((bound, column));
        }
        classic
    }

    /// Whether histogram `at` has a bucket at `step`.
    fn is_at(&self, at: usize, step: usize) -> bool {
        self.histograms[at].1.iter().any(|(_, column)| !is_absent(column.values[step]))
    }
}

/// By linear interpolation inside the buckets that hold the borders.
fn fraction(low: f64, high: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return f64::NAN;
    }
    merge_equal_bounds(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || low.is_nan() || high.is_nan() {
        return f64::NAN;
    }
    if low >= high {
        return 0.0;
    }
    let rank_of = |border: f64| {
        let (mut before, mut start) = (0.0, f64::NEG_INFINITY);
        for bucket in buckets.iter() {
            if start >= border {
                break;
            }
            if bucket.bound > border {
                return before + (bucket.count - before) * (border - start) / (bucket.bound - start);
            }
            (before, start) = (bucket.count, bucket.bound);
        }
        before
    };
    let rank = |border: f64| {
        let rank = rank_of(border);
        if rank > count { count } else { rank }
    };
    (rank(high) - rank(low)) / count
}

/// By linear interpolation inside the bucket that holds the rank; and whether falling counts had to be raised for it.
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if q > 1.0 {
        return (f64::INFINITY, false);
    }
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return (f64::NAN, false);
    }
    merge_equal_bounds(buckets);
    let is_forced = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, false);
    }
    (at_rank(q * observations, buckets), is_forced)
}

fn at_rank(mut rank: f64, buckets: &[Bucket]) -> f64 {
    let last = buckets.len() - 1;
    // A rank that is NaN is above every count.
    let at = buckets[..last].iter().position(|bucket| bucket.count >= rank).unwrap_or(last);
    if at == last {
        return buckets[last - 1].bound;
    }
    let Bucket { bound: end, mut count } = buckets[at];
    if at == 0 && end <= 0.0 {
        return end;
    }
    let mut start = 0.0;
    if at > 0 {
        start = buckets[at - 1].bound;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    start + (end - start) * (rank / count)
}

/// Bounds written differently (`1`, `1.0`) are one bucket.
fn merge_equal_bounds(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.bound == kept.bound;
        if same {
            kept.count += next.count;
        }
        same
    });
}

/// Counts that fall, because scrapes of single series are not atomic, are raised to the one before; whether any fell by more
/// than rounding.
fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut is_forced = false;
    let mut previous = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if almost_equal(bucket.count, previous, TOLERANCE) {
            bucket.count = previous;
        } else if bucket.count < previous {
            bucket.count = previous;
            is_forced = true;
        }
        previous = bucket.count;
    }
    is_forced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(buckets: &[(f64, f64)], q: f64) -> f64 {
        quantile(q, &mut buckets.iter().map(|&(bound, count)| Bucket { bound, count }).collect()).0
    }

    #[test]
    fn ranks_are_interpolated_inside_their_bucket() {
        let buckets = [(1.0, 2.0), (2.0, 6.0), (f64::INFINITY, 8.0)];
        assert_eq!(of(&buckets, 0.5), 1.5);
        assert_eq!(of(&buckets, 0.125), 0.5);
        assert_eq!(of(&buckets, 1.0), 2.0);
    }

    #[test]
    fn a_histogram_without_an_infinite_bucket_has_no_quantile() {
        assert!(of(&[(1.0, 2.0), (2.0, 6.0)], 0.5).is_nan());
        assert!(of(&[(f64::INFINITY, 6.0)], 0.5).is_nan());
        assert!(of(&[(1.0, 0.0), (f64::INFINITY, 0.0)], 0.5).is_nan());
    }

    #[test]
    fn falling_counts_are_raised() {
        assert_eq!(of(&[(1.0, 4.0), (2.0, 3.0), (f64::INFINITY, 8.0)], 0.5), 1.0);
    }
}
