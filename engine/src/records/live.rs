//! An open file of records that some version refers to.
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::fs::Fs;

use super::{RecordMeta, RecordSegment};

/// A record segment whose file goes with the last version that refers to it, once the manifest has removed it.
pub(crate) struct LiveRecords {
    pub(crate) segment: RecordSegment,
    fs: Arc<dyn Fs>,
    obsolete: AtomicBool,
}

impl LiveRecords {
    pub(crate) fn open(fs: &Arc<dyn Fs>, path: PathBuf, meta: &RecordMeta) -> Result<Arc<Self>> {
        let segment = RecordSegment::open(&**fs, &path, meta)?;
        Ok(Arc::new(Self { segment, fs: Arc::clone(fs), obsolete: AtomicBool::new(false) }))
    }

    /// What the manifest keeps of it.
    pub(crate) fn meta(&self) -> &RecordMeta {
        self.segment.meta()
    }

    /// The manifest no longer has it.
    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

impl Drop for LiveRecords {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire)
            && let Err(error) = self.fs.remove(self.segment.path())
        {
            // The manifest lists it as removed: the next open deletes it.
            tracing::warn!(%error, "cannot delete a replaced record segment");
        }
    }
}
