//! Opening a store: what the manifest says, the catalogue caught up, the log replayed.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::catalog::{Catalogue, Head, KeyCache, PartitionIndex, read_series_file};
use crate::changes::Changes;
use crate::clock::Clock;
use crate::config::EngineConfig;
use crate::error::{Error, Result};
use crate::feed::Ring;
use crate::fs::{Fs, LockGuard, sync_path};
use crate::layout::{Layout, file_number, is_rollup};
use crate::manifest::{Contents, Manifest};
use crate::memtable::{CommittedBatch, Memtable};
use crate::partition::Partitioning;
use crate::records::{LiveRecords, Tables};
use crate::rollup::Rules;
use crate::state::StateMap;
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::version::{LiveSegment, Version};
use crate::wal::{CommitQueue, Log, Piece, Pipe, Replayed, WalFiles, Writer};

use super::delete::SEALED_MAX;
use super::flush::Members;
use super::threads::beside;
use super::{Core, Counters, FileNumbers, Live, Threads, Wakeup};

/// Decoded commits that wait to be applied while the log is read ahead of them.
const READ_AHEAD_BYTES_MAX: usize = 8 << 20;

/// How far the replay of an open has come; watch it from another thread.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    /// Bytes of log done.
    pub done: AtomicU64,
    /// Bytes of log in all; 0 until known.
    pub total: AtomicU64,
}

/// Opens the store, replays the log and starts the threads.
pub(crate) fn open(
    config: EngineConfig,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    progress: &ReplayProgress,
) -> Result<(Arc<Core>, Threads, LockGuard)> {
    let layout = Layout::new(&config.data_dir);
    let width_ns = i64::try_from(config.partition_width.as_nanos()).unwrap_or(i64::MAX);
    if width_ns < 1 {
        return Err(Error::Invalid("the partition width must be at least a nanosecond".into()));
    }
    let rollups = Rules::of(&config)?;
    fs.create_dir(&layout.root)?;
    let lock = fs.lock(&layout.lock())?;
    for dir in [layout.wal(), layout.state(), layout.partitions()] {
        fs.create_dir(&dir)?;
    }
    fs.sync_dir(&layout.root)?;
    let manifest_missing = !fs.exists(&layout.manifest())?;
    if manifest_missing {
        // Before there is a manifest, so that a store with one needs no such care.
        sync_path(&*fs, &layout.root)?;
    }
    let manifest = Manifest::open(Arc::clone(&fs), &layout.manifest(), width_ns)?;
    let contents = manifest.contents().clone();
    let (next_file, left_overs) = find_left_overs(&*fs, &layout, &contents, manifest_missing)?;
    let state = load_state(&*fs, &layout, &contents)?;
    let (catalogue, head) = open_catalogue(&*fs, &layout, &contents, manifest.number(), config.catalogue_bytes_max)?;
    let catalogue = Arc::new(catalogue);
    let version = load_version(&fs, &layout, &contents, &catalogue)?;
    let tables = load_tables(&version)?;
    let now_ns = clock.now_ns();
    let memtable_held = Arc::default();
    let core = Arc::new(Core {
        live: Mutex::new(Live {
            lsn: contents.flushed,
            active: Memtable::new(0, contents.flushed, now_ns, &memtable_held),
            sealed: Vec::new(),
            state,
            tables: tables.clone(),
            version: Arc::new(version),
            flushed: contents.flushed,
            tombstones: contents.tombstones.values().cloned().collect(),
            changes: Changes::default(),
            ring: Ring::new(config.feed_bytes_max),
        }),
        queue: Arc::new(CommitQueue::new(config.commit_queue_bytes_max)),
        head: Arc::new(RwLock::new(head)),
        keys: KeyCache::new(config.key_cache_bytes_max),
        catalogue,
        wal_files: WalFiles::default(),
        newest: watch::Sender::new(contents.flushed),
        counters: Counters::default(),
        rollups,
        rollups_put_off: Mutex::default(),
        tidier: Wakeup::default(),
        flusher: Wakeup::default(),
        compactor: Wakeup::default(),
        manifest: Mutex::new(manifest),
        numbers: Mutex::new(FileNumbers { next: next_file, ..FileNumbers::default() }),
        memtable_bytes: AtomicUsize::new(0),
        memtable_held,
        pending: Mutex::default(),
        unplaced: Mutex::default(),
        creating: Mutex::new(()),
        flushing: Mutex::new(Members::default()),
        compacting: Mutex::new(()),
        declared: Mutex::new(tables),
        claims: Mutex::new(contents.claims),
        retained_from_ns: AtomicI64::new(i64::MIN),
        deleted_before_ns: Mutex::default(),
        evicted_ns: AtomicI64::new(now_ns),
        partitioning: Partitioning { width_ns },
        config,
        fs,
        clock,
        layout,
    });
    let lsn = core.replay(contents.flushed, progress)?;
    let dir = core.layout.wal();
    let writer =
        Writer::open(Arc::clone(&core.fs), &dir, core.wal_files.clone(), lsn.0 + 1, core.config.wal_segment_bytes)?;
    core.manifest.lock().settle()?;
    // Only now that nothing was found wrong is it certain that these are what they look like.
    for path in left_overs {
        if core.fs.exists(&path)? {
            core.fs.remove(&path)?;
        }
    }
    core.newest.send_replace(lsn);
    let threads = Threads::start(&core, writer, lsn)?;
    Ok((core, threads, lock))
}

