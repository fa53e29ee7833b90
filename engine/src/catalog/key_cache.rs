//! The caller's key of a series (a hash of whatever bytes named it on the wire) -> id, sharded and bounded: a series may
//! be named in many ways (labels in another order), so the number of series does not bound the number of keys.
use hashbrown::HashSet;
use parking_lot::RwLock;

use crate::types::SeriesId;

const SHARDS: usize = 16;
/// Places of the smallest index.
const PLACES_MIN: usize = 16;
/// A shard keeps at least so many keys.
const SHARD_KEYS_MIN: usize = 64;
/// A place without a key.
const FREE: u32 = u32::MAX;
/// The id of a key that is not known; no series has it: the ordinal of its metric would be the last of all.
const UNKNOWN: SeriesId = SeriesId(u64::MAX);

/// A key, in halves so that it lies as densely as the id, and its series.
#[derive(Clone, Copy)]
struct Entry {
    key: [u64; 2],
    id: SeriesId,
}

/// Memory of a key: its entry and, at most, the places that keep its index a quarter free.
const KEY_BYTES: usize = size_of::<Entry>() + 4 * size_of::<u32>();

/// Keys -> ids: entries in the order in which they came, and places that hash to them, open addressing.
///
/// Written for its look-up: with millions of keys each place and entry is a miss of the caches. Senders name their series in
/// the same order again and again, so that a key is mostly in the entry behind the one that was found last, which the core
/// has fetched already. Only the others are looked for.
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    /// Of entries. None, or a power of two, of which at least a quarter is free.
    places: Vec<u32>,
}

impl Table {
    /// So many keys fit in `places`.
    const fn keys_max(places: usize) -> usize {
        places / 4 * 3
    }

    fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.places.len() * size_of::<u32>()
    }

    /// The place of `key`, or the free one where it would be. There must be places.
    fn place(&self, key: [u64; 2]) -> usize {
        // The keys come in as seeded hashes, so that folding them is enough. The multiplication lets both halves reach the
        // highest bits, and the shard has used up the lowest ones.
        let mixed = (key[1] ^ key[0].rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut place = (mixed >> 32) as usize & (self.places.len() - 1);
        while self.places[place] != FREE && self.entries[self.places[place] as usize].key != key {
            place = (place + 1) & (self.places.len() - 1);
        }
        place
    }

    /// The entry of `key`.
    fn find(&self, key: [u64; 2]) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        Some(self.places[self.place(key)]).filter(|&entry| entry != FREE).map(|entry| entry as usize)
    }

    /// Notes the id of `key`. A table that would have more than `keys_max` keys first forgets half of them.
    fn insert(&mut self, key: [u64; 2], id: SeriesId, keys_max: usize) {
        if let Some(entry) = self.find(key) {
            self.entries[entry].id = id;
            return;
        }
        if self.entries.len() >= keys_max {
            // Whichever: the ones in use come back with their next samples.
            let mut kept = false;
            self.retain(|_| {
                kept = !kept;
                kept
            });
        }
        if self.entries.len() >= Self::keys_max(self.places.len()) {
            self.index(self.entries.len() + 1);
        }
        if self.entries.len() == self.entries.capacity() {
            let more = (self.entries.len() / 2).max(PLACES_MIN).min(keys_max - self.entries.len());
            self.entries.reserve_exact(more);
        }
        let place = self.place(key);
        self.places[place] = self.entries.len() as u32;
        self.entries.push(Entry { key, id });
    }

    /// Forgets the keys of all but what `keep` wants, and gives their memory back.
    fn retain(&mut self, mut keep: impl FnMut(SeriesId) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|entry| keep(entry.id));
        if self.entries.len() < before {
            self.entries.shrink_to_fit();
            self.index(self.entries.len());
        }
    }

    /// Places every entry, with room for `keys`.
    fn index(&mut self, keys: usize) {
        let mut places = PLACES_MIN;
        while Self::keys_max(places) < keys {
            places *= 2;
        }
        self.places = vec![FREE; places];
        for entry in 0..self.entries.len() {
            let place = self.place(self.entries[entry].key);
            self.places[place] = entry as u32;
        }
    }
}

