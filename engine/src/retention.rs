//! How long data is kept: which partitions have lived long enough. Pure; dropping them is the engine's.
//!
//! Whole partitions go, the oldest first: no file is read or rewritten for it. A partition goes when all of it is older
//! than the age, or when the segments of all partitions together exceed the bytes. The newest never goes for its size.
use std::time::Duration;

use crate::types::TimeRange;

/// What is kept; the default keeps everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    pub(crate) age: Option<Duration>,
    pub(crate) bytes_max: Option<u64>,
}

impl Retention {
    fn age_ns(&self) -> Option<i64> {
        self.age.map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Whether anything can be dropped.
    pub(crate) fn is_set(&self) -> bool {
        self.age.is_some() || self.bytes_max.is_some()
    }

    /// Everything before this instant is older than the age.
    pub(crate) fn oldest_kept(&self, now_ns: i64) -> i64 {
        self.age_ns().map_or(i64::MIN, |age_ns| now_ns.saturating_sub(age_ns))
    }

    /// The first instant at which all of `range` is older than the age.
    pub(crate) fn expiry(&self, range: TimeRange) -> Option<i64> {
        self.age_ns().map(|age_ns| range.end.saturating_add(age_ns).saturating_add(1))
    }

    /// Partitions that end before this instant are to be dropped. `partitions` are the ranges and segment bytes of all,
    /// oldest first.
    pub(crate) fn cut(&self, partitions: &[(TimeRange, u64)], now_ns: i64) -> i64 {
        let mut cut = self.oldest_kept(now_ns);
        let Some(bytes_max) = self.bytes_max else { return cut };
        let mut bytes = 0u64;
        for (at, &(range, own)) in partitions.iter().enumerate().rev() {
            bytes = bytes.saturating_add(own);
            if bytes > bytes_max && at + 1 < partitions.len() {
                cut = cut.max(range.end.saturating_add(1));
                break;
            }
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(n: i64) -> TimeRange {
        TimeRange { start: n * 10, end: n * 10 + 9 }
    }

    fn left(retention: Retention, partitions: &[(TimeRange, u64)], now_ns: i64) -> Vec<i64> {
        let cut = retention.cut(partitions, now_ns);
        partitions.iter().filter(|(range, _)| range.end >= cut).map(|(range, _)| range.start / 10).collect()
    }

    #[test]
    fn by_age_a_partition_goes_when_its_last_instant_is_too_old() {
        let partitions: Vec<_> = (0..4).map(|n| (day(n), 5)).collect();
        let keep = Retention { age: Some(Duration::from_nanos(20)), bytes_max: None };
        assert_eq!(left(keep, &partitions, 29), [0, 1, 2, 3]);
        assert_eq!(left(keep, &partitions, 30), [1, 2, 3]);
        assert_eq!((keep.expiry(day(0)), Retention::default().expiry(day(0))), (Some(30), None));
        assert_eq!(left(keep, &partitions, 1_000), Vec::<i64>::new());
        assert_eq!(left(Retention::default(), &partitions, i64::MAX), [0, 1, 2, 3], "for ever unless set");
        assert_eq!(Retention { age: Some(Duration::MAX), ..keep }.oldest_kept(-5), i64::MIN);
    }

    #[test]
    fn by_bytes_the_oldest_go_until_the_rest_fits_and_the_newest_stays() {
        let partitions: Vec<_> = (0..4).map(|n| (day(n), 5)).collect();
        let keep = |bytes| Retention { age: None, bytes_max: Some(bytes) };
        assert_eq!(left(keep(20), &partitions, 0), [0, 1, 2, 3]);
        assert_eq!(left(keep(19), &partitions, 0), [1, 2, 3]);
        assert_eq!(left(keep(10), &partitions, 0), [2, 3]);
        assert_eq!(left(keep(0), &partitions, 0), [3]);
        assert_eq!(left(keep(0), &[], 0), Vec::<i64>::new());
    }

    proptest! {
        #[test]
        fn what_is_kept_fits_and_nothing_is_dropped_in_vain(
            sizes in prop::collection::vec(0u64..50, 1..12),
            bytes_max in 0u64..300,
            age in prop::option::of(0u64..200),
            now_ns in -50i64..300,
        ) {
            let partitions: Vec<_> = (0..).zip(&sizes).map(|(n, &bytes)| (day(n), bytes)).collect();
            let retention = Retention { age: age.map(Duration::from_nanos), bytes_max: Some(bytes_max) };
            let cut = retention.cut(&partitions, now_ns);
            let kept: Vec<_> = partitions.iter().filter(|(range, _)| range.end >= cut).collect();
            let bytes = |of: &[&(TimeRange, u64)]| of.iter().map(|partition| partition.1).sum::<u64>();
            prop_assert!(kept.len() <= 1 || bytes(&kept) <= bytes_max);
            // Dropping is from the oldest on, and the newest that went was too old or would not have fitted.
            if let Some(newest_gone) = partitions.len().checked_sub(kept.len() + 1) {
                let too_old = partitions[newest_gone].0.end < retention.oldest_kept(now_ns);
                prop_assert!(too_old || bytes(&kept) + partitions[newest_gone].1 > bytes_max);
            }
        }
    }
}
