//! Queries in flight: ids, `sys.queries`, cancellation, and the gate that bounds how many run and wait.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use foretell_engine::Snapshot;
use foretell_engine::clock::{Clock, SystemClock};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::database::QueryInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::QueryLimits;
use crate::table::sys::{self, SysTable};

/// All queries in flight.
#[derive(Default)]
pub(crate) struct Running {
    last_id: AtomicU64,
    closed: AtomicBool,
    queries: Mutex<BTreeMap<u64, Arc<Query>>>,
}

/// One of them.
pub(crate) struct Query {
    pub(crate) id: u64,
    pub(crate) sql: String,
    started: SystemTime,
    pub(crate) rows: AtomicU64,
    pub(crate) cancel: CancellationToken,
}

/// Takes its query off the list when dropped.
pub(crate) struct Listed {
    pub(crate) running: Arc<Running>,
    pub(crate) query: Arc<Query>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.queries.lock().remove(&self.query.id);
    }
}

impl Running {
    /// Lists a query that begins now.
    ///
    /// # Errors
    /// `Unavailable` after [`Running::close`].
    pub(crate) fn begin(self: &Arc<Self>, sql: &str) -> Result<Listed> {
        let query = Arc::new(Query {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            sql: sql.to_owned(),
            started: UNIX_EPOCH + Duration::from_nanos(SystemClock.now_ns().unsigned_abs()),
            rows: AtomicU64::new(0),
            cancel: CancellationToken::new(),
        });
        self.queries.lock().insert(query.id, Arc::clone(&query));
        let listed = Listed { running: Arc::clone(self), query };
        // Looked at after listing: a close that missed the query is seen here.
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the database is closing: try again when it is back"));
        }
        Ok(listed)
    }

    pub(crate) fn list(&self) -> Vec<QueryInfo> {
        let info = |q: &Arc<Query>| QueryInfo {
            id: q.id,
            sql: q.sql.clone(),
            started: q.started,
            rows: q.rows.load(Ordering::Relaxed),
        };
        self.queries.lock().values().map(info).collect()
    }

    /// `false` when there is no such query.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        let query = self.queries.lock().get(&id).cloned();
        query.inspect(|q| q.cancel.cancel()).is_some()
    }

    /// Refuses new queries and cancels the running ones.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.queries.lock().values().for_each(|q| q.cancel.cancel());
    }

    /// Whether [`Running::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(crate) fn count(&self) -> usize {
        self.queries.lock().len()
    }
}

/// `sys.queries`
pub(crate) struct QueryList(pub(crate) Arc<Running>);

impl SysTable for QueryList {
    fn rows(&self, _snapshot: &Snapshot) -> datafusion::error::Result<RecordBatch> {
        let queries = self.0.list();
        let started = queries.iter().map(|q| {
            q.started.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
        });
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(UInt64Array::from_iter_values(queries.iter().map(|q| q.id)))),
            ("sql", Arc::new(StringArray::from_iter_values(queries.iter().map(|q| &q.sql)))),
            ("started", Arc::new(TimestampNanosecondArray::from_iter_values(started).with_timezone("UTC"))),
            ("rows", Arc::new(Int64Array::from_iter_values(queries.iter().map(|q| q.rows as i64)))),
        ];
        sys::batch(columns)
    }
}

/// Bounds how many queries run and how many wait for a place.
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl Gate {
    pub(crate) fn new(limits: &QueryLimits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.concurrency.max(1))),
            waiting: AtomicUsize::new(0),
            waiting_max: limits.queue_max,
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// `Unavailable` when the queue is full, `Timeout` when no place came free before `deadline`.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = Waiting::join(&self.waiting);
        if waiting.before >= self.waiting_max {
            return Err(Error::new(ErrorKind::Unavailable, "too many queries at once: try again in a second"));
        }
        match tokio::time::timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, "the database is closing: try again when it is back")),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "no place came free for the query before its deadline: try again later",
            )),
        }
    }
}

struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::SeqCst) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}
