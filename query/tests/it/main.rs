//! Integration tests: one binary.
#![allow(clippy::unwrap_used, missing_docs)]
mod admission;
mod docs;
mod functions;
mod pushdown;
mod running;
mod slt;
mod store;
