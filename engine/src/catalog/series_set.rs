//! A set of series ids: a bitmap of numbers for each metric.
use std::collections::BTreeMap;

use croaring::Bitmap;

use crate::types::SeriesId;

/// See the module. Numbers of a metric lie close together, so a member costs a few bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeriesSet(BTreeMap<u32, Bitmap>);

impl SeriesSet {
    pub(crate) fn insert(&mut self, id: SeriesId) {
        self.0.entry(id.metric()).or_default().add(id.number());
    }
    pub(crate) fn contains(&self, id: SeriesId) -> bool {
        self.0.get(&id.metric()).is_some_and(|numbers| numbers.contains(id.number()))
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(Bitmap::is_empty)
    }
    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SeriesId> {
        self.0.iter().flat_map(|(&metric, numbers)| numbers.iter().map(move |number| SeriesId::new(metric, number)))
    }
    /// The numbers of each metric, in order.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (u32, &Bitmap)> {
        self.0.iter().map(|(&metric, numbers)| (metric, numbers))
    }
    /// Adds the series of a metric.
    pub(super) fn add(&mut self, metric: u32, numbers: &Bitmap) {
        self.0.entry(metric).or_default().or_inplace(numbers);
    }
    /// Takes series of a metric out.
    pub(super) fn remove(&mut self, metric: u32, numbers: &Bitmap) {
        if let Some(left) = self.0.get_mut(&metric) {
            left.andnot_inplace(numbers);
            if left.is_empty() {
                self.0.remove(&metric);
            }
        }
    }
    /// Adds all of `other`.
    pub(crate) fn add_all(&mut self, other: &Self) {
        other.metrics().for_each(|(metric, numbers)| self.add(metric, numbers));
    }
    /// Takes all of `other` out.
    pub(crate) fn remove_all(&mut self, other: &Self) {
        other.metrics().for_each(|(metric, numbers)| self.remove(metric, numbers));
    }
}

impl FromIterator<SeriesId> for SeriesSet {
    fn from_iter<I: IntoIterator<Item = SeriesId>>(ids: I) -> Self {
        let mut set = Self::default();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}
