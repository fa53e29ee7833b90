//! `SUBSCRIBE`: the rows of a table as they come, from a cursor on.
//!
//! ```text
//!  SUBSCRIBE table | (SELECT …) [FROM 'start' | 'now' | '<cursor>']
//!
//!  [rows of a snapshot] -> feed of commits after it, some at a time -> the SELECT over those commits alone -> rows, next cursor
//! ```
//! A cursor is the number of a commit: everything up to it has been delivered. Whoever goes on from the cursor of the last rows it
//! has worked through misses nothing; rows after a cursor that came with no newer one may come again. While a subscription is open,
//! and for a while after it has ended, the log that it has not read yet is kept, as far as the limit on the log allows. Nothing is
//! buffered: rows are read when they are asked for.
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::tokenizer::Token;
use foretell_engine::{Commit, Engine, ErrorKind as EngineErrorKind, Lsn, Snapshot};
use futures::StreamExt;
use tokio::sync::watch;

use crate::database::{Database, QueryRequest, QueryResponse};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Signal;
use crate::planner;
use crate::statement::{Cursor as Tokens, tokens};
use crate::table::quoted;

/// Rows of the commits that one statement reads, or those of one commit.
const FEED_ROWS: usize = 8_192;
/// How long the log is kept for a subscription that has ended, so that it can be taken up again.
const LEASE: Duration = Duration::from_secs(600);
/// What follows FROM.
const FROM: &str = "'now', 'start' or the cursor of an earlier answer";

/// A statement that subscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The statement that chooses rows.
    sql: String,
    /// The only table it reads, if it was named and not selected from.
    table: Option<String>,
    /// Where to begin.
    from: From,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Now,
    Start,
    After(Lsn),
}

impl Subscribe {
    /// The statement in `sql` if it is one that subscribes.
    ///
    /// # Errors
    /// `Invalid`, saying what was expected.
    pub fn parse(sql: &str) -> Option<Result<Self>> {
        let tokens = tokens(sql, &["subscribe"])?;
        let mut cursor = Tokens::new(sql, &tokens);
        cursor.word("subscribe").then(|| Self::read(&mut cursor))
    }

    fn read(cursor: &mut Tokens<'_>) -> Result<Self> {
        cursor.word("to");
        let (sql, table) = match cursor.peek() {
            Some(Token::LParen) => (cursor.bracketed("a SELECT")?.to_owned(), None),
            _ => {
                let mut name = cursor.column("a table or a SELECT in brackets")?;
                let mut table = quoted(&name);
                while cursor.peek() == Some(&Token::Period) {
                    cursor.take();
                    name = cursor.column("the name of a table")?;
                    table = format!("{table}.{}", quoted(&name));
                }
                (format!("SELECT * FROM {table}"), Some(name))
            }
        };
        let from = if cursor.word("from") { from(cursor.text(FROM)?)? } else { From::Now };
        cursor.end_or("FROM")?;
        Ok(Self { sql, table, from })
    }

    /// The same from another cursor on.
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub fn resumed(self, cursor: &str) -> Result<Self> {
        Ok(Self { from: from(cursor)?, ..self })
    }
}

fn from(text: &str) -> Result<From> {
    match text {
        "now" => Ok(From::Now),
        "start" => Ok(From::Start),
        number => match number.parse() {
            Ok(lsn) => Ok(From::After(Lsn(lsn))),
            Err(_) => Err(Error::invalid(format!("'{text}' is no cursor: write {FROM}"))),
        },
    }
}

/// An open subscription.
pub struct Subscription {
    database: Arc<Database>,
    engine: Engine,
    statement: Subscribe,
    commits: watch::Receiver<Lsn>,
    position: Lsn,
    /// The rows that are there already, while they are delivered.
    stored: Option<QueryResponse>,
    lease: Lease,
}

/// What a subscription delivers.
#[derive(Debug)]
pub enum Delivery {
    /// Rows.
    Rows(RecordBatch),
    /// Everything up to here is delivered; a subscription goes on from it.
    Cursor(String),
}

impl Subscription {
    /// Opens it.
    ///
    /// # Errors
    /// As planning; `Invalid` for a statement that does not read, `Execution` when the log no longer has what follows the cursor.
    pub async fn open(database: &Arc<Database>, engine: &Engine, statement: Subscribe) -> Result<Self> {
        let commits = engine.commits();
        let snapshot = engine.snapshot();
        let position = match statement.from {
            From::Now | From::Start => snapshot.lsn(),
            From::After(lsn) if lsn <= snapshot.lsn() => lsn,
            From::After(lsn) => {
                return Err(Error::invalid(format!(
                    "cursor {} is ahead of the store, whose newest commit is {}: it is of another one",
                    lsn.0,
                    snapshot.lsn().0
                )));
            }
        };
        let lease = Lease::new(engine.clone(), position);
        let mut subscription = Self {
            database: Arc::clone(database),
            engine: engine.clone(),
            commits,
            position,
            stored: None,
            lease,
            statement,
        };
        // A wrong statement, and a cursor that is too old, are told now.
        subscription.read(snapshot.lsn()).await?;
        let over = if subscription.statement.from == From::Start { snapshot } else { snapshot.only(&[]) };
        let planned = subscription.ask(over).await?;
        if subscription.statement.from == From::Start {
            subscription.stored = Some(planned);
        }
        Ok(subscription)
    }

