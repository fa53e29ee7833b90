//! The head index: the active series in memory, and every metric.
//!
//! It answers `resolve` for active series and `select` for samples still in memtables. A series is active from its
//! creation (or its return) until it was idle for a while; only series that are in a series file may be forgotten.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use croaring::Bitmap;
use hashbrown::{HashMap, HashSet};

use crate::error::Result;
use crate::types::{CompiledMatcher, LabelSet, METRIC_NAME, SeriesId};

use super::postings::{Postings, evaluate};

/// One bit per series number, set without the write lock.
#[derive(Debug, Default)]
struct Bits(Vec<AtomicU64>);

impl Bits {
    fn get(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 != 0)
    }
    /// Sets the bit if there is room for it.
    fn set(&self, number: u32) {
        if let Some(word) = self.0.get(number as usize / 64) {
            let bit = 1 << (number % 64);
            // A plain load first: the bit is nearly always set, and a shared cache line stays shared.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }
    fn grow(&mut self, number: u32) {
        let words = number as usize / 64 + 1;
        if self.0.len() < words {
            self.0.resize_with(words.next_power_of_two(), AtomicU64::default);
        }
    }
    fn clear(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word.get_mut() &= !(1 << (number % 64));
        }
    }
    fn reset(&mut self) {
        self.0.iter_mut().for_each(|word| *word.get_mut() = 0);
    }
}

/// Most values of an identifying label occur on one series: those need no bitmap.
#[derive(Debug)]
enum Posting {
    One(u32),
    Many(Bitmap),
}

impl Posting {
    fn add(&mut self, number: u32) {
        match self {
            Self::One(one) if *one == number => {}
            Self::One(one) => *self = Self::Many(Bitmap::of(&[*one, number])),
            Self::Many(bitmap) => bitmap.add(number),
        }
    }
    fn or_into(&self, out: &mut Bitmap) {
        match self {
            Self::One(one) => out.add(*one),
            Self::Many(bitmap) => out.or_inplace(bitmap),
        }
    }
    /// Removes `number`; whether nothing is left.
    fn remove(&mut self, number: u32) -> bool {
        match self {
            Self::One(one) => *one == number,
            Self::Many(bitmap) => {
                bitmap.remove(number);
                bitmap.is_empty()
            }
        }
    }
}

/// A metric and its active series.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: Arc<str>,
    /// Every label name ever seen, without `__name__`.
    pub(crate) label_names: BTreeSet<Arc<str>>,
    /// Series ever created; the next one's number.
    pub(crate) series_count: u32,
    /// Active series.
    series: HashMap<u32, LabelSet>,
    /// Their numbers, for postings ..
    all: Bitmap,
    /// .. and for writers.
    active: Bits,
    /// Those in use since the last eviction.
    touched: Bits,
    postings: HashMap<Arc<str>, HashMap<Box<str>, Posting>>,
}

