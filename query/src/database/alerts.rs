//! Alerts, for who shows them and who tells people of them.
use std::sync::Arc;

use tokio::sync::Notify;

use super::Database;
use crate::alert::{ActiveAlert, AlertStats, Notice, Target};
use crate::error::Result;

impl Database {
    /// Waits until every alert of a detector has looked at all commits up to now (used by tests).
    ///
    /// # Errors
    /// The first alert's that fails.
    pub async fn drain_alerts(self: &Arc<Self>) -> Result<()> {
        self.alerts.drain(self).await
    }

    /// Numbers about alerts.
    pub fn alert_stats(&self) -> AlertStats {
        self.alerts.stats()
    }

    /// Alerts that are pending or firing.
    pub fn active_alerts(&self) -> Vec<ActiveAlert> {
        self.alerts.active()
    }

    /// Notices that nobody has taken yet, oldest first.
    pub fn notices(&self) -> Vec<Arc<Notice>> {
        self.alerts.notices()
    }

    /// Who there are notices for.
    pub fn notice_targets(&self) -> Vec<Target> {
        self.alerts.targets()
    }

    /// The oldest notices for `target`, at most `count`.
    pub fn notices_for(&self, target: &Target, count: usize) -> Vec<Arc<Notice>> {
        self.alerts.notices_for(target, count)
    }

    /// Is told of new ones.
    pub fn notices_told(&self) -> Arc<Notify> {
        self.alerts.told()
    }

    /// Forgets notices that were taken.
    ///
    /// # Errors
    /// As the engine: they have to be delivered again then, under the same idempotency keys.
    pub async fn notices_taken(&self, seqs: &[u64]) -> Result<()> {
        self.alerts.taken(seqs).await
    }

    /// Keeps a notice in `sys.notifications` as given up.
    ///
    /// # Errors
    /// As the engine: it has to be delivered again then.
    pub async fn notice_given_up(&self, seq: u64, why: &str) -> Result<()> {
        self.alerts.give_up(seq, why).await
    }
}
