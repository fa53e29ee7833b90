//! Retention: dropping the partitions that have lived long enough, and deleting in others what is kept for less time.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{ErrorKind, Result};
use crate::retention::Retention;
use crate::snapshot::Selector;
use crate::types::TimeRange;

use super::Core;

impl Core {
    /// What is kept.
    pub(crate) fn retention(&self) -> Retention {
        Retention { age: self.config.retention_age, bytes_max: self.config.retention_bytes }
    }

    /// See [`crate::Engine::oldest_accepted_ns`].
    pub(crate) fn oldest_accepted_ns(&self) -> i64 {
        self.retention().oldest_kept(self.clock.now_ns()).max(self.retained_from_ns.load(Ordering::Relaxed))
    }

    /// See [`crate::Engine::oldest_accepted_of_ns`].
    pub(crate) fn oldest_accepted_of_ns(&self, metric: &str) -> i64 {
        self.oldest_accepted_ns().max(self.retention_of(metric).oldest_kept(self.clock.now_ns()))
    }

    /// What is kept of a metric besides what is kept of all.
    fn retention_of(&self, metric: &str) -> Retention {
        Retention { age: self.config.retention_of.get(metric).copied(), bytes_max: None }
    }

    /// Deletes the rows of metrics with a retention of their own, of partitions all of which is older. By whole partitions, so
    /// that there are few deletes and each leaves nothing of the files it concerns.
    pub(super) fn delete_expired(&self) -> Result<()> {
        for metric in self.config.retention_of.keys() {
            let oldest = self.retention_of(metric).oldest_kept(self.clock.now_ns());
            let before = self.partitioning.range(self.partitioning.of(oldest)).start;
            let first = self.live.lock().version.partitions.keys().next().copied();
            let is_past = first.is_some_and(|number| self.partitioning.range(number).end < before);
            if !is_past || self.deleted_before_ns.lock().get(metric).is_some_and(|&done| done >= before) {
                continue;
            }
            let range = TimeRange { start: i64::MIN, end: before.saturating_sub(1) };
            match self.delete(&Selector { metric: Some(metric.clone()), matchers: Vec::new(), range }) {
                Ok(done) => {
                    self.deleted_before_ns.lock().insert(metric.clone(), before);
                    if done.series > 0 {
                        tracing::info!(%metric, series = done.series, "deleted rows past the retention of their own");
                    }
                }
                // At the next look there may be room for a delete.
                Err(error) if matches!(error.kind(), ErrorKind::Limit | ErrorKind::Unavailable) => {
                    tracing::warn!(%metric, %error, "rows past the retention of their own are not deleted yet");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Drops what the retention no longer keeps; returns how many partitions went.
    pub(super) fn apply_retention(&self) -> Result<usize> {
        if !self.retention().is_set() {
            return Ok(0);
        }
        let version = Arc::clone(&self.live.lock().version);
        let partitions: Vec<_> = version
            .partitions
            .iter()
            .map(|(&number, partition)| (self.partitioning.range(number), partition.bytes()))
            .collect();
        drop(version);
        let cut = self.retention().cut(&partitions, self.clock.now_ns());
        if partitions.first().is_none_or(|(range, _)| range.end >= cut) {
            return Ok(0);
        }
        // Before anything is gone, so that nothing is accepted that would be gone already.
        self.retained_from_ns.fetch_max(cut, Ordering::Relaxed);
        let dropped = self.drop_before(cut)?;
        self.counters.partitions_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        tracing::info!(partitions = dropped, "dropped partitions past the retention");
        Ok(dropped)
    }
}
