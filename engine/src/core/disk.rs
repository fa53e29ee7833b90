//! Room on the disk: refusing writes before there is none, and flushing while there is some.
//!
//! ```text
//!  free:  |<-- reserve, and as much as the log -->|<-- as much as the log -->|
//!          refuse writes, no merges                flush, start a new file    as usual
//!                                                  of the log
//! ```
//! A flush writes about as many bytes as the log it frees, at most. It starts while they surely fit, and they still fit when
//! writers have used up the rest before it ends: a disk that the store itself fills can always be flushed. A reserve that is
//! configured is taken as it is, without the log on top. Whatever finds no room in spite of that undoes what it began, answers `DiskFull` and may be tried again; only a failed sync is final.
use crate::error::{Error, Result};
use crate::fs::Space;

use super::Core;

/// Of a disk with room for it.
const RESERVE_BYTES: u64 = 64 << 20;
/// The reserve is at least one part in so many of a disk ...
const RESERVE_PARTS: u64 = 100;
/// ... and at most one in so many.
const RESERVE_PARTS_MIN: u64 = 8;

/// What must stay free when nothing is configured.
fn default_reserve(total: u64) -> u64 {
    (total / RESERVE_PARTS).max(RESERVE_BYTES).min(total / RESERVE_PARTS_MIN)
}

impl Core {
    fn space(&self) -> Result<Space> {
        self.fs.space(&self.layout.root)
    }

    fn reserve(&self, space: Space) -> u64 {
        let own = || default_reserve(space.total).saturating_add(self.unflushed_bytes());
        self.config.disk_reserve_bytes.unwrap_or_else(own)
    }

    /// Most bytes that a flush may write. Slow consumers may hold back log that is flushed: what must fit is in memtables.
    fn unflushed_bytes(&self) -> u64 {
        self.wal_files.bytes().min(self.memtable_bytes() as u64)
    }

    /// Bytes free, and bytes that must stay so; zeros when they cannot be found out.
    pub(crate) fn disk_room(&self) -> (u64, u64) {
        self.space().map_or((0, 0), |space| (space.free, self.reserve(space)))
    }

    /// Before `bytes` more are written to the log.
    pub(super) fn refuse_if_disk_is_full(&self, bytes: usize) -> Result<()> {
        let space = self.space()?;
        let needed_bytes = self.reserve(space).saturating_add(bytes as u64);
        if space.free >= needed_bytes {
            return Ok(());
        }
        self.flusher.wake();
        Err(Error::DiskFull { path: self.layout.root.clone(), needed_bytes, free_bytes: space.free })
    }

    /// Whether a merge of `bytes` fits without touching the reserve.
    pub(super) fn has_room_to_merge(&self, bytes: u64) -> bool {
        self.space().is_ok_and(|space| space.free >= self.reserve(space).saturating_add(bytes))
    }

    /// Whether there is something to flush, or log to remove, and soon no room to flush it.
    pub(super) fn disk_runs_short(&self) -> bool {
        let Ok(space) = self.space() else { return false };
        let unflushed = self.unflushed_bytes();
        space.free < self.reserve(space).saturating_add(unflushed) && (unflushed > 0 || self.wal_files.count() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_fits_the_disk() {
        assert_eq!(default_reserve(64 << 20), 8 << 20);
        assert_eq!(default_reserve(1 << 30), 64 << 20);
        assert_eq!(default_reserve(100 << 30), 1 << 30);
        assert_eq!(default_reserve(0), 0);
    }
}
