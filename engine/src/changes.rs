//! How far back in time changes reach: who keeps what it has read learns how much of it still holds.
//!
//! ```text
//!  change     1     2     3 (late rows)   4     5
//!  since     10:00 10:01      09:30     10:02 10:03
//!  list                     (3, 09:30)  (4, 10:02)  (5, 10:03)     after 3 nothing before 10:02 has changed
//! ```
//! A group of commits is a change, and so is the dropping of partitions. Of a change only its earliest instant counts, and of
//! several changes the earliest: one that an earlier instant follows is not needed any more, and both numbers and instants of
//! those that are left increase. Where instants are rounded or entries joined, an answer is earlier than it need be, never later.
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

/// Instants are rounded down to it: senders deliver the samples of a moment in many commits, one little earlier than the next.
const ROUND_NS: i64 = 100_000_000;
/// Most entries; beyond them each two become one.
const ENTRIES_MAX: usize = 4096;

/// The changes of a store since it was opened. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    /// Changes so far.
    count: u64,
    /// Numbers of changes and their instants: of the changes that are later than the entry before, up to this one, none is
    /// earlier.
    entries: VecDeque<(u64, i64)>,
}

impl Changes {
    /// Takes note of a change of nothing before `since_ns`.
    pub(crate) fn add(&self, since_ns: i64) {
        let since_ns = since_ns.div_euclid(ROUND_NS).saturating_mul(ROUND_NS);
        let mut list = self.0.lock();
        list.count += 1;
        while list.entries.back().is_some_and(|&(_, since)| since >= since_ns) {
            list.entries.pop_back();
        }
        let number = list.count;
        list.entries.push_back((number, since_ns));
        if list.entries.len() > ENTRIES_MAX {
            let pairs = list.entries.make_contiguous().chunks(2).map(|pair| (pair[pair.len() - 1].0, pair[0].1));
            list.entries = pairs.collect();
        }
    }

    /// Changes so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// Before this instant (ns) nothing has changed after the first `count` changes.
    pub(crate) fn since(&self, count: u64) -> i64 {
        let list = self.0.lock();
        let next = list.entries.partition_point(|&(number, _)| number <= count);
        list.entries.get(next).map_or(i64::MAX, |&(_, since)| since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_changes_after_one_the_earliest_counts() {
        let changes = Changes::default();
        let second = 1_000_000_000;
        for since in [100, 101, 30, 102, 103, i64::MIN / second] {
            changes.add(since * second);
        }
        assert_eq!(changes.count(), 6);
        assert_eq!(changes.since(6), i64::MAX);
        assert!(changes.since(5) < -9_000_000_000 * second);
        let changes = Changes::default();
        [100, 101, 30, 102, 103].iter().for_each(|since| changes.add(since * second));
        let since: Vec<i64> = (0..=5).map(|count| changes.since(count)).collect();
        let seconds = [30, 30, 30, 102, 103].map(|at| at * second);
        assert_eq!(since[..5], seconds);
    }

    #[test]
    fn the_list_is_bounded_and_never_says_later_than_the_truth() {
        let changes = Changes::default();
        let (mut random, mut all) = (7_u64, Vec::new());
        for at in 0..40_000_i64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Now and then rows are late by up to an hour.
            let late = if random.is_multiple_of(5_000) { (random >> 40) as i64 % 3_600 } else { 0 };
            let since = (at - late) * 1_000_000_000 + (random >> 50) as i64;
            changes.add(since);
            all.push(since);
        }
        assert!(changes.0.lock().entries.len() <= ENTRIES_MAX);
        let mut earliest = i64::MAX;
        for count in (0..=all.len()).rev() {
            assert!(changes.since(count as u64) <= earliest, "after {count}");
            earliest = earliest.min(count.checked_sub(1).map_or(i64::MAX, |last| all[last]));
        }
        // What was just written is told apart to the second.
        let last = all.len() as u64;
        assert!(changes.since(last - 1) > all[all.len() - 1] - 2 * ROUND_NS);
    }
}
