//! Carrying out a plan. Up to the publication of the manifest nothing that readers see has changed.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt64Type;
use arrow::record_batch::RecordBatch;
use hashbrown::HashSet;

use crate::catalog::{OFFLINE_BYTES_MAX, write_series_file};
use crate::core::open_catalogue;
use crate::error::{Error, Result};
use crate::fs::{Fs, publish};
use crate::layout::Layout;
use crate::manifest::{Contents, SeriesFile, encode_file};
use crate::partition::Partitioning;
use crate::records::{RecordChecker, RecordMeta, RecordSegment, RecordWriter};
use crate::segment::{Checker, Segment, SegmentMeta, SegmentWriter};
use crate::types::SeriesId;
use crate::verify::{Survey, SurveyedSegment};

use super::log;
use super::plan::{Fate, Plan};

/// Where what was proved bad goes, inside the store.
const DAMAGED: &str = "damaged";

pub(super) fn execute(fs: &dyn Fs, layout: &Layout, survey: &Survey, plan: &Plan) -> Result<()> {
    let mut contents = survey.stored.contents.clone();
    contents.next_file = plan.next_file;
    for dir in [layout.partitions(), layout.wal(), layout.state()] {
        fs.create_dir(&dir)?;
    }
    for (index, fate) in &plan.segments {
        let surveyed = &survey.segments[*index];
        let place = (surveyed.meta.partition, surveyed.meta.file.clone());
        contents.segments.remove(&place);
        contents.records.remove(&place);
        // It is of rows that are no longer there, or of another file; unlisted, the next start removes it.
        contents.rollups.remove(&place);
        if let Fate::Rewrite { bad } = fate {
            let nameless = plan.nameless.get(&surveyed.meta.partition);
            let kept = Kept { bad, nameless, width_ns: survey.stored.width_ns };
            if surveyed.table.is_none() {
                if let Some(meta) = rewrite(fs, layout, surveyed, &kept, contents.next_file)? {
                    contents.segments.insert((meta.partition, meta.file.clone()), meta);
                }
            } else if let Some(meta) = rewrite_records(fs, layout, surveyed, &kept, contents.next_file)? {
                contents.records.insert((meta.segment.partition, meta.segment.file.clone()), meta);
            }
            contents.next_file += 1;
        }
    }
    plan.rollups.iter().for_each(|place| drop(contents.rollups.remove(place)));
    redefine(fs, layout, survey, plan, &mut contents)?;
    if plan.drop_state {
        contents.state_file = None;
    }
    if plan.rewrite_log {
        log::rebuild(fs, layout, survey, |file| {
            keep_copy(fs, layout, &file.path)?;
            publish(fs, &file.path, &file.bytes)
        })?;
    }
    if plan.rebuild_catalogue && fs.exists(&layout.catalogue())? {
        set_aside(fs, layout, &layout.catalogue())?;
    }
    if !survey.manifest_sound {
        keep_copy(fs, layout, &layout.manifest())?;
    }
    let number = survey.stored.number + 1;
    publish(fs, &layout.manifest(), &encode_file(survey.stored.width_ns, number, &contents))?;
    for path in &plan.aside {
        if fs.exists(path)? {
            set_aside(fs, layout, path)?;
        }
    }
    if plan.rebuild_catalogue {
        open_catalogue(fs, layout, &contents, number, OFFLINE_BYTES_MAX)?.0.close(true);
    }
    Ok(())
}

/// What of a segment goes into its new file.
struct Kept<'a> {
    bad: &'a [usize],
    nameless: Option<&'a HashSet<SeriesId>>,
    width_ns: i64,
}

impl Kept<'_> {
    /// The rows of records whose series have labels.
    fn of(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let Some(nameless) = self.nameless else { return Ok(rows) };
        let named = |id: &u64| Some(!nameless.contains(&SeriesId(*id)));
        let mask: BooleanArray = rows.column(0).as_primitive::<UInt64Type>().values().iter().map(named).collect();
        filter_record_batch(&rows, &mask).map_err(|error| Error::Invalid(format!("a group of records: {error}")))
    }
}

/// Writes what can be kept as segment number `number`; `None` when that is nothing.
fn rewrite(
    fs: &dyn Fs,
    layout: &Layout,
    surveyed: &SurveyedSegment,
    kept: &Kept<'_>,
    number: u64,
) -> Result<Option<SegmentMeta>> {
    let meta = &surveyed.meta;
    let segment = Segment::open_by_footer(fs, &surveyed.path)?;
    let range = Partitioning { width_ns: kept.width_ns }.range(meta.partition);
    let mut checker = Checker::new(&segment, range);
    let path = layout.segment_file(meta.partition, number);
    let mut writer = None;
    for index in (0..segment.blocks().len()).filter(|index| !kept.bad.contains(index)) {
        checker.read(index)?;
        for (series, ts, values) in checker.rows() {
            if kept.nameless.is_some_and(|ids| ids.contains(&series)) {
                continue;
            }
            let writer = match &mut writer {
                Some(writer) => writer,
                None => {
                    let lsns = (meta.min_lsn, meta.max_lsn);
                    writer.insert(SegmentWriter::create(fs, &path, meta.partition, meta.level, lsns)?)
                }
            };
            writer.append(series, ts, values)?;
        }
    }
    let Some(writer) = writer else { return Ok(None) };
    let meta = writer.finish()?;
    fs.sync_dir(&layout.partition(meta.partition))?;
    Ok(Some(meta))
}

