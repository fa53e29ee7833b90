//! Compaction: carrying out what the plan says.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::compaction::{Job, execute, plan};
use crate::engine::CompactionSummary;
use crate::error::{Error, Result};
use crate::manifest::Change;
use crate::segment::{Segment, SegmentMeta};
use crate::version::LiveSegment;

use super::Core;

impl Core {
    /// See [`crate::Engine::compact`].
    pub(crate) fn compact(&self) -> Result<CompactionSummary> {
        let _one = self.compacting.lock();
        let mut summary = CompactionSummary::default();
        loop {
            let version = Arc::clone(&self.live.lock().version);
            let metas: Vec<SegmentMeta> = version.segments().map(|segment| segment.meta.clone()).collect();
            let Some(job) = plan(&metas) else { break };
            let inputs: Vec<Arc<Segment>> = version
                .segments()
                .filter(|live| live.meta.partition == job.partition && job.inputs.contains(&live.meta.file))
                .map(|live| Arc::clone(&live.segment))
                .collect();
            drop(version);
            summary.rows += self.merge(&job, &inputs)?;
            summary.segments_in += inputs.len();
            summary.segments_out += 1;
            self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        }
        self.compact_records(&mut summary)?;
        Ok(summary)
    }

    fn merge(&self, job: &Job, inputs: &[Arc<Segment>]) -> Result<u64> {
        let number = self.new_file_number();
        let path = self.layout.segment_file(job.partition, number);
        let merged = execute(&*self.fs, inputs, &path, job.level, self.compactor.stopped()).and_then(|meta| {
            let meta = meta.ok_or_else(|| Error::Unavailable("compaction ends because the store is closing".into()))?;
            self.fs.sync_dir(&self.layout.partition(job.partition))?;
            LiveSegment::open(&self.fs, path.clone(), &meta)
        });
        let merged = merged.inspect_err(|_| self.give_up(std::slice::from_ref(&path), &[number]))?;
        self.edit(|_| {
            let mut changes = vec![Change::AddSegment(merged.meta.clone())];
            for file in &job.inputs {
                changes.push(Change::RemoveSegment { partition: job.partition, file: file.clone() });
                let path = self.layout.partition(job.partition).join(file);
                changes.push(Change::Removed(self.layout.name_of(&path)));
            }
            changes.push(Change::NextFile(self.finish_files(&[number])));
            changes
        })?;
        let rows = merged.meta.rows;
        let mut live = self.live.lock();
        let mut version = (*live.version).clone();
        let replaced = version.remove(job.partition, &job.inputs);
        version.add(merged);
        live.version = Arc::new(version);
        drop(live);
        // Their files go when the last snapshot that reads them does.
        replaced.iter().for_each(|segment| segment.retire());
        Ok(rows)
    }
}
