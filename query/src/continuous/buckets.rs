//! Aggregates over buckets of time.
//!
//! ```text
//!  in-order rows of open buckets -> partial aggregates -> merged with the open windows -> output, new window state
//!  late rows, rows of closed buckets, events -> their buckets are dirty -> computed again from the snapshot at the end of the tick
//! ```
//! Invariants: a bucket is either dirty or fed in a tick, never both in the end; every row of an open window is in its
//! state exactly once; a bucket that starts before `closed_through` has no state.
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, TimestampNanosecondType};
use foretell_engine::{Snapshot, TimeRange};
use futures::StreamExt;

use super::aggregate::{Aggregation, Finished, stored_rows};
use super::emit::{Emitter, Produced, Swept, bury};
use super::grid::Grid;
use super::operator::{Chunk, Operator, Work};
use super::output::{LabelColumn, samples_of};
use super::plan::{Select, TS};
use super::ranges::RangeSet;
use super::source::Rows;
use super::windows::Windows;
use crate::error::{Error, Result};

use datafusion::execution::session_state::SessionState;

/// Ranges that one tick computes again; more are joined over the gaps between them.
const DIRTY_RANGES_MAX: usize = 256;
/// States that wait in a tick before they are reduced.
const PENDING_ROWS_MAX: usize = 64 << 10;
/// Output rows aimed at when storage is read chunk by chunk.
const CHUNK_ROWS: i64 = 32 << 10;
/// Most buckets of such a chunk.
const CHUNK_BUCKETS_MAX: i64 = 4 << 10;

/// Operator of a bucket query.
pub(super) struct Buckets {
    aggregation: Aggregation,
    grid: Grid,
    windows: Windows,
    dirty: RangeSet,
    /// States of this tick's rows, not merged with the windows yet.
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    newest_ts: i64,
    chunk_buckets: i64,
}

impl Buckets {
    pub(super) fn new(aggregation: Aggregation, grid: Grid, windows: Windows) -> Self {
        Self {
            aggregation,
            grid,
            windows,
            dirty: RangeSet::default(),
            pending: Vec::new(),
            pending_rows: 0,
            newest_ts: i64::MIN,
            chunk_buckets: 16,
        }
    }

    /// Marks the buckets of `ts` to be computed again.
    fn soil(&mut self, buckets: impl Iterator<Item = i64>) -> Result<()> {
        let mut last = None;
        for bucket in buckets {
            if last != Some(bucket) && !self.dirty.contains(bucket) {
                self.dirty.insert(bucket, self.grid.end_of(bucket)?);
                self.dirty.coarsen(DIRTY_RANGES_MAX);
            }
            last = Some(bucket);
        }
        Ok(())
    }

    /// Reduces what waits; gives the fast path up for this tick when there are more groups than may be open.
    fn reduce_pending(&mut self, groups_max: usize) -> Result<()> {
        self.pending = self.aggregation.reduce(std::mem::take(&mut self.pending))?;
        self.pending_rows = self.pending.iter().map(RecordBatch::num_rows).sum();
        if self.pending_rows > groups_max {
            let pending = std::mem::take(&mut self.pending);
            self.pending_rows = 0;
            for states in &pending {
                self.soil(self.buckets_of(states).to_vec().into_iter())?;
            }
        }
        Ok(())
    }

