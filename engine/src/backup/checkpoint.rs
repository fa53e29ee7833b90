//! Which bytes make up a store at one position.
use std::sync::Arc;

use crate::error::Result;
use crate::fs::{Fs, Mapped};
use crate::layout::Layout;
use crate::manifest::{Stored, encode_file};
use crate::rollup::Rollup;
use crate::types::Lsn;
use crate::wal;

/// The name of the manifest in a list of files.
pub(super) const MANIFEST: &str = "MANIFEST";

/// A file of a checkpoint.
pub(crate) struct Pinned {
    /// Path inside the store.
    pub(crate) name: String,
    bytes: Mapped,
    /// Only so many of the bytes: a log may have grown since.
    len: usize,
}

impl Pinned {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// All files of a store as of one commit. Its bytes stay readable when the files are removed.
pub(crate) struct Checkpoint {
    /// The newest commit in it.
    pub(crate) lsn: Lsn,
    pub(crate) files: Vec<Pinned>,
}

impl Checkpoint {
    /// The files that `stored` lists, mapped, with a manifest that lists exactly them. The caller makes sure that none is
    /// removed before this returns, and adds the log.
    pub(crate) fn of_listed(fs: &dyn Fs, layout: &Layout, stored: &Stored) -> Result<Self> {
        let mut contents = stored.contents.clone();
        contents.removed.clear();
        let mut files = Vec::new();
        for path in contents.files(layout) {
            let bytes = fs.map(&path)?;
            files.push(Pinned { name: layout.name_of(&path), len: bytes.len(), bytes });
        }
        // A rollup that cannot be read is not missed: the restored store makes it again.
        contents.rollups.retain(|place, listed| {
            let path = layout.rollup_of(listed.partition, &listed.segment);
            let opened = contents.segments.get(place).map(|meta| Rollup::open(fs, &path, listed, meta));
            let Some(Ok(rollup)) = opened else { return false };
            // Not mapped again: one that could not be used may be made anew just now, under the same name.
            let bytes = rollup.into_bytes();
            files.push(Pinned { name: layout.name_of(&path), len: bytes.len(), bytes });
            true
        });
        let manifest = encode_file(stored.width_ns, stored.number, &contents);
        files.push(Pinned { name: MANIFEST.into(), len: manifest.len(), bytes: Mapped::new(manifest) });
        Ok(Self { lsn: contents.flushed, files })
    }

    /// Adds the log up to `through`, or all of it, from where `stored` and the consumers of the log need it.
    pub(crate) fn add_log(
        &mut self,
        fs: &dyn Fs,
        layout: &Layout,
        stored: &Stored,
        through: Option<Lsn>,
    ) -> Result<()> {
        let claimed = stored.contents.claims.values().copied().min().unwrap_or(stored.contents.flushed);
        let after = claimed.min(stored.contents.flushed);
        let log = wal::part(fs, &layout.wal(), after, stored.contents.flushed, through)?;
        self.lsn = log.last;
        for (path, bytes, len) in log.files {
            self.files.push(Pinned { name: layout.name_of(&path), bytes, len });
        }
        Ok(())
    }

    /// Of a store that is closed and locked.
    pub(super) fn of_closed(fs: &dyn Fs, layout: &Layout, stored: &Stored) -> Result<Self> {
        let mut checkpoint = Self::of_listed(fs, layout, stored)?;
        checkpoint.add_log(fs, layout, stored, None)?;
        Ok(checkpoint)
    }
}

impl crate::core::Core {
    /// Everything acknowledged before this is called, and perhaps more.
    pub(crate) fn checkpoint(self: &Arc<Self>) -> Result<Checkpoint> {
        self.flush()?;
        self.with_files(
            |stored| Checkpoint::of_listed(&*self.fs, &self.layout, stored),
            |mut checkpoint, stored| {
                checkpoint.add_log(&*self.fs, &self.layout, stored, Some(stored.contents.flushed))?;
                Ok(checkpoint)
            },
        )
    }
}
