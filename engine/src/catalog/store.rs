//! The catalogue's store: RocksDB, one column family, without its own log.
//!
//! | key | value |
//! |---|---|
//! | `v` | u32 format version, u64 number of the manifest edit up to which everything is here |
//! | `m` ordinal (u32 BE) | number of series (u32), metric name, label names |
//! | `g` label set | id (u64) |
//! | `i` id (u64 BE) | label set |
//! | `p` index (u64 BE) `l` label `\0` value | local ordinals that have it |
//! | `p` index (u64 BE) `n` label | local ordinals that have it, whatever its value |
//! | `p` index (u64 BE) `o` chunk (u32 BE) | ids of up to 512 local ordinals |
//! | `p` index (u64 BE) `s` metric (u32 BE) | numbers of the metric's series |
//!
//! The tables under `p` are in `partition`.
use std::path::{Path, PathBuf};

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, Env, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::error::{Error, Result};
use crate::format::{self, Reader};
use crate::types::{LabelSet, METRIC_NAME, SeriesId, SeriesSet};

use super::lists::Lists;
use super::recent::Recent;

/// Version of the keys and values; another one is rebuilt, not migrated.
const VERSION: u32 = 2;
/// Series whose postings are gathered in memory before they are merged into those that are stored: about 16 MiB.
const SERIES_AT_ONCE: usize = 32 << 10;
/// A write batch is handed over at this size.
pub(super) const WRITE_BYTES: usize = 4 << 20;

/// A buffer of what is not written yet; there are two.
const WRITE_BUFFER_BYTES_MIN: usize = 1 << 20;
const WRITE_BUFFER_BYTES_MAX: usize = 32 << 20;

/// Memory of a remembered label set besides its bytes: two counters of the set, its place in the table.
const LABELS_BYTES: usize = 80;

/// Memory of the catalogue of a store that is not open, for a check, a repair or a restore.
pub(crate) const OFFLINE_BYTES_MAX: usize = 128 << 20;

/// What the catalogue knows of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredMetric {
    pub(crate) name: String,
    pub(crate) series_count: u32,
    pub(crate) label_names: Vec<String>,
}

/// See the module. Closed explicitly, because snapshots may outlive the engine.
pub(crate) struct Catalogue {
    path: PathBuf,
    db: RwLock<Option<DB>>,
    write: WriteOptions,
    cache: Cache,
    blocks_bytes_max: usize,
    /// Held by whoever adds or drops series.
    pub(super) writing: Mutex<()>,
    /// Indexes that nobody reads any more.
    pub(super) retired: Mutex<Vec<u64>>,
    /// Series that are here but no longer part of the store.
    pub(super) dead: RwLock<SeriesSet>,
    /// Of series that queries ask for and nobody writes to. An id is never given to other labels.
    remembered: Mutex<Recent<SeriesId, LabelSet>>,
    pub(super) lists: Mutex<Lists>,
}

pub(super) fn failed(error: rocksdb::Error) -> Error {
    Error::Catalogue(error.into_string())
}

fn options(local: bool, cache: &Cache, write_buffer_bytes: usize) -> Result<Options> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    // In parts that are cached each for itself. As one block the index or the filter of a large file is larger than its share of
    // the cache, which then does not keep it: every question would read megabytes.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_max_write_buffer_number(2);
    // Whoever creates a series asks first whether it is here: nearly always it is not.
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_max_background_jobs(1);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(256);
    options.set_compression_type(rocksdb::DBCompressionType::Zstd);
    // RocksDB's own choice but for the level: at 3 a million new series took two hundredths less room, and some three more CPU.
    options.set_compression_options(-14, 1, 0, 0);
    // Files of a flush each: when very many series come at once, they are merged half as often.
    options.set_level_zero_file_num_compaction_trigger(8);
    if !local {
        options.set_env(&Env::mem_env().map_err(failed)?);
        // Of a store in memory nobody can read the log.
        options.set_log_level(LogLevel::Fatal);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
    }
    Ok(options)
}

/// The edit up to which `db` is filled; `None` when it has another version or is ahead of edit `edit`.
fn filled_up_to(db: &DB, edit: u64) -> Option<u64> {
    match db.get(b"v") {
        Ok(Some(value)) if value.len() == 12 && value[..4] == VERSION.to_le_bytes() => {
            Some(value[4..].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte)))
                .filter(|&filled| filled <= edit)
        }
        Ok(None) if db.iterator(rocksdb::IteratorMode::Start).next().is_none() => Some(0),
        _ => None,
    }
}

