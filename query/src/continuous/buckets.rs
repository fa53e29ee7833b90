//! Aggregates over buckets of time.
//!
//! ```text
//!  in-order rows of open buckets -> partial aggregates -> merged with the open windows -> output, new window state
//!  late rows, rows of closed buckets -> their keys in their buckets are dirty -> computed again from the snapshot at the end of the tick
//!  events                            -> their buckets are dirty as a whole    -> the same
//! ```
//! A query that writes when windows close keeps no state: it reads each bucket once, when it is complete.
//!
//! Invariants: a key of a bucket is either dirty or fed in a tick, never both in the end; every row of an open window is in its
//! state exactly once; a bucket that starts before `closed_through` has no state.
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, TimestampNanosecondType};
use foretell_engine::{LabelSet, SeriesId, Snapshot, TimeRange};
use futures::StreamExt;

use super::aggregate::{Aggregation, Finished, stored_rows};
use super::dirty::{Dirty, Groups, Part};
use super::emit::{Emitter, Standing, Swept, bury};
use super::grid::Grid;
use super::operator::{Chunk, Operator, Work};
use super::output::{LabelColumn, samples_of};
use super::plan::{OriginKind, Select, TS};
use super::source::{Rows, Span};
use super::windows::Windows;
use crate::error::{Error, Result};

use datafusion::execution::session_state::SessionState;

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
    dirty: Dirty,
    groups: Groups,
    /// States of this tick's rows, not merged with the windows yet.
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    chunk_buckets: i64,
}

impl Buckets {
    pub(super) fn new(aggregation: Aggregation, grid: Grid, windows: Windows) -> Self {
        Self {
            aggregation,
            grid,
            windows,
            dirty: Dirty::default(),
            groups: Groups::default(),
            pending: Vec::new(),
            pending_rows: 0,
            chunk_buckets: 16,
        }
    }

    /// Marks the buckets of `ts` to be computed again.
    fn soil(&mut self, buckets: impl Iterator<Item = i64>) -> Result<()> {
        let mut last = None;
        for bucket in buckets {
            if last != Some(bucket) && !self.dirty.is_whole(bucket) {
                self.dirty.insert(bucket, self.grid.end_of(bucket)?);
            }
            last = Some(bucket);
        }
        Ok(())
    }

    /// Marks a bucket to be computed again for the key of `id`, or for all of them if that is not known.
    fn soil_for(&mut self, bucket: i64, id: Option<&SeriesId>) -> Result<()> {
        if self.dirty.is_whole(bucket) {
            return Ok(());
        }
        match id {
            Some(id) if self.dirty.insert_series(bucket, id.number()) => Ok(()),
            _ => self.soil(std::iter::once(bucket)),
        }
    }

    /// The bucket before which rows come too late to count.
    fn final_bucket(&self, work: &Work) -> Result<i64> {
        if work.final_before == i64::MIN { Ok(i64::MIN) } else { self.grid.bucket(work.final_before) }
    }