    /// What comes next. Waits for it; dropping the future loses nothing.
    ///
    /// # Errors
    /// As a query; `Execution` when rows came faster than they were read and the log no longer has them.
    pub async fn next(&mut self) -> Result<Vec<Delivery>> {
        if let Some(stored) = &mut self.stored {
            match stored.stream.next().await {
                Some(batch) => return Ok(vec![Delivery::Rows(batch.map_err(Error::from_datafusion)?)]),
                None => {
                    self.stored = None;
                    return Ok(vec![self.cursor()]);
                }
            }
        }
        loop {
            let position = self.position;
            let newest = *self
                .commits
                .wait_for(|newest| *newest > position)
                .await
                .map_err(|_| Error::new(ErrorKind::Unavailable, "the store is closed"))?;
            let view = self.engine.snapshot();
            let (mut commits, through) = self.read(newest.min(view.lsn())).await?;
            self.retain(&view, &mut commits);
            let mut delivered = Vec::new();
            if !commits.is_empty() {
                let mut answer = self.ask(view.only(&commits)).await?;
                while let Some(batch) = answer.stream.next().await {
                    let batch = batch.map_err(Error::from_datafusion)?;
                    if batch.num_rows() > 0 {
                        delivered.push(Delivery::Rows(batch));
                    }
                }
            }
            self.position = through;
            self.lease.move_to(through);
            if !delivered.is_empty() {
                delivered.push(self.cursor());
                return Ok(delivered);
            }
        }
    }

    fn cursor(&self) -> Delivery {
        Delivery::Cursor(self.position.0.to_string())
    }

    async fn ask(&mut self, over: Snapshot) -> Result<QueryResponse> {
        let request = QueryRequest { sql: self.statement.sql.clone(), ..QueryRequest::default() };
        self.database.query_over(request, over).await
    }

    /// The next commits up to `newest`, and how far they go.
    async fn read(&mut self, newest: Lsn) -> Result<(Vec<Commit>, Lsn)> {
        let (engine, after) = (self.engine.clone(), self.position);
        // Older ones are read from files.
        planner::on_large_stack(move || {
            let commits = engine.read_commits(after, newest, FEED_ROWS).map_err(|error| match error.kind() {
                EngineErrorKind::Limit => Error::new(
                    ErrorKind::Execution,
                    format!(
                        "the log no longer has what follows cursor {}: subscribe FROM 'start', which begins with the rows that are stored",
                        after.0
                    ),
                ),
                _ => Error::from_engine(&error),
            })?;
            let through = commits.last().map_or(newest, |commit| commit.lsn);
            Ok((commits, through))
        })
        .await
    }

    /// Leaves the commits that may have rows of the table.
    fn retain(&self, view: &Snapshot, commits: &mut Vec<Commit>) {
        let Some(table) = &self.statement.table else {
            commits.retain(|commit| commit.batch.rows() > 0);
            return;
        };
        let signal = Signal::ALL.into_iter().find(|signal| signal.table_name() == table);
        match (signal, view.metric(table)) {
            (Some(signal), _) => commits.retain(|commit| {
                commit.batch.records.iter().any(|records| **records.table.name() == *signal.table_name())
            }),
            (None, Some(info)) => {
                commits.retain(|commit| commit.batch.series.iter().any(|id| id.metric() == info.ordinal));
            }
            (None, None) => commits.retain(|commit| commit.batch.rows() > 0),
        }
    }
}

/// Holds back the log for a subscription, and for a while after it.
struct Lease {
    engine: Engine,
    name: String,
}

impl Lease {
    fn new(engine: Engine, position: Lsn) -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let name = format!("subscription {}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        engine.retain_wal(&name, Some(position));
        Self { engine, name }
    }
    fn move_to(&self, position: Lsn) {
        self.engine.retain_wal(&self.name, Some(position));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (engine, name) = (self.engine.clone(), std::mem::take(&mut self.name));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(LEASE).await;
                engine.retain_wal(&name, None);
            })),
            Err(_) => engine.retain_wal(&name, None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_table_or_a_select_and_where_to_begin() {
        let parsed = |sql: &str| Subscribe::parse(sql).unwrap().unwrap();
        assert_eq!(
            parsed("SUBSCRIBE anomalies FROM '12';"),
            Subscribe {
                sql: "SELECT * FROM \"anomalies\"".into(),
                table: Some("anomalies".into()),
                from: From::After(Lsn(12))
            }
        );
        assert_eq!(parsed("subscribe to metrics.\"A\"").sql, "SELECT * FROM \"metrics\".\"A\"");
        let select = parsed("SUBSCRIBE (SELECT ts FROM logs WHERE severity = 'error') FROM 'start'");
        assert_eq!((select.sql.as_str(), select.table), ("SELECT ts FROM logs WHERE severity = 'error'", None));
        assert_eq!(select.from, From::Start);
        assert_eq!(parsed("SUBSCRIBE t").resumed("7").unwrap().from, From::After(Lsn(7)));
        assert!(Subscribe::parse("SELECT 1").is_none());
        for (sql, message) in [
            ("SUBSCRIBE", "expected a table or a SELECT in brackets, found the end of the statement"),
            ("SUBSCRIBE t WHERE a", "expected FROM or the end of the statement, found WHERE"),
            (
                "SUBSCRIBE t FROM 'yesterday'",
                "'yesterday' is no cursor: write 'now', 'start' or the cursor of an earlier answer",
            ),
        ] {
            assert_eq!(Subscribe::parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
    }
}
