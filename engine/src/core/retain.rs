//! Retention: dropping the partitions that have lived long enough.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::retention::Retention;

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
