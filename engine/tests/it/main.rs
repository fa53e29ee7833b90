//! The engine as its callers see it, on files in memory that can fail and on real ones.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests stop at the first surprise, and break files by hand"
)]

mod aggregate;
mod backup;
mod basics;
mod bitrot;
mod catalogue;
mod churn;
mod concurrency;
mod crash;
mod damage;
mod deletes;
mod disk;
mod drop;
mod durability;
mod faults;
mod feed;
mod last_values;
mod memory;
mod model;
mod record_files;
mod record_filters;
mod records;
mod repair;
mod replay;
mod retention;
mod rollup;
mod script;
mod select;
mod sim;
mod support;
mod verify;
mod year;
