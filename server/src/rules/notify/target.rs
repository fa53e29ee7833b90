//! One Alertmanager: its queue, and handing batches over with patience.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foretell_engine::LabelSet;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use ureq::Agent;

use super::post::{Refused, agent, alertmanager_url, post};
use super::queue::{Batch, Queue};

/// Alerts of one request.
const BATCH_MAX: usize = 64;
/// Attempts to hand a batch over, and the pauses between them. What is given up is told again by the next resend.
const ATTEMPTS_MAX: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// See the module.
pub(super) struct Target {
    url: String,
    agent: Agent,
    queue: Mutex<Queue>,
    queue_max: usize,
    wake: Notify,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// What has been told to one Alertmanager.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) url: String,
    /// Alerts it has taken.
    pub(crate) sent: u64,
    /// Alerts in requests that failed, each attempt counted.
    pub(crate) failed: u64,
    /// Alerts given up.
    pub(crate) dropped: u64,
    pub(crate) queued: u64,
    pub(crate) queue_max: u64,
}

impl Target {
    pub(super) fn new(url: &str, queue_max: usize, timeout: Duration) -> Self {
        Self {
            url: alertmanager_url(url),
            agent: agent(timeout),
            queue: Mutex::new(Queue::new(queue_max)),
            queue_max,
            wake: Notify::new(),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Queues `text`, the newest state of `alert`.
    pub(super) fn push(&self, alert: LabelSet, text: Arc<str>) {
        let dropped = self.queue.lock().push(alert, text);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(super) fn told(&self) -> Told {
        Told {
            url: self.url.clone(),
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            queued: self.queue.lock().len() as u64,
            queue_max: self.queue_max as u64,
        }
    }

    /// Hands over what is queued until `close`; then what remains, as long as each batch is taken at once.
    ///
    /// A batch that is not taken goes back to the queue, where news of its alerts take their place: what is tried again is
    /// what is true by then.
    pub(super) async fn deliver(self: Arc<Self>, close: CancellationToken) {
        let (mut attempt, mut pause) = (1, PAUSE_MIN);
        loop {
            let batch = self.queue.lock().take(BATCH_MAX);
            if batch.is_empty() {
                if close.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = close.cancelled() => {}
                }
                continue;
            }
            let alerts = batch.len() as u64;
            let Err(refused) = self.hand_over(&batch).await else {
                self.sent.fetch_add(alerts, Ordering::Relaxed);
                (attempt, pause) = (1, PAUSE_MIN);
                continue;
            };
            self.failed.fetch_add(alerts, Ordering::Relaxed);
            if !refused.again || attempt >= ATTEMPTS_MAX || close.is_cancelled() {
                self.dropped.fetch_add(alerts, Ordering::Relaxed);
                tracing::warn!(url = %self.url, alerts, error = %refused.message, "alerts are given up");
                if close.is_cancelled() {
                    return;
                }
                (attempt, pause) = (1, PAUSE_MIN);
                continue;
            }
            if attempt == 1 {
                tracing::warn!(url = %self.url, error = %refused.message, "alerts are not taken; trying again");
            }
            let dropped = self.queue.lock().put_back(batch);
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = close.cancelled() => {}
            }
            (attempt, pause) = (attempt + 1, (pause * 2).min(PAUSE_MAX));
        }
    }

    async fn hand_over(self: &Arc<Self>, batch: &Batch) -> Result<(), Refused> {
        let texts: Vec<&str> = batch.iter().map(|(_, text)| &**text).collect();
        let (target, body) = (Arc::clone(self), format!("[{}]", texts.join(",")));
        let posted = tokio::task::spawn_blocking(move || post(&target.agent, &target.url, &[], &body)).await;
        posted.unwrap_or_else(|error| Err(Refused { message: error.to_string(), again: true }))
    }
}
