//! What both kinds of continuous query do with the feed, and what they do it with.
use datafusion::execution::session_state::SessionState;
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{Engine, LabelSet, SeriesId, Snapshot};
use hashbrown::HashMap;

use super::definition::{Definition, Emit, Late, Progress};
use super::emit::Emitter;
use super::output::TargetSeries;
use super::plan::{self, Select};
use super::source::{Rows, Source};
use super::{ContinuousLimits, Sessions};
use crate::error::{Error, Result};
use crate::limits::QueryLimits;

/// Series of late rows that are remembered.
const LATE_SERIES_MAX: usize = 1 << 16;

/// Everything an operator works with besides its own state.
pub(super) struct Work {
    pub(super) engine: Engine,
    pub(super) sessions: Sessions,
    pub(super) query_limits: QueryLimits,
    pub(super) limits: ContinuousLimits,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) definition: Definition,
    pub(super) progress: Progress,
    pub(super) source: Source,
    pub(super) target: TargetSeries,
    /// Rows before this come too late to count.
    pub(super) final_before: i64,
    /// Where late rows of a series go.
    pub(super) late_series: HashMap<SeriesId, SeriesId>,
}

impl Work {
    /// The instant that is a watermark behind the newest row.
    pub(super) fn complete_before(&self) -> i64 {
        self.progress.newest_ts.saturating_sub(self.definition.watermark_ns)
    }

    /// Whether rows are written when windows close.
    pub(super) fn on_close(&self) -> bool {
        self.definition.emit == Emit::Close
    }

    /// Puts a row aside that comes too late to count.
    ///
    /// # Errors
    /// `Execution` when the engine takes no more series.
    pub(super) fn put_aside(&mut self, rows: &Rows, row: usize, emitter: &mut Emitter) -> Result<()> {
        self.progress.dropped += 1;
        let (Late::Into(table), Some(id)) = (&self.definition.late, rows.ids.get(row)) else { return Ok(()) };
        let series = match self.late_series.get(id) {
            Some(series) => *series,
            None => {
                let Some(series) = self.source.series().get(&id.number()) else { return Ok(()) };
                let labels = series.labels.iter().filter(|(name, _)| *name != METRIC_NAME);
                let labels = LabelSet::from_pairs(labels.chain([(METRIC_NAME, table.as_str())]));
                let made = labels.and_then(|labels| self.engine.resolve(&labels)).map_err(engine_fault)?;
                if self.late_series.len() >= LATE_SERIES_MAX {
                    self.late_series.clear();
                }
                *self.late_series.entry(*id).or_insert(made)
            }
        };
        emitter.aside(series, rows.ts[row], rows.values[row]);
        Ok(())
    }

    /// The SELECT planned on `snapshot`, to read storage with.
    ///
    /// # Errors
    /// As planning.
    pub(super) fn plan_on(&self, snapshot: &Snapshot) -> Result<(SessionState, Select)> {
        plan_select(&self.sessions, &self.query_limits, &self.runtime, &self.definition, snapshot)
    }
}

/// Plans the SELECT on `snapshot`. Call it off the async threads, where the stack is large.
///
/// # Errors
/// As [`plan::analyse`].
pub(super) fn plan_select(
    sessions: &Sessions,
    limits: &QueryLimits,
    runtime: &tokio::runtime::Handle,
    definition: &Definition,
    snapshot: &Snapshot,
) -> Result<(SessionState, Select)> {
    let state = sessions(snapshot);
    let select = runtime.block_on(plan::analyse(snapshot, &state, &definition.sql, definition.from, limits))?;
    Ok((state, select))
}

/// Rows of the feed, each with whether it is in order.
pub(super) struct Chunk {
    pub(super) rows: Rows,
    pub(super) in_order: Vec<bool>,
}

/// Turns rows of the feed into rows of the table.
///
/// A tick is [`Operator::begin`], any number of [`Operator::absorb`] or [`Operator::touch`] calls, then one [`Operator::finish`]; their state changes go into the
/// emitter with the rows. After an error the operator is thrown away and loaded again from what is stored.
pub(super) trait Operator: Send {
    /// Whether what it has written is by everything but rows that is in `snapshot`: a model may have another version.
    ///
    /// # Errors
    /// Any.
    fn follows(&self, _snapshot: &Snapshot) -> Result<bool> {
        Ok(true)
    }

    /// Begins a tick that ends with `snapshot`.
    ///
    /// # Errors
    /// Any: the tick is given up.
    fn begin(&mut self, _work: &mut Work, _snapshot: &Snapshot) -> Result<()> {
        Ok(())
    }

    /// Takes rows of the feed in commit order.
    ///
    /// # Errors
    /// Any: the tick is given up.
    fn absorb(&mut self, work: &mut Work, snapshot: &Snapshot, chunk: Chunk, emitter: &mut Emitter) -> Result<()>;

    /// Takes rows whose series, or buckets, are computed again from storage when the tick ends: of events, of what continuous
    /// queries write, and all rows if windows are written when they close.
    ///
    /// # Errors
    /// Any: the tick is given up.
    fn touch(&mut self, work: &mut Work, rows: &Rows, emitter: &mut Emitter) -> Result<()>;

    /// Ends the tick: `snapshot` holds exactly the rows absorbed so far.
    ///
    /// # Errors
    /// Any: the tick is given up.
    fn finish(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()>;

    /// Computes everything from `snapshot`, replacing what was there.
    ///
    /// # Errors
    /// Any: the backfill starts over.
    fn backfill(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()>;

    /// Called once when a query goes on after a start.
    ///
    /// # Errors
    /// As a scan.
    fn resume(&mut self, _work: &mut Work, _snapshot: &Snapshot) -> Result<()> {
        Ok(())
    }

    /// Series or groups whose state is in memory, whether that can be dropped or not.
    fn keys(&self) -> usize;

    /// About how many bytes [`Operator::forget`] would give back.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Drops what [`Operator::held_bytes`] counts; it is read from storage when needed again, as after a restart.
    fn forget(&mut self) {}
}

/// Shorthand for errors of the engine.
pub(super) fn engine_fault(error: foretell_engine::Error) -> Error {
    Error::from_engine(&error)
}