    /// Takes the rows of dirty groups out of states of one bucket.
    fn without_dirty(&self, bucket: i64, states: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let Some(dirty) = self.dirty.groups(bucket, &self.groups) else { return Ok(states) };
        let mut kept = Vec::with_capacity(states.len());
        for batch in states {
            let labels = self.aggregation.labels_of(&batch)?;
            let clean = |row: &u32| {
                let group = self.groups.find(labels.iter().map(|label| label.get(*row as usize)));
                group.is_none_or(|group| !dirty.contains(&group))
            };
            let rows: Vec<u32> = (0..batch.num_rows() as u32).filter(clean).collect();
            if !rows.is_empty() {
                kept.push(
                    take_record_batch(&batch, &UInt32Array::from(rows)).map_err(|e| Error::internal(e.to_string()))?,
                );
            }
        }
        Ok(kept)
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
            if self.dirty.is_whole(bucket) {
                continue;
            }
            for batch in self.without_dirty(bucket, touched)? {
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
        mut standing: Option<&mut Standing>,
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
                let row = || values.iter().map(|column| column[row]);
                if !standing.as_mut().is_some_and(|standing| standing.has(&series, bucket, row())) {
                    emitter.row(&series, bucket, row());
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
            work.progress.recomputed += rows as u64;
            for (bucket, states) in by_bucket {
                if bucket >= work.progress.closed_through {
                    self.windows.replace(bucket, states, emitter)?;
                }
            }
            let swept = Swept::Table(work.target.table());
            let mut standing = Standing::read(from.snapshot, &swept, before(at, stop))?;
            self.emit(work, states, emitter, Some(&mut standing))?;
            standing.bury(emitter)?;
            self.chunk_buckets = next_chunk(self.chunk_buckets, rows as i64);
            at = stop;
            if rows == 0 && at < end {
                // Nothing here: continue where the next row is, however far that may be.
                let resume = self.first_bucket(work, from, at, end)?.clamp(at, end);
                bury_between(work, from, at, resume, emitter)?;
                at = resume;
            }
        }
        Ok(last)
    }

    /// Computes some groups of some buckets again. A group that is no longer in an open bucket makes all of it dirty.
    fn recompute_part(&mut self, work: &mut Work, from: &Stored<'_>, part: &Part, emitter: &mut Emitter) -> Result<()> {
        let series = Arc::new(self.groups.series(&part.groups));
        let input = from.select.limited_to(&series)?;
        let mut next = 0;
        while let Some(&at) = part.buckets.get(next) {
            let stop = self.grid.after(at, self.chunk_buckets)?.min(part.end);
            let buckets = part.buckets[next..].iter().take_while(|&&bucket| bucket < stop).count();
            next += buckets.max(1);
            let states = self.aggregation.aggregate_stored(from.state, &input, at, stop)?;
            let rows: usize = states.iter().map(RecordBatch::num_rows).sum();
            work.progress.recomputed += rows as u64;
            let mut by_bucket = self.by_bucket(&states)?;
            for &bucket in part.buckets.iter().filter(|&&bucket| (at..stop).contains(&bucket)) {
                if bucket < work.progress.closed_through {
                    continue;
                }
                let states = by_bucket.remove(&bucket).unwrap_or_default();
                if states.iter().map(RecordBatch::num_rows).sum::<usize>() < part.groups.len() {
                    self.soil(std::iter::once(bucket))?;
                    continue;
                }
                for batch in states {
                    self.windows.update(bucket, batch, emitter)?;
                }
            }
            let names = &work.target.columns().labels;
            let swept = |labels: &LabelSet| {
                let group = self.groups.find(names.iter().map(|name| labels.get(name)));
                group.is_some_and(|group| part.groups.contains(&group))
            };
            let swept = Swept::Labels(work.target.table(), &swept);
            let mut standing = Standing::read(from.snapshot, &swept, before(at, stop))?;
            self.emit(work, states, emitter, Some(&mut standing))?;
            self.chunk_buckets = next_chunk(self.chunk_buckets, rows as i64);
            standing.bury(emitter)?;
        }
        Ok(())
    }

    /// Writes the buckets that are complete by now, of a query that writes when windows close.
    fn emit_closed(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        if work.progress.newest_ts == i64::MIN || work.complete_before() <= work.progress.emitted_through {
            return Ok(());
        }
        let through = self.grid.bucket(work.complete_before())?;
        if through > work.progress.emitted_through {
            let (state, select) = work.plan_on(snapshot)?;
            let from = Stored { snapshot, state: &state, select: &select };
            let start = work.progress.emitted_through;
            let start = if start == i64::MIN { self.first_bucket(work, &from, start, through)? } else { start };
            self.recompute(work, &from, start, through, emitter)?;
            work.progress.emitted_through = through;
        }
        Ok(())
    }

    /// The bucket of the first row in `[start, end)`; `end` if there is none.
    fn first_bucket(&self, work: &Work, from: &Stored<'_>, start: i64, end: i64) -> Result<i64> {
        let first = row_bounds(work, &self.aggregation.source, from, start, end)?;
        first.map_or(Ok(end), |span| self.grid.bucket(span.from))
    }

    /// Drops the state of buckets that are complete as far as the watermark goes, and of the oldest beyond the limit.
    fn close(&mut self, work: &mut Work, emitter: &mut Emitter) -> Result<()> {
        if work.progress.newest_ts > i64::MIN {
            let complete = work.complete_before();
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
    fn keys(&self) -> usize {
        self.windows.groups()
    }

    fn absorb(&mut self, work: &mut Work, snapshot: &Snapshot, chunk: Chunk, emitter: &mut Emitter) -> Result<()> {
        let _ = snapshot;
        let buckets = self.grid.buckets(&chunk.rows.ts)?;
        let final_bucket = self.final_bucket(work)?;
        let mut fed = Rows::default();
        for (row, &bucket) in buckets.iter().enumerate() {
            let id = chunk.rows.ids[row];
            if bucket < final_bucket {
                work.put_aside(&chunk.rows, row, emitter)?;
            } else if !chunk.in_order[row] || bucket < work.progress.closed_through {
                self.soil_for(bucket, Some(&id))?;
            } else if !self.dirty.covers(bucket, id.number()) {
                fed.push(id, chunk.rows.ts[row], chunk.rows.values[row]);
            }
        }
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

    fn touch(&mut self, work: &mut Work, rows: &Rows, emitter: &mut Emitter) -> Result<()> {
        let buckets = self.grid.buckets(&rows.ts)?;
        let final_bucket = self.final_bucket(work)?;
        let keyed = self.aggregation.series_labels.is_some();
        for (row, &bucket) in buckets.iter().enumerate() {
            if bucket < final_bucket {
                work.put_aside(rows, row, emitter)?;
            } else if !work.on_close() {
                self.soil_for(bucket, rows.ids.get(row).filter(|_| keyed))?;
            } else if bucket < work.progress.emitted_through {
                work.progress.late += 1;
                self.soil_for(bucket, rows.ids.get(row).filter(|_| keyed))?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        if let Some(labels) = self.aggregation.series_labels.as_ref().filter(|_| !self.dirty.is_empty()) {
            self.groups.learn(&work.source, labels)?;
        }
        self.merge_pending(work, emitter)?;
        if !self.dirty.is_empty() {
            let (state, select) = work.plan_on(snapshot)?;
            let from = Stored { snapshot, state: &state, select: &select };
            let (mut whole, parts) = self.dirty.take(&self.groups, |bucket| self.grid.end_of(bucket))?;
            for part in &parts {
                self.recompute_part(work, &from, part, emitter)?;
            }
            for (start, end) in self.dirty.take(&self.groups, |bucket| self.grid.end_of(bucket))?.0.iter() {
                whole.insert(start, end);
            }
            for (start, end) in whole.iter() {
                self.recompute(work, &from, start, end, emitter)?;
            }
        }
        if work.on_close() { self.emit_closed(work, snapshot, emitter) } else { self.close(work, emitter) }
    }

    fn backfill(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        self.windows.clear();
        self.dirty = Dirty::default();
        self.pending.clear();
        let (state, select) = work.plan_on(snapshot)?;
        let from = Stored { snapshot, state: &state, select: &select };
        if work.on_close() {
            let bounds = row_bounds(work, &self.aggregation.source, &from, i64::MIN, i64::MAX)?;
            work.progress.newest_ts = bounds.map_or(i64::MIN, |span| span.to);
            work.progress.emitted_through = i64::MIN;
            // No bucket has running state.
            work.progress.closed_through = i64::MAX;
            self.emit_closed(work, snapshot, emitter)?;
            // What stood there before may reach further.
            return bury_between(work, &from, work.progress.emitted_through, i64::MAX, emitter);
        }
        work.progress.newest_ts = i64::MIN;
        // Windows are kept in a second pass over the newest buckets: only the first one tells which those are.
        work.progress.closed_through = i64::MAX;
        let (mut at, mut end, mut seek) = (i64::MIN, i64::MIN, true);
        while at < i64::MAX {
            if seek {
                let resume = self.first_bucket(work, &from, at, i64::MAX)?.max(at);
                bury_between(work, &from, at, resume, emitter)?;
                at = resume;
                if at == i64::MAX {
                    break;
                }
            }
            let stop = self.grid.after(at, CHUNK_BUCKETS_MAX)?;
            let last = self.recompute(work, &from, at, stop, emitter)?;
            if let Some(last) = last {
                work.progress.newest_ts = last;
                end = stop;
            }
            seek = last.is_none();
            at = stop;
        }
        if work.source.origin().kind != OriginKind::Metric {
            // All buckets are closed: they are computed again when rows come.
            return Ok(());
        }
        work.progress.closed_through = i64::MIN;
        self.close(work, emitter)?;
        if work.progress.newest_ts > i64::MIN {
            self.recompute(work, &from, work.progress.closed_through, end, emitter)?;
        }
        self.close(work, emitter)
    }
}

/// Buries the rows with `start <= ts < end`; the last instant of all belongs to a range that ends there.
fn bury_between(work: &Work, from: &Stored<'_>, start: i64, end: i64, emitter: &mut Emitter) -> Result<()> {
    if start >= end {
        return Ok(());
    }
    bury(emitter, from.snapshot, &Swept::Table(work.target.table()), before(start, end))
}

/// `start <= ts < end`; the last instant of all belongs to a range that ends there.
fn before(start: i64, end: i64) -> TimeRange {
    TimeRange { start, end: if end == i64::MAX { end } else { end - 1 } }
}

/// Buckets of the next chunk, so that it gives about [`CHUNK_ROWS`] rows.
fn next_chunk(buckets: i64, rows: i64) -> i64 {
    let fitting = buckets.saturating_mul(CHUNK_ROWS) / rows.max(1);
    fitting.clamp(1, buckets.saturating_mul(4)).min(CHUNK_BUCKETS_MAX)
}

/// Times of the first and the last stored row of the query in `[start, end)`.
fn row_bounds(work: &Work, source: &Schema, from: &Stored<'_>, start: i64, end: i64) -> Result<Option<Span>> {
    let time = source.index_of(TS).map_err(|e| Error::internal(e.to_string()))?;
    let time_only = Arc::new(source.project(&[time]).map_err(|e| Error::internal(e.to_string()))?);
    let plan = stored_rows(from.state, &from.select.input, &time_only, start, end, &work.runtime)?;
    work.runtime.block_on(async {
        let mut stream =
            datafusion::physical_plan::execute_stream(plan, from.state.task_ctx()).map_err(Error::from_datafusion)?;
        let mut bounds: Option<Span> = None;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(Error::from_datafusion)?;
            let ts = batch.column(0).as_primitive::<TimestampNanosecondType>().values();
            if let (Some(&from), Some(&to)) = (ts.iter().min(), ts.iter().max()) {
                bounds.get_or_insert(Span { from, to }).widen(Span { from, to });
            }
        }
        Ok(bounds)
    })
}