/// The next free file number, and the files to delete: those that the manifest has removed and those of interrupted work.
///
/// An unreferenced file that is neither is left alone: it was not proved worthless.
fn find_left_overs(
    fs: &dyn Fs,
    layout: &Layout,
    contents: &Contents,
    manifest_missing: bool,
) -> Result<(u64, Vec<PathBuf>)> {
    let mut referenced: HashSet<PathBuf> = contents.files(layout).into_iter().collect();
    let mut dirs = vec![layout.state()];
    for name in fs.list(&layout.partitions())? {
        if name.parse::<i64>().is_ok() {
            dirs.push(layout.partitions().join(name));
        }
    }
    for path in &referenced {
        if !fs.exists(path)? {
            let expected = "this file, which the manifest lists".into();
            return Err(Error::Corruption { path: path.clone(), offset: 0, expected, got: "no such file".into() });
        }
    }
    // These may be missing, but are left alone.
    referenced.extend(contents.rollup_files(layout));
    let (mut next_file, mut left_overs) = (contents.next_file.max(1), Vec::new());
    for dir in dirs {
        for name in fs.list(&dir)? {
            let path = dir.join(&name);
            if manifest_missing && file_number(&name).is_some() {
                let (expected, got) = ("a manifest that lists it".into(), "no file MANIFEST".into());
                return Err(Error::Corruption { path, offset: 0, expected, got });
            }
            let Some(number) = file_number(&name) else {
                if name.ends_with(".tmp") {
                    left_overs.push(path);
                }
                continue;
            };
            next_file = next_file.max(number + 1);
            if referenced.contains(&path) {
                continue;
            }
            let removed = contents.removed.contains(&layout.name_of(&path));
            // A rollup that is not listed was never used.
            if number >= contents.next_file || removed || is_rollup(&name) {
                left_overs.push(path);
            } else {
                tracing::warn!(path = %path.display(), "this file is not part of the store and is left alone");
            }
        }
    }
    Ok((next_file, left_overs))
}

fn load_version(fs: &Arc<dyn Fs>, layout: &Layout, contents: &Contents, catalogue: &Arc<Catalogue>) -> Result<Version> {
    let mut version = Version::default();
    for meta in contents.segments.values() {
        let path = layout.partition(meta.partition).join(&meta.file);
        let live = LiveSegment::open(fs, path, meta)?;
        if let Some(rollup) = contents.rollups.get(&(meta.partition, meta.file.clone())) {
            live.open_rollup(rollup);
        }
        version.add(live);
    }
    for meta in contents.records.values() {
        let path = layout.partition(meta.segment.partition).join(&meta.segment.file);
        version.add_records(LiveRecords::open(fs, path, meta)?);
    }
    for (partition, index) in contents.indexes() {
        let entry = version.partitions.entry(partition).or_default();
        entry.series = contents.series_in(partition);
        entry.index = Some(PartitionIndex::new(catalogue, index));
    }
    Ok(version)
}

/// Tables and columns that record segments have.
fn load_tables(version: &Version) -> Result<Tables> {
    let mut tables = Tables::default();
    for live in version.record_segments() {
        tables.admit(&live.meta().table, live.segment.columns()).map_err(|error| Error::Corruption {
            path: live.segment.path().to_owned(),
            offset: 0,
            expected: "columns of the types that other files have".into(),
            got: error.to_string(),
        })?;
    }
    Ok(tables)
}

fn load_state(fs: &dyn Fs, layout: &Layout, contents: &Contents) -> Result<StateMap> {
    let Some(number) = contents.state_file else { return Ok(StateMap::default()) };
    let path = layout.state_file(number);
    let (state, lsn) = StateMap::read_file(fs, &path)?;
    if lsn > contents.flushed {
        let (expected, got) = (format!("state as of commit {} or before", contents.flushed.0), lsn.0.to_string());
        return Err(Error::Corruption { path, offset: 0, expected, got });
    }
    Ok(state)
}

