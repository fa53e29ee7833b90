//! Integration tests of the workspace as a whole: one binary.
#![allow(clippy::unwrap_used)]
mod architecture;
