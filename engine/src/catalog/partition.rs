//! The index of a time partition: postings of local ordinals, which series they are, and dropping all of it.
//!
//! An index has a number of its own, that of the partition's first series file: a partition that was dropped and comes
//! back is another index, so neither a snapshot nor a crash can mix the two.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use croaring::Bitmap;
use rocksdb::{DB, WriteBatch};

use crate::error::Result;
use crate::format;
use crate::types::{LabelSet, SeriesId, SeriesSet};

use super::gather::Gathered;
use super::postings::{self, Postings, Visit};
use super::store::{Catalogue, WRITE_BYTES, failed, id_key, labels_key};

/// Local ordinals per key of the ordinal -> id table.
const CHUNK: u32 = 512;
/// Series that are looked up at once.
const SERIES_AT_ONCE: usize = 4096;

/// A table of an index.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Table {
    /// (label, value) -> ordinals.
    Values = b'l',
    /// label -> ordinals that have it.
    Names = b'n',
    /// chunk -> ids of local ordinals.
    Ordinals = b'o',
    /// metric -> numbers of its series here.
    Members = b's',
}

/// A live partition's hold on its index. Once the manifest has removed the partition, the index goes after the last
/// version that holds this: [`Catalogue::sweep`] finds it.
pub(crate) struct PartitionIndex {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) number: u64,
    retired: AtomicBool,
}

impl PartitionIndex {
    pub(crate) fn new(catalogue: &Arc<Catalogue>, number: u64) -> Arc<Self> {
        Arc::new(Self { catalogue: Arc::clone(catalogue), number, retired: AtomicBool::new(false) })
    }
    /// The manifest no longer has the partition.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

impl Drop for PartitionIndex {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire) {
            self.catalogue.retired.lock().push(self.number);
        }
    }
}

/// The postings of one time partition, of local ordinals.
pub(crate) struct PartitionPostings<'a> {
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) index: u64,
    /// Number of series in the partition.
    pub(crate) series: u32,
}

impl PartitionPostings<'_> {
    /// The ids of local ordinals.
    pub(crate) fn ids(&self, ordinals: &Bitmap) -> Result<Vec<SeriesId>> {
        let mut ids = Vec::with_capacity(ordinals.cardinality() as usize);
        let mut ordinals = ordinals.iter().peekable();
        while let Some(&first) = ordinals.peek() {
            let number = first / CHUNK;
            let chunk = self.catalogue.stored(&chunk_key(self.index, number))?.unwrap_or_default();
            let mut own = self.catalogue.ids_of_chunk(&chunk);
            let mut next = number * CHUNK;
            while let Some(ordinal) = ordinals.next_if(|ordinal| ordinal / CHUNK == number) {
                let id = own.nth((ordinal - next) as usize).transpose()?;
                let missing = || self.catalogue.corrupt("the id of every local ordinal", format!("none for {ordinal}"));
                ids.push(id.ok_or_else(missing)?);
                next = ordinal + 1;
            }
        }
        Ok(ids)
    }

    /// Its series.
    pub(crate) fn members(&self) -> Result<SeriesSet> {
        self.catalogue.members(self.index)
    }

    /// The local ordinals of `ids`.
    pub(crate) fn ordinals_of(&self, ids: &SeriesSet) -> Result<Bitmap> {
        let db = self.catalogue.db()?;
        let mut ordinals = Bitmap::new();
        for number in 0..self.series.div_ceil(CHUNK) {
            let chunk = self.catalogue.chunk(&db, &chunk_key(self.index, number))?;
            ordinals.extend((number * CHUNK..).zip(chunk).filter(|pair| ids.contains(pair.1)).map(|pair| pair.0));
        }
        Ok(ordinals)
    }
}