impl Catalogue {
    /// Opens the store in `path`, or in memory. One that RocksDB cannot open, that has another version, or that is
    /// ahead of manifest edit `edit` (a restored manifest), is destroyed: it is rebuilt from the series files. Returns
    /// the edit up to which it is filled. It holds about `bytes_max` of memory: an eighth cached blocks, an eighth lists and a
    /// quarter label sets that queries asked for, half not yet written.
    pub(crate) fn open(path: &Path, local: bool, edit: u64, bytes_max: usize) -> Result<(Self, u64)> {
        let cache = Cache::new_lru_cache(bytes_max / 8);
        let options = options(local, &cache, (bytes_max / 4).clamp(WRITE_BUFFER_BYTES_MIN, WRITE_BUFFER_BYTES_MAX))?;
        let destroy = || DB::destroy(&options, path).and_then(|()| DB::open(&options, path));
        let db = match DB::open(&options, path) {
            Ok(db) => db,
            // Nothing is wrong with it, and it could not be rebuilt either.
            Err(error) if error.as_ref().contains("No space left on device") => return Err(failed(error)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot open the catalogue: rebuilding it");
                destroy().map_err(failed)?
            }
        };
        let (db, filled) = match filled_up_to(&db, edit) {
            Some(filled) => (db, filled),
            None => {
                tracing::warn!(path = %path.display(), "the catalogue does not fit the manifest: rebuilding it");
                drop(db);
                (destroy().map_err(failed)?, 0)
            }
        };
        let mut write = WriteOptions::default();
        // What survives a crash must be a prefix of what was written; the series files have the rest.
        write.disable_wal(true);
        Ok((Self::of(path, db, write, (cache, bytes_max / 8), bytes_max / 4), filled))
    }

    /// Opens the store in `path` as it is, to be read only, for a check. Returns the edit up to which it is filled;
    /// `None` when it does not fit manifest edit `edit`.
    ///
    /// # Errors
    /// `Catalogue` when RocksDB cannot open it.
    pub(crate) fn open_read_only(path: &Path, edit: u64) -> Result<(Self, Option<u64>)> {
        let cache = Cache::new_lru_cache(OFFLINE_BYTES_MAX / 2);
        let mut options = options(true, &cache, WRITE_BUFFER_BYTES_MIN)?;
        options.create_if_missing(false);
        let db = DB::open_for_read_only(&options, path, false).map_err(failed)?;
        let filled = filled_up_to(&db, edit);
        Ok((Self::of(path, db, WriteOptions::default(), (cache, OFFLINE_BYTES_MAX / 2), 0), filled))
    }

    /// `cache` and what it holds at most; of what queries asked for, half as much in lists as in label sets.
    fn of(
        path: &Path,
        db: DB,
        write: WriteOptions,
        (cache, blocks_bytes_max): (Cache, usize),
        remembered_bytes_max: usize,
    ) -> Self {
        Self {
            path: path.to_owned(),
            db: RwLock::new(Some(db)),
            write,
            cache,
            blocks_bytes_max,
            writing: Mutex::new(()),
            retired: Mutex::default(),
            dead: RwLock::default(),
            remembered: Mutex::new(Recent::new(remembered_bytes_max, |_, labels| {
                labels.as_bytes().len() + LABELS_BYTES
            })),
            lists: Mutex::new(Lists::new(remembered_bytes_max / 2)),
        }
    }

    pub(super) fn db(&self) -> Result<MappedRwLockReadGuard<'_, DB>> {
        RwLockReadGuard::try_map(self.db.read(), Option::as_ref)
            .map_err(|_| Error::Unavailable("the store this snapshot belongs to is closed".into()))
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        let unwritten =
            self.db().ok().and_then(|db| db.property_int_value("rocksdb.size-all-mem-tables").ok().flatten());
        let remembered = self.remembered.lock().bytes() + self.lists.lock().bytes();
        self.cache.get_usage() + remembered + unwritten.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Memory of the blocks that RocksDB keeps, at most.
    pub(super) fn blocks_bytes_max(&self) -> usize {
        self.blocks_bytes_max
    }

