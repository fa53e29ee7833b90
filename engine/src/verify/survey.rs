//! The reading itself. Its result is more than the report: a repair needs to know what can be kept.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::{Catalogue, ExpectedMetrics, expect, read_series_file};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::layout::{Layout, file_number, is_rollup};
use crate::manifest::{self, Contents, SeriesFile, Stored};
use crate::records::RecordTable;
use crate::segment::SegmentMeta;
use crate::state::StateMap;
use crate::types::{LabelSet, SeriesId};
use crate::wal::{self, Event};

use super::infer::infer;
use super::{Finding, Progress, Report};

/// What of a segment can be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// All of it.
    Sound,
    /// Every block, or group of records, but these; the file has to be written anew.
    Damaged { bad: Vec<usize> },
    /// Nothing.
    Gone,
}

/// A segment that the manifest lists.
#[derive(Clone, Debug)]
pub(crate) struct SurveyedSegment {
    pub(crate) path: PathBuf,
    pub(crate) meta: SegmentMeta,
    /// The table whose records it holds; `None` when it holds samples.
    pub(crate) table: Option<RecordTable>,
    pub(crate) condition: Condition,
    /// Its series that no series file of the partition defines.
    pub(crate) undefined: Vec<SeriesId>,
    /// Whether all of its series are such.
    pub(crate) all_undefined: bool,
}

/// A series file that the manifest lists.
#[derive(Clone, Debug)]
pub(crate) struct SurveyedSeriesFile {
    pub(crate) path: PathBuf,
    pub(crate) file: SeriesFile,
    pub(crate) sound: bool,
}

/// What a store consists of and in what condition that is.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) report: Report,
    /// What the manifest says, or would have to say.
    pub(crate) stored: Stored,
    pub(crate) manifest_sound: bool,
    /// Why the width of partitions is not known: then their limits were not compared, and nothing can be repaired.
    pub(crate) width_unknown: Option<Error>,
    /// Files that could not be taken into an inferred manifest.
    pub(crate) unreadable: Vec<PathBuf>,
    pub(crate) segments: Vec<SurveyedSegment>,
    /// Rollups that cannot be used, by the place of their segment.
    pub(crate) bad_rollups: Vec<((i64, String), PathBuf)>,
    pub(crate) series_files: Vec<SurveyedSeriesFile>,
    pub(crate) state_sound: bool,
    pub(crate) log_sound: bool,
    pub(crate) catalogue_sound: bool,
}

/// Reads everything in `layout`, whose lock the caller holds. `width_ns` helps when the manifest is lost.
///
/// # Errors
/// `Io` when directories cannot be listed.
pub(crate) fn survey(fs: &dyn Fs, layout: &Layout, width_ns: Option<i64>, progress: &Progress) -> Result<Survey> {
    let mut report = Report::default();
    let (mut manifest_sound, mut unreadable, mut width_unknown) = (true, Vec::new(), None);
    let stored = match manifest::read(fs, &layout.manifest()) {
        Ok(stored) => stored,
        Err(error) if is_new(fs, layout)? && !fs.exists(&layout.manifest())? => {
            return Err(Error::Invalid(format!("{}: no store is here ({error})", layout.root.display())));
        }
        Err(error) => {
            report.add(Finding::from_error(error, &layout.manifest(), false));
            let inferred = infer(fs, layout, width_ns)?;
            for (path, error) in inferred.unreadable {
                report.add(Finding::from_error(error, &path, false));
                unreadable.push(path);
            }
            manifest_sound = false;
            width_unknown = inferred.width_unknown;
            inferred.stored
        }
    };
    let survey = Survey {
        report,
        stored,
        manifest_sound,
        width_unknown,
        unreadable,
        segments: Vec::new(),
        bad_rollups: Vec::new(),
        series_files: Vec::new(),
        state_sound: true,
        log_sound: true,
        catalogue_sound: true,
    };
    let mut surveyor = Surveyor { fs, layout, progress, survey, defined: HashMap::new() };
    surveyor.run()?;
    Ok(surveyor.survey)
}

