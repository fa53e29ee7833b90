//! What queries asked for lately, kept within a memory: each query would read it from RocksDB again.
//!
//! ```text
//!  asked for ──> young ──(holds half of the memory)──> old ──> forgotten
//!                  └──────────── asked for again ───────┘
//! ```
use std::borrow::Borrow;
use std::hash::Hash;

use hashbrown::HashMap;

/// See the module.
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_bytes: usize,
    old_bytes: usize,
    bytes_max: usize,
    /// Memory of an entry.
    weigh: fn(&K, &V) -> usize,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    /// Holds at most about `bytes_max` of memory, entries being of `weigh` bytes.
    pub(super) fn new(bytes_max: usize, weigh: fn(&K, &V) -> usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, old_bytes: 0, bytes_max, weigh }
    }

    /// Memory it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    /// Whether there is room for many more before something is forgotten.
    pub(super) fn has_room(&self) -> bool {
        self.old.is_empty() && self.young_bytes < self.bytes_max / 8 * 3
    }

    /// What is kept of `key`.
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.old_bytes -= (self.weigh)(&key, &value);
        self.put(key, value.clone());
        Some(value)
    }

    /// Keeps `value` of `key`.
    pub(super) fn put(&mut self, key: K, value: V) {
        self.forget(&key);
        let bytes = (self.weigh)(&key, &value);
        if self.young_bytes + bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        if bytes <= self.bytes_max / 2 {
            self.young.insert(key, value);
            self.young_bytes += bytes;
        }
    }

    /// Forgets what is kept of `key`.
    pub(super) fn forget<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.young.remove_entry(key) {
            self.young_bytes -= (self.weigh)(&key, &value);
        }
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.old_bytes -= (self.weigh)(&key, &value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(bytes_max: usize) -> Recent<u64, String> {
        Recent::new(bytes_max, |_, text| text.len() + 100)
    }

    #[test]
    fn any_number_of_entries_stays_within_the_memory_and_what_is_asked_for_stays() {
        let mut cache = cache(100 << 10);
        for number in 0..100_000 {
            cache.put(number, number.to_string());
            assert_eq!(cache.get(&number), Some(number.to_string()));
            assert!(number < 10 || cache.get(&7) == Some("7".into()));
            assert!(cache.bytes() <= 100 << 10, "{} bytes", cache.bytes());
            assert!(cache.young.len() + cache.old.len() < 2_000);
        }
        assert_eq!(cache.get(&11), None);
    }

    #[test]
    fn what_is_forgotten_is_gone_with_its_memory_young_or_old() {
        let mut cache = cache(10 << 10);
        (0..80).for_each(|number| cache.put(number, number.to_string()));
        assert!(!cache.young.is_empty() && !cache.old.is_empty());
        (0..80).for_each(|number| cache.forget(&number));
        assert_eq!((cache.get(&1), cache.get(&79), cache.bytes()), (None, None, 0));
    }

    #[test]
    fn a_value_takes_the_place_and_the_memory_of_the_one_before() {
        let mut cache = cache(10 << 10);
        for text in ["one", "a longer one", ""] {
            cache.put(1, text.into());
            assert_eq!((cache.get(&1), cache.bytes()), (Some(text.into()), text.len() + 100));
        }
    }

    #[test]
    fn a_cache_without_memory_holds_nothing() {
        let mut cache = cache(0);
        cache.put(1, "one".into());
        assert_eq!((cache.get(&1), cache.bytes()), (None, 0));
    }
}
