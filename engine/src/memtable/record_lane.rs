//! The records of a memtable: batches as they came, in chunks, so that a clone copies few pointers.
use std::sync::Arc;

use crate::records::Records;

const CHUNK_BATCHES: usize = 256;

/// Batches of records, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordLane {
    full: Vec<Arc<Vec<Arc<Records>>>>,
    tail: Vec<Arc<Records>>,
}

impl RecordLane {
    pub(super) fn push(&mut self, records: Arc<Records>) {
        self.tail.push(records);
        if self.tail.len() == CHUNK_BATCHES {
            self.full.push(Arc::new(std::mem::take(&mut self.tail)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.tail.is_empty()
    }

    /// Every batch, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Records>> {
        self.full.iter().flat_map(|chunk| chunk.iter()).chain(&self.tail)
    }
}