/// Whether nothing was ever written here.
fn is_new(fs: &dyn Fs, layout: &Layout) -> Result<bool> {
    for dir in [layout.partitions(), layout.wal(), layout.state()] {
        if fs.exists(&dir)? && !fs.list(&dir)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) struct Surveyor<'a> {
    pub(super) fs: &'a dyn Fs,
    pub(super) layout: &'a Layout,
    progress: &'a Progress,
    pub(super) survey: Survey,
    /// Hash of the labels of each series.
    defined: HashMap<SeriesId, u64>,
}

/// The part of the catalogue that is filled, and what its metrics must be.
struct OpenCatalogue {
    catalogue: Catalogue,
    filled: u64,
    metrics: ExpectedMetrics,
}

impl Surveyor<'_> {
    fn run(&mut self) -> Result<()> {
        let contents = self.survey.stored.contents.clone();
        let mut files = contents.files(self.layout);
        files.extend(contents.rollup_files(self.layout));
        let (log, _) = wal::named_files(self.fs, &self.layout.wal())?;
        let paths = files.iter().chain(log.iter().map(|file| &file.path));
        self.progress.total.store(paths.map(|path| self.fs.len(path).unwrap_or(0)).sum(), Ordering::Relaxed);
        let mut catalogue = self.open_catalogue(&contents)?;
        let partitions: BTreeSet<i64> = contents
            .all_segments()
            .map(|meta| meta.partition)
            .chain(contents.series_files.iter().map(|file| file.partition))
            .collect();
        for partition in partitions {
            let series = self.read_series_files(partition, &contents);
            let members: HashSet<SeriesId> = series.iter().flat_map(|file| &file.1).map(|pair| pair.0).collect();
            for meta in contents.segments.values().filter(|meta| meta.partition == partition) {
                let sound = self.read_segment(meta, &members)?;
                if let Some(rollup) = contents.rollups.get(&(partition, meta.file.clone())) {
                    self.read_rollup(rollup, meta, sound.as_ref());
                }
            }
            for meta in contents.records.values().filter(|meta| meta.segment.partition == partition) {
                self.read_records(meta, &members)?;
            }
            self.compare_catalogue(partition, &series, &mut catalogue);
        }
        if let Some(open) = catalogue {
            let mut findings = Vec::new();
            let checked = open.catalogue.check_metrics(open.metrics, |error| findings.push(error));
            findings.extend(checked.err());
            self.note_dropped(&open.catalogue, &contents).unwrap_or_else(|error| findings.push(error));
            self.find_in_catalogue(findings);
        }
        self.survey.report.series = self.defined.len() as u64;
        self.read_state(&contents);
        self.read_log(&contents)?;
        self.note_others(&files, &contents)
    }

    pub(super) fn find(&mut self, error: Error, path: &Path) {
        self.survey.report.add(Finding::from_error(error, path, false));
    }

    pub(super) fn done(&mut self, bytes: u64) {
        self.survey.report.bytes += bytes;
        self.progress.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The series of each sound series file of a partition, in local order.
    fn read_series_files(
        &mut self,
        partition: i64,
        contents: &Contents,
    ) -> Vec<(SeriesFile, Vec<(SeriesId, LabelSet)>)> {
        let mut files: Vec<SeriesFile> =
            contents.series_files.iter().filter(|file| file.partition == partition).cloned().collect();
        files.sort_unstable_by_key(|file| file.base);
        let (mut found, mut next) = (Vec::new(), 0);
        for file in files {
            let path = self.layout.series_file(partition, file.number);
            let read = read_series_file(self.fs, &path).and_then(|series| {
                let corrupt = |expected, got| Err(Error::Corruption { path: path.clone(), offset: 0, expected, got });
                if series.len() as u64 != u64::from(file.series) {
                    return corrupt(format!("{} series, as the manifest says", file.series), series.len().to_string());
                }
                if file.base != next {
                    return corrupt(format!("series from number {next} on"), format!("from {}", file.base));
                }
                for (id, labels) in &series {
                    let hash = xxh3_64(labels.as_bytes());
                    if *self.defined.entry(*id).or_insert(hash) != hash {
                        return corrupt(
                            format!("the labels that series {} has elsewhere", id.0),
                            format!("{labels:?}"),
                        );
                    }
                }
                Ok(series)
            });
            next = file.base.saturating_add(file.series);
            let sound = read.is_ok();
            match read {
                Ok(series) => found.push((file.clone(), series)),
                Err(error) => self.find(error, &path),
            }
            self.survey.report.series_files += 1;
            self.done(self.fs.len(&path).unwrap_or(0));
            self.survey.series_files.push(SurveyedSeriesFile { path, file, sound });
        }
        found
    }

    fn open_catalogue(&mut self, contents: &Contents) -> Result<Option<OpenCatalogue>> {
        if !self.fs.is_local() || contents.series_files.is_empty() {
            return Ok(None);
        }
        let path = self.layout.catalogue();
        if !self.survey.manifest_sound {
            self.survey.catalogue_sound = false;
            return Ok(None);
        }
        let damage = |expected: &str, got: &str| Error::Corruption {
            path: path.clone(),
            offset: 0,
            expected: expected.into(),
            got: got.into(),
        };
        if !self.fs.exists(&path)? {
            self.find_in_catalogue(vec![damage("the catalogue", "no such directory")]);
            return Ok(None);
        }
        match Catalogue::open_read_only(&path, self.survey.stored.number) {
            Ok((catalogue, Some(filled))) => {
                if contents.series_files.iter().any(|file| file.edit > filled) {
                    let note = format!("{}: behind the manifest; the next start catches it up", path.display());
                    self.survey.report.notes.push(note);
                }
                Ok(Some(OpenCatalogue { catalogue, filled, metrics: ExpectedMetrics::default() }))
            }
            Ok((_, None)) => {
                self.find_in_catalogue(vec![damage("a catalogue of this manifest", "another or a newer one")]);
                Ok(None)
            }
            Err(error) => {
                self.find_in_catalogue(vec![error]);
                Ok(None)
            }
        }
    }

    fn find_in_catalogue(&mut self, errors: Vec<Error>) {
        for error in errors {
            self.survey.catalogue_sound = false;
            self.survey.report.add(Finding::from_error(error, &self.layout.catalogue(), true));
        }
    }

    fn compare_catalogue(
        &mut self,
        partition: i64,
        series: &[(SeriesFile, Vec<(SeriesId, LabelSet)>)],
        catalogue: &mut Option<OpenCatalogue>,
    ) {
        let Some(open) = catalogue else { return };
        let Some(index) = self.survey.stored.contents.index_of(partition) else { return };
        let whole =
            self.survey.series_files.iter().filter(|file| file.file.partition == partition).all(|file| file.sound);
        // Without the series files nothing can be said of what was made from them.
        if !whole {
            return;
        }
        let filled: Vec<(SeriesId, LabelSet)> =
            series.iter().filter(|file| file.0.edit <= open.filled).flat_map(|file| file.1.iter().cloned()).collect();
        filled.iter().for_each(|(id, labels)| expect(&mut open.metrics, *id, labels));
        let mut findings = Vec::new();
        let checked = open.catalogue.check_partition((partition, index), &filled, |error| findings.push(error));
        findings.extend(checked.err());
        self.find_in_catalogue(findings);
    }

    fn note_dropped(&mut self, catalogue: &Catalogue, contents: &Contents) -> Result<()> {
        let live: BTreeSet<u64> = contents.indexes().into_values().collect();
        let left = catalogue.indexes()?.iter().filter(|index| !live.contains(index)).count();
        if left > 0 {
            let path = self.layout.catalogue();
            let note =
                format!("{}: indexes of {left} dropped partitions; a running server deletes them", path.display());
            self.survey.report.notes.push(note);
        }
        Ok(())
    }

    fn read_state(&mut self, contents: &Contents) {
        let Some(number) = contents.state_file else { return };
        let path = self.layout.state_file(number);
        let read = StateMap::read_file(self.fs, &path).and_then(|(state, lsn)| {
            state.check()?;
            if !self.survey.manifest_sound || lsn <= contents.flushed {
                return Ok(());
            }
            let (expected, got) = (format!("state as of commit {} or before", contents.flushed.0), lsn.0.to_string());
            Err(Error::Corruption { path: path.clone(), offset: 0, expected, got })
        });
        if let Err(error) = read {
            self.survey.state_sound = false;
            self.find(error, &path);
        }
        self.done(self.fs.len(&path).unwrap_or(0));
    }

    fn read_log(&mut self, contents: &Contents) -> Result<()> {
        let dir = self.layout.wal();
        let (fs, flushed) = (self.fs, contents.flushed);
        wal::check(fs, &dir, flushed, |event| {
            match event {
                Event::Damage(error) => {
                    self.survey.log_sound = false;
                    self.find(error, &dir);
                }
                Event::Torn(error) => {
                    let note = format!("{error}: the torn, never acknowledged end of the log; the next start cuts it");
                    self.survey.report.notes.push(note);
                }
                Event::Definitions(series, path, offset) => self.define(&series, path, offset),
                Event::Batch(lsn, batch, path, offset) => {
                    self.survey.report.commits += 1;
                    let unknown = batch.all_series().find(|&id| !self.defined.contains_key(id));
                    if lsn > flushed
                        && let Some(id) = unknown
                    {
                        self.survey.log_sound = false;
                        let expected = format!("definitions of all series of commit {}", lsn.0);
                        let got = format!("none of series {}", id.0);
                        self.find(Error::Corruption { path: path.to_owned(), offset, expected, got }, path);
                    }
                }
                Event::Bytes(bytes) => self.done(bytes),
            }
            Ok(())
        })?;
        Ok(())
    }

    fn define(&mut self, series: &[(SeriesId, LabelSet)], path: &Path, offset: u64) {
        for (id, labels) in series {
            let hash = xxh3_64(labels.as_bytes());
            if *self.defined.entry(*id).or_insert(hash) != hash {
                self.survey.log_sound = false;
                let expected = format!("the labels that series {} has elsewhere", id.0);
                let got = format!("{labels:?}");
                self.find(Error::Corruption { path: path.to_owned(), offset, expected, got }, path);
            }
        }
    }

    /// Notes files that the manifest does not list.
    fn note_others(&mut self, files: &[PathBuf], contents: &Contents) -> Result<()> {
        let listed: HashSet<&PathBuf> = files.iter().chain(&self.survey.unreadable).collect();
        let mut notes = Vec::new();
        let mut dirs = vec![self.layout.state()];
        if self.fs.exists(&self.layout.partitions())? {
            dirs.extend(
                self.fs.list(&self.layout.partitions())?.iter().map(|name| self.layout.partitions().join(name)),
            );
        }
        for dir in dirs {
            if !self.fs.exists(&dir)? {
                continue;
            }
            for name in self.fs.list(&dir)? {
                let path = dir.join(&name);
                if listed.contains(&path) {
                    continue;
                }
                let ours = file_number(&name).is_some_and(|number| number >= contents.next_file)
                    || is_rollup(&name)
                    || contents.removed.contains(&self.layout.name_of(&path));
                notes.push(if ours || name.ends_with(".tmp") {
                    format!("{}: left over from interrupted work; the next start deletes it", path.display())
                } else {
                    format!("{}: not part of the store; left alone", path.display())
                });
            }
        }
        self.survey.report.notes.extend(notes);
        Ok(())
    }
}
