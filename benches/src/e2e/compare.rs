//! The judge: two stores of samples, compared bit by bit. Pure; knows nothing of servers.
use std::collections::{BTreeMap, BTreeSet};

use foretell_proto::prometheus::STALE_NAN_BITS;

use crate::workload::page::{Labels, format_series};

/// Examples kept of what is wrong.
const EXAMPLES_MAX: usize = 20;

/// Samples by label set: (ns UTC, value's bits), in the order in which the store returned them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    /// Sorted label sets, `__name__` included.
    pub series: BTreeMap<Labels, Vec<(i64, u64)>>,
}

impl Store {
    /// All samples.
    pub fn samples(&self) -> u64 {
        self.series.values().map(|samples| samples.len() as u64).sum()
    }

    /// Samples of one metric.
    pub fn samples_of(&self, metric: &str) -> u64 {
        let named = |labels: &Labels| labels.iter().any(|(n, v)| n == "__name__" && v == metric);
        self.series.iter().filter(|(labels, _)| named(labels)).map(|(_, samples)| samples.len() as u64).sum()
    }

    /// Samples of the longest series of one metric.
    pub fn longest_of(&self, metric: &str) -> u64 {
        let named = |labels: &Labels| labels.iter().any(|(n, v)| n == "__name__" && v == metric);
        let lengths = self.series.iter().filter(|(labels, _)| named(labels)).map(|(_, samples)| samples.len() as u64);
        lengths.max().unwrap_or(0)
    }

    /// Removes one sample from the middle: what a comparison must notice.
    pub fn drop_one(&mut self) {
        let middle = self.series.len() / 2;
        if let Some(samples) = self.series.values_mut().nth(middle).filter(|samples| !samples.is_empty()) {
            samples.remove(samples.len() / 2);
        }
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Series of the expected store that hold samples.
    pub series_expected: u64,
    /// Series of the actual store that hold samples.
    pub series_actual: u64,
    /// Samples that are in both, with the same bits.
    pub equal: u64,
    /// Samples that only the expected store has.
    pub missing: u64,
    /// Samples that only the actual store has.
    pub extra: u64,
    /// Samples of which the values differ.
    pub differing: u64,
    /// Samples that the actual store returns more than once.
    pub duplicates: u64,
    /// Stale markers that are in both, with the same bits.
    pub stale_equal: u64,
    /// Stale markers of the expected store.
    pub stale_expected: u64,
    /// Some of what is wrong, in words.
    pub examples: Vec<String>,
}

impl Comparison {
    /// Whether the stores are equal in every bit.
    pub fn is_equal(&self) -> bool {
        self.missing + self.extra + self.differing + self.duplicates == 0
    }

    fn note(&mut self, what: &str, labels: &Labels, ts: i64, bits: &str) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{what}: {} at {ts} ns {bits}", format_series(labels)));
        }
    }
}

/// Compares series by series, sample by sample.
pub fn compare(expected: &Store, actual: &Store) -> Comparison {
    let mut found = Comparison {
        series_expected: expected.series.values().filter(|samples| !samples.is_empty()).count() as u64,
        series_actual: actual.series.values().filter(|samples| !samples.is_empty()).count() as u64,
        ..Comparison::default()
    };
    let nothing = Vec::new();
    let all: BTreeSet<&Labels> = expected.series.keys().chain(actual.series.keys()).collect();
    for labels in all {
        let expected: BTreeMap<i64, u64> = expected.series.get(labels).unwrap_or(&nothing).iter().copied().collect();
        let mut rest = expected.clone();
        found.stale_expected += expected.values().filter(|&&bits| bits == STALE_NAN_BITS).count() as u64;
        for &(ts, bits) in actual.series.get(labels).unwrap_or(&nothing) {
            match (rest.remove(&ts), expected.get(&ts)) {
                (Some(wanted), _) if wanted == bits => {
                    found.equal += 1;
                    found.stale_equal += u64::from(bits == STALE_NAN_BITS);
                }
                (Some(wanted), _) => {
                    found.differing += 1;
                    found.note("differs", labels, ts, &format!("{wanted:#018x} became {bits:#018x}"));
                }
                (None, Some(_)) => {
                    found.duplicates += 1;
                    found.note("twice", labels, ts, &format!("{bits:#018x}"));
                }
                (None, None) => {
                    found.extra += 1;
                    found.note("extra", labels, ts, &format!("{bits:#018x}"));
                }
            }
        }
        for (ts, bits) in rest {
            found.missing += 1;
            found.note("missing", labels, ts, &format!("{bits:#018x}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        let labels = |name: &str| vec![("__name__".to_owned(), name.to_owned()), ("job".to_owned(), "a".to_owned())];
        let samples = |n: i64| (0..n).map(|i| (i * 1_000_000_000, (i as f64).to_bits())).collect::<Vec<_>>();
        let mut series =
            BTreeMap::from([(labels("up"), samples(5)), (labels("x"), samples(3)), (labels("y"), samples(9))]);
        series.get_mut(&labels("x")).unwrap().push((10_000_000_000, STALE_NAN_BITS));
        Store { series }
    }

    #[test]
    fn equal_stores_are_equal_and_empty_series_do_not_count() {
        let mut other = store();
        other.series.insert(vec![("__name__".to_owned(), "empty".to_owned())], Vec::new());
        let found = compare(&store(), &other);
        assert!(found.is_equal() && found.examples.is_empty());
        assert_eq!((found.equal, found.series_expected, found.series_actual), (18, 3, 3));
        assert_eq!((found.stale_expected, found.stale_equal), (1, 1));
    }

    #[test]
    fn the_canary_is_caught() {
        let mut other = store();
        other.drop_one();
        let found = compare(&store(), &other);
        assert!(!found.is_equal());
        assert_eq!((found.missing, found.equal, found.extra), (1, 17, 0));
        assert!(found.examples[0].starts_with("missing: x{job=\"a\"} at"), "{:?}", found.examples);
    }

    #[test]
    fn one_flipped_bit_is_a_difference_also_in_a_nan() {
        let mut other = store();
        for samples in other.series.values_mut() {
            if let Some(last) = samples.last_mut() {
                last.1 ^= 1;
            }
        }
        let found = compare(&store(), &other);
        assert_eq!((found.differing, found.equal, found.stale_equal, found.stale_expected), (3, 15, 0, 1));
    }

    #[test]
    fn extra_samples_series_and_repetitions_are_told_apart() {
        let mut other = store();
        let last = other.series.values_mut().next_back().unwrap();
        last.push((77, 0));
        last.push(last[0]);
        other.series.insert(vec![("__name__".to_owned(), "new".to_owned())], vec![(1, 1), (2, 2)]);
        let found = compare(&store(), &other);
        assert_eq!((found.extra, found.duplicates, found.missing, found.equal), (3, 1, 0, 18));
    }

    #[test]
    fn a_lost_series_is_all_missing() {
        let found = compare(&store(), &Store::default());
        assert_eq!((found.missing, found.series_actual, found.equal), (18, 0, 0));
        assert_eq!((store().samples_of("y"), store().longest_of("y"), store().longest_of("z")), (9, 9, 0));
    }
}
