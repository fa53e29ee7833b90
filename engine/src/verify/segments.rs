//! Reading segments whole: those of samples and those of records.
use std::path::Path;

use hashbrown::HashSet;

use crate::error::{Error, Result};
use crate::partition::Partitioning;
use crate::records::{RecordChecker, RecordMeta, RecordSegment, RecordTable};
use crate::rollup::{self, Rollup, RollupMeta};
use crate::segment::{Checker, Segment, SegmentMeta};
use crate::types::{SeriesId, TimeRange};

use super::Finding;
use super::survey::{Condition, SurveyedSegment, Surveyor};

/// What reading a segment came to.
struct Reading {
    /// Blocks, or groups of records.
    blocks: usize,
    /// Those that cannot be kept.
    bad: Vec<usize>,
    /// Whether anything is wrong with it.
    damaged: bool,
    /// Its series, as far as they can be read.
    series: Vec<SeriesId>,
}

impl Surveyor<'_> {
    /// Reads a segment of samples; answers it if nothing is wrong with its rows.
    pub(super) fn read_segment(&mut self, meta: &SegmentMeta, members: &HashSet<SeriesId>) -> Result<Option<Segment>> {
        let path = self.layout.partition(meta.partition).join(&meta.file);
        let (segment, damaged) = match Segment::open(self.fs, &path, meta) {
            Ok(segment) => (Some(segment), false),
            Err(error) => {
                self.find(error, &path);
                // The footer says all that a damaged header does; another segment's is no use.
                let footer = Segment::open_by_footer(self.fs, &path).ok();
                let same = |found: &SegmentMeta| SegmentMeta { applied: meta.applied, ..found.clone() } == *meta;
                (footer.filter(|segment| same(segment.meta())), true)
            }
        };
        let reading = segment.as_ref().map(|segment| self.read_blocks(segment, damaged)).transpose()?;
        let sound = reading.as_ref().is_some_and(|reading| reading.bad.is_empty());
        self.judge(meta, None, reading, members);
        Ok(segment.filter(|_| sound))
    }

    /// Reads a rollup, and compares it with the rows if its segment is `sound`. Whatever is wrong with it, no row is lost.
    pub(super) fn read_rollup(&mut self, meta: &RollupMeta, segment: &SegmentMeta, sound: Option<&Segment>) {
        let path = self.layout.rollup_of(meta.partition, &meta.segment);
        let checked = match self.fs.exists(&path) {
            Ok(false) => {
                let (expected, got) = ("this file, which the manifest lists".into(), "no such file".into());
                Err(Error::Corruption { path: path.clone(), offset: 0, expected, got })
            }
            _ => Rollup::open(self.fs, &path, meta, segment).and_then(|rollup| rollup::check(&rollup, sound)),
        };
        if let Err(error) = checked {
            self.survey.report.add(Finding::from_error(error, &path, true));
            self.survey.bad_rollups.push(((meta.partition, meta.segment.clone()), path.clone()));
        }
        self.survey.report.rollups += 1;
        self.done(self.fs.len(&path).unwrap_or(0));
    }

    pub(super) fn read_records(&mut self, meta: &RecordMeta, members: &HashSet<SeriesId>) -> Result<()> {
        let path = self.layout.partition(meta.segment.partition).join(&meta.segment.file);
        let (segment, damaged) = match RecordSegment::open(self.fs, &path, meta) {
            Ok(segment) => (Some(segment), false),
            Err(error) => {
                self.find(error, &path);
                let footer = RecordSegment::open_by_footer(self.fs, &path).ok();
                let same = |found: &RecordMeta| {
                    let segment = SegmentMeta { applied: meta.segment.applied, ..found.segment.clone() };
                    found.table == meta.table && segment == meta.segment
                };
                (footer.filter(|segment| same(segment.meta())), true)
            }
        };
        let reading = segment.map(|segment| self.read_groups(&segment, damaged)).transpose()?;
        self.judge(&meta.segment, Some(&meta.table), reading, members);
        Ok(())
    }

    /// Whether the series of a segment are defined, and what of it can be kept; without a reading, nothing.
    fn judge(
        &mut self,
        meta: &SegmentMeta,
        table: Option<&RecordTable>,
        reading: Option<Reading>,
        members: &HashSet<SeriesId>,
    ) {
        let path = self.layout.partition(meta.partition).join(&meta.file);
        let (mut undefined, mut condition, mut all_undefined) = (Vec::new(), Condition::Gone, false);
        match reading {
            None => self.done(self.fs.len(&path).unwrap_or(0)),
            Some(Reading { blocks, bad, damaged, series }) => {
                undefined = series.iter().filter(|id| !members.contains(*id)).copied().collect();
                all_undefined = undefined.len() == series.len();
                condition = match (bad.len(), damaged) {
                    (0, false) => Condition::Sound,
                    (bad, _) if bad == blocks => Condition::Gone,
                    _ => Condition::Damaged { bad },
                };
            }
        }
        if let Some(first) = undefined.first() {
            let expected = format!("series that a series file of partition {} defines", meta.partition);
            let got = format!("{} others, the first {}", undefined.len(), first.0);
            self.find(Error::Corruption { path: path.clone(), offset: 0, expected, got }, &path);
        }
        let (meta, table) = (meta.clone(), table.cloned());
        self.survey.report.segments += 1;
        self.survey.segments.push(SurveyedSegment { path, meta, table, condition, undefined, all_undefined });
    }

    /// Where rows of a partition may lie, as far as that is known.
    fn range_of(&self, partition: i64) -> TimeRange {
        match self.survey.width_unknown {
            None => Partitioning { width_ns: self.survey.stored.width_ns }.range(partition),
            Some(_) => TimeRange::ALL,
        }
    }

    /// Counts a block or group that was read, and notes what is wrong with it.
    fn tell(&mut self, segment: &Path, rows: u64, bytes: u64, found: Result<()>) {
        if let Err(error) = found {
            self.find(error, segment);
        }
        self.survey.report.blocks += 1;
        self.survey.report.rows += rows;
        self.done(bytes);
    }

    /// Reads every block.
    fn read_blocks(&mut self, segment: &Segment, mut damaged: bool) -> Result<Reading> {
        let meta = segment.meta();
        let (mut checker, mut bad) = (Checker::new(segment, self.range_of(meta.partition)), Vec::new());
        let mut done = 0;
        for (index, zone) in segment.blocks().iter().enumerate() {
            let read = checker.read(index);
            let checked = if read.is_ok() { checker.compare_zone(index) } else { Ok(()) };
            if read.is_err() {
                bad.push(index);
            }
            let found = read.and(checked);
            damaged |= found.is_err();
            self.tell(segment.path(), u64::from(zone.rows), u64::from(zone.len), found);
            done += u64::from(zone.len);
        }
        if bad.is_empty()
            && let Err(error) = checker.compare_series()
        {
            damaged = true;
            self.find(error, segment.path());
        }
        self.done(meta.bytes.saturating_sub(done));
        Ok(Reading { blocks: segment.blocks().len(), bad, damaged, series: segment.series().iter().collect() })
    }

    /// Reads every group of records.
    fn read_groups(&mut self, segment: &RecordSegment, mut damaged: bool) -> Result<Reading> {
        let meta = &segment.meta().segment;
        let (mut checker, mut bad) = (RecordChecker::new(segment, self.range_of(meta.partition))?, Vec::new());
        let mut done = 0;
        for (group, zone) in segment.zones().enumerate() {
            let read = checker.read(group).map(drop);
            if read.is_err() {
                bad.push(group);
            }
            damaged |= read.is_err();
            self.tell(segment.path(), zone.rows as u64, zone.len, read);
            done += zone.len;
        }
        if bad.is_empty()
            && let Err(error) = checker.compare_series()
        {
            damaged = true;
            self.find(error, segment.path());
        }
        self.done(meta.bytes.saturating_sub(done));
        Ok(Reading { blocks: segment.groups(), bad, damaged, series: checker.series() })
    }
}
