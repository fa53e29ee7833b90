//! Memory of what protocols make of the rows of queries.
use std::fmt;
use std::sync::Arc;

use datafusion::execution::memory_pool::MemoryReservation;

use super::Database;
use crate::error::Result;
use crate::execute;
use crate::running::Running;

/// A part of the memory of all queries. It is given back when dropped.
pub struct Memory {
    reservation: MemoryReservation,
    running: Arc<Running>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.reservation.size())
    }
}

impl Memory {
    /// Makes the part `bytes` large.
    ///
    /// # Errors
    /// `Execution` when there is not so much, `Unavailable` when there would be if others did not use it.
    pub fn resize(&self, bytes: usize) -> Result<()> {
        self.reservation.try_resize(bytes).map_err(|error| execute::failed(error, &self.running))
    }
}

impl Database {
    /// Memory of all queries for what is made of the rows of one, called `what`; nothing so far.
    pub fn memory(&self, what: &str) -> Memory {
        Memory { reservation: self.sessions.reservation(what), running: Arc::clone(&self.running) }
    }
}
