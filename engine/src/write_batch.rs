//! A columnar batch of samples, records and keyed state, committed as one.
use std::sync::Arc;

use crate::records::Records;
use crate::types::SeriesId;

/// Rows to commit atomically: either all of a batch is durable and visible, or none of it.
/// The three sample columns have equal length; row `i` is (`series[i]`, `ts[i]`, `values[i]`).
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// Series of each row, from [`crate::Engine::resolve`].
    pub series: Vec<SeriesId>,
    /// Nanoseconds UTC.
    pub ts: Vec<i64>,
    /// Values; bits are kept exactly, NaN payloads included.
    pub values: Vec<f64>,
    /// Rows with other columns, each element of one table; see [`crate::records`]. Applied in order.
    pub records: Vec<Arc<Records>>,
    /// Keyed state: key -> new value, or `None` to delete. Applied in order.
    pub state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl WriteBatch {
    /// Adds one sample.
    pub fn push(&mut self, series: SeriesId, ts: i64, value: f64) {
        self.series.push(series);
        self.ts.push(ts);
        self.values.push(value);
    }
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.series.len()
    }
    /// Number of samples and records.
    pub fn rows(&self) -> usize {
        self.len() + self.records.iter().map(|records| records.len()).sum::<usize>()
    }
    /// Whether the batch has no samples, no records and no state.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty() && self.state.is_empty() && self.records.iter().all(|records| records.is_empty())
    }
}
