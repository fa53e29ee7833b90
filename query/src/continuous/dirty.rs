//! What a tick has to compute again: whole buckets, or certain keys of a bucket.
//!
//! A late row of a device makes the buckets of its key dirty, not those of everybody. Rows whose key is not known (events), and more
//! pairs of a bucket and a series than [`PAIRS_MAX`], make the bucket dirty as a whole.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::physical_plan::PhysicalExpr;
use hashbrown::{HashMap, HashSet};

use super::output::encode_labels;
use super::ranges::RangeSet;
use super::source::Source;
use crate::error::Result;

/// Ranges that one tick computes again; more are joined over the gaps between them.
const RANGES_MAX: usize = 256;
/// Pairs of a bucket and a series.
const PAIRS_MAX: usize = 1 << 20;

/// Dirty buckets.
#[derive(Default)]
pub(super) struct Dirty {
    whole: RangeSet,
    /// Numbers of the series by bucket.
    series: BTreeMap<i64, HashSet<u32>>,
    pairs: usize,
}

/// Some groups of buckets that follow each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) buckets: Vec<i64>,
    /// Where the last of them ends.
    pub(super) end: i64,
    pub(super) groups: BTreeSet<u32>,
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.series.is_empty()
    }
    /// Whether all of a bucket is dirty.
    pub(super) fn is_whole(&self, bucket: i64) -> bool {
        self.whole.contains(bucket)
    }
    /// Whether the rows of a series in a bucket are read again anyway.
    pub(super) fn covers(&self, bucket: i64, number: u32) -> bool {
        self.is_whole(bucket) || self.series.get(&bucket).is_some_and(|numbers| numbers.contains(&number))
    }
    /// A bucket and where it ends.
    pub(super) fn insert(&mut self, bucket: i64, end: i64) {
        self.whole.insert(bucket, end);
        self.whole.coarsen(RANGES_MAX);
    }
    /// A series in a bucket; `false` when there are too many.
    pub(super) fn insert_series(&mut self, bucket: i64, number: u32) -> bool {
        if self.pairs >= PAIRS_MAX {
            return false;
        }
        self.pairs += usize::from(self.series.entry(bucket).or_default().insert(number));
        true
    }
    /// The groups of a bucket that are dirty, if it is not so as a whole.
    pub(super) fn groups(&self, bucket: i64, groups: &Groups) -> Option<HashSet<u32>> {
        Some(self.series.get(&bucket)?.iter().filter_map(|number| groups.of(*number)).collect())
    }

    /// Everything, taken out: ranges of whole buckets, and parts.
    pub(super) fn take<E>(
        &mut self,
        groups: &Groups,
        mut end_of: impl FnMut(i64) -> std::result::Result<i64, E>,
    ) -> std::result::Result<(RangeSet, Vec<Part>), E> {
        let mut parts: Vec<Part> = Vec::new();
        self.pairs = 0;
        for (bucket, numbers) in std::mem::take(&mut self.series) {
            if self.whole.contains(bucket) {
                continue;
            }
            let found: BTreeSet<u32> = numbers.iter().filter_map(|number| groups.of(*number)).collect();
            if found.is_empty() {
                continue;
            }
            let end = end_of(bucket)?;
            let full = parts.len() >= RANGES_MAX;
            match parts.last_mut() {
                Some(last) if last.end == bucket && last.groups == found => {
                    last.buckets.push(bucket);
                    last.end = end;
                }
                _ if full => self.insert(bucket, end),
                _ => parts.push(Part { buckets: vec![bucket], end, groups: found }),
            }
        }
        Ok((std::mem::take(&mut self.whole), parts))
    }
}

/// Which series make up which group: those of equal output labels.
#[derive(Default)]
pub(super) struct Groups {
    of_series: HashMap<u32, u32>,
    members: Vec<Vec<u32>>,
    by_labels: HashMap<Box<[u8]>, u32>,
    /// The reading of the source that this is of.
    reading: Option<u64>,
}

