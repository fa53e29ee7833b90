//! What a repair does: decided from the survey, without writing anything.
use std::path::{Path, PathBuf};

use hashbrown::{HashMap, HashSet};

use crate::error::Result;
use crate::fs::Fs;
use crate::layout::{Layout, file_number};
use crate::types::{LabelSet, SeriesId, TimeRange};
use crate::verify::{Condition, Survey, SurveyedSegment};

use super::readable::{Piece, Readable};
use super::{Loss, definitions, log};

/// Labels named in a loss.
const LABELS_NAMED_MAX: usize = 100;

/// What becomes of a segment that is not kept as it is.
#[derive(Debug)]
pub(super) enum Fate {
    /// A new file with its good blocks.
    Rewrite { bad: Vec<usize> },
    /// Nothing of it is left.
    Drop,
}

/// Everything a repair will do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<String>,
    pub(super) losses: Vec<Loss>,
    /// By index into the surveyed segments.
    pub(super) segments: Vec<(usize, Fate)>,
    /// Rollups that are left out, by the place of their segment.
    pub(super) rollups: Vec<(i64, String)>,
    /// Series of a partition whose labels are lost: their rows go.
    pub(super) nameless: HashMap<i64, HashSet<SeriesId>>,
    /// Definitions to be written anew, by partition.
    pub(super) redefined: HashMap<i64, Vec<(SeriesId, LabelSet)>>,
    /// Files to be moved to `damaged/`.
    pub(super) aside: Vec<PathBuf>,
    pub(super) drop_state: bool,
    pub(super) rewrite_log: bool,
    pub(super) rebuild_catalogue: bool,
    /// The first number that no file has.
    pub(super) next_file: u64,
}

pub(super) fn plan(fs: &dyn Fs, layout: &Layout, survey: &Survey) -> Result<Plan> {
    let mut plan = Plan { next_file: next_file(fs, layout, survey)?, ..Plan::default() };
    if !survey.manifest_sound {
        plan.steps.push(format!(
            "write MANIFEST anew from {} segments and {} series files that say themselves what they are",
            survey.segments.len(),
            survey.series_files.len()
        ));
    }
    for path in &survey.unreadable {
        plan.aside.push(path.clone());
        plan.losses.push(Loss::of(path, "whatever this file held: nothing in it can be read"));
    }
    let labels = plan_series(fs, layout, survey, &mut plan)?;
    for (index, surveyed) in survey.segments.iter().enumerate() {
        plan_segment(fs, index, surveyed, &labels, &mut plan)?;
    }
    for (place, path) in &survey.bad_rollups {
        plan.steps.push(format!("go on without {}: a running server makes it again", path.display()));
        plan.rollups.push(place.clone());
        plan.aside.push(path.clone());
    }
    plan_state(layout, survey, &mut plan);
    if !survey.log_sound {
        plan.rewrite_log = true;
        let rebuilt = log::rebuild(fs, layout, survey, |_| Ok(()))?;
        plan.steps.extend(rebuilt.steps);
        plan.losses.extend(rebuilt.losses);
    }
    if !survey.catalogue_sound || !plan.redefined.is_empty() || !survey.manifest_sound {
        plan.rebuild_catalogue = true;
        plan.steps.push("rebuild the catalogue from the series files".into());
    }
    Ok(plan)
}

impl Loss {
    pub(super) fn of(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into(), rows: None, series: None, labels: Vec::new(), range: None }
    }
}

fn next_file(fs: &dyn Fs, layout: &Layout, survey: &Survey) -> Result<u64> {
    let mut next = survey.stored.contents.next_file.max(1);
    let mut dirs = vec![layout.state()];
    if fs.exists(&layout.partitions())? {
        dirs.extend(fs.list(&layout.partitions())?.iter().map(|name| layout.partitions().join(name)));
    }
    for dir in dirs {
        let names = if fs.exists(&dir)? { fs.list(&dir).unwrap_or_default() } else { Vec::new() };
        next = names.iter().filter_map(|name| file_number(name)).map(|number| number + 1).fold(next, u64::max);
    }
    Ok(next)
}

/// Finds the labels of series whose definition is damaged, and of those of which rows are lost.
fn plan_series(fs: &dyn Fs, layout: &Layout, survey: &Survey, plan: &mut Plan) -> Result<HashMap<SeriesId, LabelSet>> {
    let broken: HashSet<i64> =
        survey.series_files.iter().filter(|file| !file.sound).map(|file| file.file.partition).collect();
    let mut missing: HashMap<i64, HashSet<SeriesId>> = HashMap::new();
    for segment in survey.segments.iter().filter(|segment| !segment.undefined.is_empty()) {
        missing.entry(segment.meta.partition).or_default().extend(&segment.undefined);
    }
    // Also those that have no rows here; the ones that sound files define are sorted out below.
    for (partition, ids) in definitions::members(fs, layout, &survey.stored.contents, &broken) {
        missing.entry(partition).or_default().extend(ids.iter());
    }
    let mut wanted: HashSet<SeriesId> = missing.values().flatten().copied().collect();
    for segment in &survey.segments {
        wanted.extend(lost_series(fs, segment));
    }
    let labels = definitions::find(fs, layout, survey, &wanted)?;
    for &partition in &broken {
        plan.redefined.entry(partition).or_default();
        missing.entry(partition).or_default();
    }
    for (partition, ids) in missing {
        let defined = sound_members(fs, survey, partition)?;
        let (mut known, mut nameless) = (Vec::new(), HashSet::new());
        for id in ids.into_iter().filter(|id| !defined.contains(id)) {
            match labels.get(&id) {
                Some(labels) => known.push((id, labels.clone())),
                None => drop(nameless.insert(id)),
            }
        }
        known.sort_unstable_by_key(|pair| pair.0);
        plan.steps.push(format!(
            "write the definitions of {} series of partition {partition} anew, from other partitions, the log and the catalogue",
            known.len()
        ));
        plan.redefined.insert(partition, known);
        if !nameless.is_empty() {
            plan.nameless.insert(partition, nameless);
        }
    }
    for file in survey.series_files.iter().filter(|file| !file.sound) {
        plan.aside.push(file.path.clone());
    }
    Ok(labels)
}

