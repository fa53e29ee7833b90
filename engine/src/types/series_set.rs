//! A set of series ids: a roaring bitmap of numbers for each metric.
use croaring::{Bitmap, Treemap};

use crate::error::Result;
use crate::format::{Reader, put_varint};
use crate::types::SeriesId;

/// A set of series ids. Ids of one metric are near each other, so a whole metric takes a few bytes, and a member of it a few
/// bits. No metric's bitmap is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesSet(Treemap);

impl FromIterator<SeriesId> for SeriesSet {
    fn from_iter<I: IntoIterator<Item = SeriesId>>(ids: I) -> Self {
        let mut set = Treemap::new();
        ids.into_iter().for_each(|id| set.add(id.0));
        set.run_optimize();
        Self(set)
    }
}

impl SeriesSet {
    /// Number of ids.
    pub fn len(&self) -> u64 {
        self.0.cardinality()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether `id` is in it.
    pub fn contains(&self, id: SeriesId) -> bool {
        self.0.contains(id.0)
    }
    /// All ids, increasing.
    pub fn iter(&self) -> impl Iterator<Item = SeriesId> {
        self.0.iter().map(SeriesId)
    }

    /// Adds `id`.
    pub(crate) fn insert(&mut self, id: SeriesId) {
        self.0.add(id.0);
    }
    /// Adds `ids`, quickly if those of a metric stand together.
    pub(crate) fn extend(&mut self, ids: &[SeriesId]) {
        for ids in ids.chunk_by(|a, b| a.metric() == b.metric()) {
            self.add(ids[0].metric(), &ids.iter().map(|id| id.number()).collect());
        }
    }
    /// Those of `ids` that are not in it, in their order; quickly if those of a metric stand together.
    pub(crate) fn missing(&self, ids: &[SeriesId]) -> Vec<SeriesId> {
        let mut missing = Vec::new();
        for ids in ids.chunk_by(|a, b| a.metric() == b.metric()) {
            match self.0.map.get(&ids[0].metric()) {
                Some(numbers) => missing.extend(ids.iter().filter(|id| !numbers.contains(id.number()))),
                None => missing.extend(ids),
            }
        }
        missing
    }
    /// The numbers of each metric, in order.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (u32, &Bitmap)> {
        self.0.map.iter().map(|(&metric, numbers)| (metric, numbers))
    }
    /// Adds series of a metric.
    pub(crate) fn add(&mut self, metric: u32, numbers: &Bitmap) {
        if !numbers.is_empty() {
            self.0.map.entry(metric).or_default().or_inplace(numbers);
        }
    }
    /// Takes series of a metric out.
    pub(crate) fn remove(&mut self, metric: u32, numbers: &Bitmap) {
        if let Some(left) = self.0.map.get_mut(&metric) {
            left.andnot_inplace(numbers);
            if left.is_empty() {
                self.0.map.remove(&metric);
            }
        }
    }
    /// Adds everything in `other`.
    pub(crate) fn add_all(&mut self, other: &Self) {
        other.metrics().for_each(|(metric, numbers)| self.add(metric, numbers));
    }
    /// Takes everything in `other` out.
    pub(crate) fn remove_all(&mut self, other: &Self) {
        other.metrics().for_each(|(metric, numbers)| self.remove(metric, numbers));
    }

    /// Whether some id from `first` to `last`, both inside, is in it.
    pub(crate) fn has_any(&self, first: SeriesId, last: SeriesId) -> bool {
        self.contains(first) || self.0.rank(last.0) > self.0.rank(first.0)
    }
    /// Whether everything in `other` is in it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.is_subset(&self.0)
    }
    /// Everything that is in either.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut union = self.0.or(&other.0);
        union.run_optimize();
        Self(union)
    }
    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        self.0.get_serialized_size_in_bytes::<croaring::Portable>()
    }

    /// Appends a varint count of runs of consecutive ids, then of each a varint distance from the end of the one before
    /// (the first: from 0) and a varint length less 1. No run passes the end of a metric.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for id in self.0.iter() {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == id && *last >> 32 == id >> 32 => *last = id,
                _ => runs.push((id, id)),
            }
        }
        put_varint(out, runs.len() as u64);
        let mut end = 0;
        for (first, last) in runs {
            put_varint(out, first - end);
            put_varint(out, last - first);
            end = last;
        }
    }

    /// Inverse of [`SeriesSet::encode`].
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let (mut set, mut end) = (Treemap::new(), None::<u64>);
        for _ in 0..reader.count(2)? {
            let at = reader.clone();
            let first = end.unwrap_or(0).checked_add(reader.varint()?);
            let more = reader.varint()?;
            let last = first.and_then(|first| first.checked_add(more));
            match (first, last) {
                (Some(first), Some(last)) if end.is_none_or(|end| first > end) && first >> 32 == last >> 32 => {
                    set.add_range(first..=last);
                    end = Some(last);
                }
                _ => return Err(at.corrupt("increasing runs of series, each of one metric", "another order")),
            }
        }
        set.run_optimize();
        Ok(Self(set))
    }
}
