//! Where samples come from: a snapshot of the engine, or what a test holds.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foretell_engine::{LabelSet, Matcher, ScanBatch, Selector, Series, SeriesId, Snapshot, TimeRange};

use super::histogram::{self, Histogram, ResetHint};
use super::parallel;
use super::value::{ABSENT, STALE_BITS};
use crate::error::{Error, ErrorKind, Result};

/// Rows decoded at a time: few enough to be still in the core's cache when they are copied to their series.
const ROWS_AT_ONCE: usize = 16 << 10;
/// What finding and opening a series costs, in samples.
const SERIES_SAMPLES: usize = 100;
/// Distance of samples, where a guess is needed of how many there will be.
const SAMPLE_EVERY_MS: i64 = 15_000;
const NS_PER_MS: i64 = 1_000_000;

/// Sets of conditions, of which one must hold wholly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matchers(pub Vec<Vec<Matcher>>);

/// Samples of one series, oldest first, stale markers included.
#[derive(Clone, Debug, Default)]
pub struct SeriesSamples {
    /// Labels, the name included.
    pub labels: LabelSet,
    /// Milliseconds UTC.
    pub ts_ms: Vec<i64>,
    /// Values, exact bits.
    pub values: Vec<f64>,
    /// Milliseconds UTC and native histograms, beside the values. A stale histogram is a stale marker among the values.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

impl SeriesSamples {
    /// Whether there is no sample.
    pub(crate) fn is_empty(&self) -> bool {
        self.ts_ms.is_empty() && self.histograms.is_empty()
    }

    /// Numbers that it holds, about.
    pub(crate) fn weight(&self) -> usize {
        self.values.len() + self.histograms.iter().map(|(_, histogram)| histogram.weight()).sum::<usize>()
    }

    /// Adds a stale marker where no value is.
    pub(crate) fn insert_stale(&mut self, ts_ms: i64) {
        let at = self.ts_ms.partition_point(|&other| other < ts_ms);
        if self.ts_ms.get(at) != Some(&ts_ms) {
            self.ts_ms.insert(at, ts_ms);
            self.values.insert(at, ABSENT);
        }
    }

