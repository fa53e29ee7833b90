//! Benchmarks of Foretell: workloads, measurements, runs against real peers, and the comparison with a real Prometheus.
//!
//! | module | owns |
//! |---|---|
//! | [`workload`] | fleets of synthetic targets and the bodies they send |
//! | [`recording`] | bodies written to disk before the clock starts, so that a sender costs next to nothing |
//! | [`http`] | a lean keep-alive sender, and a client for everything that is not timed |
//! | [`http_server`] | a small server for those who are told things |
//! | [`process`] | child processes: started, measured, always ended |
//! | [`peer`] | how to start each server that is measured |
//! | [`report`] | tables and JSON results |
//! | [`run`] | the benchmarks |
//! | `lives` | servers side by side that are killed, each with a seed and a directory of its own |
//! | `mortal` | a real server that is started with small sizes, killed, and started again |
//! | [`crash`] | the real server killed again and again, and what must be left of what it acknowledged |
//! | [`stream`] | the real server killed while continuous queries, alerts and subscribers work; what must come of it |
//! | [`promql`] | the same expressions to a real Prometheus and to Foretell |
//! | [`rules`] | one rule file in a real Prometheus and in Foretell |
//! | [`alertmanager`] | a real Alertmanager hears of alerts |
//! | [`e2e`] | a real Prometheus writes to Foretell, and both are compared sample by sample |
//!
//! Architecture invariants: nothing timed is asserted in a test; only loopback is used; only processes that this crate
//! started are signalled, by their id.
#![allow(clippy::disallowed_methods, reason = "a harness outside the product: it owns its files, threads and clocks")]
pub mod alertmanager;
pub mod crash;
pub mod e2e;
pub mod http;
pub mod http_server;
mod lives;
mod mortal;
pub mod peer;
pub mod process;
pub mod promql;
pub mod recording;
pub mod report;
pub mod rules;
pub mod run;
pub mod stream;
pub mod workload;
