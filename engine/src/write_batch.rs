//! A columnar batch of samples, records and keyed state, committed as one.
use std::sync::Arc;

use crate::records::Records;
use crate::tombstone::Deletion;
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
    /// Rows to delete, of commits before this one: the rows of the batch itself stay. [`crate::Engine::delete`] makes them.
    pub deletes: Vec<Deletion>,
}

impl WriteBatch {
    /// Adds one sample.
    pub fn push(&mut self, series: SeriesId, ts: i64, value: f64) {
        self.series.push(series);
        self.ts.push(ts);
        self.values.push(value);
    }
    /// Adds what another batch has, after what this one has.
    pub fn append(&mut self, other: Self) {
        let Self { series, ts, values, records, state, deletes } = other;
        self.series.extend(series);
        self.ts.extend(ts);
        self.values.extend(values);
        self.records.extend(records);
        self.state.extend(state);
        self.deletes.extend(deletes);
    }
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.series.len()
    }
    /// Number of samples and records.
    pub fn rows(&self) -> usize {
        self.len() + self.records.iter().map(|records| records.len()).sum::<usize>()
    }
    /// The earliest instant at which it writes or deletes a row.
    pub(crate) fn earliest_ns(&self) -> Option<i64> {
        let records = self.records.iter().flat_map(|records| &records.ts);
        let deletes = self.deletes.iter().map(|delete| &delete.range.start);
        self.ts.iter().min().into_iter().chain(records).chain(deletes).min().copied()
    }
    /// Series of each sample and record.
    pub(crate) fn all_series(&self) -> impl Iterator<Item = &SeriesId> {
        self.series.iter().chain(self.records.iter().flat_map(|records| &records.series))
    }
    /// Memory it holds, about.
    pub fn bytes(&self) -> usize {
        let state = self.state.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len) + 64);
        let records: usize = self.records.iter().map(|records| records.bytes()).sum();
        let deletes: usize = self.deletes.iter().map(Deletion::bytes).sum();
        128 + self.len() * 24 + state.sum::<usize>() + records + deletes
    }
    /// Gives back the room that its columns have and do not use: what is counted is what it holds.
    pub(crate) fn trim(&mut self) {
        self.series.shrink_to_fit();
        self.ts.shrink_to_fit();
        self.values.shrink_to_fit();
    }
    /// Whether the batch changes nothing.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.state.is_empty() && self.deletes.is_empty()
    }
}
