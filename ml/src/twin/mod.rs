//! A simulated shop: the seed of the digital twin.
//!
//! A discrete-event simulation of services that call each other. Customers arrive as a Poisson process whose rate follows
//! the day; every request holds a worker of one instance while it works and while it waits for the calls it makes; calls
//! have time-outs and retries; [`Fault`]s of known truth can be injected. At each scrape the simulation yields one
//! [`Sample`] per [`Series`], named and labelled as Prometheus would see them.
//!
//! ```text
//!   workload ──arrivals──> simulation ──samples──> caller
//!                            │   ▲
//!        event queue (time, order)   one pool of workers + queue per instance
//!                            │   ▲
//!                          topology: stages of parallel calls    faults: what is broken, from when to when
//! ```
//!
//! Words: a *service* has *instances*; an *instance* has *workers* and a bounded *queue*; a request a service sends to
//! another is a *call*; calls of one *stage* run in parallel, stages one after another; the *entry* is the service that
//! customers reach.
//!
//! Invariants:
//! 1. The same topology, workload, faults and seed give the same bits. Nothing here reads a clock or does I/O.
//! 2. Arrivals, work and noise draw from separate generators, so a fault does not change who arrives when.
//! 3. Requests are conserved: arrived = completed + rejected + in the system, per service.
//! 4. Everything that grows is bounded: queues by [`Service::queue_max`], calls by their time-outs and retries.
mod event;
pub mod fault;
pub mod metrics;
mod queue;
mod request;
pub mod simulation;
pub mod topology;
pub mod workload;

#[cfg(test)]
mod tests;

pub use fault::{Direct, Fault, FaultKind, Truth};
pub use metrics::{MetricKind, Sample, Series};
pub use simulation::{Simulation, Totals};
pub use topology::{Call, Service, ServiceId, Topology};
pub use workload::Workload;

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Seconds as whole nanoseconds of simulated time.
pub(crate) fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND_NS as f64) as u64
}

/// Nanoseconds of simulated time as seconds.
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND_NS as f64
}
