//! Bits: a record for each anomalous sample, of the sample's own series and time, with its score. All other samples are known to
//! be usual by not being there.
use std::sync::Arc;

use arrow::array::{AsArray as _, BooleanArray, BooleanBufferBuilder, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use foretell_engine::{RecordTable, Records, SeriesId, Snapshot, TimeRange, Unique};

use crate::error::{Error, Result};

/// The table in the engine.
const TABLE: &str = "anomaly_bits";
/// How far beyond the boundary, 1.0.
const SCORE: &str = "score";
/// The column that shows the bit, for statements that name it.
pub(crate) const ANOMALOUS: &str = "anomalous";
/// In PromQL a label of this name and the value [`ANOMALOUS`] asks for bits in the place of values.
pub(crate) const VALUE_LABEL: &str = "__value__";

/// Anomalous samples that are not stored yet.
#[derive(Debug, Default)]
pub(super) struct Found {
    series: Vec<SeriesId>,
    ts: Vec<i64>,
    scores: Vec<f32>,
}

impl Found {
    #[inline(never)]
    pub(super) fn push(&mut self, series: SeriesId, ts: i64, score: f64) {
        self.series.push(series);
        self.ts.push(ts);
        self.scores.push(score as f32);
    }
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }
    pub(super) fn truncate(&mut self, len: usize) {
        self.series.truncate(len);
        self.ts.truncate(len);
        self.scores.truncate(len);
    }
    pub(super) fn clear(&mut self) {
        self.truncate(0);
    }
    /// As rows of the table.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn records(&self) -> Result<Records> {
        let table = RecordTable::new(TABLE, Unique::PerInstant).map_err(|error| Error::from_engine(&error))?;
        let schema = Arc::new(Schema::new(vec![Field::new(SCORE, DataType::Float32, true)]));
        let columns = RecordBatch::try_new(schema, vec![Arc::new(Float32Array::from(self.scores.clone()))])
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(Records { table, series: self.series.clone(), ts: self.ts.clone(), columns })
    }
}

/// Whether the column of bits belongs to what `sql` speaks of: it is there for who names it, and in no `*` otherwise.
pub(crate) fn are_named(sql: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let text = sql.as_bytes();
    text.windows(ANOMALOUS.len()).enumerate().any(|(at, word)| {
        word.eq_ignore_ascii_case(ANOMALOUS.as_bytes())
            && !at.checked_sub(1).is_some_and(|before| is_part(text[before]))
            && !text.get(at + ANOMALOUS.len()).is_some_and(|&after| is_part(after))
    })
}

/// The anomalous samples of some series in a range.
#[derive(Debug, Default)]
pub(crate) struct Bits {
    /// Where those of each series end in `ts`.
    ends: Vec<usize>,
    /// Increasing inside a series.
    ts: Vec<i64>,
}

impl Bits {
    /// Of `series` (sorted).
    ///
    /// # Errors
    /// As the engine.
    pub(crate) fn read(snapshot: &Snapshot, series: &[SeriesId], range: TimeRange) -> Result<Self> {
        let mut bits = Self { ends: Vec::with_capacity(series.len()), ts: Vec::new() };
        if snapshot.record_table(TABLE).is_some() {
            let scan = snapshot.scan_records(TABLE, series, range, Some(&[]));
            let mut scan = scan.map_err(|error| Error::from_engine(&error))?;
            while let Some(batch) = scan.next_batch().map_err(|error| Error::from_engine(&error))? {
                let ids = batch.column(0).as_primitive::<UInt64Type>().values();
                let ts = batch.column(1).as_primitive::<Int64Type>().values();
                for (&id, &ts) in ids.iter().zip(ts) {
                    while series.get(bits.ends.len()).is_some_and(|one| one.0 < id) {
                        bits.ends.push(bits.ts.len());
                    }
                    bits.ts.push(ts);
                }
            }
        }
        bits.ends.resize(series.len(), bits.ts.len());
        Ok(bits)
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.ends.capacity() * size_of::<usize>() + self.ts.capacity() * size_of::<i64>()
    }

    /// The anomalous instants of the `index`-th series.
    pub(crate) fn of(&self, index: usize) -> &[i64] {
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ts[from..self.ends[index]]
    }

    /// One bit a row; `runs` says of which series they are, `ts` are their times, increasing inside a run.
    pub(crate) fn column(&self, runs: &[(u32, u32)], ts: &[i64]) -> BooleanArray {
        let mut bits = BooleanBufferBuilder::new(ts.len());
        bits.append_n(ts.len(), false);
        let mut from = 0;
        for &(index, rows) in runs {
            let rows = &ts[from..from + rows as usize];
            if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
                let anomalous = self.of(index as usize);
                let begin = anomalous.partition_point(|ts| ts < first);
                for ts in anomalous[begin..].iter().take_while(|ts| *ts <= last) {
                    if let Ok(row) = rows.binary_search(ts) {
                        bits.set_bit(from + row, true);
                    }
                }
            }
            from += rows.len();
        }
        BooleanArray::new(bits.finish(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_is_named_by_a_whole_word_only() {
        for sql in ["SELECT anomalous FROM m", "select avg(ANOMALOUS)", "a.\"anomalous\"", "anomalous"] {
            assert!(are_named(sql), "{sql}");
        }
        for sql in ["SELECT * FROM m", "SELECT anomalous_rows FROM m", "SELECT is_anomalous", "", "anomal"] {
            assert!(!are_named(sql), "{sql}");
        }
    }

    #[test]
    fn bits_stand_at_the_rows_of_their_instants() {
        let bits = Bits { ends: vec![0, 3, 3, 4], ts: vec![10, 20, 30, 20] };
        let column = |runs: &[(u32, u32)], ts: &[i64]| bits.column(runs, ts).iter().flatten().collect::<Vec<bool>>();
        assert_eq!(column(&[(0, 2)], &[10, 20]), [false, false]);
        assert_eq!(column(&[(1, 3), (3, 2)], &[15, 20, 30, 19, 20]), [false, true, true, false, true]);
        assert_eq!(column(&[(1, 1), (2, 1)], &[10, 10]), [true, false]);
        assert_eq!(column(&[], &[]), [] as [bool; 0]);
    }
}
