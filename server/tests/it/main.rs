//! Black-box tests: the real binary, real ports, a temporary directory.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "a failed unwrap is a failed test; nothing here is an interface; tests break files by hand"
)]
mod abuse;
mod alerts;
mod apply;
mod backup;
mod budget;
mod config;
mod connections;
mod default_detector;
mod demo;
mod disk_full;
mod grafana;
mod hostile;
mod http;
mod influx;
mod jaeger;
mod lifecycle;
mod loki;
mod loki_lines;
mod loki_tail;
mod metrics;
mod otlp;
mod otlp_events;
mod prometheus;
mod prometheus_admin;
mod prometheus_histograms;
mod prometheus_more;
mod red;
mod remote_read;
mod remote_write;
mod remote_write_2;
mod rules;
mod shell;
mod sql;
mod subscribe;
mod support;
mod transfer;
mod transfer_events;
mod verify;
