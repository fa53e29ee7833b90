//! SQL over the engine: sessions, tables, functions, continuous queries.
//!
//! Architecture invariants: opens no file and no socket; every query has a deadline, a memory budget and can be cancelled.
pub mod database;
pub mod error;
pub mod limits;

pub use database::{Database, QueryInfo, QueryRequest, QueryResponse};
pub use error::{Error, ErrorKind, Result};
pub use limits::QueryLimits;
