//! Keyed state: small values that writers store beside samples, in the same commit.
//!
//! ```text
//!  commit ─► held in memory ─► flush: one file with all of it, if it changed ─► read from the file when asked for
//! ```
//! Keys are always in memory, values from the commit to the next flush: then their pages are the kernel's to keep or to drop. The WAL
//! has the changes since the flush. Each value carries its checksum, which every read checks; a value that is damaged fails whoever
//! asks for it, and nobody else. Format of the file: `docs/format/state-file.md`.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::format::{self, Reader, envelope};
use crate::fs::{File, Fs, Mapped, publish_with};
use crate::types::Lsn;

const MAGIC: [u8; 8] = *b"FTELSTA\0";
/// All of it in one compressed envelope: read, no longer written.
const VERSION_WHOLE: u32 = 1;
const VERSION: u32 = 2;
const HEADER_LEN: usize = 12;
const TRAILER_LEN: usize = 36;
const CHECKSUM_LEN: usize = 4;
const SHARDS: usize = 64;
/// Values of so many bytes are compressed if that makes them smaller.
const COMPRESSED_FROM: usize = 256;
const LEVEL: i32 = 1;
/// Longest value, and longest index, that is believed.
const VALUE_LEN_MAX: u64 = 1 << 30;
const INDEX_LEN_MAX: u64 = 8 << 30;
/// Bytes written at once.
const CHUNK_LEN: usize = 1 << 20;

type Shard = BTreeMap<Vec<u8>, Value>;

/// A key and its value.
pub type StatePair = (Vec<u8>, Arc<[u8]>);

/// Where a value is.
#[derive(Clone, Debug)]
enum Value {
    Held(Arc<[u8]>),
    Filed(Filed),
}

/// A value in a file.
#[derive(Clone, Debug)]
struct Filed {
    file: Arc<StateFile>,
    at: u64,
    /// As it is stored, without the checksum behind it.
    len: u32,
    /// When it is compressed, its length without.
    whole: Option<u32>,
}

/// A file that holds values.
#[derive(Debug)]
struct StateFile {
    path: PathBuf,
    map: Mapped,
}

impl Filed {
    /// The bytes in the file, and the checksum behind them.
    fn stored(&self) -> Result<(&[u8], &[u8])> {
        let at = self.at as usize;
        let bytes = self.file.map.get(at..at + self.len as usize + CHECKSUM_LEN);
        bytes
            .map(|bytes| bytes.split_at(self.len as usize))
            .ok_or_else(|| self.damaged("a value", "the end of the file"))
    }

    fn damaged(&self, expected: impl Into<String>, got: impl Into<String>) -> Error {
        Error::Corruption { path: self.file.path.clone(), offset: self.at, expected: expected.into(), got: got.into() }
    }

    fn read(&self) -> Result<Arc<[u8]>> {
        let (stored, checksum) = self.stored()?;
        let got = format::crc32c(stored);
        if got.to_le_bytes() != *checksum {
            return Err(self.damaged(format!("checksum {checksum:02x?}"), format!("{:02x?}", got.to_le_bytes())));
        }
        let Some(whole) = self.whole else { return Ok(stored.into()) };
        let value = zstd::bulk::decompress(stored, whole as usize).map_err(|e| self.damaged("zstd", e.to_string()))?;
        match value.len() == whole as usize {
            true => Ok(value.into()),
            false => Err(self.damaged(format!("a value of {whole} bytes"), value.len().to_string())),
        }
    }
}

impl Value {
    fn read(&self) -> Result<Arc<[u8]>> {
        match self {
            Self::Held(value) => Ok(Arc::clone(value)),
            Self::Filed(filed) => filed.read(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Held(value), Self::Held(other)) => Arc::ptr_eq(value, other),
            (Self::Filed(value), Self::Filed(other)) => Arc::ptr_eq(&value.file, &other.file) && value.at == other.at,
            _ => false,
        }
    }
}

/// How much keyed state there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Keys, which are always in memory.
    pub keys: u64,
    /// Bytes of values in memory: those written since the last flush.
    pub held_bytes: u64,
    /// Bytes of values in the file.
    pub filed_bytes: u64,
}

