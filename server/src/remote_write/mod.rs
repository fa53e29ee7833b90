//! Prometheus remote write 1.0: bytes in, one durable commit out.
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
//! | [`snappy`] | the caps that hold before a byte is allocated |
//! | [`wire`] | the protobuf wire format, as much of it as is needed |
//! | [`decode`] | the walk over a `WriteRequest` into columns |
//! | [`labels`] | decoding and checking the labels of a series that is new to us |
//! | [`fault`] | what was wrong with parts of a request, and the sentence that says so |
//! | [`ingest`] | keys to series ids, columns to one batch |
//! | `handler` | HTTP: content types, limits in flight, status codes |
//!
//! Invariants: nothing is allocated on the word of the sender beyond a configured cap; no allocation or lock per sample;
//! a malformed request stores nothing; a well-formed one stores its valid samples and names the first fault.
pub mod decode;
pub mod fault;
pub(crate) mod handler;
pub mod ingest;
pub mod labels;
pub mod snappy;
pub mod wire;

pub use decode::{DecodeError, DecodeLimits, DecodedRequest, Decoder};
pub use fault::{Fault, Report};
