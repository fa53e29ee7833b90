//! Reading an index ahead, after a start: otherwise the first questions wait, series by series, for RocksDB to read and unpack its
//! blocks.
use crate::error::Result;

use super::partition::{Table, table_key};
use super::store::Catalogue;

impl Catalogue {
    /// Reads the postings of the index `index` and the labels of its series, as far as there is room for them beside what is
    /// there, and as long as `go_on` says so.
    ///
    /// # Errors
    /// Damage; `Unavailable` when the store is closed.
    pub(crate) fn warm_up(&self, index: u64, go_on: &dyn Fn() -> bool) -> Result<()> {
        // RocksDB keeps the blocks that are read here, for what there are too many lists of.
        let mut bytes = 0;
        for table in [Table::Names, Table::Ordinals, Table::Values] {
            self.read_lists_ahead(&table_key(index, table), |key, list| {
                bytes += key.len() + list.len();
                Ok(bytes < self.blocks_bytes_max() / 2 && go_on())
            })?;
        }
        let prefix = table_key(index, Table::Ordinals);
        self.scan(&prefix, prefix.len(), |_, chunk| {
            self.labels_for_query(&self.ids_of_chunk(chunk).collect::<Result<Vec<_>>>()?)?;
            Ok(self.has_room() && go_on())
        })
    }
}