impl Postings for Metric {
    fn all(&self) -> Result<Bitmap> {
        Ok(self.all.clone())
    }
    fn exact(&self, label: &str, value: &str) -> Result<Bitmap> {
        let mut out = Bitmap::new();
        if let Some(posting) = self.postings.get(label).and_then(|values| values.get(value)) {
            posting.or_into(&mut out);
        }
        Ok(out)
    }
    fn any(&self, label: &str, want: &dyn Fn(&str) -> bool) -> Result<Bitmap> {
        let mut out = Bitmap::new();
        for (_, posting) in self.postings.get(label).into_iter().flatten().filter(|(value, _)| want(value)) {
            posting.or_into(&mut out);
        }
        Ok(out)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Head {
    metrics: Vec<Metric>,
    by_name: HashMap<Arc<str>, u32>,
    by_labels: HashMap<LabelSet, SeriesId>,
    /// One copy of each label name.
    names: HashSet<Arc<str>>,
    /// Memory it holds, about.
    bytes: usize,
}

/// Memory of a metric: the structure and its empty maps.
const METRIC_BYTES: usize = 640;
/// Memory of a label name of a metric.
const LABEL_NAME_BYTES: usize = 64;
/// Memory of an active series besides its label set: its places in two maps, in a bitmap, in the lists of new series.
const SERIES_BYTES: usize = 192;
/// Memory of a label of an active series: its place in a bitmap.
const LABEL_BYTES: usize = 6;
/// Memory of a label value that some active series of a metric has, besides its text.
const VALUE_BYTES: usize = 112;

/// Memory of a series, without the values that only it has.
fn series_bytes(labels: &LabelSet) -> usize {
    SERIES_BYTES + labels.as_bytes().len() + labels.iter().count() * LABEL_BYTES
}

fn value_bytes(value: &str) -> usize {
    VALUE_BYTES + value.len()
}

impl Head {
    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
    /// Active series.
    pub(crate) fn active(&self) -> usize {
        self.by_labels.len()
    }
    /// Series ever created.
    pub(crate) fn series_count(&self) -> u64 {
        self.metrics.iter().map(|metric| u64::from(metric.series_count)).sum()
    }
    pub(crate) fn metrics(&self) -> &[Metric] {
        &self.metrics
    }
    pub(crate) fn metric(&self, name: &str) -> Option<&Metric> {
        self.by_name.get(name).map(|&ordinal| &self.metrics[ordinal as usize])
    }
    pub(crate) fn id_of(&self, labels: &LabelSet) -> Option<SeriesId> {
        self.by_labels.get(labels).copied()
    }
    pub(crate) fn labels_of(&self, id: SeriesId) -> Option<&LabelSet> {
        self.metrics.get(id.metric() as usize)?.series.get(&id.number())
    }

    /// Whether a series had this id at some time.
    pub(crate) fn has_existed(&self, id: SeriesId) -> bool {
        self.metrics.get(id.metric() as usize).is_some_and(|metric| id.number() < metric.series_count)
    }

    /// The id the next new series of this name gets; `None` when numbers run out.
    pub(crate) fn next_id(&self, labels: &LabelSet) -> Option<SeriesId> {
        match self.by_name.get(labels.metric_name()) {
            Some(&ordinal) => {
                let number = self.metrics[ordinal as usize].series_count;
                (number < u32::MAX).then(|| SeriesId::new(ordinal, number))
            }
            None => Some(SeriesId::new(u32::try_from(self.metrics.len()).ok()?, 0)),
        }
    }

    /// Makes sure the metric `ordinal` exists with this name, number of series and label names.
    pub(crate) fn restore_metric<'a>(
        &mut self,
        ordinal: u32,
        name: &str,
        series_count: u32,
        label_names: impl IntoIterator<Item = &'a str>,
    ) {
        while self.metrics.len() <= ordinal as usize {
            self.bytes += METRIC_BYTES;
            self.metrics.push(Metric {
                name: "".into(),
                label_names: BTreeSet::new(),
                series_count: 0,
                series: HashMap::new(),
                all: Bitmap::new(),
                active: Bits::default(),
                touched: Bits::default(),
                postings: HashMap::new(),
            });
        }
        let metric = &mut self.metrics[ordinal as usize];
        if self.by_name.get(name) != Some(&ordinal) {
            metric.name = name.into();
            self.by_name.insert(Arc::clone(&metric.name), ordinal);
        }
        metric.series_count = metric.series_count.max(series_count);
        for label in label_names {
            if !metric.label_names.contains(label) {
                self.bytes += LABEL_NAME_BYTES + label.len();
                metric.label_names.insert(Arc::clone(self.names.get_or_insert_with(label, |label| label.into())));
            }
        }
    }

    /// Makes `id` active. Idempotent.
    pub(crate) fn activate(&mut self, id: SeriesId, labels: LabelSet) {
        let number = id.number();
        let label_names = labels.iter().map(|pair| pair.0).filter(|&name| name != METRIC_NAME);
        self.restore_metric(id.metric(), labels.metric_name(), number.saturating_add(1), label_names);
        let metric = &mut self.metrics[id.metric() as usize];
        if !metric.active.get(number) {
            self.bytes += series_bytes(&labels);
        }
        metric.active.grow(number);
        metric.touched.grow(number);
        metric.active.set(number);
        metric.all.add(number);
        metric.touched.set(number);
        for (name, value) in labels.iter() {
            let values = match metric.postings.get_mut(name) {
                Some(values) => values,
                None => {
                    let name = Arc::clone(self.names.get_or_insert_with(name, |name| name.into()));
                    metric.postings.entry(name).or_default()
                }
            };
            match values.get_mut(value) {
                Some(posting) => posting.add(number),
                None => {
                    self.bytes += value_bytes(value);
                    values.insert(value.into(), Posting::One(number));
                }
            }
        }
        metric.series.insert(number, labels.clone());
        self.by_labels.insert(labels, id);
    }

    /// Marks `ids` as in use and returns those that are not active.
    pub(crate) fn touch(&self, ids: &[SeriesId]) -> Vec<SeriesId> {
        let mut missing = Vec::new();
        let mut current: Option<(u32, &Metric)> = None;
        for &id in ids {
            let metric = match current {
                Some((ordinal, metric)) if ordinal == id.metric() => Some(metric),
                _ => self.metrics.get(id.metric() as usize),
            };
            match metric {
                Some(metric) if metric.active.get(id.number()) => {
                    metric.touched.set(id.number());
                    current = Some((id.metric(), metric));
                }
                _ => missing.push(id),
            }
        }
        missing
    }

    /// Forgets series that nothing has touched since the last call, and returns them.
    pub(crate) fn evict_idle(&mut self) -> HashSet<SeriesId> {
        let mut evicted = HashSet::new();
        for (ordinal, metric) in (0u32..).zip(&mut self.metrics) {
            let Metric { series, all, active, touched, postings, .. } = metric;
            series.retain(|&number, labels| {
                if touched.get(number) {
                    return true;
                }
                active.clear(number);
                all.remove(number);
                self.bytes -= series_bytes(labels);
                for (name, value) in labels.iter() {
                    if let Some(values) = postings.get_mut(name)
                        && values.get_mut(value).is_some_and(|posting| posting.remove(number))
                    {
                        self.bytes -= value_bytes(value);
                        values.remove(value);
                    }
                }
                self.by_labels.remove(labels);
                evicted.insert(SeriesId::new(ordinal, number));
                false
            });
            touched.reset();
        }
        evicted
    }

    /// Active series that satisfy `matchers`, sorted by id.
    pub(crate) fn select(&self, matchers: &[CompiledMatcher]) -> Result<Vec<SeriesId>> {
        let mut ids = Vec::new();
        // All series of a metric share its name: ask it once, and the other labels of the metrics that remain.
        let (of_name, others): (Vec<_>, Vec<_>) = matchers.iter().cloned().partition(|m| m.name == METRIC_NAME);
        for (ordinal, metric) in (0u32..).zip(&self.metrics) {
            if !metric.series.is_empty() && of_name.iter().all(|matcher| matcher.matches(&metric.name)) {
                let numbers = evaluate(metric, &others)?;
                ids.extend(numbers.iter().map(|number| SeriesId::new(ordinal, number)));
            }
        }
        Ok(ids)
    }
}