fn sound_members(fs: &dyn Fs, survey: &Survey, partition: i64) -> Result<HashSet<SeriesId>> {
    let mut members = HashSet::new();
    for file in survey.series_files.iter().filter(|file| file.sound && file.file.partition == partition) {
        members.extend(crate::catalog::read_series_file(fs, &file.path)?.into_iter().map(|pair| pair.0));
    }
    Ok(members)
}

/// The first series of which rows are lost with the bad blocks of a segment, as far as they are known.
fn lost_series(fs: &dyn Fs, surveyed: &SurveyedSegment) -> Vec<SeriesId> {
    let bad = match &surveyed.condition {
        Condition::Sound => return Vec::new(),
        Condition::Damaged { bad } => Some(bad),
        Condition::Gone => None,
    };
    let Ok(readable) = Readable::open(fs, surveyed) else { return Vec::new() };
    let pieces = readable.pieces().into_iter().enumerate().filter(|(i, _)| bad.is_none_or(|bad| bad.contains(i)));
    let pieces: Vec<Piece> = pieces.map(|(_, piece)| piece).collect();
    readable.series().filter(|&id| pieces.iter().any(|piece| piece.may_hold(id))).take(LABELS_NAMED_MAX).collect()
}

fn plan_segment(
    fs: &dyn Fs,
    index: usize,
    surveyed: &SurveyedSegment,
    labels: &HashMap<SeriesId, LabelSet>,
    plan: &mut Plan,
) -> Result<()> {
    let (path, meta) = (&surveyed.path, &surveyed.meta);
    let nameless = plan.nameless.get(&meta.partition);
    let lost: Vec<SeriesId> =
        surveyed.undefined.iter().filter(|&id| nameless.is_some_and(|ids| ids.contains(id))).copied().collect();
    let bad = match &surveyed.condition {
        Condition::Sound if lost.is_empty() => return Ok(()),
        Condition::Sound => Vec::new(),
        Condition::Damaged { bad } => bad.clone(),
        Condition::Gone => {
            plan.losses.push(Loss {
                rows: Some(meta.rows),
                series: Some(meta.series),
                range: Some(TimeRange { start: meta.min_ts, end: meta.max_ts }),
                labels: lost_series(fs, surveyed).iter().filter_map(|id| labels.get(id).cloned()).collect(),
                ..Loss::of(path, format!("all of segment {} of partition {}", meta.file, meta.partition))
            });
            if fs.exists(path)? {
                plan.aside.push(path.clone());
            }
            plan.steps.push(format!("take {} off the manifest", path.display()));
            plan.segments.push((index, Fate::Drop));
            return Ok(());
        }
    };
    let readable = Readable::open(fs, surveyed)?;
    let pieces = readable.pieces();
    for piece in bad.iter().map(|&at| &pieces[at]) {
        let of_piece = readable.series().filter(|&id| piece.may_hold(id));
        let known = of_piece.take(LABELS_NAMED_MAX).filter_map(|id| labels.get(&id).cloned());
        plan.losses.push(Loss {
            rows: Some(piece.rows),
            series: piece.series,
            range: Some(piece.range),
            labels: known.collect(),
            ..Loss::of(path, format!("the block at offset {}", piece.offset))
        });
    }
    if !lost.is_empty() {
        plan.losses.push(Loss {
            series: Some(lost.len() as u64),
            range: Some(TimeRange { start: meta.min_ts, end: meta.max_ts }),
            ..Loss::of(path, format!("series whose labels are lost, the first with id {}", lost[0].0))
        });
    }
    plan.aside.push(path.clone());
    let nothing_left = surveyed.all_undefined && lost.len() == surveyed.undefined.len();
    if nothing_left {
        plan.steps.push(format!("take {} off the manifest", path.display()));
        plan.segments.push((index, Fate::Drop));
    } else {
        let kept = pieces.len() - bad.len();
        plan.steps.push(format!("write {} anew with {kept} of {} blocks", path.display(), pieces.len()));
        plan.segments.push((index, Fate::Rewrite { bad }));
    }
    Ok(())
}

fn plan_state(layout: &Layout, survey: &Survey, plan: &mut Plan) {
    if survey.state_sound {
        return;
    }
    if let Some(number) = survey.stored.contents.state_file {
        let path = layout.state_file(number);
        plan.losses.push(Loss::of(&path, "keyed state up to the last flush: continuous queries and their positions"));
        plan.aside.push(path);
    }
    plan.drop_state = true;
    plan.steps.push("go on without the keyed state; what the log holds of it stays".into());
}
