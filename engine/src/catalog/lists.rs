//! Posting lists and ids of ordinals as they are stored, before RocksDB, whose way to a key is long: a first question that looks
//! up three of them spent a fifth of its time there.
use std::sync::Arc;

use rocksdb::{DB, WriteBatch};

use crate::error::Result;

use super::recent::Recent;
use super::store::{Catalogue, failed};

/// Memory of an entry besides its bytes: two allocations, two counters, its place in the table.
const ENTRY_BYTES: usize = 96;

/// What is kept, by key.
pub(super) struct Lists {
    kept: Recent<Box<[u8]>, Arc<[u8]>>,
    /// How often lists were changed: what was read before a change is not kept after it.
    changes: u64,
}

impl Lists {
    /// Holds at most about `bytes_max` of memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { kept: Recent::new(bytes_max, |key, list| key.len() + list.len() + ENTRY_BYTES), changes: 0 }
    }

    /// Memory it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.kept.bytes()
    }
}

impl Catalogue {
    /// What is stored at `key`, a posting list's or that of a chunk of ids.
    pub(super) fn stored(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        let db = self.db()?;
        let changes = {
            let mut lists = self.lists.lock();
            if let Some(list) = lists.kept.get(key) {
                return Ok(Some(list));
            }
            lists.changes
        };
        let Some(list) = db.get_pinned(key).map_err(failed)? else { return Ok(None) };
        let list: Arc<[u8]> = (*list).into();
        let mut lists = self.lists.lock();
        if lists.changes == changes {
            lists.kept.put(key.into(), Arc::clone(&list));
        }
        Ok(Some(list))
    }

    /// Reads the lists whose keys begin with `prefix` ahead, as far as there is room for them beside what is there, and as long as
    /// `go_on` says so of each.
    pub(super) fn read_lists_ahead(
        &self,
        prefix: &[u8],
        mut go_on: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let changes = self.lists.lock().changes;
        self.scan(prefix, 0, |key, list| {
            let mut lists = self.lists.lock();
            if lists.kept.has_room() && lists.changes == changes {
                lists.kept.put(key.into(), list.into());
            }
            drop(lists);
            go_on(key, list)
        })
    }

    /// Writes `batch`, which changes the lists of `keys`; they are not kept as they were, whatever becomes of it.
    pub(super) fn change_lists(&self, db: &DB, batch: &mut WriteBatch, keys: &[Vec<u8>]) -> Result<()> {
        let written = self.hand_over(db, batch, 0);
        let mut lists = self.lists.lock();
        lists.changes += 1;
        keys.iter().for_each(|key| lists.kept.forget(&**key));
        written
    }
}
