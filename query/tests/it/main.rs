//! Integration tests: one binary.
#![allow(clippy::unwrap_used, missing_docs)]
mod continuous;
mod continuous_fixture;
mod continuous_property;
