//! Raw rows of selected series, for clients that evaluate PromQL themselves (remote read).
//!
//! Series come in the order of their labels, a few at a time: what is in memory at once is bounded, an answer as a whole is not.
use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use foretell_engine::{LabelSet, Matcher, ScanBatch, Selector, Series, SeriesId, Snapshot, TimeRange};

use super::account::Reserve;
use super::source::{extend, too_many_samples};
use crate::error::{Error, ErrorKind, Result};
use crate::native;

/// Rows decoded at a time.
const ROWS_AT_ONCE: usize = 64 << 10;
/// Series loaded before it is known how many rows one has.
const SERIES_AT_FIRST: usize = 16;
/// Most series loaded together.
const SERIES_AT_ONCE: usize = 4096;
/// Samples that should be in memory at once ..
const SAMPLES_AT_ONCE: usize = 1 << 20;
/// .. and with which several series are too many together.
const SAMPLES_TOGETHER_MAX: usize = 4 * SAMPLES_AT_ONCE;
/// Samples that a native histogram counts as.
const HISTOGRAM_SAMPLES: usize = 64;
/// Memory of a sample, in lists that grow.
const SAMPLE_BYTES: usize = 32;
const NS_PER_MS: i64 = 1_000_000;

/// Which rows of which series.
#[derive(Clone, Debug)]
pub struct RawQuery {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// First instant, milliseconds UTC.
    pub start_ms: i64,
    /// Last instant, milliseconds UTC.
    pub end_ms: i64,
}

/// A series and its rows, oldest first, stale markers included; there is one at least. Of several rows of a millisecond only
/// the newest is there.
#[derive(Clone, Debug)]
pub struct RawSeries {
    /// Labels, the name included.
    pub labels: LabelSet,
    /// Milliseconds UTC.
    pub ts_ms: Vec<i64>,
    /// Values, exact bits.
    pub values: Vec<f64>,
    /// Native histograms: columns `series`, `ts` (nanoseconds) and those of [`native::histogram_schema`].
    pub histograms: Vec<RecordBatch>,
}

/// Reads rows of one snapshot.
pub struct RawReader<'a> {
    snapshot: &'a Snapshot,
    /// Samples in memory at once.
    samples_max: usize,
    cancelled: &'a dyn Fn() -> bool,
    reserve: &'a Reserve<'a>,
}

/// The series that a query selects.
pub struct RawSelection<'a> {
    reader: &'a RawReader<'a>,
    series: Vec<Series>,
    range: TimeRange,
}

impl<'a> RawReader<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        samples_max: usize,
        cancelled: &'a dyn Fn() -> bool,
        reserve: &'a Reserve<'a>,
    ) -> Self {
        Self { snapshot, samples_max, cancelled, reserve }
    }

    /// The series that satisfy `query`, without their rows. A range that ends before it starts has none.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression; damage.
    pub fn select(&'a self, query: &RawQuery) -> Result<RawSelection<'a>> {
        let range = TimeRange {
            start: query.start_ms.saturating_mul(NS_PER_MS),
            end: query.end_ms.saturating_mul(NS_PER_MS).saturating_add(NS_PER_MS - 1),
        };
        let mut series = Vec::new();
        if query.start_ms <= query.end_ms {
            let selector = Selector { metric: None, matchers: query.matchers.clone(), range };
            series = self.snapshot.select(&selector).map_err(engine)?;
        }
        series.sort_unstable_by(|a, b| a.labels.compare(&b.labels));
        Ok(RawSelection { reader: self, series, range })
    }

    fn go_on(&self) -> Result<()> {
        if (self.cancelled)() {
            return Err(Error::new(ErrorKind::Cancelled, "the query was cancelled or timed out"));
        }
        Ok(())
    }
}