/// A map whose clone is a pointer copy per shard; a change copies one shard if a clone still looks at it.
#[derive(Clone, Debug)]
pub(crate) struct StateMap(Arc<[Arc<Shard>]>);

impl Default for StateMap {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Arc::default()).collect())
    }
}

fn shard_of(key: &[u8]) -> usize {
    xxh3_64(key) as usize % SHARDS
}

impl StateMap {
    /// # Errors
    /// `Corruption` when the value in the file is damaged.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        self.0[shard_of(key)].get(key).map(Value::read).transpose()
    }

    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.0[shard_of(key)].contains_key(key)
    }

    /// Pairs whose key starts with `prefix`, in key order.
    ///
    /// # Errors
    /// As [`StateMap::get`].
    pub(crate) fn prefix(&self, prefix: &[u8]) -> Result<Vec<StatePair>> {
        self.under(prefix).into_iter().map(|(key, value)| Ok((key.clone(), value.read()?))).collect()
    }

    /// Keys that start with `prefix`, in order.
    pub(crate) fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        self.under(prefix).into_iter().map(|(key, _)| key.clone()).collect()
    }

    fn under<'a>(&'a self, prefix: &'a [u8]) -> Vec<(&'a Vec<u8>, &'a Value)> {
        let mut pairs = Vec::new();
        for shard in self.0.iter() {
            pairs.extend(under(shard, prefix));
        }
        pairs.sort_unstable_by(|a, b| a.0.cmp(b.0));
        pairs
    }

    /// How much there is under `prefix`. Cost: a look at each key.
    pub(crate) fn size(&self, prefix: &[u8]) -> StateSize {
        let mut size = StateSize::default();
        for (_, value) in self.0.iter().flat_map(|shard| under(shard, prefix)) {
            size.keys += 1;
            match value {
                Value::Held(value) => size.held_bytes += value.len() as u64,
                Value::Filed(filed) => size.filed_bytes += u64::from(filed.whole.unwrap_or(filed.len)),
            }
        }
        size
    }

    /// Applies the changes of one commit in order.
    pub(crate) fn apply(&mut self, changes: &[(Vec<u8>, Option<Vec<u8>>)]) {
        if changes.is_empty() {
            return;
        }
        let shards = Arc::make_mut(&mut self.0);
        for (key, value) in changes {
            let shard = Arc::make_mut(&mut shards[shard_of(key)]);
            match value {
                Some(value) => drop(shard.insert(key.clone(), Value::Held(value.as_slice().into()))),
                None => drop(shard.remove(key)),
            }
        }
    }

    /// Publishes everything, as of commit `lsn`, at `path`. Answers the same map with all values in that file.
    pub(crate) fn write_file(&self, fs: &dyn Fs, path: &Path, lsn: Lsn) -> Result<Self> {
        let pairs = self.under(b"");
        publish_with(fs, path, &mut |file: &mut dyn File| {
            let mut out = MAGIC.to_vec();
            out.extend_from_slice(&VERSION.to_le_bytes());
            let (mut index, mut values_len) = (Vec::new(), 0u64);
            format::put_varint(&mut index, pairs.len() as u64);
            for &(key, value) in &pairs {
                let before = out.len();
                let whole = store(value, &mut out)?;
                let stored = (out.len() - before - CHECKSUM_LEN) as u64;
                values_len += stored + CHECKSUM_LEN as u64;
                format::put_bytes(&mut index, key);
                format::put_varint(&mut index, stored);
                format::put_varint(&mut index, whole.map_or(0, u64::from));
                if out.len() >= CHUNK_LEN {
                    file.append(&out)?;
                    out.clear();
                }
            }
            let compressed = zstd::bulk::compress(&index, LEVEL)
                .map_err(|e| Error::Invalid(format!("compressing {} bytes: {e}", index.len())))?;
            out.extend_from_slice(&compressed);
            let mut trailer = Vec::with_capacity(TRAILER_LEN);
            for number in [lsn.0, values_len, compressed.len() as u64, index.len() as u64] {
                trailer.extend_from_slice(&number.to_le_bytes());
            }
            let crc = crc32c::crc32c_append(format::crc32c(&compressed), &trailer);
            trailer.extend_from_slice(&crc.to_le_bytes());
            out.extend_from_slice(&trailer);
            file.append(&out)
        })?;
        Ok(Self::read_file(fs, path)?.0)
    }

    /// Reads what [`StateMap::write_file`] wrote; values are read when they are asked for.
    pub(crate) fn read_file(fs: &dyn Fs, path: &Path) -> Result<(Self, Lsn)> {
        let file = Arc::new(StateFile { path: path.to_owned(), map: fs.map(path)? });
        let mut header = Reader::new(&file.map, path, 0);
        let at = header.clone();
        let magic = header.bytes(MAGIC.len())?;
        if magic != MAGIC {
            return Err(at.corrupt(format!("magic {MAGIC:02x?}"), format!("{magic:02x?}")));
        }
        let at = header.clone();
        match header.u32()? {
            VERSION_WHOLE => return Self::read_whole(&file.map, path),
            VERSION => {}
            other => return Err(at.corrupt(format!("version {VERSION}"), other.to_string())),
        }
        let end = (file.map.len()).checked_sub(TRAILER_LEN).filter(|end| *end >= HEADER_LEN);
        let Some(end) = end else { return Err(header.corrupt("a trailer", "the end of the file")) };
        let mut trailer = Reader::new(&file.map[end..], path, end as u64);
        let (lsn, values_len) = (Lsn(trailer.u64()?), trailer.u64()?);
        let (compressed_len, index_len) = (trailer.u64()?, trailer.u64()?);
        let at = trailer.clone();
        let crc = trailer.u32()?;
        let expected_len = values_len.checked_add(compressed_len);
        if expected_len != Some((end - HEADER_LEN) as u64) || index_len > INDEX_LEN_MAX {
            return Err(
                at.corrupt(format!("{} bytes of values and index", end - HEADER_LEN), format!("{expected_len:?}"))
            );
        }
        let begin = HEADER_LEN + values_len as usize;
        let compressed = &file.map[begin..end];
        let checked = &file.map[end..file.map.len() - CHECKSUM_LEN];
        let got = crc32c::crc32c_append(format::crc32c(compressed), checked);
        if got != crc {
            return Err(at.corrupt(format!("checksum {crc:08x}"), format!("{got:08x}")));
        }
        let index =
            zstd::bulk::decompress(compressed, index_len as usize).map_err(|e| at.corrupt("zstd", e.to_string()))?;
        let mut index = Reader::new(&index, path, begin as u64);
        let mut shards = vec![Shard::new(); SHARDS];
        let mut place = HEADER_LEN as u64;
        for _ in 0..index.count(3)? {
            let key = index.prefixed()?.to_vec();
            let at = index.clone();
            let (len, whole) = (index.varint()?, index.varint()?);
            let next = place.checked_add(len).and_then(|next| next.checked_add(CHECKSUM_LEN as u64));
            let next = next.filter(|next| *next <= begin as u64 && len <= VALUE_LEN_MAX && whole <= VALUE_LEN_MAX);
            let next = next.ok_or_else(|| at.corrupt("values that end before the index", len.to_string()))?;
            let whole = u32::try_from(whole).ok().filter(|whole| *whole > 0);
            let filed = Filed { file: Arc::clone(&file), at: place, len: len as u32, whole };
            shards[shard_of(&key)].insert(key, Value::Filed(filed));
            place = next;
        }
        if place != begin as u64 {
            return Err(index.corrupt(format!("values up to {begin}"), place.to_string()));
        }
        index.finish()?;
        Ok((Self(shards.into_iter().map(Arc::new).collect()), lsn))
    }

    /// A file of the first version.
    fn read_whole(map: &Mapped, path: &Path) -> Result<(Self, Lsn)> {
        let body = envelope::open(MAGIC, VERSION_WHOLE, map, path)?;
        let mut reader = Reader::new(&body, path, 0);
        let lsn = Lsn(reader.u64()?);
        let mut shards = vec![Shard::new(); SHARDS];
        for _ in 0..reader.count(2)? {
            let key = reader.prefixed()?.to_vec();
            shards[shard_of(&key)].insert(key, Value::Held(reader.prefixed()?.into()));
        }
        reader.finish()?;
        Ok((Self(shards.into_iter().map(Arc::new).collect()), lsn))
    }

    /// Reads every value.
    ///
    /// # Errors
    /// As [`StateMap::get`], of the first that is damaged.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.iter().flat_map(|shard| shard.values()).try_for_each(|value| value.read().map(drop))
    }

    /// Lets every value of `live` that is one of `self` be where `filed`, the same map in a file, has it. `live` is locked only to
    /// look at a shard and to put it back.
    pub(crate) fn settle<L>(&self, filed: &Self, live: &Mutex<L>, state: impl Fn(&mut L) -> &mut Self) {
        for (place, (own, filed)) in self.0.iter().zip(filed.0.iter()).enumerate() {
            let seen = Arc::clone(&state(&mut live.lock()).0[place]);
            let settled = Arc::new(settled(&seen, own, filed));
            let mut live = live.lock();
            let shards = Arc::make_mut(&mut state(&mut live).0);
            shards[place] = match Arc::ptr_eq(&shards[place], &seen) {
                true => settled,
                // A commit came between.
                false => Arc::new(self::settled(&shards[place], own, filed)),
            };
        }
    }
}

