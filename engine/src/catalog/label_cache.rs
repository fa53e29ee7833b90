//! Label sets of series that queries ask for and nobody writes to: each query would read them from RocksDB again. An id is
//! never given to other labels, so nothing in here can be out of date.
//!
//! ```text
//!  asked for ──> young ──(holds half of the memory)──> old ──> forgotten
//!                  └──────────── asked for again ───────┘
//! ```
use hashbrown::HashMap;

use crate::types::{LabelSet, SeriesId};

/// Memory of an entry besides its bytes: two counters of the set, its place in the table.
const ENTRY_BYTES: usize = 80;

/// See the module.
pub(super) struct LabelCache {
    young: HashMap<SeriesId, LabelSet>,
    old: HashMap<SeriesId, LabelSet>,
    young_bytes: usize,
    old_bytes: usize,
    bytes_max: usize,
}

impl LabelCache {
    /// Holds at most about `bytes_max` of memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, old_bytes: 0, bytes_max }
    }

    /// Memory it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    /// Whether there is room for many more before something is forgotten.
    pub(super) fn has_room(&self) -> bool {
        self.old.is_empty() && self.young_bytes < self.bytes_max / 8 * 3
    }

    /// The labels of `id`, if they are here.
    pub(super) fn get(&mut self, id: SeriesId) -> Option<LabelSet> {
        if let Some(labels) = self.young.get(&id) {
            return Some(labels.clone());
        }
        let labels = self.old.remove(&id)?;
        self.old_bytes -= entry_bytes(&labels);
        self.put(id, labels.clone());
        Some(labels)
    }

    /// Remembers the labels of `id`.
    pub(super) fn put(&mut self, id: SeriesId, labels: LabelSet) {
        let bytes = entry_bytes(&labels);
        if self.young_bytes + bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        if bytes <= self.bytes_max / 2 && self.young.insert(id, labels).is_none() {
            self.young_bytes += bytes;
        }
    }
}

fn entry_bytes(labels: &LabelSet) -> usize {
    labels.as_bytes().len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(number: u64) -> LabelSet {
        LabelSet::from_pairs([("number", number.to_string().as_str())]).unwrap()
    }

    #[test]
    fn any_number_of_series_stays_within_the_memory_and_what_is_asked_for_stays() {
        let mut cache = LabelCache::new(100 << 10);
        for number in 0..100_000 {
            cache.put(SeriesId(number), labels(number));
            assert_eq!(cache.get(SeriesId(number)), Some(labels(number)));
            assert!(number < 10 || cache.get(SeriesId(7)) == Some(labels(7)));
            assert!(cache.bytes() <= 100 << 10, "{} bytes", cache.bytes());
            assert!(cache.young.len() + cache.old.len() < 2_000);
        }
        assert_eq!(cache.get(SeriesId(11)), None);
    }

    #[test]
    fn a_cache_without_memory_holds_nothing() {
        let mut cache = LabelCache::new(0);
        cache.put(SeriesId(1), labels(1));
        assert_eq!((cache.get(SeriesId(1)), cache.bytes()), (None, 0));
    }
}