    fn buckets_of<'a>(&self, states: &'a RecordBatch) -> &'a [i64] {
        states.column(self.aggregation.bucket).as_primitive::<TimestampNanosecondType>().values()
    }

    /// Cuts states into one batch per bucket.
    fn by_bucket(&self, states: &[RecordBatch]) -> Result<BTreeMap<i64, Vec<RecordBatch>>> {
        let mut cut: BTreeMap<i64, Vec<RecordBatch>> = BTreeMap::new();
        for batch in states {
            let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
            for (row, &bucket) in self.buckets_of(batch).iter().enumerate() {
                rows.entry(bucket).or_default().push(row as u32);
            }
            for (bucket, rows) in rows {
                let part = if rows.len() == batch.num_rows() {
                    batch.clone()
                } else {
                    take_record_batch(batch, &UInt32Array::from(rows)).map_err(|e| Error::internal(e.to_string()))?
                };
                cut.entry(bucket).or_default().push(part);
            }
        }
        Ok(cut)
    }

    /// Merges this tick's states with the open windows and emits the touched groups.
    fn merge_pending(&mut self, work: &mut Work, emitter: &mut Emitter) -> Result<()> {
        self.reduce_pending(work.limits.open_groups_max)?;
        let pending = std::mem::take(&mut self.pending);
        self.pending_rows = 0;
        let mut states = Vec::new();
        for (bucket, touched) in self.by_bucket(&pending)? {
            if self.dirty.contains(bucket) {
                continue;
            }
            for batch in touched {
                states.extend(self.windows.stored(bucket, &batch)?);
                states.push(batch);
            }
        }
        let states = self.aggregation.reduce(states)?;
        for (bucket, updated) in self.by_bucket(&states)? {
            for batch in updated {
                self.windows.update(bucket, batch, emitter)?;
            }
        }
        self.emit(work, states, emitter, None)
    }

    fn emit(
        &self,
        work: &mut Work,
        states: Vec<RecordBatch>,
        emitter: &mut Emitter,
        mut produced: Option<&mut Produced>,
    ) -> Result<()> {
        for Finished { buckets, labels, values } in self.aggregation.finish(states)? {
            let buckets = buckets.as_primitive::<TimestampNanosecondType>().values();
            let labels = labels.iter().map(LabelColumn::new).collect::<Result<Vec<_>>>()?;
            let values = values.iter().map(samples_of).collect::<Result<Vec<_>>>()?;
            let mut texts = Vec::with_capacity(labels.len());
            for (row, &bucket) in buckets.iter().enumerate() {
                texts.clear();
                texts.extend(labels.iter().map(|label| label.get(row)));
                let series = work.target.of(&work.engine, &texts)?;
                emitter.row(&series, bucket, values.iter().map(|column| column[row]));
                if let Some(produced) = &mut produced {
                    produced.add(&series, bucket);
                }
            }
            emitter.spill()?;
        }
        Ok(())
    }

    /// Computes the buckets in `[start, end)` again, in chunks; returns the last bucket that has rows.
    fn recompute(
        &mut self,
        work: &mut Work,
        from: &Stored<'_>,
        start: i64,
        end: i64,
        emitter: &mut Emitter,
    ) -> Result<Option<i64>> {
        let (mut at, mut last) = (start, None);
        while at < end {
            let stop = self.grid.after(at, self.chunk_buckets)?.min(end);
            let states = self.aggregation.aggregate_stored(from.state, &from.select.input, at, stop)?;
            let rows: usize = states.iter().map(RecordBatch::num_rows).sum();
            let by_bucket = self.by_bucket(&states)?;
            for open in self.windows.open_in(at, stop) {
                self.windows.forget(open, emitter);
            }
            last = by_bucket.keys().next_back().copied().or(last);
            work.progress.recomputed += by_bucket.len() as u64;
            for (bucket, states) in by_bucket {
                if bucket >= work.progress.closed_through {
                    self.windows.replace(bucket, states, emitter)?;
                }
            }
            let mut produced = Produced::default();
            self.emit(work, states, emitter, Some(&mut produced))?;
            bury_between(work, from, at, stop, &produced, emitter)?;
            self.chunk_buckets = next_chunk(self.chunk_buckets, rows as i64);
            at = stop;
            if rows == 0 && at < end {
                // Nothing here: continue where the next row is, however far that may be.
                let next = first_row(work, &self.aggregation.source, from, at, end)?;
                let resume = next.map_or(Ok(end), |ts| self.grid.bucket(ts))?.clamp(at, end);
                bury_between(work, from, at, resume, &Produced::default(), emitter)?;
                at = resume;
            }
        }
        Ok(last)
    }

    /// Drops the state of buckets that are complete as far as the watermark goes, and of the oldest beyond the limit.
    fn close(&mut self, work: &mut Work, emitter: &mut Emitter) -> Result<()> {
        if self.newest_ts > i64::MIN {
            let complete = self.newest_ts.saturating_sub(work.definition.watermark_ns);
            if complete > work.progress.closed_through {
                work.progress.closed_through = work.progress.closed_through.max(self.grid.bucket(complete)?);
            }
        }
        self.windows.close_before(work.progress.closed_through, emitter);
        while self.windows.groups() > work.limits.open_groups_max
            && let Some(oldest) = self.windows.oldest()
        {
            work.progress.closed_through = self.grid.end_of(oldest)?;
            self.windows.close_before(work.progress.closed_through, emitter);
        }
        Ok(())
    }
}

/// What a recomputation reads.
struct Stored<'a> {
    snapshot: &'a Snapshot,
    state: &'a SessionState,
    select: &'a Select,
}

