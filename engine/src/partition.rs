//! Time partitions: numbered stretches of equal width, number 0 starting in 1970.
use crate::types::TimeRange;

/// The width, and arithmetic that holds at the ends of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partitioning {
    pub(crate) width_ns: i64,
}

impl Partitioning {
    /// The partition of an instant.
    pub(crate) fn of(self, ts: i64) -> i64 {
        ts.div_euclid(self.width_ns)
    }

    /// The instants of a partition, cut where time ends.
    pub(crate) fn range(self, partition: i64) -> TimeRange {
        let start = i128::from(partition) * i128::from(self.width_ns);
        let end = start + i128::from(self.width_ns) - 1;
        let clamp = |ns: i128| ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        TimeRange { start: clamp(start), end: clamp(end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_lies_in_the_range_of_its_partition() {
        for width_ns in [1, 7, 86_400_000_000_000, i64::MAX] {
            let partitioning = Partitioning { width_ns };
            for ts in [i64::MIN, i64::MIN + 1, -width_ns, -1, 0, 1, width_ns - 1, width_ns, i64::MAX - 1, i64::MAX] {
                assert!(partitioning.range(partitioning.of(ts)).contains(ts), "{ts} with {width_ns}");
            }
        }
    }
}
