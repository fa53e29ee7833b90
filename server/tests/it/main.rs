//! Black-box tests: the real binary, real ports, a temporary directory.
mod config;
mod http;
mod lifecycle;
mod metrics;
mod remote_write;
mod shell;
mod sql;
mod support;
