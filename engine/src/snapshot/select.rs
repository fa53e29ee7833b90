//! Which series, label names and values a snapshot has: answered from the index.
use std::collections::BTreeSet;

use croaring::Bitmap;

use crate::catalog::{HeadPostings, PartitionPostings, Postings, evaluate};
use crate::error::{Error, Result};
use crate::types::{CompiledMatcher, EVENTS, LabelSet, METRIC_NAME, MatchOp, Matcher, SeriesId, TimeRange};

use super::{Selector, Series, Snapshot};

/// Label sets that are looked up in the head index at once.
const SERIES_AT_ONCE: usize = 4096;

impl Selector {
    /// Every matcher, the metric's name among them, and without a metric that it is none of `events`.
    fn compile(&self, events: impl Iterator<Item = &'static str>) -> Result<Vec<CompiledMatcher>> {
        let named = |op, value: &str| Matcher { name: METRIC_NAME.into(), op, value: value.to_owned() }.compile();
        let metric = self.metric.iter().map(|name| named(MatchOp::Equal, name));
        let others = events.filter(|_| self.metric.is_none()).map(|name| named(MatchOp::NotEqual, name));
        metric.chain(self.matchers.iter().map(Matcher::compile)).chain(others).collect()
    }
}

/// The smallest `limit` of the strings it is given.
struct Smallest {
    strings: BTreeSet<String>,
    limit: usize,
}

impl Smallest {
    /// Whether a larger string is of interest.
    fn add(&mut self, string: &str) -> bool {
        if self.strings.len() >= self.limit && self.strings.last().is_none_or(|last| string >= last.as_str()) {
            return false;
        }
        if !self.strings.contains(string) {
            self.strings.insert(string.to_owned());
            if self.strings.len() > self.limit {
                self.strings.pop_last();
            }
        }
        true
    }
}

