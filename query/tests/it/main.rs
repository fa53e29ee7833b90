//! Integration tests: one binary.
#![allow(clippy::unwrap_used, missing_docs)]
mod admission;
mod conditions;
mod continuous;
mod continuous_crash;
mod continuous_fixture;
mod continuous_property;
mod continuous_retention;
mod docs;
mod functions;
mod metamorphic;
mod pushdown;
mod running;
mod slt;
mod store;