impl Postings for PartitionPostings<'_> {
    fn all(&self) -> Result<Bitmap> {
        Ok(Bitmap::from_range(0..self.series))
    }
    fn exact(&self, label: &str, value: &str) -> Result<Bitmap> {
        self.list(&value_key(self.index, label.as_bytes(), value.as_bytes()))
    }
    fn present(&self, label: &str) -> Result<Bitmap> {
        self.list(&name_key(self.index, label.as_bytes()))
    }
    fn any(&self, label: &str, prefix: &str, want: &dyn Fn(&str) -> bool) -> Result<Bitmap> {
        let mut out = Bitmap::new();
        let key = value_key(self.index, label.as_bytes(), prefix.as_bytes());
        let at = key.len() - prefix.len();
        self.catalogue.scan(&key, at, |value, posting| {
            if want(self.text(value)?) {
                out.or_inplace(&self.catalogue.posting(posting)?);
            }
            Ok(true)
        })?;
        Ok(out)
    }
    fn values(&self, label: &str, among: Option<&Bitmap>, visit: Visit<'_>) -> Result<()> {
        let key = value_key(self.index, label.as_bytes(), b"");
        self.visit_among(&key, among, visit)
    }
    fn names(&self, among: Option<&Bitmap>, visit: Visit<'_>) -> Result<()> {
        self.visit_among(&name_key(self.index, b""), among, visit)
    }
}

impl PartitionPostings<'_> {
    /// The posting list of `key`.
    fn list(&self, key: &[u8]) -> Result<Bitmap> {
        self.catalogue.stored(key)?.map_or_else(|| Ok(Bitmap::new()), |list| self.catalogue.posting(&list))
    }

    /// Visits what follows `prefix` in the keys whose posting list has one of `among`.
    fn visit_among(&self, prefix: &[u8], among: Option<&Bitmap>, visit: Visit<'_>) -> Result<()> {
        self.catalogue.scan(prefix, prefix.len(), |text, posting| {
            if let Some(among) = among
                && !self.catalogue.posting(posting)?.intersect(among)
            {
                return Ok(true);
            }
            visit(self.text(text)?)
        })
    }

    fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|e| self.catalogue.corrupt("UTF-8", e.to_string()))
    }
}

impl Catalogue {
    /// Adds the series of a file to the tables of index `index`: `series[k]` has local ordinal `base + k`; `by_id` are the same.
    pub(super) fn add_to_index(
        &self,
        db: &DB,
        batch: &mut WriteBatch,
        (index, base): (u64, u32),
        series: &[(SeriesId, LabelSet)],
        by_id: &[&(SeriesId, LabelSet)],
    ) -> Result<()> {
        let gathered = Gathered::of((base..).zip(series.iter().map(|pair| &pair.1)));
        let values = gathered.values().map(|((name, value), list)| (value_key(index, name, value), list));
        let names = gathered.names().map(|(name, list)| (name_key(index, name), list));
        let mut lists: Vec<(Vec<u8>, &[u32])> = values.chain(names).collect();
        lists.sort_unstable();
        if base > 0 {
            let chunk = chunk_key(index, base / CHUNK);
            self.forget_lists(lists.iter().map(|pair| &*pair.0).chain([&*chunk]));
        }
        // Ids before lists: of an ordinal that a list has, a query wants the id, and what is full is handed over in between.
        self.put_ordinals(db, batch, (index, base), series)?;
        for (key, list) in lists {
            self.add_to_list(db, batch, base > 0, &key, Bitmap::of(list))?;
        }
        for series in by_id.chunk_by(|a, b| a.0.metric() == b.0.metric()) {
            let key = member_key(index, series[0].0.metric());
            self.add_to_list(db, batch, base > 0, &key, series.iter().map(|pair| pair.0.number()).collect())?;
        }
        Ok(())
    }

    /// Adds `list` to the one of `key`, where there may be one.
    fn add_to_list(
        &self,
        db: &DB,
        batch: &mut WriteBatch,
        there_may_be_one: bool,
        key: &[u8],
        mut list: Bitmap,
    ) -> Result<()> {
        if there_may_be_one && let Some(old) = db.get_pinned(key).map_err(failed)? {
            list.or_inplace(&self.posting(&old)?);
        }
        batch.put(key, postings::encode(&mut list));
        self.hand_over(db, batch, WRITE_BYTES)
    }