impl Operator for Buckets {
    fn absorb(&mut self, work: &mut Work, snapshot: &Snapshot, chunk: Chunk, emitter: &mut Emitter) -> Result<()> {
        let _ = (snapshot, emitter);
        let buckets = self.grid.buckets(&chunk.rows.ts)?;
        let mut late: Vec<i64> = Vec::new();
        let mut fed = Rows::default();
        for (row, &bucket) in buckets.iter().enumerate() {
            let ts = chunk.rows.ts[row];
            self.newest_ts = self.newest_ts.max(ts);
            if !chunk.in_order[row] || bucket < work.progress.closed_through {
                late.push(bucket);
            } else if !self.dirty.contains(bucket) {
                fed.push(chunk.rows.ids[row], ts, chunk.rows.values[row]);
            }
        }
        late.sort_unstable();
        self.soil(late.into_iter())?;
        if !fed.is_empty() {
            let rows = self.aggregation.filter(work.source.batch(fed)?)?;
            if rows.num_rows() > 0 {
                let states = self.aggregation.aggregate(rows)?;
                self.pending_rows += states.iter().map(RecordBatch::num_rows).sum::<usize>();
                self.pending.extend(states);
            }
        }
        if self.pending_rows > PENDING_ROWS_MAX {
            self.reduce_pending(work.limits.open_groups_max)?;
        }
        Ok(())
    }

    fn touch(&mut self, ts: &[i64]) -> Result<()> {
        let mut buckets = self.grid.buckets(ts)?;
        buckets.sort_unstable();
        self.soil(buckets.into_iter())
    }

    fn finish(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        self.merge_pending(work, emitter)?;
        if !self.dirty.is_empty() {
            let (state, select) = work.plan_on(snapshot)?;
            let from = Stored { snapshot, state: &state, select: &select };
            let dirty = std::mem::take(&mut self.dirty);
            for (start, end) in dirty.iter() {
                self.recompute(work, &from, start, end, emitter)?;
            }
        }
        self.close(work, emitter)
    }

    fn backfill(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        self.windows.clear();
        self.dirty = RangeSet::default();
        self.pending.clear();
        self.newest_ts = i64::MIN;
        let (state, select) = work.plan_on(snapshot)?;
        let from = Stored { snapshot, state: &state, select: &select };
        // Windows are kept in a second pass over the newest buckets: only the first one tells which those are.
        work.progress.closed_through = i64::MAX;
        let (mut at, mut end, mut seek) = (i64::MIN, i64::MIN, true);
        while at < i64::MAX {
            if seek {
                let next = first_row(work, &self.aggregation.source, &from, at, i64::MAX)?;
                let resume = next.map_or(Ok(i64::MAX), |ts| self.grid.bucket(ts))?.max(at);
                bury_between(work, &from, at, resume, &Produced::default(), emitter)?;
                at = resume;
                if next.is_none() {
                    break;
                }
            }
            let stop = self.grid.after(at, CHUNK_BUCKETS_MAX)?;
            let last = self.recompute(work, &from, at, stop, emitter)?;
            if let Some(last) = last {
                self.newest_ts = last;
                end = stop;
            }
            seek = last.is_none();
            at = stop;
        }
        if work.source.signal().is_some() {
            // All buckets of events are closed: they are computed again when rows come.
            return Ok(());
        }
        work.progress.closed_through = i64::MIN;
        self.close(work, emitter)?;
        if self.newest_ts > i64::MIN {
            self.recompute(work, &from, work.progress.closed_through, end, emitter)?;
        }
        self.close(work, emitter)
    }
}

/// Buries the rows with `start <= ts < end` that were not produced; the last instant of all belongs to a range that ends there.
fn bury_between(
    work: &Work,
    from: &Stored<'_>,
    start: i64,
    end: i64,
    produced: &Produced,
    emitter: &mut Emitter,
) -> Result<()> {
    if start >= end {
        return Ok(());
    }
    let range = TimeRange { start, end: if end == i64::MAX { end } else { end - 1 } };
    bury(emitter, from.snapshot, &Swept::Table(work.target.table()), range, produced)
}

/// Buckets of the next chunk, so that it gives about [`CHUNK_ROWS`] rows.
fn next_chunk(buckets: i64, rows: i64) -> i64 {
    let fitting = buckets.saturating_mul(CHUNK_ROWS) / rows.max(1);
    fitting.clamp(1, buckets.saturating_mul(4)).min(CHUNK_BUCKETS_MAX)
}

/// Time of the first stored row of the query in `[start, end)`.
fn first_row(work: &Work, source: &Schema, from: &Stored<'_>, start: i64, end: i64) -> Result<Option<i64>> {
    let time = source.index_of(TS).map_err(|e| Error::internal(e.to_string()))?;
    let time_only = Arc::new(source.project(&[time]).map_err(|e| Error::internal(e.to_string()))?);
    let plan = stored_rows(from.state, &from.select.input, &time_only, start, end, &work.runtime)?;
    work.runtime.block_on(async {
        let mut stream =
            datafusion::physical_plan::execute_stream(plan, from.state.task_ctx()).map_err(Error::from_datafusion)?;
        let mut first: Option<i64> = None;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(Error::from_datafusion)?;
            let ts = batch.column(0).as_primitive::<TimestampNanosecondType>();
            first = ts.values().iter().copied().min().into_iter().chain(first).min();
        }
        Ok(first)
    })
}
