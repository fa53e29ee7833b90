//! Which bytes make up a store at one position.
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Fs, Mapped};
use crate::layout::Layout;
use crate::manifest::{Contents, Stored, encode_file};
use crate::rollup::Rollup;
use crate::types::Lsn;
use crate::version::LiveSegment;
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

/// What becomes a [`Checkpoint`]: its rollups are still to be looked at, which takes longer than the list may be held.
pub(crate) struct Listed {
    checkpoint: Checkpoint,
    contents: Contents,
    /// Of which segment, and its name.
    rollups: Vec<((i64, String), String, Rollup)>,
    width_ns: i64,
    number: u64,
}

/// All files of a store as of one commit. Its bytes stay readable when the files are removed.
pub(crate) struct Checkpoint {
    /// The newest commit in it.
    pub(crate) lsn: Lsn,
    pub(crate) files: Vec<Pinned>,
}

impl Listed {
    /// The files that `stored` lists, mapped. The caller makes sure that none is removed before this returns, adds the log,
    /// and finishes it.
    pub(crate) fn of(fs: &dyn Fs, layout: &Layout, stored: &Stored) -> Result<Self> {
        let mut contents = stored.contents.clone();
        contents.removed.clear();
        let mut files = Vec::new();
        for path in contents.files(layout) {
            let bytes = fs.map(&path)?;
            files.push(Pinned { name: layout.name_of(&path), len: bytes.len(), bytes });
        }
        // A rollup that cannot be read is not missed: the restored store makes it again.
        let mut rollups = Vec::new();
        contents.rollups.retain(|place, listed| {
            let path = layout.rollup_of(listed.partition, &listed.segment);
            let opened = contents.segments.get(place).map(|meta| Rollup::open(fs, &path, listed, meta));
            let Some(Ok(rollup)) = opened else { return false };
            // Not mapped again: one that could not be used may be made anew just now, under the same name.
            rollups.push((place.clone(), layout.name_of(&path), rollup));
            true
        });
        let checkpoint = Checkpoint { lsn: contents.flushed, files };
        Ok(Self { checkpoint, contents, rollups, width_ns: stored.width_ns, number: stored.number })
    }

    /// With the rollups that are sound, and a manifest that lists exactly the files that there are. `damaged` is told of the
    /// segments (partition and file) whose rollups are not.
    pub(crate) fn finish(mut self, damaged: impl Fn(&(i64, String), &Error)) -> Checkpoint {
        let files = &mut self.checkpoint.files;
        for (place, name, rollup) in self.rollups {
            if let Err(error) = rollup.check_parts() {
                tracing::warn!(%error, "a damaged rollup is left out of a backup: the restored store makes it again");
                damaged(&place, &error);
                self.contents.rollups.remove(&place);
                continue;
            }
            let bytes = rollup.into_bytes();
            files.push(Pinned { name, len: bytes.len(), bytes });
        }
        let manifest = encode_file(self.width_ns, self.number, &self.contents);
        files.push(Pinned { name: MANIFEST.into(), len: manifest.len(), bytes: Mapped::new(manifest) });
        self.checkpoint
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
        self.checkpoint.lsn = log.last;
        for (path, bytes, len) in log.files {
            self.checkpoint.files.push(Pinned { name: layout.name_of(&path), bytes, len });
        }
        Ok(())
    }
}

impl Checkpoint {
    /// Of a store that is closed and locked.
    pub(super) fn of_closed(fs: &dyn Fs, layout: &Layout, stored: &Stored) -> Result<Self> {
        let mut listed = Listed::of(fs, layout, stored)?;
        listed.add_log(fs, layout, stored, None)?;
        Ok(listed.finish(|_, _| {}))
    }
}

impl crate::core::Core {
    /// Everything acknowledged before this is called, and perhaps more.
    pub(crate) fn checkpoint(self: &Arc<Self>) -> Result<Checkpoint> {
        self.flush()?;
        let listed = self.with_files(
            |stored| Listed::of(&*self.fs, &self.layout, stored),
            |mut listed, stored| {
                listed.add_log(&*self.fs, &self.layout, stored, Some(stored.contents.flushed))?;
                Ok(listed)
            },
        );
        Ok(listed?.finish(|(partition, file), error| {
            let version = Arc::clone(&self.live.lock().version);
            let of_it = |live: &&Arc<LiveSegment>| live.meta.partition == *partition && live.meta.file == *file;
            if let Some(rollup) = version.segments().find(of_it).and_then(|live| live.segment.rollup()) {
                rollup.warn(error);
            }
        }))
    }
}
