//! The sending side of Prometheus remote write 1.0 and of OTLP over HTTP: what `foretell import` and `foretell demo` send with.
//!
//! | module | owns |
//! |---|---|
//! | [`encode`] | labels and samples as a request, and as the same message in other places |
//! | [`post`] | handing a request over, with patience for a server that is busy |
pub(crate) mod encode;
pub(crate) mod post;

pub(crate) use encode::{Request, encode_labels};
pub(crate) use post::{Patience, Target, Undelivered, Wire};
