//! Posting lists and ids of ordinals as they are stored, before RocksDB, whose way to a key is long: a first question that looks
//! up three of them spent a fifth of its time there. Lists of an index that is gone are pushed out by others: no other index gets its
//! number.
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Result;

use super::recent::Recent;
use super::store::{Catalogue, failed};

/// Memory of an entry besides its bytes: two allocations, two counters, its place in the table.
const ENTRY_BYTES: usize = 96;
/// Keys that are forgotten without a pause.
const FORGOTTEN_AT_ONCE: usize = 1000;

/// What is kept, by key.
pub(super) struct Lists {
    kept: Recent<Box<[u8]>, Arc<[u8]>>,
    is_changing: bool,
    /// How often lists were changed: what was read before the end of a change is not kept after it.
    changes: u64,
}

impl Lists {
    /// Holds at most about `bytes_max` of memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            kept: Recent::new(bytes_max, |key, list| key.len() + list.len() + ENTRY_BYTES),
            is_changing: false,
            changes: 0,
        }
    }

    /// Whether what was read since `changes` is what is stored.
    fn is_as_at(&self, changes: u64) -> bool {
        !self.is_changing && self.changes == changes
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
        if lists.is_as_at(changes) {
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
            if lists.kept.has_room() && lists.is_as_at(changes) {
                lists.kept.put(key.into(), list.into());
            }
            drop(lists);
            go_on(key, list)
        })
    }

    /// Announces that lists will change: until what it returns is dropped nothing is kept that is read.
    pub(super) fn change_lists(&self) -> Change<'_> {
        self.lists.lock().is_changing = true;
        Change(&self.lists)
    }

    /// Forgets the lists of `keys`, during a change and before the first of them is written: readers then see what is written as
    /// they would without this.
    pub(super) fn forget_lists<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            // Questions wait for the lock.
            let mut lists = self.lists.lock();
            keys.by_ref().take(FORGOTTEN_AT_ONCE).for_each(|key| lists.kept.forget(key));
        }
    }
}

/// A change of lists, see [`Catalogue::change_lists`].
pub(super) struct Change<'a>(&'a Mutex<Lists>);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut lists = self.0.lock();
        lists.is_changing = false;
        lists.changes += 1;
    }
}