impl Snapshot {
    /// Matching series, sorted by id.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub fn select(&self, selector: &Selector) -> Result<Vec<Series>> {
        self.labels(self.select_ids(selector)?)
    }

    /// As [`Snapshot::select`], if no more than `series_max` match; otherwise `None`, found out without a look at their labels,
    /// and at once when some index has more.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub fn select_few(&self, selector: &Selector, series_max: u64) -> Result<Option<Vec<Series>>> {
        self.few_ids(selector, series_max)?.map(|ids| self.labels(ids)).transpose()
    }

    /// Ids of matching series, increasing.
    pub(crate) fn select_ids(&self, selector: &Selector) -> Result<Vec<SeriesId>> {
        Ok(self.few_ids(selector, u64::MAX)?.unwrap_or_default())
    }

    /// See [`Snapshot::select_few`].
    fn few_ids(&self, selector: &Selector, series_max: u64) -> Result<Option<Vec<SeriesId>>> {
        let matchers = selector.compile(self.events())?;
        if selector.range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let of_head = HeadPostings::ask(&self.0.head, |head| {
            let slots = evaluate(head, &matchers)?.map_or_else(|| head.all(), Ok)?;
            Ok((slots.cardinality() <= series_max).then(|| head.ids(&slots)))
        })?;
        let Some(mut ids) = of_head else { return Ok(None) };
        for postings in self.indexes(selector.range) {
            let ordinals = evaluate(&postings, &matchers)?.map_or_else(|| postings.all(), Ok)?;
            if ordinals.cardinality() > series_max {
                return Ok(None);
            }
            ids.extend(postings.ids(&ordinals)?);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok((ids.len() as u64 <= series_max).then_some(ids))
    }

    /// Those of `ids` whose labels satisfy all `matchers`, with their labels, in the order of `ids`, but for series that are gone. No
    /// index is asked.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub fn matching(&self, ids: Vec<SeriesId>, matchers: &[Matcher]) -> Result<Vec<Series>> {
        let matchers = matchers.iter().map(Matcher::compile).collect::<Result<Vec<_>>>()?;
        let satisfies = |labels: &LabelSet| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
        let known = self.known(ids)?.into_iter().filter_map(|(id, labels)| Some(Series { id, labels: labels? }));
        Ok(known.filter(|one| satisfies(&one.labels)).collect())
    }

    /// The names of the labels that matching series have, sorted, `__name__` among them. No label set is looked at.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub fn label_names(&self, selector: &Selector) -> Result<Vec<String>> {
        let mut names = Smallest { strings: BTreeSet::new(), limit: usize::MAX };
        self.visit(selector, &mut names, |postings, among, names| {
            postings.names(among, &mut |name| Ok(names.add(name)))
        })?;
        Ok(names.strings.into_iter().collect())
    }

    /// The first `limit` values, in order, that the label `name` has on matching series. No label set is looked at.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub fn label_values(&self, name: &str, selector: &Selector, limit: usize) -> Result<Vec<String>> {
        let mut values = Smallest { strings: BTreeSet::new(), limit };
        self.visit(selector, &mut values, |postings, among, values| {
            postings.values(name, among, &mut |value| Ok(values.add(value)))
        })?;
        Ok(values.strings.into_iter().collect())
    }

    /// Those of [`EVENTS`] that have a series: a store without any is not asked about them.
    fn events(&self) -> impl Iterator<Item = &'static str> {
        let head = self.0.head.read();
        let known = EVENTS.map(|name| head.ordinal_of(name).map(|_| name));
        known.into_iter().flatten()
    }

    /// Lets `of` add to `all` what each index with matching series has.
    fn visit(
        &self,
        selector: &Selector,
        all: &mut Smallest,
        of: impl Fn(&dyn Postings, Option<&Bitmap>, &mut Smallest) -> Result<()>,
    ) -> Result<()> {
        let matchers = selector.compile(self.events())?;
        if selector.range.is_empty() || all.limit == 0 {
            return Ok(());
        }
        // Asked again after an eviction, the head index must not leave the answers of the first time behind.
        let of_head = HeadPostings::ask(&self.0.head, |head| {
            let mut found = Smallest { strings: BTreeSet::new(), limit: all.limit };
            let among = evaluate(head, &matchers)?;
            of(head, among.as_ref(), &mut found)?;
            Ok(found.strings)
        })?;
        all.strings = of_head;
        for postings in self.indexes(selector.range) {
            let among = evaluate(&postings, &matchers)?;
            if !among.as_ref().is_some_and(Bitmap::is_empty) {
                of(&postings, among.as_ref(), all)?;
            }
        }
        Ok(())
    }

    fn labels(&self, ids: Vec<SeriesId>) -> Result<Vec<Series>> {
        let series = self.known(ids)?.into_iter().map(|(id, labels)| {
            let labels = labels.ok_or_else(|| Error::Catalogue(format!("no labels for series {}", id.0)))?;
            Ok(Series { id, labels })
        });
        series.collect()
    }

    /// `ids` with their labels where they are known.
    fn known(&self, ids: Vec<SeriesId>) -> Result<Vec<(SeriesId, Option<LabelSet>)>> {
        let mut found: Vec<(SeriesId, Option<LabelSet>)> = Vec::with_capacity(ids.len());
        for ids in ids.chunks(SERIES_AT_ONCE) {
            let head = self.0.head.read();
            found.extend(ids.iter().map(|&id| (id, head.labels_of(id).cloned())));
        }
        let missing: Vec<SeriesId> = found.iter().filter(|pair| pair.1.is_none()).map(|pair| pair.0).collect();
        let mut places = found.iter_mut().filter(|pair| pair.1.is_none());
        for missing in missing.chunks(SERIES_AT_ONCE) {
            for (labels, pair) in self.0.catalogue.labels_for_query(missing)?.into_iter().zip(&mut places) {
                pair.1 = labels;
            }
        }
        Ok(found)
    }

    /// The indexes of the partitions in range.
    pub(super) fn indexes(&self, range: TimeRange) -> impl Iterator<Item = PartitionPostings<'_>> {
        self.0.partitions(range).filter_map(|partition| {
            let index = partition.index.as_ref()?;
            Some(PartitionPostings { catalogue: &index.catalogue, index: index.number, series: partition.series })
        })
    }
}
