//! SQL over the engine: sessions, tables, functions, continuous queries.
//!
//! ```text
//!  text -> admit -> planner (large stack) -> optimise -> execute (own runtime) -> batches
//!           |         |                                     |
//!           limits    session: functions, tables of one snapshot, memory pool
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`database`] | the façade: one statement in, one stream of batches out; deadline, cancellation, concurrency |
//! | [`limits`] | every bound of a query |
//! | `admit` | bounds on the shape of a statement, before anything recursive sees it |
//! | `planner` | from admitted tokens to a verified logical plan |
//! | `session` | what every query runs in |
//! | `rule` | optimizer rules |
//! | `table` | how a snapshot looks to SQL |
//! | `udf` | functions |
//! | `running` | queries in flight |
//! | `delete` | from a DELETE to what the engine deletes by |
//! | `execute` | running a plan: where it was made, or on the queries' own threads |
//! | `may_block` | which threads may wait for the disk |
//! | `memory` | how much memory rows take |
//! | `continuous` | continuous queries |
//! | `alert` | alerts: pending, firing, told |
//! | `subscribe` | rows of a table as they come |
//! | `model` | models: learnt, kept in versions, watched |
//! | `statement`, `codec` | statements about objects, and how objects are stored |
//! | [`metadata`] | type, help and unit of metric families, as stored |
//! | [`event`] | logs and spans, as stored |
//! | [`native`] | native histograms and exemplars, as stored |
//! | [`promql`] | PromQL: its own evaluator over the same snapshots |
//! | [`duration`] | durations as people write them |
//!
//! Architecture invariants: opens no file and no socket; every query has a deadline, a memory budget and can be cancelled.
pub mod database;
pub mod duration;
pub mod error;
pub mod event;
pub mod limits;
pub mod metadata;
pub mod native;
pub mod promql;

mod admit;
mod alert;
mod codec;
mod continuous;
mod default_detector;
mod delete;
mod execute;
mod may_block;
mod memory;
mod model;
mod planner;
mod rule;
mod running;
mod session;
mod statement;
mod subscribe;
mod table;
mod trace;
mod udf;

pub use alert::{ActiveAlert, AlertStats, Notice, Target};
pub use continuous::status::ContinuousStats;
pub use database::{Database, Memory, PromAnswer, QueryInfo, QueryRequest, QueryResponse};
pub use default_detector::DefaultDetectorStats;
pub use error::{Error, ErrorKind, Result};
pub use limits::QueryLimits;
pub use metadata::{MetricMetadata, MetricType};
pub use model::ModelStats;
pub use subscribe::{Delivery, Subscribe, Subscription};
pub use udf::log_template::TemplateStats;