/// Opens the catalogue, fills in what series files newer than it say, and loads the metrics.
pub(crate) fn open_catalogue(
    fs: &dyn Fs,
    layout: &Layout,
    contents: &Contents,
    edit: u64,
    bytes_max: usize,
) -> Result<(Catalogue, Head)> {
    let (catalogue, filled) = Catalogue::open(&layout.catalogue(), fs.is_local(), edit, bytes_max)?;
    let mut files: Vec<_> = contents.series_files.iter().filter(|file| file.edit > filled).collect();
    files.sort_unstable_by_key(|file| (file.edit, file.partition, file.base));
    for file in files {
        let path = layout.series_file(file.partition, file.number);
        let series = read_series_file(fs, &path)?;
        if series.len() as u64 != u64::from(file.series) {
            let (expected, got) = (format!("{} series, as the manifest says", file.series), series.len().to_string());
            return Err(Error::Corruption { path, offset: 0, expected, got });
        }
        let index = contents.index_of(file.partition).unwrap_or(file.number);
        catalogue.add_series(index, file.base, &series)?;
    }
    catalogue.set_filled(edit)?;
    // Partitions that were dropped when the catalogue could not follow.
    let live: Vec<u64> = contents.indexes().into_values().collect();
    catalogue.retire_others(&live)?;
    let mut head = Head::default();
    for (ordinal, metric) in catalogue.metrics()? {
        let names = metric.label_names.iter().map(String::as_str);
        head.restore_metric(ordinal, &metric.name, metric.series_count, names);
    }
    contents.numbered.iter().for_each(|(&metric, &next)| head.keep_numbers(metric, next));
    Ok((catalogue, head))
}

impl Core {
    /// Brings back what the log holds beyond the segments; returns the newest commit.
    fn replay(&self, flushed: Lsn, progress: &ReplayProgress) -> Result<Lsn> {
        let dir = self.layout.wal();
        let log = Log::open(&*self.fs, &dir, flushed)?;
        progress.total.store(log.bytes(), Ordering::Relaxed);
        let pipe: Pipe<Piece> = Pipe::new(READ_AHEAD_BYTES_MAX);
        let read = || {
            let _end = pipe.end();
            log.read(|piece| {
                let bytes = piece.bytes;
                pipe.push(piece, bytes)
            })
        };
        let apply = || -> Result<()> {
            let _end = pipe.end();
            while let Some(piece) = pipe.pop() {
                piece.replayed.into_iter().try_for_each(|replayed| self.apply(replayed, &dir))?;
                progress.done.store(piece.done, Ordering::Relaxed);
            }
            Ok(())
        };
        let (read, applied) = beside("replay", read, apply)?;
        // What is wrong with a commit comes before what is wrong with the log after it.
        applied?;
        log.finish(read?, &self.wal_files)
    }

    fn apply(&self, replayed: Replayed, dir: &Path) -> Result<()> {
        let (lsn, batch) = match replayed {
            Replayed::Definitions(series) => return self.restore_series(series, dir),
            Replayed::Batch(lsn, batch) => (lsn, batch),
        };
        self.touch_all(&batch).and_then(|()| self.declare(&batch, || Ok(()))).map_err(|error| Error::Corruption {
            path: dir.to_owned(),
            offset: 0,
            expected: format!("definitions of all series and columns of commit {}", lsn.0),
            got: error.to_string(),
        })?;
        let commit = CommittedBatch { lsn, batch: Arc::new(batch) };
        let sealed = {
            let mut live = self.live.lock();
            self.add(&mut live, commit, self.clock.now_ns());
            live.sealed.len()
        };
        self.tidy();
        if self.replay_is_full() || sealed >= SEALED_MAX { self.flush() } else { Ok(()) }
    }

    /// Whether a replay must flush before it goes on. What it brings back was in memory when the process ended, so it takes
    /// no more memory than running did, and the store is ready the sooner; but half of the room stays with the writers who
    /// come before the first flush ends.
    fn replay_is_full(&self) -> bool {
        self.memtable_bytes() >= self.config.memtable_bytes_max.max(self.config.memtable_total_bytes_max / 2)
    }

    fn restore_series(&self, series: Vec<(SeriesId, LabelSet)>, dir: &Path) -> Result<()> {
        // A number beyond those of its metric is of a series that is nowhere but in the log.
        let existed: Vec<SeriesId> = {
            let head = self.head.read();
            series.iter().map(|pair| pair.0).filter(|&id| head.has_existed(id)).collect()
        };
        let labels = self.catalogue.labels_of(&existed)?;
        let placed: HashMap<SeriesId, Option<LabelSet>> = existed.into_iter().zip(labels).collect();
        let mut head = self.head.write();
        let mut head = head.activation();
        for (id, labels) in series {
            match placed.get(&id).and_then(Option::as_ref) {
                Some(known) if *known == labels => {}
                Some(known) => {
                    let (expected, got) = (format!("series {} to be {known:?}", id.0), format!("{labels:?}"));
                    return Err(Error::Corruption { path: dir.to_owned(), offset: 0, expected, got });
                }
                None => self.unplaced.lock().push((id, labels.clone())),
            }
            head.activate(id, labels);
        }
        Ok(())
    }
}
