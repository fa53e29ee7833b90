//! Quantiles of classic histograms: cumulative buckets, one series each, with an upper bound in the label `le`.
use foretell_engine::{LabelSet, METRIC_NAME};
use hashbrown::HashMap;

use super::super::number::almost_equal;
use super::super::value::{ABSENT, Column, is_absent};

const BOUND: &str = "le";
/// Counts that differ by less, relatively, are taken as equal.
const TOLERANCE: f64 = 1e-12;

/// A bucket: upper bound and how many observations were not above it.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// The quantile `q[step]` of each histogram in `columns`; series whose `le` is no number are left out.
pub(super) fn quantiles(q: &[f64], columns: &[Column]) -> Vec<Column> {
    each(columns, q.len(), |step, buckets| quantile(q[step], buckets))
}

/// The share of observations in `low[step]..=high[step]` of each histogram in `columns`.
pub(super) fn fractions(low: &[f64], high: &[f64], columns: &[Column]) -> Vec<Column> {
    each(columns, low.len(), |step, buckets| fraction(low[step], high[step], buckets))
}

/// `answer` for the buckets, sorted by bound, of each histogram at each step.
fn each(columns: &[Column], steps: usize, answer: impl Fn(usize, &mut Vec<Bucket>) -> f64) -> Vec<Column> {
    let mut histograms: Vec<(LabelSet, Vec<(f64, &Column)>)> = Vec::new();
    let mut index: HashMap<LabelSet, usize> = HashMap::new();
    for column in columns {
        let Some(bound) = column.labels.get(BOUND).and_then(|text| text.parse().ok()) else { continue };
        let labels = column.labels.filtered(|name| name != BOUND && name != METRIC_NAME);
        let at = *index.entry(labels).or_insert_with_key(|labels| {
            histograms.push((labels.clone(), Vec::new()));
            histograms.len() - 1
        });
        histograms[at].1.push((bound, column));
    }
    let mut buckets = Vec::new();
    let mut column = |(labels, members): (LabelSet, Vec<(f64, &Column)>)| {
        let at = |step: usize| {
            buckets.clear();
            let present = members.iter().map(|&(bound, column)| Bucket { bound, count: column.values[step] });
            buckets.extend(present.filter(|bucket| !is_absent(bucket.count)));
            buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
            if buckets.is_empty() { ABSENT } else { answer(step, &mut buckets) }
        };
        Column { labels, values: (0..steps).map(at).collect() }
    };
    let columns: Vec<Column> = histograms.into_iter().map(&mut column).collect();
    columns.into_iter().filter(|column| !column.is_empty()).collect()
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

/// By linear interpolation inside the bucket that holds the rank.
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return f64::NAN;
    }
    merge_equal_bounds(buckets);
    make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return f64::NAN;
    }
    let mut rank = q * observations;
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

/// Counts that fall, because scrapes of single series are not atomic, are raised to the one before.
fn make_monotonic(buckets: &mut [Bucket]) {
    let mut previous = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if bucket.count < previous || almost_equal(bucket.count, previous, TOLERANCE) {
            bucket.count = previous;
        }
        previous = bucket.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(buckets: &[(f64, f64)], q: f64) -> f64 {
        quantile(q, &mut buckets.iter().map(|&(bound, count)| Bucket { bound, count }).collect())
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
