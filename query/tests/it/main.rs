//! Integration tests: one binary.
#![allow(clippy::unwrap_used, missing_docs)]
mod admission;
mod continuous;
mod continuous_crash;
mod continuous_fixture;
mod continuous_property;
mod continuous_speed;
mod docs;
mod functions;
mod promql;
mod pushdown;
mod running;
mod slt;
mod store;
