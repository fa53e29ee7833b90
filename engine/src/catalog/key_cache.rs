//! The caller's key of a series (a hash of whatever bytes named it on the wire) -> id, sharded and bounded: a series may
//! be named in many ways (labels in another order), so the number of series does not bound the number of keys.
use hashbrown::{HashMap, HashSet};
use parking_lot::RwLock;

use crate::types::SeriesId;

const SHARDS: usize = 64;

/// The keys come in as seeded hashes: folding them to 64 bits is enough. The multiplication lets both halves reach the
/// bits that a table looks at, which the shard has not used up.
#[derive(Clone, Copy, Default)]
struct Fold(u64);

impl std::hash::Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u128(&mut self, key: u128) {
        let mixed = ((key >> 64) as u64 ^ (key as u64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

type Shard = RwLock<HashMap<u128, SeriesId, std::hash::BuildHasherDefault<Fold>>>;

/// Bytes of a place in a shard's table: key and id with their alignment, and a control byte.
const PLACE_BYTES: usize = 33;
/// A shard keeps at least so many keys.
const SHARD_KEYS_MIN: usize = 64;

/// See the module. An id in it is always active in the head index, but for the time of an eviction.
pub(crate) struct KeyCache {
    shards: Vec<Shard>,
    /// Keys of a shard: what fills the largest table within its part of the memory.
    shard_keys_max: usize,
}

impl KeyCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let places = (bytes_max / SHARDS / PLACE_BYTES).max(1);
        let places = 1 << places.ilog2();
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            shard_keys_max: (places / 8 * 7).max(SHARD_KEYS_MIN),
        }
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().allocation_size()).sum()
    }

    fn shard_of(key: u128) -> usize {
        key as usize % SHARDS
    }

    /// Fills `ids` for the known `keys` and returns the indexes of the others. Takes each shard's lock once.
    pub(crate) fn lookup(&self, keys: &[u128], ids: &mut Vec<SeriesId>) -> Vec<usize> {
        ids.clear();
        ids.resize(keys.len(), SeriesId(u64::MAX));
        // A counting sort of the indexes by shard.
        let mut starts = [0u32; SHARDS + 1];
        for &key in keys {
            starts[Self::shard_of(key) + 1] += 1;
        }
        for shard in 0..SHARDS {
            starts[shard + 1] += starts[shard];
        }
        let mut next = starts;
        let mut order = vec![0u32; keys.len()];
        for (i, &key) in keys.iter().enumerate() {
            let slot = &mut next[Self::shard_of(key)];
            order[*slot as usize] = i as u32;
            *slot += 1;
        }
        let mut unknown = Vec::new();
        for (shard, lock) in self.shards.iter().enumerate() {
            let indexes = &order[starts[shard] as usize..starts[shard + 1] as usize];
            if indexes.is_empty() {
                continue;
            }
            let map = lock.read();
            for &i in indexes {
                match map.get(&keys[i as usize]) {
                    Some(&id) => ids[i as usize] = id,
                    None => unknown.push(i as usize),
                }
            }
        }
        unknown.sort_unstable();
        unknown
    }

    pub(crate) fn insert(&self, key: u128, id: SeriesId) {
        let mut map = self.shards[Self::shard_of(key)].write();
        if map.len() >= self.shard_keys_max && !map.contains_key(&key) {
            // Half of them, whichever: the ones in use come back with their next samples.
            let kept = map.drain().step_by(2).collect();
            *map = kept;
        }
        map.insert(key, id);
    }

    /// Forgets the keys of `ids`.
    pub(crate) fn evict(&self, ids: &HashSet<SeriesId>) {
        for shard in &self.shards {
            let mut map = shard.write();
            map.retain(|_, id| !ids.contains(id));
            map.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_keys_stays_within_the_memory_and_the_newest_is_known() {
        let bytes_max = 1 << 20;
        let cache = KeyCache::new(bytes_max);
        let mut ids = Vec::new();
        for i in 0..100_000u64 {
            let key = u128::from(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * 0x1_0001;
            cache.insert(key, SeriesId(i));
            assert!(cache.lookup(&[key], &mut ids).is_empty() && ids == [SeriesId(i)]);
        }
        assert!(cache.bytes() <= bytes_max, "{} bytes", cache.bytes());
    }
}
