//! Prometheus remote write 1.0 and 2.0: bytes in, one durable commit out.
//!
//! ```text
//!  body -> caps -> snappy -> wire walk -> (key, run) per series + (ts, value) columns
//!                                             | lookup(keys): one pass over the series table
//!                                             | unknown keys only: decode labels, resolve
//!                                             v
//!                                         WriteBatch -> group commit -> 204
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `compression` | gzip and zstd for the protocols that have them, within the same caps |
//! | `content` | which message a request's headers announce |
//! | [`snappy`] | the caps that hold before a byte is allocated |
//! | [`wire`] | the protobuf wire format, as much of it as is needed |
//! | [`decode`] | limits and the walks over the messages of 1.0 and 2.0 into columns |
//! | [`request`] | the columns, and where the labels of each series lie |
//! | `symbols` | the strings of a 2.0 request, hashed once |
//! | [`labels`] | decoding and checking the labels of a series that is new to us |
//! | `histogram`, `exemplar`, `lists` | native histograms and exemplars as columns |
//! | `records` | those columns as records for a batch |
//! | `metadata` | what of a request's metadata has changed |
//! | `rows` | the same columns for senders that speak other protocols |
//! | [`fault`] | what was wrong with parts of a request, and the sentence that says so |
//! | [`ingest`] | keys to series ids, columns to one batch |
//! | `handler` | HTTP: limits in flight, status codes, what was written |
//!
//! Invariants: nothing is allocated on the word of the sender beyond a configured cap; no allocation or lock per sample;
//! a malformed request stores nothing; a well-formed one stores its valid samples and names the first fault.
pub(crate) mod compression;
mod content;
pub mod decode;
mod exemplar;
pub mod fault;
pub(crate) mod handler;
mod histogram;
pub mod ingest;
pub mod labels;
mod lists;
mod metadata;
mod records;
pub mod request;
pub(crate) mod rows;
pub mod snappy;
mod symbols;
pub mod wire;

pub use decode::{DecodeError, DecodeLimits, Decoder, Protocol};
pub use fault::{Fault, Report};
pub use request::DecodedRequest;
