//! Open windows: the partial aggregates of the newest buckets, in memory and in the engine's keyed state.
//!
//! A bucket is a small log-structured store of its own. Each tick that touches it appends a *run*: the new states of the
//! touched groups, as one Arrow IPC stream under one key. The newest run wins per group; once most rows of a bucket's runs
//! are superseded they are rewritten as one. What a tick writes is therefore proportional to what it touched.
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::row::{RowConverter, SortField};
use foretell_engine::Snapshot;
use hashbrown::HashMap;

use super::definition::{window_key, window_of_key, windows_prefix};
use super::emit::Emitter;
use crate::error::{Error, Result};

/// Runs of a bucket are rewritten as one when superseded rows outnumber live ones, or beyond this number.
const RUNS_MAX: usize = 32;

/// One bucket.
#[derive(Default)]
struct Window {
    runs: BTreeMap<u32, RecordBatch>,
    /// Encoded group columns -> (run, row).
    newest: HashMap<Box<[u8]>, (u32, u32)>,
}

impl Window {
    fn rows(&self) -> usize {
        self.runs.values().map(RecordBatch::num_rows).sum()
    }
    fn next_run(&self) -> u32 {
        self.runs.keys().next_back().map_or(0, |run| run + 1)
    }
}

/// The open windows of one query.
pub(super) struct Windows {
    name: String,
    states: SchemaRef,
    group_columns: usize,
    converter: RowConverter,
    open: BTreeMap<i64, Window>,
    groups: usize,
}

impl Windows {
    /// `states` has the group columns first.
    ///
    /// # Errors
    /// `Internal` for group columns that cannot be compared.
    pub(super) fn new(name: &str, states: &SchemaRef, group_columns: usize) -> Result<Self> {
        let fields =
            states.fields()[..group_columns].iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(arrow_fault)?;
        Ok(Self {
            name: name.to_owned(),
            states: Arc::clone(states),
            group_columns,
            converter,
            open: BTreeMap::new(),
            groups: 0,
        })
    }

    /// Reads what earlier ticks stored.
    ///
    /// # Errors
    /// `Internal` when the bytes are damaged.
    pub(super) fn load(&mut self, snapshot: &Snapshot) -> Result<()> {
        let prefix = windows_prefix(&self.name);
        for (key, bytes) in snapshot.state_prefix(&prefix)? {
            let Some((bucket, run)) = window_of_key(&prefix, &key) else {
                return Err(Error::internal(format!(
                    "window state of continuous query {} has a malformed key",
                    self.name
                )));
            };
            let states = decode(&bytes, &self.states)?;
            self.place(bucket, run, states)?;
        }
        Ok(())
    }

