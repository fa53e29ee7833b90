//! The labels of series, from wherever they still stand.
use hashbrown::{HashMap, HashSet};

use crate::catalog::{Catalogue, read_series_file};
use crate::error::Result;
use crate::fs::Fs;
use crate::layout::Layout;
use crate::manifest::Contents;
use crate::types::{LabelSet, SeriesId, SeriesSet};
use crate::verify::Survey;
use crate::wal::{self, Event};

/// Series asked for at a time.
const SERIES_AT_ONCE: usize = 4096;

/// The catalogue as it is, if RocksDB can open it.
fn catalogue(fs: &dyn Fs, layout: &Layout) -> Option<Catalogue> {
    let there = fs.is_local() && fs.exists(&layout.catalogue()).unwrap_or(false);
    there.then(|| Catalogue::open_read_only(&layout.catalogue(), u64::MAX).ok()).flatten().map(|open| open.0)
}

/// The series that the catalogue knows in each of `partitions`; none where it cannot be read.
pub(super) fn members(
    fs: &dyn Fs,
    layout: &Layout,
    contents: &Contents,
    partitions: &HashSet<i64>,
) -> HashMap<i64, SeriesSet> {
    let Some(catalogue) = catalogue(fs, layout).filter(|_| !partitions.is_empty()) else { return HashMap::new() };
    let members = |&partition: &i64| Some((partition, catalogue.members(contents.index_of(partition)?).ok()?));
    partitions.iter().filter_map(members).collect()
}

/// The labels of those of `wanted` that are defined anywhere: in sound series files, in the log, in the catalogue.
pub(super) fn find(
    fs: &dyn Fs,
    layout: &Layout,
    survey: &Survey,
    wanted: &HashSet<SeriesId>,
) -> Result<HashMap<SeriesId, LabelSet>> {
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let mut take = |series: Vec<(SeriesId, LabelSet)>| {
        found.extend(series.into_iter().filter(|pair| wanted.contains(&pair.0)));
    };
    for file in survey.series_files.iter().filter(|file| file.sound) {
        take(read_series_file(fs, &file.path)?);
    }
    wal::check(fs, &layout.wal(), survey.stored.contents.flushed, |event| {
        if let Event::Definitions(series, ..) = event {
            take(series);
        }
        Ok(())
    })?;
    if let Some(catalogue) = catalogue(fs, layout) {
        let missing: Vec<SeriesId> = wanted.iter().filter(|&id| !found.contains_key(id)).copied().collect();
        for ids in missing.chunks(SERIES_AT_ONCE) {
            // A damaged catalogue answers what it can.
            let labels = catalogue.labels_of(ids).unwrap_or_default();
            found.extend(ids.iter().zip(labels).filter_map(|(&id, labels)| Some((id, labels?))));
        }
    }
    Ok(found)
}
