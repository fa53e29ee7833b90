//! The engine as its callers see it, on files in memory that can fail and on real ones.
#![allow(clippy::unwrap_used, missing_docs)]

mod basics;
mod catalogue;
mod crash;
mod damage;
mod durability;
mod feed;
mod model;
mod select;
mod support;