    /// Forgets everything in memory; what is stored is the caller's to delete.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.groups = 0;
    }
    /// Groups with a state, over all buckets.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }
    /// The oldest open bucket.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.open.keys().next().copied()
    }

    /// The stored states of the groups in `touched` (states of one bucket), if they have any.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn stored(&self, bucket: i64, touched: &RecordBatch) -> Result<Option<RecordBatch>> {
        let Some(window) = self.open.get(&bucket) else { return Ok(None) };
        let keys = self.keys(touched)?;
        let runs: Vec<(&u32, &RecordBatch)> = window.runs.iter().collect();
        let mut rows = Vec::new();
        for row in 0..keys.num_rows() {
            if let Some(&(run, at)) = window.newest.get(keys.row(row).as_ref()) {
                let Ok(place) = runs.binary_search_by_key(&run, |(run, _)| **run) else { continue };
                rows.push((place, at as usize));
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = runs.into_iter().map(|(_, batch)| batch).collect();
        interleave_record_batch(&batches, &rows).map(Some).map_err(arrow_fault)
    }

    /// Appends the new states of touched groups of one bucket.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn update(&mut self, bucket: i64, states: RecordBatch, emitter: &mut Emitter) -> Result<()> {
        let window = self.open.entry(bucket).or_default();
        let run = window.next_run();
        let superseding = window.rows() + states.num_rows() > 2 * window.newest.len().max(states.num_rows());
        if superseding || window.runs.len() >= RUNS_MAX {
            self.place(bucket, run, states)?;
            let window = &self.open[&bucket];
            let runs: Vec<&u32> = window.runs.keys().collect();
            let mut live: Vec<(usize, usize)> = window
                .newest
                .values()
                .filter_map(|(run, row)| Some((runs.binary_search(&run).ok()?, *row as usize)))
                .collect();
            live.sort_unstable();
            let batches: Vec<&RecordBatch> = window.runs.values().collect();
            let rewritten = interleave_record_batch(&batches, &live).map_err(arrow_fault)?;
            return self.replace(bucket, vec![rewritten], emitter);
        }
        emitter.state(window_key(&self.name, bucket, run), Some(encode(&states)?));
        self.place(bucket, run, states)
    }

    /// Makes `states` the whole content of a bucket; none forgets it.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn replace(&mut self, bucket: i64, states: Vec<RecordBatch>, emitter: &mut Emitter) -> Result<()> {
        self.forget(bucket, emitter);
        if states.iter().any(|batch| batch.num_rows() > 0) {
            let states = concat_batches(&self.states, &states).map_err(arrow_fault)?;
            emitter.state(window_key(&self.name, bucket, 0), Some(encode(&states)?));
            self.place(bucket, 0, states)?;
        }
        Ok(())
    }

    /// Forgets the states of a bucket.
    pub(super) fn forget(&mut self, bucket: i64, emitter: &mut Emitter) {
        if let Some(window) = self.open.remove(&bucket) {
            self.groups -= window.newest.len();
            for run in window.runs.into_keys() {
                emitter.state(window_key(&self.name, bucket, run), None);
            }
        }
    }

    /// Forgets every bucket that starts before `instant`.
    pub(super) fn close_before(&mut self, instant: i64, emitter: &mut Emitter) {
        while let Some(oldest) = self.oldest().filter(|&bucket| bucket < instant) {
            self.forget(oldest, emitter);
        }
    }

    /// The open buckets in `[start, end)`.
    pub(super) fn open_in(&self, start: i64, end: i64) -> Vec<i64> {
        self.open.range(start..end).map(|(&bucket, _)| bucket).collect()
    }

    fn place(&mut self, bucket: i64, run: u32, states: RecordBatch) -> Result<()> {
        let keys = self.keys(&states)?;
        let window = self.open.entry(bucket).or_default();
        let before = window.newest.len();
        for row in 0..keys.num_rows() {
            let at = (run, row as u32);
            match window.newest.get_mut(keys.row(row).as_ref()) {
                Some(newest) => *newest = at,
                None => {
                    window.newest.insert(keys.row(row).as_ref().into(), at);
                }
            }
        }
        self.groups += window.newest.len() - before;
        window.runs.insert(run, states);
        Ok(())
    }

    fn keys(&self, states: &RecordBatch) -> Result<arrow::row::Rows> {
        let columns: Vec<ArrayRef> = states.columns()[..self.group_columns].to_vec();
        self.converter.convert_columns(&columns).map_err(arrow_fault)
    }
}

fn encode(states: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &states.schema()).map_err(arrow_fault)?;
    writer.write(states).map_err(arrow_fault)?;
    writer.into_inner().map_err(arrow_fault)
}

fn decode(bytes: &[u8], schema: &SchemaRef) -> Result<RecordBatch> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(arrow_fault)?;
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(arrow_fault)?;
    let columns =
        concat_batches(&batches.first().ok_or_else(|| Error::internal("window state is empty"))?.schema(), &batches)
            .map_err(arrow_fault)?;
    // Refuses states that another build's aggregates left behind.
    RecordBatch::try_new(Arc::clone(schema), columns.columns().to_vec()).map_err(arrow_fault)
}

fn arrow_fault(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("window state: {error}"))
}