    /// Leaves of each histogram only what needs no buckets, after finding out where it was reset. Of a gauge they are needed: it
    /// stays one, and functions for counters compare its buckets.
    pub(crate) fn drop_buckets(&mut self) {
        if self.histograms.iter().any(|(_, histogram)| histogram.reset_hint == ResetHint::Gauge) {
            return;
        }
        let mut before: Option<Arc<Histogram>> = None;
        for (_, histogram) in &mut self.histograms {
            let hint = match &before {
                _ if histogram.reset_hint != ResetHint::Unknown => histogram.reset_hint,
                None => ResetHint::Unknown,
                Some(before) if histogram.is_reset_after(before) => ResetHint::Reset,
                Some(_) => ResetHint::NotReset,
            };
            let bare = Arc::new(histogram.without_buckets(hint));
            before = Some(std::mem::replace(histogram, bare));
        }
    }
}

/// Told, by any thread, how many samples more are about to be held; an error ends the reading.
pub type Admit<'a> = dyn Fn(usize) -> Result<()> + Sync + 'a;

/// Admits `samples_max` samples in all.
pub fn at_most(samples_max: usize) -> impl Fn(usize) -> Result<()> + Sync {
    let total = AtomicUsize::new(0);
    move |samples| {
        let before = total.fetch_add(samples, Ordering::Relaxed);
        if before.saturating_add(samples) > samples_max { Err(too_many_samples()) } else { Ok(()) }
    }
}

/// Answers selectors.
pub trait SampleSource: Sync {
    /// Series that satisfy `matchers` with their samples of `(after_ms, through_ms]`, in the order of their labels; those
    /// without a sample may be left out. `admit` is told of samples before they are kept.
    ///
    /// # Errors
    /// Those of `admit`; `Invalid` for a bad regular expression; damage.
    fn select(
        &self,
        matchers: &Matchers,
        after_ms: i64,
        through_ms: i64,
        admit: &Admit<'_>,
    ) -> Result<Vec<SeriesSamples>>;
}

impl SampleSource for Snapshot {
    fn select(
        &self,
        matchers: &Matchers,
        after_ms: i64,
        through_ms: i64,
        admit: &Admit<'_>,
    ) -> Result<Vec<SeriesSamples>> {
        // `(after, through]` in milliseconds of samples whose nanoseconds are cut off.
        let range = TimeRange {
            start: after_ms.saturating_add(1).saturating_mul(NS_PER_MS),
            end: through_ms.saturating_mul(NS_PER_MS).saturating_add(NS_PER_MS - 1),
        };
        let mut series = Vec::new();
        for all in &matchers.0 {
            let selector = Selector { metric: None, matchers: all.clone(), range };
            series.extend(self.select(&selector).map_err(|error| Error::from_engine(&error))?);
        }
        // One set of conditions answers in order already.
        if matchers.0.len() > 1 {
            series.sort_unstable_by_key(|series| series.id);
            series.dedup_by_key(|series| series.id);
        }
        let each = usize::try_from(through_ms.saturating_sub(after_ms) / SAMPLE_EVERY_MS).unwrap_or(0);
        let work = series.len().saturating_mul(each.saturating_add(SERIES_SAMPLES));
        let chunk = series.len().div_ceil(parallel::parts(series.len(), work)).max(1);
        let chunks = series.chunks(chunk).collect();
        let mut found = Vec::with_capacity(series.len());
        for part in parallel::each(chunks, |series: &[Series]| read(self, series, range, admit))? {
            found.extend(part?);
        }
        // Each part is in order: a stable sort finds that and merges.
        found.sort_by(|a, b| a.labels.compare(&b.labels));
        Ok(found)
    }
}

/// The samples of some series (sorted by id), in the order of their labels.
fn read(snapshot: &Snapshot, series: &[Series], range: TimeRange, admit: &Admit<'_>) -> Result<Vec<SeriesSamples>> {
    let ids: Vec<SeriesId> = series.iter().map(|series| series.id).collect();
    let empty = |series: &Series| SeriesSamples { labels: series.labels.clone(), ..SeriesSamples::default() };
    let mut found: Vec<SeriesSamples> = series.iter().map(empty).collect();
    let mut scan = snapshot.scan(&ids, range, true, ROWS_AT_ONCE).map_err(|error| Error::from_engine(&error))?;
    let mut batch = ScanBatch::default();
    while scan.next_batch(&mut batch).map_err(|error| Error::from_engine(&error))? {
        admit(batch.ts.len())?;
        let mut at = 0;
        for &(index, rows) in &batch.runs {
            let end = at + rows as usize;
            let samples = &mut found[index as usize];
            samples.ts_ms.extend(batch.ts[at..end].iter().map(|ts| ts.div_euclid(NS_PER_MS)));
            samples.values.extend_from_slice(&batch.values[at..end]);
            at = end;
        }
    }
    histogram::read(snapshot, &ids, range, &mut found, admit)?;
    found.retain(|samples| !samples.is_empty());
    found.sort_unstable_by(|a, b| a.labels.compare(&b.labels));
    Ok(found)
}

/// The limit on samples is reached.
pub(crate) fn too_many_samples() -> Error {
    Error::new(
        ErrorKind::Execution,
        "query processing would load too many samples into memory in query execution: select less time or fewer series, \
         or raise query.max_samples",
    )
}

/// Whether there is a stale marker.
pub(crate) fn has_stale(samples: &SeriesSamples) -> bool {
    // Without a way out in the middle, which would keep the compiler from comparing several at once.
    samples.values.iter().fold(false, |found, value| found | (value.to_bits() == STALE_BITS))
}

/// Drops stale markers.
pub(crate) fn without_stale(samples: &mut SeriesSamples) {
    let keep: Vec<bool> = samples.values.iter().map(|value| value.to_bits() != STALE_BITS).collect();
    let mut flags = keep.iter();
    samples.ts_ms.retain(|_| flags.next().copied().unwrap_or(false));
    let mut flags = keep.iter();
    samples.values.retain(|_| flags.next().copied().unwrap_or(false));
}
