//! Prometheus remote read: which series and when in, raw samples out.
//!
//! ```text
//!  body -> caps -> snappy -> wire walk -> RawQuery* -> rows of one snapshot, a few series at a time
//!                                                        |- SAMPLES: one ReadResponse, compressed as a whole
//!                                                        `- STREAMED_XOR_CHUNKS: a frame a series, sent as it is made
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`request`] | the questions, and which answers the asker can read |
//! | [`samples`] | the answer in one piece |
//! | [`chunks`] | the answer as a stream of frames |
//! | [`xor`] | samples in the encoding of Prometheus's storage |
//! | [`histogram`] | native histograms as messages |
//! | [`handler`] | HTTP: limits, status codes, which answer is given |
//!
//! Invariants: no struct per sample; an answer in one piece is bounded, a stream has a bounded part in memory; an answer that
//! fails after its first byte ends with a broken connection.
mod chunks;
pub(crate) mod handler;
mod histogram;
mod request;
mod samples;
mod xor;
