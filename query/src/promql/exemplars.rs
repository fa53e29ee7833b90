//! Exemplars of the series that an expression selects.
use arrow::array::{Array as _, AsArray as _, MapArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use foretell_engine::{LabelSet, Selector, SeriesId, Snapshot, TimeRange};

use super::Limits;
use super::tree::selectors;
use crate::error::{Error, ErrorKind, Result};
use crate::native;

const NS_PER_MS: i64 = 1_000_000;
/// Bytes of an answer, about.
const BYTES_MAX: usize = 32 << 20;
/// What an exemplar takes besides its text.
const EXEMPLAR_BYTES: usize = 64;

/// Exemplars of which series, and when.
#[derive(Clone, Debug)]
pub struct ExemplarQuery {
    /// An expression: what matters are its selectors.
    pub text: String,
    /// First instant, milliseconds UTC.
    pub start_ms: i64,
    /// Last instant, milliseconds UTC.
    pub end_ms: i64,
}

/// A series and its exemplars, oldest first; there is one at least.
#[derive(Clone, Debug)]
pub struct SeriesExemplars {
    /// Labels of the series.
    pub labels: LabelSet,
    /// What was kept of it.
    pub exemplars: Vec<Exemplar>,
}

/// A sample that points elsewhere, usually to a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Names and values as they were sent.
    pub labels: Vec<(String, String)>,
    /// What was observed.
    pub value: f64,
    /// Milliseconds UTC.
    pub ts_ms: i64,
}

impl ExemplarQuery {
    /// Series in the order of their labels; `None` when the expression selects no series at all.
    ///
    /// # Errors
    /// `Invalid` for a bad expression or a range that ends before it starts; `Execution` for an answer that is too large.
    pub(crate) fn ask(
        &self,
        snapshot: &Snapshot,
        limits: &Limits,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<SeriesExemplars>>> {
        if self.end_ms < self.start_ms {
            return Err(Error::invalid("end timestamp must not be before start timestamp"));
        }
        let selectors = selectors(&self.text, limits)?;
        if selectors.is_empty() {
            return Ok(None);
        }
        // Before the first exemplar there is no table in the engine.
        if snapshot.record_table(native::EXEMPLARS).is_none() {
            return Ok(Some(Vec::new()));
        }
        let range = TimeRange {
            start: self.start_ms.saturating_mul(NS_PER_MS),
            end: self.end_ms.saturating_mul(NS_PER_MS).saturating_add(NS_PER_MS - 1),
        };
        let engine = |error| Error::from_engine(&error);
        let mut series = Vec::new();
        for matchers in selectors {
            series.extend(snapshot.select(&Selector { metric: None, matchers, range }).map_err(engine)?);
        }
        series.sort_unstable_by_key(|series| series.id);
        series.dedup_by_key(|series| series.id);
        let ids: Vec<SeriesId> = series.iter().map(|series| series.id).collect();
        let mut found: Vec<SeriesExemplars> =
            series.into_iter().map(|series| SeriesExemplars { labels: series.labels, exemplars: Vec::new() }).collect();
        let columns = Some(&["value", "labels"][..]);
        let mut scan = snapshot.scan_records(native::EXEMPLARS, &ids, range, columns).map_err(engine)?;
        let mut bytes = 0usize;
        while let Some(batch) = scan.next_batch().map_err(engine)? {
            if cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "the query was cancelled or timed out"));
            }
            bytes += add(&batch, &ids, &mut found)?;
            if bytes > BYTES_MAX {
                return Err(Error::new(
                    ErrorKind::Execution,
                    "the exemplars of these series are too many for one answer: select less time or fewer series",
                ));
            }
        }
        found.retain(|series| !series.exemplars.is_empty());
        found.sort_unstable_by(|a, b| a.labels.compare(&b.labels));
        Ok(Some(found))
    }
}

/// Adds the rows of a batch (columns `series`, `ts`, `value`, `labels`) to their series; answers the bytes they take.
fn add(batch: &RecordBatch, ids: &[SeriesId], found: &mut [SeriesExemplars]) -> Result<usize> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| Error::internal(format!("exemplars without a column {name}")))
    };
    let series = column("series")?.as_primitive::<UInt64Type>();
    let ts = column("ts")?.as_primitive::<Int64Type>();
    let values = column("value")?.as_primitive::<Float64Type>();
    let labels = column("labels")?.as_map();
    let mut bytes = 0;
    for row in 0..batch.num_rows() {
        let Ok(of) = ids.binary_search(&SeriesId(series.value(row))) else { continue };
        let labels = pairs(labels, row);
        bytes += EXEMPLAR_BYTES + labels.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
        let ts_ms = ts.value(row).div_euclid(NS_PER_MS);
        found[of].exemplars.push(Exemplar { labels, value: values.value(row), ts_ms });
    }
    Ok(bytes)
}

/// The entries of a map.
fn pairs(maps: &MapArray, row: usize) -> Vec<(String, String)> {
    if maps.is_null(row) {
        return Vec::new();
    }
    let entries = maps.value(row);
    let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    (0..entries.len()).map(|i| (names.value(i).to_owned(), values.value(i).to_owned())).collect()
}