/// As [`rewrite`], of records.
fn rewrite_records(
    fs: &dyn Fs,
    layout: &Layout,
    surveyed: &SurveyedSegment,
    kept: &Kept<'_>,
    number: u64,
) -> Result<Option<RecordMeta>> {
    let segment = RecordSegment::open_by_footer(fs, &surveyed.path)?;
    let SegmentMeta { partition, level, min_lsn, max_lsn, .. } = surveyed.meta;
    let range = Partitioning { width_ns: kept.width_ns }.range(partition);
    let mut checker = RecordChecker::new(&segment, range)?;
    let path = layout.record_file(partition, number);
    let mut writer = None;
    for group in (0..segment.groups()).filter(|group| !kept.bad.contains(group)) {
        let rows = kept.of(checker.read(group)?)?;
        if rows.num_rows() == 0 {
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let (table, columns) = (segment.meta().table.clone(), Arc::clone(segment.columns()));
                let lsns = (min_lsn, max_lsn);
                writer.insert(RecordWriter::create(fs, &path, table, columns, partition, level, lsns)?)
            }
        };
        writer.append(&rows)?;
    }
    let Some(writer) = writer else { return Ok(None) };
    let meta = writer.finish()?;
    fs.sync_dir(&layout.partition(partition))?;
    Ok(Some(meta))
}

/// Replaces the damaged series files of each partition by one with everything that is still known, and numbers the
/// series of the partition anew.
fn redefine(fs: &dyn Fs, layout: &Layout, survey: &Survey, plan: &Plan, contents: &mut Contents) -> Result<()> {
    let edit = survey.stored.number + 1;
    for surveyed in survey.series_files.iter().filter(|file| !file.sound) {
        contents.series_files.retain(|file| *file != surveyed.file);
    }
    let mut redefined: Vec<_> = plan.redefined.iter().collect();
    redefined.sort_unstable_by_key(|pair| pair.0);
    for (&partition, series) in redefined {
        let mut base = 0;
        contents.series_files.sort_unstable_by_key(|file| (file.partition, file.base));
        for file in contents.series_files.iter_mut().filter(|file| file.partition == partition) {
            (file.base, file.edit) = (base, edit);
            base += file.series;
        }
        if series.is_empty() {
            continue;
        }
        let number = contents.next_file;
        contents.next_file += 1;
        let mut series = series.clone();
        write_series_file(fs, &layout.series_file(partition, number), &mut series)?;
        contents.series_files.push(SeriesFile { partition, number, base, series: series.len() as u32, edit });
    }
    Ok(())
}

/// The place of `path` among the damaged files, which nothing has taken yet.
fn place_aside(fs: &dyn Fs, layout: &Layout, path: &Path) -> Result<PathBuf> {
    let wanted = layout.root.join(DAMAGED).join(layout.name_of(path));
    let dir = wanted.parent().unwrap_or(&layout.root).to_owned();
    fs.create_dir(&dir)?;
    let name = wanted.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut place = wanted;
    for again in 2..=1000 {
        if !fs.exists(&place)? {
            return Ok(place);
        }
        place = dir.join(format!("{name}.{again}"));
    }
    Err(Error::Limit(format!("{}: too many files of this name; move some away", place.display())))
}

/// Moves a file or directory to the damaged ones.
fn set_aside(fs: &dyn Fs, layout: &Layout, path: &Path) -> Result<()> {
    let place = place_aside(fs, layout, path)?;
    fs.rename(path, &place)?;
    sync_above(fs, layout, &place)?;
    path.parent().map_or(Ok(()), |dir| fs.sync_dir(dir))
}

/// Makes the entry of `place` durable, and those of the directories above it in the store, which may be new.
fn sync_above(fs: &dyn Fs, layout: &Layout, place: &Path) -> Result<()> {
    place.ancestors().skip(1).take_while(|dir| dir.starts_with(&layout.root)).try_for_each(|dir| fs.sync_dir(dir))
}

/// Copies a file to the damaged ones before another takes its name; fine if there is none.
fn keep_copy(fs: &dyn Fs, layout: &Layout, path: &Path) -> Result<()> {
    if !fs.exists(path)? {
        return Ok(());
    }
    let place = place_aside(fs, layout, path)?;
    let mut copy = fs.create(&place)?;
    copy.append(&fs.map(path)?)?;
    copy.sync()?;
    drop(copy);
    sync_above(fs, layout, &place)
}
