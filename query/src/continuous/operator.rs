//! What both kinds of continuous query do with the feed, and what they do it with.
use datafusion::execution::session_state::SessionState;
use foretell_engine::{Engine, Snapshot};

use super::definition::{Definition, Progress};
use super::emit::Emitter;
use super::output::TargetSeries;
use super::plan::{self, Select};
use super::source::{Rows, Source};
use super::{ContinuousLimits, Sessions};
use crate::error::{Error, Result};
use crate::limits::QueryLimits;

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
}

impl Work {
    /// The SELECT planned on `snapshot`, to read storage with.
    ///
    /// # Errors
    /// As planning.
    pub(super) fn plan_on(&self, snapshot: &Snapshot) -> Result<(SessionState, Select)> {
        plan_select(&self.sessions, &self.query_limits, &self.runtime, &self.definition.sql, snapshot)
    }
}

/// Plans `sql` on `snapshot`. Call it off the async threads, where the stack is large.
///
/// # Errors
/// As [`plan::analyse`].
pub(super) fn plan_select(
    sessions: &Sessions,
    limits: &QueryLimits,
    runtime: &tokio::runtime::Handle,
    sql: &str,
    snapshot: &Snapshot,
) -> Result<(SessionState, Select)> {
    let state = sessions(snapshot);
    let select = runtime.block_on(plan::analyse(snapshot, &state, sql, limits))?;
    Ok((state, select))
}

/// Rows of the feed, each with whether it is in order.
pub(super) struct Chunk {
    pub(super) rows: Rows,
    pub(super) in_order: Vec<bool>,
}

/// Turns rows of the feed into rows of the table.
///
/// A tick is any number of [`Operator::absorb`] or [`Operator::touch`] calls, then one [`Operator::finish`]; their state changes go into the
/// emitter with the rows. After an error the operator is thrown away and loaded again from what is stored.
pub(super) trait Operator: Send {
    /// Takes rows of the feed in commit order.
    ///
    /// # Errors
    /// Any: the tick is given up.
    fn absorb(&mut self, work: &mut Work, snapshot: &Snapshot, chunk: Chunk, emitter: &mut Emitter) -> Result<()>;

    /// Takes the instants of rows of events, whose buckets are computed again when the tick ends.
    ///
    /// # Errors
    /// Any: the tick is given up.
    fn touch(&mut self, ts: &[i64]) -> Result<()>;

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

    /// Series held in memory.
    fn keys(&self) -> usize {
        0
    }

    /// Drops what [`Operator::keys`] counts; it is read from storage when needed again, as after a restart.
    fn forget(&mut self) {}
}

/// Shorthand for errors of the engine.
pub(super) fn engine_fault(error: foretell_engine::Error) -> Error {
    Error::from_engine(&error)
}
