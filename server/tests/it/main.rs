//! Black-box tests: the real binary, real ports, a temporary directory.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a failed unwrap is a failed test; nothing here is an interface"
)]
mod config;
mod demo;
mod http;
mod lifecycle;
mod metrics;
mod remote_write;
mod remote_write_2;
mod shell;
mod sql;
mod support;
