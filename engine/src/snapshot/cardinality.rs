//! What makes the index big: distinct values of each label, series of each metric.
use std::collections::BTreeMap;
use std::sync::Arc;

use croaring::Bitmap;
use hashbrown::HashSet;
use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::{HeadPostings, Postings};
use crate::error::Result;
use crate::types::{SeriesSet, TimeRange};

use super::Snapshot;

/// How many values a label has, and on how many series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCardinality {
    /// Label name, `__name__` included.
    pub label: String,
    /// Distinct values.
    pub values: u64,
    /// Series that have the label.
    pub series: u64,
}

/// What makes the index big.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series in all.
    pub series: u64,
    /// The labels with the most values first.
    pub labels: Vec<LabelCardinality>,
    /// (metric, series), those with the most series first.
    pub metrics: Vec<(Arc<str>, u64)>,
}

/// What is counted so far.
#[derive(Default)]
struct Count {
    seen: SeriesSet,
    /// Hashes of the values, and the number of series.
    labels: BTreeMap<String, (HashSet<u64>, u64)>,
}

impl Count {
    /// Adds the series of `among`, which are not counted yet.
    fn add(&mut self, postings: &impl Postings, among: &Bitmap, ids: SeriesSet) -> Result<()> {
        let mut names = Vec::new();
        postings.names(Some(among), &mut |name| {
            names.push(name.to_owned());
            Ok(true)
        })?;
        for name in names {
            let series = postings.present(&name)?.and_cardinality(among);
            let (values, count) = self.labels.entry(name.clone()).or_default();
            *count += series;
            postings.values(&name, Some(among), &mut |value| {
                values.insert(xxh3_64(value.as_bytes()));
                Ok(true)
            })?;
        }
        self.seen.add_all(&ids);
        Ok(())
    }
}

impl Snapshot {
    /// Counts everything that the store holds, from the index and without a look at a label set. Takes about 16 bytes for
    /// each distinct value and some bits for each series.
    ///
    /// # Errors
    /// `Catalogue` when the index cannot be read.
    pub fn cardinality(&self) -> Result<Cardinality> {
        let mut count = HeadPostings::ask(&self.0.head, |head| {
            let mut count = Count::default();
            let all = head.all()?;
            count.add(head, &all, head.ids(&all).into_iter().collect())?;
            Ok(count)
        })?;
        let mut indexes: Vec<_> = self.indexes(TimeRange::ALL).collect();
        // Most series of a partition are in the one after it.
        indexes.reverse();
        for postings in indexes {
            let mut new = postings.members()?;
            new.remove_all(&count.seen);
            if !new.is_empty() {
                let ordinals = postings.ordinals_of(&new)?;
                count.add(&postings, &ordinals, new)?;
            }
        }
        let labels = count.labels.into_iter();
        let labels =
            labels.map(|(label, (values, series))| LabelCardinality { label, values: values.len() as u64, series });
        let mut labels: Vec<LabelCardinality> = labels.collect();
        labels.sort_by_key(|label| std::cmp::Reverse(label.values));
        let head = self.0.head.read();
        let known = head.metrics();
        let metrics = count.seen.metrics().filter_map(|(metric, numbers)| {
            Some((Arc::clone(&known.get(metric as usize)?.name), numbers.cardinality()))
        });
        let mut metrics: Vec<(Arc<str>, u64)> = metrics.collect();
        metrics.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(Cardinality { series: metrics.iter().map(|metric| metric.1).sum(), labels, metrics })
    }
}
