//! Histograms of series, from the engine's records.
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, UInt64Type};
use foretell_engine::{SeriesId, Snapshot, TimeRange};

use super::super::source::{Admit, SeriesSamples};
use super::super::value::STALE_BITS;
use super::{Histogram, ResetHint};
use crate::error::{Error, Result};
use crate::native::HISTOGRAMS;
use crate::table::histogram::{Side, stored};

const NS_PER_MS: i64 = 1_000_000;
/// Columns that are decoded.
const COLUMNS: [&str; 13] = [
    "schema",
    "reset_hint",
    "float",
    "count",
    "zero_count",
    "zero_threshold",
    "sum",
    "negative_spans",
    "negative_deltas",
    "negative_counts",
    "positive_spans",
    "positive_deltas",
    "positive_counts",
];
/// Numbers that are decoded before `admit` is told of them: several threads ask it.
const WEIGHT_AT_ONCE: usize = 16 << 10;
/// The stored hint of what is no counter.
const GAUGE: i32 = 3;
const CUSTOM_VALUES: &str = "custom_values";

/// Whether a series may have histograms: none has as long as nobody has sent one.
pub(crate) fn may_have(snapshot: &Snapshot) -> bool {
    snapshot.record_table(HISTOGRAMS).is_some()
}

/// Adds the histograms of `ids` (sorted) in `range` to `found`, which has a series for each id; stale ones become stale
/// markers among the floats. `admit` is told what they weigh.
///
/// # Errors
/// Those of `admit`; damage.
pub(crate) fn read(
    snapshot: &Snapshot,
    ids: &[SeriesId],
    range: TimeRange,
    found: &mut [SeriesSamples],
    admit: &Admit<'_>,
) -> Result<()> {
    if ids.is_empty() || !may_have(snapshot) {
        return Ok(());
    }
    let columns: Vec<&str> = COLUMNS.into_iter().chain([CUSTOM_VALUES]).collect();
    let engine = |error| Error::from_engine(&error);
    let mut scan = snapshot.scan_records(HISTOGRAMS, ids, range, Some(&columns)).map_err(engine)?;
    // Stale ones of one series, whose rows come together.
    let (mut of, mut stale) = (0, Vec::<i64>::new());
    while let Some(batch) = scan.next_batch().map_err(engine)? {
        let rows = Rows::of(&batch)?;
        let series = stored(&batch, "series").map_err(Error::from_datafusion)?.as_primitive::<UInt64Type>();
        let ts = stored(&batch, "ts").map_err(Error::from_datafusion)?.as_primitive::<Int64Type>();
        let mut weight = 0;
        for row in 0..batch.num_rows() {
            let Ok(at) = ids.binary_search(&SeriesId(series.value(row))) else { continue };
            let ts_ms = ts.value(row).div_euclid(NS_PER_MS);
            if at != of {
                found[std::mem::replace(&mut of, at)].add_stale(&stale);
                stale.clear();
            }
            // Of a millisecond the newest stays.
            found[at].histograms.pop_if(|(other, _)| *other == ts_ms);
            stale.pop_if(|other| *other == ts_ms);
            if rows.sum(row).to_bits() == STALE_BITS {
                stale.push(ts_ms);
                weight += 1;
                continue;
            }
            let before = found[at].histograms.last().map(|(_, histogram)| &histogram.custom);
            let histogram = rows.histogram(row, before)?;
            weight += histogram.weight();
            if weight > WEIGHT_AT_ONCE {
                admit(std::mem::take(&mut weight))?;
            }
            found[at].histograms.push((ts_ms, Arc::new(histogram)));
        }
        admit(weight)?;
    }
    found[of].add_stale(&stale);
    Ok(())
}

/// The rows of a batch of records.
struct Rows<'a> {
    batch: &'a RecordBatch,
    negative: Side<'a>,
    positive: Side<'a>,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let side = |name| Side::of(batch, name).map_err(Error::from_datafusion);
        Ok(Self { batch, negative: side("negative")?, positive: side("positive")? })
    }

    fn sum(&self, row: usize) -> f64 {
        self.batch.column_by_name("sum").map_or(0.0, |sums| sums.as_primitive::<Float64Type>().value(row))
    }

    /// `borders`: those of the sample before, which are shared when they are the same.
    fn histogram(&self, row: usize, borders: Option<&Arc<[f64]>>) -> Result<Histogram> {
        let column = |name: &str| stored(self.batch, name).map_err(Error::from_datafusion);
        let float = column("float")?.as_boolean().value(row);
        let count = |name: &str| {
            let raw = column(name)?.as_primitive::<UInt64Type>().value(row);
            Ok::<f64, Error>(if float { f64::from_bits(raw) } else { raw as f64 })
        };
        let mut histogram = Histogram {
            schema: column("schema")?.as_primitive::<Int32Type>().value(row),
            // What a sender says of resets refers to a sample that may never have arrived: samples are compared instead.
            reset_hint: match column("reset_hint")?.as_primitive::<Int32Type>().value(row) {
                GAUGE => ResetHint::Gauge,
                _ => ResetHint::Unknown,
            },
            count: count("count")?,
            sum: self.sum(row),
            positive: self.positive.buckets(row, float),
            ..Histogram::default()
        };
        if histogram.is_custom() {
            let custom = column(CUSTOM_VALUES)?.as_list::<i32>().value(row);
            let custom = custom.as_primitive::<Float64Type>().values();
            histogram.custom = match borders {
                Some(borders) if **borders == **custom => Arc::clone(borders),
                _ => Arc::from(&**custom),
            };
            return Ok(histogram);
        }
        histogram.zero_threshold = column("zero_threshold")?.as_primitive::<Float64Type>().value(row).max(0.0);
        histogram.zero_count = count("zero_count")?;
        histogram.negative = self.negative.buckets(row, float);
        Ok(histogram)
    }
}
