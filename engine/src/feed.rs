//! The commit feed: recent commits in memory, older ones in the log.
use std::collections::VecDeque;
use std::sync::Arc;

use crate::memtable::CommittedBatch;
use crate::types::Lsn;
use crate::write_batch::WriteBatch;

/// One committed batch as the feed delivers it.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Position.
    pub lsn: Lsn,
    /// What was committed.
    pub batch: Arc<WriteBatch>,
}

/// The newest commits, without gaps, up to a number of bytes.
pub(crate) struct Ring {
    commits: VecDeque<Arc<CommittedBatch>>,
    bytes: usize,
    bytes_max: usize,
}

impl Ring {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { commits: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn push(&mut self, commit: Arc<CommittedBatch>) {
        self.bytes += commit.bytes();
        self.commits.push_back(commit);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.commits.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }

    /// Memory it holds; commits that a memtable still has as they came are counted there too.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Commits in `(after, through]` until `rows_max` rows, at least one if there is one; `None` when memory does not go
    /// back that far.
    pub(crate) fn read(&self, after: Lsn, through: Lsn, rows_max: usize) -> Option<Vec<Commit>> {
        let first = self.commits.front()?.lsn.0;
        let skip = (after.0 + 1).checked_sub(first)?;
        let mut rows = 0;
        let mut commits = Vec::new();
        for commit in self.commits.iter().skip(usize::try_from(skip).ok()?).take_while(|commit| commit.lsn <= through) {
            if !commits.is_empty() && rows >= rows_max {
                break;
            }
            rows += commit.batch.rows();
            commits.push(Commit { lsn: commit.lsn, batch: Arc::clone(&commit.batch) });
        }
        Some(commits)
    }
}
