//! What all handlers share: the phase of the server's life, what is in flight, limits and metrics.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use foretell_engine::Engine;
use foretell_engine::clock::{Clock as _, SystemClock};
use foretell_query::Database;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::alerts::Told;
use crate::clients::Clients;
use crate::config::{Config, DECODED_AT_ONCE};
use crate::error::ApiError;
use crate::http::subscribers;
use crate::loki::query::tail;
use crate::metrics::Metrics;
use crate::remote_write::ingest::WorkerPool;
use crate::rules;

/// An open store.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) engine: Engine,
    pub(crate) database: Arc<Database>,
}

/// The phase of the server's life; it only moves forward.
#[derive(Clone)]
pub(crate) enum Phase {
    /// The listener answers, the store is being opened.
    Opening {
        /// Since when.
        since: Instant,
        /// Bytes of the write-ahead log that must be replayed.
        wal_bytes: u64,
    },
    /// Everything works.
    Ready(Store),
    /// A signal came; work in flight is ending.
    Stopping,
}

/// State of the HTTP application.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) workers: Arc<WorkerPool>,
    pub(crate) rules: rules::Manager,
    /// When the process began to serve, ns UTC.
    pub(crate) started_ns: i64,
    phase: RwLock<Phase>,
    /// Held while a backup is made.
    pub(crate) backup: Arc<tokio::sync::Mutex<()>>,
    /// Held while deletes are carried out on request.
    pub(crate) cleaning: Arc<tokio::sync::Mutex<()>>,
    in_flight: Arc<Semaphore>,
    /// Samples that the requests being decoded may have together.
    decoding: Semaphore,
    requests_active: AtomicUsize,
    /// Clients that are told of lines as they come.
    pub(crate) tails: Clients,
    /// What was told of the alerts of `CREATE ALERT`.
    pub(crate) told: Arc<Told>,
    /// Clients that are told of rows as they come.
    pub(crate) subscribers: Clients,
}

impl App {
    pub(crate) fn new(config: Config, seed: u64, wal_bytes: u64) -> Arc<Self> {
        let workers = Arc::new(WorkerPool::new(seed, config.decode_limits(), config.label_limits()));
        let rules = rules::Manager::new(rules::Settings::new(&config));
        let in_flight = Arc::new(Semaphore::new(config.limits.in_flight_bytes_max.as_usize()));
        let decoding = Semaphore::new(config.limits.samples_per_request_max.saturating_mul(DECODED_AT_ONCE as usize));
        Arc::new(Self {
            config,
            metrics: Metrics::new(),
            workers,
            rules,
            started_ns: SystemClock.now_ns(),
            phase: RwLock::new(Phase::Opening { since: Instant::now(), wal_bytes }),
            backup: Arc::default(),
            cleaning: Arc::default(),
            in_flight,
            decoding,
            requests_active: AtomicUsize::new(0),
            tails: tail::clients(),
            told: Arc::default(),
            subscribers: subscribers(),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.read().clone()
    }

    /// Opens for work, unless a stop came first.
    pub(crate) fn set_ready(&self, store: Store) {
        let mut phase = self.phase.write();
        if matches!(*phase, Phase::Opening { .. }) {
            *phase = Phase::Ready(store);
        }
    }

    pub(crate) fn set_stopping(&self) {
        *self.phase.write() = Phase::Stopping;
        self.tails.stop();
        self.subscribers.stop();
    }

    /// The store, if this is the time for work.
    pub(crate) fn store(&self) -> Result<Store, ApiError> {
        match self.phase() {
            Phase::Ready(store) => Ok(store),
            Phase::Opening { .. } => Err(ApiError::unavailable("the store is being opened; try again soon")),
            Phase::Stopping => Err(ApiError::unavailable("the server is stopping; try again soon").retry_after(5)),
        }
    }

    /// Reserves `bytes` of the memory for requests in flight until the permit is dropped.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        u32::try_from(bytes)
            .ok()
            .and_then(|bytes| Arc::clone(&self.in_flight).try_acquire_many_owned(bytes).ok())
            .ok_or_else(|| {
                ApiError::too_many("too many bytes of requests in flight (limits.in_flight_bytes_max); try again soon")
            })
    }

    /// Waits until a request of `decoded_bytes` may be decoded. A sample takes two bytes at least, and much more memory.
    pub(crate) async fn decoding_turn(&self, decoded_bytes: usize) -> Result<SemaphorePermit<'_>, ApiError> {
        let samples = (decoded_bytes / 2).min(self.config.limits.samples_per_request_max);
        let turn = self.decoding.acquire_many(u32::try_from(samples).unwrap_or(u32::MAX)).await;
        turn.map_err(|_| ApiError::unavailable("the server is stopping; try again soon"))
    }

    /// Bytes reserved now.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.config.limits.in_flight_bytes_max.as_usize().saturating_sub(self.in_flight.available_permits())
    }

    /// Counts a request as active until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> ActiveRequest {
        self.requests_active.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    pub(crate) fn requests_active(&self) -> usize {
        self.requests_active.load(Ordering::Relaxed)
    }
}

/// A request being worked on.
pub(crate) struct ActiveRequest(Arc<App>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.requests_active.fetch_sub(1, Ordering::Relaxed);
    }
}