    /// Whether label sets can be remembered without forgetting others.
    pub(super) fn has_room(&self) -> bool {
        self.remembered.lock().has_room()
    }

    /// Writes everything to disk and closes the store; calls after it answer `Unavailable`.
    pub(crate) fn close(&self, flush: bool) {
        if let Some(db) = self.db.write().take()
            && flush
            && let Err(error) = db.flush()
        {
            tracing::warn!(%error, "the catalogue is not complete on disk; the next open fills it from the series files");
        }
    }

    pub(super) fn corrupt(&self, expected: &str, got: impl Into<String>) -> Error {
        Error::Corruption { path: self.path.clone(), offset: 0, expected: expected.into(), got: got.into() }
    }

    /// The id of `labels`.
    pub(crate) fn id_of(&self, labels: &LabelSet) -> Result<Option<SeriesId>> {
        match self.db()?.get_pinned(labels_key(labels)).map_err(failed)? {
            Some(value) => {
                let id = SeriesId(Reader::new(&value, &self.path, 0).u64()?);
                Ok(Some(id).filter(|&id| !self.is_dead(id)))
            }
            None => Ok(None),
        }
    }

    /// Whether the partitions that had `id` are gone.
    pub(crate) fn is_dead(&self, id: SeriesId) -> bool {
        self.dead.read().contains(id)
    }

    /// The labels of each id that is here.
    pub(crate) fn labels_of(&self, ids: &[SeriesId]) -> Result<Vec<Option<LabelSet>>> {
        let keys = ids.iter().map(|id| id_key(*id));
        let values = self.db()?.multi_get(keys);
        let decode = |value: Vec<u8>| LabelSet::from_stored(&value, &self.path, 0);
        values.into_iter().map(|value| value.map_err(failed)?.map(decode).transpose()).collect()
    }

    /// As [`Catalogue::labels_of`], for queries, which ask for the same series again.
    pub(crate) fn labels_for_query(&self, ids: &[SeriesId]) -> Result<Vec<Option<LabelSet>>> {
        let mut labels: Vec<Option<LabelSet>> = {
            let mut remembered = self.remembered.lock();
            ids.iter().map(|id| remembered.get(id)).collect()
        };
        let missing: Vec<usize> = (0..ids.len()).filter(|&at| labels[at].is_none()).collect();
        if missing.is_empty() {
            return Ok(labels);
        }
        let read = self.labels_of(&missing.iter().map(|&at| ids[at]).collect::<Vec<_>>())?;
        let mut remembered = self.remembered.lock();
        for (at, found) in missing.into_iter().zip(read) {
            if let Some(found) = &found {
                remembered.put(ids[at], found.clone());
            }
            labels[at] = found;
        }
        Ok(labels)
    }

    /// Every metric by ordinal.
    pub(crate) fn metrics(&self) -> Result<Vec<(u32, StoredMetric)>> {
        let mut metrics = Vec::new();
        self.scan(b"m", 1, |key, value| {
            let ordinal = Reader::new(key, &self.path, 0).bytes(4)?.iter().fold(0, |n, &byte| n << 8 | u32::from(byte));
            metrics.push((ordinal, decode_metric(value, &self.path)?));
            Ok(true)
        })?;
        Ok(metrics)
    }