impl Groups {
    /// Learns the series of `source`; `labels` are the output's labels as functions of its labels.
    ///
    /// # Errors
    /// As the functions.
    pub(super) fn learn(&mut self, source: &Source, labels: &[Arc<dyn PhysicalExpr>]) -> Result<()> {
        if self.reading == Some(source.readings()) {
            return Ok(());
        }
        *self = Self { reading: Some(source.readings()), ..Self::default() };
        let keys: Vec<u32> = source.keys().collect();
        let labels = labels.iter().map(|label| source.texts(label, &keys)).collect::<Result<Vec<_>>>()?;
        for (row, key) in keys.into_iter().enumerate() {
            let mut bytes = Vec::new();
            encode_labels(labels.iter().map(|label| label.get(row)), &mut bytes);
            let next = self.members.len() as u32;
            let group = *self.by_labels.entry(bytes.into()).or_insert(next);
            if group == next {
                self.members.push(Vec::new());
            }
            for number in source.members(key) {
                self.of_series.insert(number, group);
                self.members[group as usize].push(number);
            }
        }
        Ok(())
    }
    fn of(&self, number: u32) -> Option<u32> {
        self.of_series.get(&number).copied()
    }
    /// The numbers of the series of some groups.
    pub(super) fn series(&self, groups: &BTreeSet<u32>) -> HashSet<u32> {
        groups.iter().filter_map(|&group| self.members.get(group as usize)).flatten().copied().collect()
    }
    /// The group with these labels.
    pub(super) fn find<'a>(&self, labels: impl Iterator<Item = Option<&'a str>>) -> Option<u32> {
        let mut bytes = Vec::new();
        encode_labels(labels, &mut bytes);
        self.by_labels.get(bytes.as_slice()).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn groups() -> Groups {
        // group 0: series 0 and 1; group 1: series 2
        let of_series = [(0, 0), (1, 0), (2, 1)].into_iter().collect();
        Groups { of_series, members: vec![vec![0, 1], vec![2]], ..Groups::default() }
    }

    fn end_of(bucket: i64) -> std::result::Result<i64, ()> {
        Ok(bucket + 10)
    }

    #[test]
    fn neighbouring_buckets_with_the_same_groups_are_one_part() {
        let mut dirty = Dirty::default();
        for (bucket, number) in [(0, 0), (10, 1), (20, 0), (20, 2), (40, 2)] {
            assert!(dirty.insert_series(bucket, number));
        }
        let (whole, parts) = dirty.take(&groups(), end_of).unwrap();
        assert!(whole.is_empty() && dirty.is_empty());
        let found: Vec<_> = parts.iter().map(|p| (p.buckets.clone(), p.end, p.groups.len())).collect();
        assert_eq!(found, [(vec![0, 10], 20, 1), (vec![20], 30, 2), (vec![40], 50, 1)]);
    }

    #[test]
    fn what_is_dirty_as_a_whole_is_in_no_part_and_neither_is_an_unknown_series() {
        let mut dirty = Dirty::default();
        dirty.insert_series(0, 0);
        dirty.insert_series(10, 9);
        dirty.insert(0, 10);
        assert!(dirty.covers(0, 5) && dirty.covers(10, 9) && !dirty.covers(10, 0));
        let (whole, parts) = dirty.take(&groups(), end_of).unwrap();
        assert_eq!((whole.iter().collect::<Vec<_>>(), parts.len()), (vec![(0, 10)], 0));
    }

    #[test]
    fn too_many_parts_become_whole_buckets() {
        let mut dirty = Dirty::default();
        for bucket in 0..(RANGES_MAX as i64 + 5) {
            dirty.insert_series(bucket * 20, (bucket % 3) as u32);
        }
        let (whole, parts) = dirty.take(&groups(), end_of).unwrap();
        assert_eq!((parts.len(), whole.iter().count()), (RANGES_MAX, 5));
    }
}