    fn put_ordinals(
        &self,
        db: &DB,
        batch: &mut WriteBatch,
        (index, base): (u64, u32),
        series: &[(SeriesId, LabelSet)],
    ) -> Result<()> {
        let mut chunks: BTreeMap<u32, Vec<SeriesId>> = BTreeMap::new();
        for (ordinal, (id, _)) in (base..).zip(series) {
            let chunk = match chunks.entry(ordinal / CHUNK) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let mut old = match ordinal % CHUNK {
                        0 => Vec::new(),
                        _ => self.chunk(db, &chunk_key(index, *entry.key()))?,
                    };
                    old.resize((ordinal % CHUNK) as usize, SeriesId(0));
                    entry.insert(old)
                }
            };
            chunk.push(*id);
        }
        for (chunk, ids) in chunks {
            let (mut value, mut previous) = (Vec::with_capacity(ids.len() * 3), 0u64);
            for id in ids {
                format::put_zigzag(&mut value, id.0.wrapping_sub(previous) as i64);
                previous = id.0;
            }
            batch.put(chunk_key(index, chunk), value);
        }
        Ok(())
    }

    /// The ids of the chunk at `key`; none if it is not there.
    fn chunk(&self, db: &DB, key: &[u8]) -> Result<Vec<SeriesId>> {
        match db.get_pinned(key).map_err(failed)? {
            Some(bytes) => self.ids_of_chunk(&bytes).collect(),
            None => Ok(Vec::new()),
        }
    }

    /// The ids of a chunk.
    pub(super) fn ids_of_chunk(&self, bytes: &[u8]) -> impl Iterator<Item = Result<SeriesId>> {
        let (mut at, mut previous) = (0, 0u64);
        std::iter::from_fn(move || {
            if at == bytes.len() {
                return None;
            }
            let Some(step) = format::take_varint(bytes, &mut at) else {
                at = bytes.len();
                return Some(Err(self.corrupt("a varint", "its beginning")));
            };
            previous = previous.wrapping_add(format::unzigzag(step) as u64);
            Some(Ok(SeriesId(previous)))
        })
    }

    /// The ids of the index `index` by local ordinal.
    pub(super) fn ordinals(&self, index: u64) -> Result<Vec<SeriesId>> {
        let (mut ids, prefix) = (Vec::new(), table_key(index, Table::Ordinals));
        self.scan(&prefix, prefix.len(), |_, chunk| {
            for id in self.ids_of_chunk(chunk) {
                ids.push(id?);
            }
            Ok(true)
        })?;
        Ok(ids)
    }

    /// Visits the posting lists of a table of the index `index`, with their keys in it.
    pub(super) fn posting_lists(
        &self,
        index: u64,
        table: Table,
        mut visit: impl FnMut(&[u8], Bitmap) -> Result<()>,
    ) -> Result<()> {
        let prefix = table_key(index, table);
        self.scan(&prefix, prefix.len(), |key, list| visit(key, self.posting(list)?).map(|()| true))
    }

    /// The series of index `index`.
    pub(crate) fn members(&self, index: u64) -> Result<SeriesSet> {
        let mut set = SeriesSet::default();
        let prefix = table_key(index, Table::Members);
        self.scan(&prefix, prefix.len(), |metric, numbers| {
            let metric = metric.iter().fold(0u32, |n, &byte| n << 8 | u32::from(byte));
            set.add(metric, &self.posting(numbers)?);
            Ok(true)
        })?;
        Ok(set)
    }

    /// The series of the indexes `gone` that are in none of `others`.
    ///
    /// Costs a look at the members of `gone`, and in each other index at the metrics that still have candidates: the
    /// newest index comes first, as it has nearly all that lives on.
    pub(crate) fn orphans(&self, gone: &[u64], others: &[u64]) -> Result<SeriesSet> {
        let mut orphans = SeriesSet::default();
        for &index in gone {
            orphans.add_all(&self.members(index)?);
        }
        let mut others = others.to_vec();
        others.sort_unstable_by(|a, b| b.cmp(a));
        let db = self.db()?;
        for index in others {
            let metrics: Vec<u32> = orphans.metrics().map(|pair| pair.0).collect();
            for metric in metrics {
                if let Some(numbers) = db.get_pinned(member_key(index, metric)).map_err(failed)? {
                    orphans.remove(metric, &self.posting(&numbers)?);
                }
            }
            if orphans.is_empty() {
                break;
            }
        }
        Ok(orphans)
    }

    /// The numbers of the indexes that have keys here.
    pub(crate) fn indexes(&self) -> Result<Vec<u64>> {
        let db = self.db()?;
        let mut cursor = db.raw_iterator();
        let (mut indexes, mut from) = (Vec::new(), 0u64);
        loop {
            cursor.seek(index_key(from));
            let Some(number) = cursor.key().filter(|key| key.first() == Some(&b'p')).and_then(|key| key.get(1..9))
            else {
                cursor.status().map_err(failed)?;
                return Ok(indexes);
            };
            let number = number.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
            indexes.push(number);
            from = number + 1;
        }
    }

    /// From now on `orphans` are not found by their labels: the last partition that had them is no longer part of the
    /// store. Snapshots that see it still get their labels, until [`Catalogue::sweep`].
    pub(crate) fn bury(&self, orphans: &SeriesSet) {
        self.dead.write().add_all(orphans);
    }

    /// Whether there is nothing to sweep.
    pub(crate) fn is_swept(&self) -> bool {
        self.retired.lock().is_empty()
    }

    /// Drops the indexes that no version holds any more.
    pub(crate) fn sweep(&self) -> Result<()> {
        loop {
            let next = self.retired.lock().last().copied();
            let Some(index) = next else { return Ok(()) };
            self.drop_index(index)?;
            self.retired.lock().retain(|&retired| retired != index);
        }
    }

    /// Takes over the indexes that the manifest does not know, which a crash has left: their series are buried, and the next
    /// [`Catalogue::sweep`] deletes them. Every index of `live` must be complete.
    pub(crate) fn retire_others(&self, live: &[u64]) -> Result<()> {
        let mut others = self.indexes()?;
        others.retain(|index| !live.contains(index));
        if !others.is_empty() {
            self.bury(&self.orphans(&others, live)?);
            self.retired.lock().extend(others);
        }
        Ok(())
    }

    /// Deletes the index `index`, and the series that are in no other one. These are buried: no other index gets them
    /// meanwhile, so that series can be added between two slices. What a crash leaves is found by the next open
    /// ([`Catalogue::retire_others`]): the members go last.
    fn drop_index(&self, index: u64) -> Result<()> {
        let mut others = self.indexes()?;
        others.retain(|&other| other != index);
        let orphans = self.orphans(&[index], &others)?;
        let ids: Vec<SeriesId> = orphans.iter().collect();
        for ids in ids.chunks(SERIES_AT_ONCE) {
            self.drop_series(ids)?;
        }
        let _writing = self.writing.lock();
        let mut batch = WriteBatch::default();
        batch.delete_range(index_key(index), index_key(index + 1));
        self.hand_over(&*self.db()?, &mut batch, 0)?;
        self.dead.write().remove_all(&orphans);
        Ok(())
    }

    /// Deletes the keys of series that are in no index.
    fn drop_series(&self, ids: &[SeriesId]) -> Result<()> {
        let _writing = self.writing.lock();
        let known = ids.iter().zip(self.labels_of(ids)?).filter_map(|(&id, labels)| Some((id, labels_key(&labels?))));
        let (ids, keys): (Vec<SeriesId>, Vec<Vec<u8>>) = known.unzip();
        let db = self.db()?;
        let mut batch = WriteBatch::default();
        // Asked together, keys that lie in one block of a file cost one look into it.
        for ((id, key), value) in ids.into_iter().zip(&keys).zip(db.multi_get(&keys)) {
            batch.delete(id_key(id));
            // The same labels may already have a new id.
            if value.map_err(failed)?.is_some_and(|value| value == id.0.to_le_bytes()) {
                batch.delete(key);
            }
        }
        self.hand_over(&db, &mut batch, 0)
    }

    pub(super) fn posting(&self, bytes: &[u8]) -> Result<Bitmap> {
        postings::decode(bytes).ok_or_else(|| self.corrupt("a posting list", format!("{} other bytes", bytes.len())))
    }
}

fn index_key(index: u64) -> [u8; 9] {
    let mut key = [b'p'; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

pub(super) fn table_key(index: u64, table: Table) -> Vec<u8> {
    [index_key(index).as_slice(), &[table as u8]].concat()
}

fn value_key(index: u64, label: &[u8], value: &[u8]) -> Vec<u8> {
    [index_key(index).as_slice(), &[Table::Values as u8], label, b"\0", value].concat()
}

fn chunk_key(index: u64, number: u32) -> Vec<u8> {
    [index_key(index).as_slice(), &[Table::Ordinals as u8], &number.to_be_bytes()].concat()
}

fn name_key(index: u64, label: &[u8]) -> Vec<u8> {
    [index_key(index).as_slice(), &[Table::Names as u8], label].concat()
}

fn member_key(index: u64, metric: u32) -> Vec<u8> {
    [index_key(index).as_slice(), &[Table::Members as u8], &metric.to_be_bytes()].concat()
}