fn halves(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

/// The indexes of keys, sorted by shard.
struct Sharded {
    order: Vec<u32>,
    /// Where the part of each shard starts.
    starts: [u32; SHARDS + 1],
}

impl Sharded {
    fn of(keys: impl ExactSizeIterator<Item = u128> + Clone) -> Self {
        let mut starts = [0u32; SHARDS + 1];
        for key in keys.clone() {
            starts[shard_of(key) + 1] += 1;
        }
        for shard in 0..SHARDS {
            starts[shard + 1] += starts[shard];
        }
        let (mut next, mut order) = (starts, vec![0u32; keys.len()]);
        for (i, key) in keys.enumerate() {
            let slot = &mut next[shard_of(key)];
            order[*slot as usize] = i as u32;
            *slot += 1;
        }
        Self { order, starts }
    }

    /// The shards that have keys, with the indexes of those.
    fn parts(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let part = |shard| (shard, &self.order[self.starts[shard] as usize..self.starts[shard + 1] as usize]);
        (0..SHARDS).map(part).filter(|part| !part.1.is_empty())
    }
}

fn shard_of(key: u128) -> usize {
    key as usize % SHARDS
}

/// See the module. An id in it is always active in the head index, but for the time of an eviction.
pub(crate) struct KeyCache {
    shards: Vec<RwLock<Table>>,
    /// Keys of a shard: what fits in its part of the memory.
    shard_keys_max: usize,
}

impl KeyCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, shard_keys_max: (bytes_max / SHARDS / KEY_BYTES).clamp(SHARD_KEYS_MIN, FREE as usize) }
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().bytes()).sum()
    }

    /// Fills `ids` for the known `keys` and returns the indexes of the others. Takes each shard's lock once.
    pub(crate) fn lookup(&self, keys: &[u128], ids: &mut Vec<SeriesId>) -> Vec<usize> {
        ids.clear();
        ids.resize(keys.len(), UNKNOWN);
        let mut unknown = Vec::new();
        for (shard, indexes) in Sharded::of(keys.iter().copied()).parts() {
            let table = self.shards[shard].read();
            let mut next = 0;
            for &i in indexes {
                let key = halves(keys[i as usize]);
                let expected = table.entries.get(next).is_some_and(|entry| entry.key == key);
                match if expected { Some(next) } else { table.find(key) } {
                    Some(entry) => {
                        ids[i as usize] = table.entries[entry].id;
                        next = entry + 1;
                    }
                    None => unknown.push(i as usize),
                }
            }
        }
        unknown.sort_unstable();
        unknown
    }

    /// Notes the ids of keys; best those of a request together, which will be asked for together.
    pub(crate) fn insert(&self, keys: &[(u128, SeriesId)]) {
        for (shard, indexes) in Sharded::of(keys.iter().map(|pair| pair.0)).parts() {
            let mut table = self.shards[shard].write();
            for &i in indexes {
                let (key, id) = keys[i as usize];
                table.insert(halves(key), id, self.shard_keys_max);
            }
        }
    }

    /// Forgets the keys of `ids`.
    pub(crate) fn evict(&self, ids: &HashSet<SeriesId>) {
        self.shards.iter().for_each(|shard| shard.write().retain(|id| !ids.contains(&id)));
    }
}

#[cfg(test)]
mod tests {
    use hashbrown::HashMap;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_number_of_keys_stays_within_the_memory_and_the_newest_is_known() {
        let bytes_max = 1 << 20;
        let cache = KeyCache::new(bytes_max);
        let mut ids = Vec::new();
        for i in 0..100_000u64 {
            let key = u128::from(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * 0x1_0001;
            cache.insert(&[(key, SeriesId(i))]);
            assert!(cache.lookup(&[key], &mut ids).is_empty() && ids == [SeriesId(i)]);
        }
        assert!(cache.bytes() <= bytes_max, "{} bytes", cache.bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn within_the_memory_each_key_has_the_id_it_was_given_last_until_that_is_evicted(
            steps in prop::collection::vec((any::<u8>(), 0..6u8), 1..600),
            few_places: bool,
        ) {
            let of = |key: u128| if few_places { key << 100 } else { (key * 0x9e37_79b9_7f4a_7c15) << 4 };
            let cache = KeyCache::new(1 << 20);
            let mut model = HashMap::new();
            for (number, (key, kind)) in (0u64..).zip(&steps) {
                // In one shard, and as often as not with few places to begin at.
                let key = of(u128::from(*key));
                if *kind == 0 {
                    let gone: HashSet<SeriesId> = model.values().copied().filter(|id: &SeriesId| id.0.is_multiple_of(3)).collect();
                    cache.evict(&gone);
                    model.retain(|_, id| !gone.contains(id));
                } else {
                    cache.insert(&[(key, SeriesId(number))]);
                    model.insert(key, SeriesId(number));
                }
            }
            // In the order in which they came, in another one, and some twice.
            let came = steps.iter().map(|step| of(u128::from(step.0)));
            let keys: Vec<u128> = came.chain((0..256).map(of)).collect();
            let mut ids = Vec::new();
            let unknown = cache.lookup(&keys, &mut ids);
            let expected: Vec<usize> = (0..keys.len()).filter(|&i| !model.contains_key(&keys[i])).collect();
            prop_assert_eq!(&unknown, &expected);
            for (key, id) in keys.iter().zip(&ids) {
                prop_assert_eq!(model.get(key).copied().unwrap_or(UNKNOWN), *id);
            }
        }
    }
}
