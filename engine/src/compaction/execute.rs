//! Merging segments into one new file.
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::fs::Fs;
use crate::scan::{Scan, Source, Visible};
use crate::segment::{Segment, SegmentMeta, SegmentWriter};
use crate::snapshot::ScanBatch;
use crate::tombstone::Hidden;
use crate::types::{Lsn, SeriesId};

/// Rows of a step. With one decoded block of each input (at most 32 of 8,192 rows, up to 0.7 MiB where each row is of another
/// series), 16 MiB of decoded timestamps, the output's open block and 256 KiB of encoded bytes this bounds the memory of a
/// merge to about 40 MiB, besides ids, zone maps, and the timelines it keeps.
const ROWS_AT_ONCE: usize = 64 << 10;

/// A segment to merge, and which of its rows were deleted since.
pub(crate) struct Input {
    pub(crate) segment: Arc<Segment>,
    pub(crate) hidden: Hidden,
}

/// What a merge made.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The new file; `None`, without a file, when every row was deleted.
    pub(crate) segment: Option<SegmentMeta>,
    /// Rows left out because they are deleted.
    pub(crate) rows_deleted: u64,
}

/// Merges `inputs` (of one partition, oldest commits first) into the new file `path` of `level`. Asks `go_on` before each
/// step; `None`, with the file removed, once it answers no. Keeps timelines in `timeline_bytes_max`.
///
/// # Durability
/// The file's bytes are synced; its name is the caller's to sync, and to publish.
///
/// # Errors
/// `Io`, or `Corruption` of an input; the unfinished file is removed.
pub(crate) fn execute(
    fs: &dyn Fs,
    inputs: &[Input],
    path: &Path,
    level: u8,
    timeline_bytes_max: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Merged>> {
    let merged = merge(fs, inputs, path, level, timeline_bytes_max, go_on);
    if !matches!(merged, Ok(Some(Merged { segment: Some(_), .. }))) {
        // What went wrong first is what the caller needs to hear; an orphan is removed at the next open.
        let _ = fs.remove(path);
    }
    merged
}

fn merge(
    fs: &dyn Fs,
    inputs: &[Input],
    path: &Path,
    level: u8,
    timeline_bytes_max: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Merged>> {
    let metas = || inputs.iter().map(|input| input.segment.meta());
    let lsns =
        (metas().map(|m| m.min_lsn).min().unwrap_or_default(), metas().map(|m| m.max_lsn).max().unwrap_or(Lsn(0)));
    let partition = metas().map(|m| m.partition).min().unwrap_or(0);
    let ids = series_of(inputs);
    let sources = inputs
        .iter()
        .map(|input| Visible { source: Source::Segment(Arc::clone(&input.segment)), hidden: input.hidden.clone() });
    let mut scan = Scan::last(sources, ids.clone(), ROWS_AT_ONCE)?;
    let mut writer: Option<SegmentWriter> = None;
    let mut batch = ScanBatch::default();
    while scan.next_batch(&mut batch)? {
        if !go_on() {
            return Ok(None);
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let created = SegmentWriter::create(fs, path, partition, level, lsns)?;
                writer.insert(created.with_timelines(timeline_bytes_max))
            }
        };
        let mut at = 0;
        for &(index, rows) in &batch.runs {
            let end = at + rows as usize;
            writer.append(ids[index as usize], &batch.ts[at..end], &batch.values[at..end])?;
            at = end;
        }
    }
    let segment = writer.map(SegmentWriter::finish).transpose()?;
    Ok(Some(Merged { segment, rows_deleted: scan.hidden_rows() }))
}

/// Every series of `inputs`, increasing.
fn series_of(inputs: &[Input]) -> Vec<SeriesId> {
    let mut ids: Vec<SeriesId> = inputs.iter().flat_map(|input| input.segment.series().iter()).collect();
    // Each input is in order: a stable sort finds that and merges.
    ids.sort();
    ids.dedup();
    ids
}