impl RawSelection<'_> {
    /// Whether any of the series has a native histogram in the range.
    ///
    /// # Errors
    /// Damage.
    pub fn has_histograms(&self) -> Result<bool> {
        let snapshot = self.reader.snapshot;
        if self.series.is_empty() || snapshot.record_table(native::HISTOGRAMS).is_none() {
            return Ok(false);
        }
        let mut ids: Vec<SeriesId> = self.series.iter().map(|series| series.id).collect();
        ids.sort_unstable();
        let scan = snapshot.scan_records(native::HISTOGRAMS, &ids, self.range, Some(&[]));
        let mut scan = scan.map_err(engine)?;
        while let Some(batch) = scan.next_batch().map_err(engine)? {
            if batch.num_rows() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands every series that has rows to `take`.
    ///
    /// # Errors
    /// What `take` answers; `Execution` when one series has more rows than may be in memory; `Cancelled`; damage.
    pub fn each(&self, mut take: impl FnMut(RawSeries) -> Result<()>) -> Result<()> {
        let (mut rest, mut at_once) = (self.series.as_slice(), SERIES_AT_FIRST);
        while !rest.is_empty() {
            let (group, after) = rest.split_at(at_once.min(rest.len()));
            let Some((found, samples)) = self.load(group)? else {
                if group.len() == 1 {
                    return Err(too_many_samples());
                }
                at_once = (group.len() / 4).max(1);
                continue;
            };
            // As many as would have fitted had they all been like these.
            at_once = (group.len() * SAMPLES_AT_ONCE / samples.max(1)).clamp(1, SERIES_AT_ONCE);
            rest = after;
            found.into_iter().filter(|series| !series.is_empty()).try_for_each(&mut take)?;
        }
        Ok(())
    }

    /// The rows of `group`, and as how many samples they count; `None` when they are too many.
    fn load(&self, group: &[Series]) -> Result<Option<(Vec<RawSeries>, usize)>> {
        let mut order: Vec<usize> = (0..group.len()).collect();
        order.sort_unstable_by_key(|&i| group[i].id);
        let ids: Vec<SeriesId> = order.iter().map(|&i| group[i].id).collect();
        let mut found: Vec<RawSeries> = group.iter().map(|series| RawSeries::without_rows(&series.labels)).collect();
        let mut samples = 0usize;
        let snapshot = self.reader.snapshot;
        let mut scan = snapshot.scan(&ids, self.range, true, ROWS_AT_ONCE).map_err(engine)?;
        let mut batch = ScanBatch::default();
        while scan.next_batch(&mut batch).map_err(engine)? {
            self.reader.go_on()?;
            samples += batch.ts.len();
            if !self.fits(samples, group)? {
                return Ok(None);
            }
            let mut at = 0;
            for &(index, rows) in &batch.runs {
                let end = at + rows as usize;
                let series = &mut found[order[index as usize]];
                extend((&mut series.ts_ms, &mut series.values), &batch.ts[at..end], &batch.values[at..end]);
                at = end;
            }
        }
        if snapshot.record_table(native::HISTOGRAMS).is_some() {
            let scan = snapshot.scan_records(native::HISTOGRAMS, &ids, self.range, None);
            let mut scan = scan.map_err(engine)?;
            while let Some(batch) = scan.next_batch().map_err(engine)? {
                self.reader.go_on()?;
                samples += batch.num_rows() * HISTOGRAM_SAMPLES;
                if !self.fits(samples, group)? {
                    return Ok(None);
                }
                let mut at = 0;
                for run in batch.column(0).as_primitive::<UInt64Type>().values().chunk_by(|a, b| a == b) {
                    if let Ok(index) = ids.binary_search(&SeriesId(run[0])) {
                        found[order[index]].push_histograms(&batch.slice(at, run.len()));
                    }
                    at += run.len();
                }
            }
        }
        Ok(Some((found, samples)))
    }

    /// Whether `samples` of a group may be in memory. Those of a single series must.
    fn fits(&self, samples: usize, group: &[Series]) -> Result<bool> {
        let reserved = (self.reader.reserve)(samples.saturating_mul(SAMPLE_BYTES));
        match group.len() {
            1 => reserved.map(|()| samples <= self.reader.samples_max),
            _ => Ok(reserved.is_ok() && samples <= self.reader.samples_max.min(SAMPLES_TOGETHER_MAX)),
        }
    }
}

impl RawSeries {
    fn without_rows(labels: &LabelSet) -> Self {
        Self { labels: labels.clone(), ts_ms: Vec::new(), values: Vec::new(), histograms: Vec::new() }
    }

    /// Adds later histograms, but for those whose millisecond has a newer one.
    fn push_histograms(&mut self, rows: &RecordBatch) {
        let times = |rows: &RecordBatch| rows.column(1).as_primitive::<Int64Type>().values().clone();
        let same_ms = |a: &i64, b: &i64| a.div_euclid(NS_PER_MS) == b.div_euclid(NS_PER_MS);
        let ts = times(rows);
        let before = self.histograms.last().map(times);
        if before.is_some_and(|before| before.last().zip(ts.first()).is_some_and(|(a, b)| same_ms(a, b))) {
            let last = self.histograms.pop().filter(|last| last.num_rows() > 1);
            self.histograms.extend(last.map(|last| last.slice(0, last.num_rows() - 1)));
        }
        let mut at = 0;
        for run in ts.chunk_by(|a, b| !same_ms(a, b)) {
            let is_last = at + run.len() == ts.len();
            let kept = run.len() - usize::from(!is_last);
            if kept > 0 {
                self.histograms.push(rows.slice(at, kept));
            }
            at += run.len();
        }
    }

    fn is_empty(&self) -> bool {
        self.ts_ms.is_empty() && self.histograms.is_empty()
    }
}

fn engine(error: foretell_engine::Error) -> Error {
    Error::from_engine(&error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, UInt64Array};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn of_a_millisecond_the_newest_histogram_stays() {
        let field = |name: &str, of| Field::new(name, of, false);
        let schema = Arc::new(Schema::new(vec![field("series", DataType::UInt64), field("ts", DataType::Int64)]));
        let rows = |ts: &[i64]| {
            let series = Arc::new(UInt64Array::from(vec![7; ts.len()]));
            RecordBatch::try_new(Arc::clone(&schema), vec![series, Arc::new(Int64Array::from(ts.to_vec()))]).unwrap()
        };
        let mut series = RawSeries::without_rows(&LabelSet::default());
        for ts in [&[1, 2, 3_000_000][..], &[3_000_001], &[3_000_002, 4_000_000, 5_000_000, 5_000_001, 6_000_000]] {
            series.push_histograms(&rows(ts));
        }
        let times =
            series.histograms.iter().flat_map(|rows| rows.column(1).as_primitive::<Int64Type>().values().to_vec());
        assert_eq!(times.collect::<Vec<i64>>(), [2, 3_000_002, 4_000_000, 5_000_001, 6_000_000]);
        assert!(series.histograms.iter().all(|rows| rows.num_rows() > 0));
    }
}
