//! Whether this thread has nothing else to do: then what may wait for the disk need not go to another one.
use std::cell::Cell;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// While it lives its thread may block.
pub(crate) struct MayBlock {
    before: bool,
}

impl MayBlock {
    pub(crate) fn here() -> Self {
        Self { before: MAY_BLOCK.replace(true) }
    }
}

impl Drop for MayBlock {
    fn drop(&mut self) {
        MAY_BLOCK.set(self.before);
    }
}

/// Whether whoever is polled now may wait for the disk.
pub(crate) fn may_block() -> bool {
    MAY_BLOCK.get()
}
