//! Jaeger's query API: spans as Jaeger's page and Grafana's datasource read them.
//!
//! | module | owns |
//! |---|---|
//! | [`search`] | the parameters of a search, as a statement over the table `spans` |
//! | `answer` | spans to Jaeger's JSON |
//! | `handler` | HTTP: services, operations, traces, dependencies |
//!
//! Attributes come as texts, as SQL shows them; instants and durations are microseconds, cut off.
mod answer;
pub(crate) mod handler;
pub mod search;
