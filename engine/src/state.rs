//! Keyed state: small values that writers store beside samples, in the same commit.
//!
//! All of it is in memory. A flush writes all of it to one file when it changed; the WAL has the changes since.
//! Format of the file: `docs/format/state-file.md`.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::format::{self, Reader, envelope};
use crate::fs::{Fs, publish};
use crate::types::Lsn;

const MAGIC: [u8; 8] = *b"FTELSTA\0";
const VERSION: u32 = 1;
const SHARDS: usize = 64;

type Shard = BTreeMap<Vec<u8>, Arc<[u8]>>;

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
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.0[shard_of(key)].get(key).map(Arc::clone)
    }

    /// Pairs whose key starts with `prefix`, in key order.
    pub(crate) fn prefix(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Arc<[u8]>)> {
        let mut pairs = Vec::new();
        for shard in self.0.iter() {
            let found = shard.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            pairs.extend(found.map(|(key, value)| (key.clone(), Arc::clone(value))));
        }
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        pairs
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
                Some(value) => drop(shard.insert(key.clone(), value.as_slice().into())),
                None => drop(shard.remove(key)),
            }
        }
    }

    /// Publishes everything, as of commit `lsn`, at `path`.
    pub(crate) fn write_file(&self, fs: &dyn Fs, path: &Path, lsn: Lsn) -> Result<()> {
        let pairs = self.prefix(b"");
        let mut body = lsn.0.to_le_bytes().to_vec();
        format::put_varint(&mut body, pairs.len() as u64);
        for (key, value) in pairs {
            format::put_bytes(&mut body, &key);
            format::put_bytes(&mut body, &value);
        }
        publish(fs, path, &envelope::seal(MAGIC, VERSION, &body)?)
    }

    /// Reads what [`StateMap::write_file`] wrote.
    pub(crate) fn read_file(fs: &dyn Fs, path: &Path) -> Result<(Self, Lsn)> {
        let body = envelope::open(MAGIC, VERSION, &fs.map(path)?, path)?;
        let mut reader = Reader::new(&body, path, 0);
        let lsn = Lsn(reader.u64()?);
        let mut shards = vec![Shard::new(); SHARDS];
        for _ in 0..reader.count(2)? {
            let key = reader.prefixed()?.to_vec();
            let value = reader.prefixed()?.into();
            shards[shard_of(&key)].insert(key, value);
        }
        reader.finish()?;
        Ok((Self(shards.into_iter().map(Arc::new).collect()), lsn))
    }
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
        assert_eq!(before.get(b"a").as_deref(), Some(b"1".as_slice()));
        assert_eq!(before.prefix(b"a").len(), 2);
        assert_eq!(state.get(b"a"), None);
    }

    #[test]
    fn a_file_gives_back_every_pair_and_a_flipped_bit_is_found() {
        let (fs, path) = (FaultFs::new(), Path::new("/s/1.state"));
        fs.create_dir(Path::new("/s")).unwrap();
        let mut state = StateMap::default();
        state.apply(&[put("a", "1"), put("", ""), put("b", "3")]);
        state.write_file(&fs, path, Lsn(9)).unwrap();
        let (back, lsn) = StateMap::read_file(&fs, path).unwrap();
        assert_eq!((back.prefix(b""), lsn), (state.prefix(b""), Lsn(9)));
        for offset in 0..fs.len(path).unwrap() as usize {
            fs.flip(path, offset);
            assert!(StateMap::read_file(&fs, path).is_err(), "flip at {offset}");
            fs.flip(path, offset);
        }
    }
}
