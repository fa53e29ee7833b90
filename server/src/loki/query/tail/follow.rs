//! From commits to lines: those of a snapshot first, then those of each commit after it, read from the feed of the store.
//!
//! A position in the log says how far a client has been told. Statements see the rows of a few commits and nothing else: how old
//! a line says it is does not matter, and lines of the same time are told apart.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use foretell_engine::{Commit, Engine, Error as EngineError, ErrorKind as EngineErrorKind, Lsn, Snapshot};
use foretell_query::Memory;
use foretell_query::event::Signal;
use tokio::time::{Instant, sleep};

use super::super::super::logql::LogQuery;
use super::super::lines::{Kept, RESERVE_BYTES, newest};
use super::super::params::now;
use super::super::read::{Deadline, Rows, Select, Sink, blocking, scan_over};
use super::Wish;
use super::outlet::{Dropped, Outlet};
use super::waiting::Waiting;
use crate::app::{App, Store};
use crate::error::ApiError;

/// Between two looks: commits of this time are read together.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a look waits in all for a client whose buffer is full.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// Rows of the commits that one statement reads, or those of one commit.
const FEED_ROWS: usize = 8_192;
/// Memory of the lines that one statement finds; further ones are dropped.
const FOUND_BYTES_MAX: usize = 8 << 20;
/// A statement for which the server has no time or memory is tried again so often, after so long for each failure.
const RETRIES: u32 = 8;
const RETRY: Duration = Duration::from_millis(500);

/// Tells `outlet` of lines until something fails. Dropping it ends what it does.
///
/// # Errors
/// As the statements; when the log no longer has what the client was not told yet.
pub(super) async fn follow(
    app: &Arc<App>,
    store: &Store,
    wish: &Wish,
    snapshot: Snapshot,
    mut outlet: Outlet,
) -> Result<Infallible, ApiError> {
    let mut position = snapshot.lsn();
    // To the end of this millisecond, which is as far as the clock is read.
    let range = (wish.start, now().saturating_add(1_000_000));
    let mut waiting = Waiting::new(wish.delay, store.database.memory("lines that a tail holds back"));
    {
        let (lines, _memory) = newest(app, &wish.query, &wish.text, range, wish.limit, snapshot).await?;
        waiting.add(lines, std::time::Instant::now());
        outlet.put(waiting.due(now(), std::time::Instant::now()), None).await;
    }
    let (mut commits, mut failures) = (store.engine.commits(), 0);
    loop {
        if waiting.is_empty() && !outlet.owes() {
            let newer = commits.wait_for(|newest| *newest > position).await.map(drop);
            newer.map_err(|_| ApiError::unavailable("the store is closed"))?;
        }
        let (view, give_up) = (store.engine.snapshot(), Instant::now() + ROOM_WAIT);
        while position < view.lsn() {
            match found(app, &store.engine, wish, &view, position).await {
                Ok(Found { lines, dropped, through }) => {
                    (position, failures) = (through, 0);
                    outlet.drop_lines(dropped);
                    waiting.add(lines, std::time::Instant::now());
                    outlet.put(waiting.due(now(), std::time::Instant::now()), Some(give_up)).await;
                }
                Err(error) if error.status == StatusCode::SERVICE_UNAVAILABLE && failures < RETRIES => {
                    // Tried again with a view of then: one that is kept holds up writers.
                    failures += 1;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        drop(view);
        outlet.put(waiting.due(now(), std::time::Instant::now()), Some(give_up)).await;
        sleep(PAUSE + RETRY * failures).await;
    }
}

/// Lines of some commits.
struct Found {
    lines: Vec<Kept>,
    dropped: Dropped,
    /// The last of the commits.
    through: Lsn,
}

/// What the next commits after `after` have, as far as `view` sees.
async fn found(app: &Arc<App>, engine: &Engine, wish: &Wish, view: &Snapshot, after: Lsn) -> Result<Found, ApiError> {
    let (engine, newest) = (engine.clone(), view.lsn());
    // Older ones are read from files.
    let read = move || {
        let mut commits = engine.read_commits(after, newest, FEED_ROWS).map_err(|error| behind(&error))?;
        let through = commits.last().map_or(newest, |commit| commit.lsn);
        commits.retain(has_lines);
        Ok((commits, through))
    };
    let (commits, through) = blocking(read).await?;
    if commits.is_empty() {
        return Ok(Found { lines: Vec::new(), dropped: Dropped::default(), through });
    }
    let sink = Lines {
        query: wish.query.clone(),
        categorized: wish.categorized,
        lines: Vec::new(),
        dropped: Dropped::default(),
        bytes: 0,
        reserved: 0,
        memory: app.store()?.database.memory("lines of a tail"),
    };
    let select = Select {
        query: &wish.query,
        text: &wish.text,
        range: (i64::MIN, i64::MAX),
        order: String::new(),
        until: Deadline::of(app),
    };
    let Lines { lines, dropped, .. } = scan_over(app, select, Some(view.only(&commits)), sink).await?;
    Ok(Found { lines, dropped, through })
}

fn has_lines(commit: &Commit) -> bool {
    commit.batch.records.iter().any(|records| **records.table.name() == *Signal::Logs.table_name())
}

fn behind(error: &EngineError) -> ApiError {
    let why = match error.kind() {
        EngineErrorKind::Limit => "lines came faster than they could be read: connect again".to_owned(),
        _ => error.to_string(),
    };
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", why)
}

/// Takes the lines that come through the stages.
struct Lines {
    query: LogQuery,
    categorized: bool,
    lines: Vec<Kept>,
    dropped: Dropped,
    bytes: usize,
    reserved: usize,
    memory: Memory,
}

impl Lines {
    /// Whether there is memory for `more` bytes.
    fn fits(&mut self, more: usize) -> bool {
        let bytes = self.bytes + more;
        if bytes > FOUND_BYTES_MAX {
            return false;
        }
        if bytes > self.reserved {
            let reserved = bytes + RESERVE_BYTES;
            if self.memory.resize(reserved).is_err() {
                return false;
            }
            self.reserved = reserved;
        }
        self.bytes = bytes;
        true
    }
}

impl Sink for Lines {
    fn take(&mut self, rows: &Rows<'_>) -> Result<(), ApiError> {
        for row in 0..rows.len() {
            let mut entry = rows.entry(row);
            if !self.query.apply(&mut entry) {
                continue;
            }
            let line = Kept::of(entry);
            if self.fits(line.bytes()) {
                self.lines.push(line);
            } else {
                self.dropped.add(line, self.categorized);
            }
        }
        Ok(())
    }
}
