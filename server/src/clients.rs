//! Clients that stay and are told of what comes: so many at once, counted, and let go when the server stops.
use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;

/// The places for clients of one kind.
pub(crate) struct Clients {
    places: Arc<Semaphore>,
    max: usize,
    /// What they do, in a sentence about them.
    doing: &'static str,
    stopping: CancellationToken,
}

impl Clients {
    /// For `max` of them at once.
    pub(crate) fn new(max: usize, doing: &'static str) -> Self {
        Self { places: Arc::new(Semaphore::new(max)), max, doing, stopping: CancellationToken::new() }
    }

    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.max.saturating_sub(self.places.available_permits())
    }

    /// Lets go of all of them.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Cancelled when they are let go.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// A place for one more, counted by `gauge`.
    ///
    /// # Errors
    /// 429 when there is none.
    pub(crate) fn enter(&self, gauge: Gauge) -> Result<Client, ApiError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            ApiError::too_many(format!(
                "{} clients {} already, as many as may: close one or try again soon",
                self.max, self.doing
            ))
        })?;
        gauge.inc();
        Ok(Client { _place: place, gauge })
    }
}

/// A client that is counted, until it is dropped.
pub(crate) struct Client {
    _place: OwnedSemaphorePermit,
    gauge: Gauge,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