fn under<'a>(shard: &'a Shard, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Vec<u8>, &'a Value)> {
    shard.range(prefix.to_vec()..).take_while(move |(key, _)| key.starts_with(prefix))
}

/// `shard` with the values that it has in common with `own` as they are in `filed`.
fn settled(shard: &Shard, own: &Shard, filed: &Shard) -> Shard {
    let place = |(key, value): (&Vec<u8>, &Value)| {
        let is_own = own.get(key).is_some_and(|own| own.is_same(value));
        let value = if is_own { filed.get(key).unwrap_or(value) } else { value };
        (key.clone(), value.clone())
    };
    shard.iter().map(place).collect()
}

/// Appends a value and its checksum. Answers its length if it was compressed. One that is damaged stays so.
fn store(value: &Value, out: &mut Vec<u8>) -> Result<Option<u32>> {
    let value = match value {
        Value::Held(value) => value,
        Value::Filed(filed) => {
            let (stored, checksum) = filed.stored()?;
            out.extend_from_slice(stored);
            out.extend_from_slice(checksum);
            return Ok(filed.whole);
        }
    };
    let compressed = match value.len() >= COMPRESSED_FROM {
        true => zstd::bulk::compress(value, LEVEL)
            .map_err(|e| Error::Invalid(format!("compressing {} bytes: {e}", value.len())))?,
        false => Vec::new(),
    };
    let whole = (!compressed.is_empty() && compressed.len() < value.len()).then_some(value.len() as u32);
    let stored = if whole.is_some() { &compressed[..] } else { value };
    out.extend_from_slice(stored);
    out.extend_from_slice(&format::crc32c(stored).to_le_bytes());
    Ok(whole)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fs::FaultFs;

    fn put(key: &str, value: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        (key.into(), Some(value.into()))
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut state = StateMap::default();
        state.apply(&[put("a", "1"), put("ab", "2"), put("b", "3")]);
        let before = state.clone();
        state.apply(&[(b"a".to_vec(), None), put("ab", "4")]);
        assert_eq!(before.get(b"a").unwrap().as_deref(), Some(b"1".as_slice()));
        assert_eq!(before.prefix(b"a").unwrap().len(), 2);
        assert_eq!(state.get(b"a").unwrap(), None);
    }

    fn store() -> FaultFs {
        let fs = FaultFs::new();
        fs.create_dir(Path::new("/s")).unwrap();
        fs
    }

    fn long(seed: u64) -> String {
        (0..300).map(|i| char::from(b'a' + ((seed + i * i) % 7) as u8)).collect()
    }

    #[test]
    fn a_file_gives_back_every_pair_and_a_flipped_bit_is_found() {
        let (fs, path) = (store(), Path::new("/s/1.state"));
        let mut state = StateMap::default();
        state.apply(&[put("a", "1"), put("", ""), put("b", "3"), put("long", &long(1))]);
        let filed = state.write_file(&fs, path, Lsn(9)).unwrap();
        let (back, lsn) = StateMap::read_file(&fs, path).unwrap();
        assert_eq!((back.prefix(b"").unwrap(), lsn), (state.prefix(b"").unwrap(), Lsn(9)));
        assert_eq!(back.prefix(b"").unwrap(), filed.prefix(b"").unwrap());
        assert_eq!(back.size(b""), StateSize { keys: 4, held_bytes: 0, filed_bytes: 302 });
        assert_eq!(back.size(b"l"), StateSize { keys: 1, held_bytes: 0, filed_bytes: 300 });
        for offset in 0..fs.len(path).unwrap() as usize {
            fs.flip(path, offset);
            let found = StateMap::read_file(&fs, path).and_then(|(state, _)| state.check());
            assert!(found.is_err(), "flip at {offset}");
            fs.flip(path, offset);
        }
    }

    #[test]
    fn a_damaged_value_fails_who_asks_for_it_and_stays_what_it_is_in_the_next_file() {
        let (fs, path) = (store(), Path::new("/s/1.state"));
        let mut state = StateMap::default();
        state.apply(&[put("a", "1"), put("b", "2"), put("c", &long(3))]);
        state.write_file(&fs, path, Lsn(1)).unwrap();
        fs.flip(path, HEADER_LEN);
        let (damaged, _) = StateMap::read_file(&fs, path).unwrap();
        let next = damaged.write_file(&fs, Path::new("/s/2.state"), Lsn(2)).unwrap();
        for state in [damaged, next] {
            assert!(matches!(state.get(b"a"), Err(Error::Corruption { .. })));
            assert_eq!(state.get(b"b").unwrap().as_deref(), Some(b"2".as_slice()));
            assert_eq!(state.get(b"c").unwrap().as_deref(), Some(long(3).as_bytes()));
            assert!(state.prefix(b"").is_err() && state.check().is_err());
            assert_eq!(state.keys(b""), [b"a", b"b", b"c"]);
        }
    }

    #[test]
    fn values_of_the_file_are_no_longer_held_but_those_that_changed_meanwhile_are() {
        let (fs, live) = (store(), Mutex::new(StateMap::default()));
        live.lock().apply(&[put("a", "1"), put("b", "2"), put("c", "3")]);
        let sealed = live.lock().clone();
        live.lock().apply(&[put("b", "22"), put("d", "4"), (b"c".to_vec(), None)]);
        let settle = |sealed: &StateMap, name: &str| {
            let filed = sealed.write_file(&fs, Path::new(name), Lsn(1)).unwrap();
            sealed.settle(&filed, &live, |live| live);
        };
        settle(&sealed, "/s/1.state");
        assert_eq!(live.lock().size(b""), StateSize { keys: 3, held_bytes: 3, filed_bytes: 1 });
        let expected =
            [("a", "1"), ("b", "22"), ("d", "4")].map(|(key, value)| (key.into(), Arc::from(value.as_bytes())));
        assert_eq!(live.lock().prefix(b"").unwrap(), expected);
        // The next file takes what is in the one before.
        let sealed = live.lock().clone();
        settle(&sealed, "/s/2.state");
        fs.remove(Path::new("/s/1.state")).unwrap();
        assert_eq!(live.lock().size(b""), StateSize { keys: 3, held_bytes: 0, filed_bytes: 4 });
        assert_eq!(live.lock().prefix(b"").unwrap(), expected);
        assert_eq!(sealed.prefix(b"").unwrap(), expected, "whoever looked before still sees it");
    }

    #[test]
    fn files_of_the_first_version_are_read() {
        let (fs, path) = (store(), Path::new("/s/1.state"));
        let mut body = 7u64.to_le_bytes().to_vec();
        format::put_varint(&mut body, 1);
        format::put_bytes(&mut body, b"key");
        format::put_bytes(&mut body, b"value");
        fs.create(path).unwrap().append(&envelope::seal(MAGIC, VERSION_WHOLE, &body).unwrap()).unwrap();
        let (state, lsn) = StateMap::read_file(&fs, path).unwrap();
        assert_eq!((lsn, state.get(b"key").unwrap().as_deref()), (Lsn(7), Some(b"value".as_slice())));
    }
}
