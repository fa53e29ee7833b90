//! What a store without a readable manifest consists of, by its files.
use std::path::{Path, PathBuf};

use crate::catalog::read_series_file;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::layout::{Layout, file_number, is_rollup};
use crate::manifest::{Contents, SeriesFile, Stored, read_width};
use crate::partition::Partitioning;
use crate::records::RecordSegment;
use crate::segment::{Segment, SegmentMeta};
use crate::state::StateMap;
use crate::types::Lsn;
use crate::wal::named_files;

/// The width of partitions that is tried when nothing says it, ns.
const WIDTH_NS: i64 = 86_400_000_000_000;

/// A manifest made from what is there, and what could not be taken into it.
pub(super) struct Inferred {
    pub(super) stored: Stored,
    pub(super) unreadable: Vec<(PathBuf, Error)>,
    /// Why the width of partitions is not known.
    pub(super) width_unknown: Option<Error>,
}

/// Lists every file that says itself what it is. All of the log is replayed over the segments, which changes no answer:
/// of equal rows the newest commit still wins.
pub(super) fn infer(fs: &dyn Fs, layout: &Layout, width_ns: Option<i64>) -> Result<Inferred> {
    let mut contents = Contents { next_file: 1, ..Contents::default() };
    let mut unreadable = Vec::new();
    for (partition, path) in partition_files(fs, layout)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(number) = file_number(&name) else { continue };
        contents.next_file = contents.next_file.max(number + 1);
        if is_rollup(&name) {
            // Whether it is the one that was listed is not known any more. It is made again.
            continue;
        }
        let taken = if name.ends_with(".segment") {
            Segment::open_by_footer(fs, &path).and_then(|segment| take_segment(&mut contents, partition, &segment))
        } else if name.ends_with(".records") {
            RecordSegment::open_by_footer(fs, &path)
                .and_then(|records| take_records(&mut contents, partition, &records))
        } else {
            read_series_file(fs, &path).map(|series| {
                let (base, series) = (contents.series_in(partition), series.len() as u32);
                contents.series_files.push(SeriesFile { partition, number, base, series, edit: 1 });
            })
        };
        taken.unwrap_or_else(|error| unreadable.push((path, error)));
    }
    let state_lsn = find_state(fs, layout, &mut contents, &mut unreadable)?;
    let (log, _) = named_files(fs, &layout.wal())?;
    contents.flushed = match log.first() {
        Some(first) => Lsn(first.first_lsn.saturating_sub(1)),
        None => contents.all_segments().map(|meta| meta.max_lsn).max().unwrap_or_default(),
    };
    // A flush writes the state file last: all its segments are there.
    contents.flushed = contents.flushed.max(state_lsn);
    let width_ns = match read_width(fs, &layout.manifest()) {
        Ok(width_ns) => width_ns,
        Err(_) => width_ns.unwrap_or(WIDTH_NS),
    };
    let width_unknown = check_width(width_ns, contents.all_segments()).err();
    Ok(Inferred { stored: Stored { width_ns, number: 1, contents }, unreadable, width_unknown })
}

/// Every file in a directory of a partition, in order.
fn partition_files(fs: &dyn Fs, layout: &Layout) -> Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    if !fs.exists(&layout.partitions())? {
        return Ok(files);
    }
    for dir in fs.list(&layout.partitions())? {
        let Ok(partition) = dir.parse::<i64>() else { continue };
        let dir = layout.partition(partition);
        files.extend(fs.list(&dir)?.into_iter().map(|name| (partition, dir.join(name))));
    }
    files.sort_unstable();
    Ok(files)
}

fn take_segment(contents: &mut Contents, partition: i64, segment: &Segment) -> Result<()> {
    let meta = segment.meta();
    check_partition(meta, partition, segment.path())?;
    contents.segments.insert((partition, meta.file.clone()), meta.clone());
    Ok(())
}

fn take_records(contents: &mut Contents, partition: i64, records: &RecordSegment) -> Result<()> {
    let meta = records.meta();
    check_partition(&meta.segment, partition, records.path())?;
    contents.records.insert((partition, meta.segment.file.clone()), meta.clone());
    Ok(())
}

fn check_partition(meta: &SegmentMeta, partition: i64, path: &Path) -> Result<()> {
    if meta.partition == partition {
        return Ok(());
    }
    let (expected, got) = (format!("a segment of partition {partition}"), format!("one of {}", meta.partition));
    Err(Error::Corruption { path: path.to_owned(), offset: 12, expected, got })
}

/// Takes the newest state file that can be read; the commit it is of.
fn find_state(
    fs: &dyn Fs,
    layout: &Layout,
    contents: &mut Contents,
    unreadable: &mut Vec<(PathBuf, Error)>,
) -> Result<Lsn> {
    let mut newest = Lsn(0);
    let names = if fs.exists(&layout.state())? { fs.list(&layout.state())? } else { Vec::new() };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| file_number(name)).collect();
    numbers.sort_unstable();
    for number in numbers.into_iter().rev() {
        contents.next_file = contents.next_file.max(number + 1);
        let path = layout.state_file(number);
        match StateMap::read_file(fs, &path).and_then(|(state, lsn)| state.check().map(|()| lsn)) {
            Ok(lsn) if contents.state_file.is_none() => {
                (contents.state_file, newest) = (Some(number), lsn);
            }
            Ok(_) => {}
            Err(error) => unreadable.push((path, error)),
        }
    }
    Ok(newest)
}

fn check_width<'a>(width_ns: i64, mut segments: impl Iterator<Item = &'a SegmentMeta>) -> Result<()> {
    let partitioning = Partitioning { width_ns };
    let outside = |meta: &&SegmentMeta| {
        let range = partitioning.range(meta.partition);
        !range.contains(meta.min_ts) || !range.contains(meta.max_ts)
    };
    match segments.find(outside) {
        None => Ok(()),
        Some(meta) => Err(Error::Invalid(format!(
            "the manifest is lost and partitions of {} s do not fit segment {} of partition {}; \
             give the store's partition width",
            width_ns / 1_000_000_000,
            meta.file,
            meta.partition
        ))),
    }
}