    /// Visits the keys that start with `prefix`, from byte `at` of each, until `visit` has enough.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        at: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let db = self.db()?;
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix));
        let mut cursor = db.raw_iterator_opt(options);
        cursor.seek(prefix);
        while let Some((key, value)) = cursor.item() {
            if !visit(&key[at..], value)? {
                return Ok(());
            }
            cursor.next();
        }
        cursor.status().map_err(failed)
    }

    /// Adds the series of a series file: `series[k]` has local ordinal `base + k` in index `index`. Doing it twice does
    /// no harm.
    pub(crate) fn add_series(&self, index: u64, base: u32, series: &[(SeriesId, LabelSet)]) -> Result<()> {
        let _writing = self.writing.lock();
        for (n, series) in series.chunks(SERIES_AT_ONCE).enumerate() {
            self.add_some(index, base + (n * SERIES_AT_ONCE) as u32, series)?;
        }
        Ok(())
    }

    fn add_some(&self, index: u64, base: u32, series: &[(SeriesId, LabelSet)]) -> Result<()> {
        let db = self.db()?;
        let _change = self.change_lists();
        let mut batch = WriteBatch::default();
        // Table after table, each in the order of its keys (but for ids before lists, see there): then RocksDB need not look for their places.
        for (id, labels) in series {
            batch.put(labels_key(labels), id.0.to_le_bytes());
            self.hand_over(&db, &mut batch, WRITE_BYTES)?;
        }
        let mut by_id: Vec<&(SeriesId, LabelSet)> = series.iter().collect();
        by_id.sort_unstable_by_key(|pair| pair.0);
        for (id, labels) in &by_id {
            batch.put(id_key(*id), labels.as_bytes());
            self.hand_over(&db, &mut batch, WRITE_BYTES)?;
        }
        self.add_to_index(&db, &mut batch, (index, base), series, &by_id)?;
        for (ordinal, mut metric) in metrics_of(&by_id) {
            let key = [b"m".as_slice(), &ordinal.to_be_bytes()].concat();
            if let Some(old) = db.get_pinned(&key).map_err(failed)? {
                let old = decode_metric(&old, &self.path)?;
                metric.series_count = metric.series_count.max(old.series_count);
                metric.label_names.extend(old.label_names);
            }
            metric.label_names.sort_unstable();
            metric.label_names.dedup();
            batch.put(key, encode_metric(&metric));
        }
        self.hand_over(&db, &mut batch, 0)
    }

    /// Writes `batch` if it has grown beyond `bytes`.
    pub(super) fn hand_over(&self, db: &DB, batch: &mut WriteBatch, bytes: usize) -> Result<()> {
        if batch.size_in_bytes() > bytes {
            db.write_opt(std::mem::take(batch), &self.write).map_err(failed)
        } else {
            Ok(())
        }
    }

    /// Records that everything up to manifest edit `edit` is here.
    pub(crate) fn set_filled(&self, edit: u64) -> Result<()> {
        let value = [VERSION.to_le_bytes().as_slice(), &edit.to_le_bytes()].concat();
        self.db()?.put_opt(b"v", value, &self.write).map_err(failed)
    }
}

/// What `series`, sorted by id, say of their metrics.
fn metrics_of(series: &[&(SeriesId, LabelSet)]) -> Vec<(u32, StoredMetric)> {
    let metrics = series.chunk_by(|a, b| a.0.metric() == b.0.metric());
    metrics
        .map(|series| {
            let (last, labels) = series[series.len() - 1];
            let (name, series_count) = (labels.metric_name().to_owned(), last.number().saturating_add(1));
            let mut metric = StoredMetric { name, series_count, label_names: Vec::new() };
            let mut before: Option<&LabelSet> = None;
            for (_, labels) in series {
                let names = || labels.iter_bytes().map(|pair| pair.0);
                if before.is_none_or(|before| !before.iter_bytes().map(|pair| pair.0).eq(names())) {
                    for (name, _) in labels.iter().filter(|pair| pair.0 != METRIC_NAME) {
                        if !metric.label_names.iter().any(|known| known == name) {
                            metric.label_names.push(name.to_owned());
                        }
                    }
                }
                before = Some(labels);
            }
            (last.metric(), metric)
        })
        .collect()
}

/// Key of the table id -> labels.
pub(super) fn id_key(id: SeriesId) -> Vec<u8> {
    [b"i".as_slice(), &id.0.to_be_bytes()].concat()
}

/// Key of the table labels -> id.
pub(super) fn labels_key(labels: &LabelSet) -> Vec<u8> {
    [b"g", labels.as_bytes()].concat()
}

fn encode_metric(metric: &StoredMetric) -> Vec<u8> {
    let mut out = metric.series_count.to_le_bytes().to_vec();
    format::put_bytes(&mut out, metric.name.as_bytes());
    format::put_varint(&mut out, metric.label_names.len() as u64);
    metric.label_names.iter().for_each(|name| format::put_bytes(&mut out, name.as_bytes()));
    out
}

fn decode_metric(value: &[u8], path: &Path) -> Result<StoredMetric> {
    let mut reader = Reader::new(value, path, 0);
    let mut metric =
        StoredMetric { series_count: reader.u32()?, name: reader.string()?.to_owned(), label_names: Vec::new() };
    for _ in 0..reader.count(1)? {
        metric.label_names.push(reader.string()?.to_owned());
    }
    reader.finish()?;
    Ok(metric)
}
