//! The server of Foretell: protocols at the edge, one engine and one SQL database behind them.
//!
//! ```text
//!  config -> listener up (503 + progress) -> engine open, WAL replay -> database open -> ready
//!  signal -> new work 503 -> in-flight work ends -> database close -> engine close (flush) -> exit 0
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`command`] | the command line |
//! | [`config`] | flag > environment > file > default; limits |
//! | [`serve`] | the life of the server process |
//! | `app` | what handlers share: phase, limits in flight, metrics |
//! | `http` | router, listener, SQL endpoint, operations endpoints |
//! | [`loki`] | Loki push |
//! | [`remote_write`] | Prometheus remote write 1.0 and 2.0 |
//! | `influx` | InfluxDB line protocol |
//! | `otlp` | OpenTelemetry's protocol, over HTTP and gRPC |
//! | `naming` | names of other protocols as names of metrics and labels |
//! | `remote_read` | Prometheus remote read |
//! | `encode` | results as JSON, CSV, NDJSON, Arrow, Parquet |
//! | `sender` | the sending side of remote write 1.0 |
//! | [`rules`] | Prometheus rule files: recording rules, alerts, Alertmanagers |
//! | `metrics` | the server's own metrics |
//! | [`shell`] | `foretell sql` |
//! | [`verify`], [`repair`], [`backup`] | the commands of these names, and `foretell restore` |
//! | [`transfer`] | `foretell export` and `foretell import` |
//! | `progress` | progress bars |
//! | `red` | built-in continuous queries over spans |
//! | [`demo`] | `foretell demo` |
//!
//! Architecture invariants: only this crate knows HTTP, JSON and protobuf; it stores nothing and computes nothing itself; every
//! buffer that a sender can fill has a limit here.
mod alerts;
mod app;
pub mod apply;

pub mod backup;
mod clients;
pub mod command;
pub mod config;
pub mod demo;
mod encode;
mod error;
mod http;
mod influx;
pub mod jaeger;
pub mod loki;
mod metrics;
mod naming;
mod otlp;
mod progress;
mod red;
mod remote_read;
pub mod remote_write;
pub mod repair;
pub mod rules;
mod sender;
pub mod serve;
pub mod shell;
mod timestamp;
pub mod transfer;
pub mod verify;
