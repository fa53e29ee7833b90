//! Loki: log lines in, one durable commit out; and lines back as Loki answers.
//!
//! ```text
//!  body -> caps -> snappy + protobuf, or JSON -> streams of entries (borrowed) -> labels to stream, lines to columns -> commit -> 204
//! ```
//! | module | owns |
//! |---|---|
//! | [`push`] | what a request is made of, whichever way it came, and the bound on it |
//! | [`labels`] | `{name="value", …}` as Loki clients write it |
//! | [`protobuf`] | `logproto.PushRequest` |
//! | [`json`] | `{"streams": […]}` |
//! | [`ingest`] | streams to a batch, and what had to be left out of it |
//! | `handler` | HTTP of push: limits in flight, status codes |
//! | [`logql`] | the part of LogQL that asks for lines, as SQL |
//! | `query` | HTTP of reading: lines, labels, their values, streams |
//!
//! Invariants as for remote write: nothing is allocated on the word of the sender beyond a cap; a malformed request stores
//! nothing; a well-formed one stores its valid lines and names the first fault.
pub(crate) mod handler;
pub mod ingest;
pub mod json;
pub mod labels;
pub mod logql;
pub mod protobuf;
pub mod push;
pub(crate) mod query;
