//! The generated types put the published field numbers on the wire, and lose nothing on the way back.
#![allow(clippy::unwrap_used)]

mod prometheus_v1;
mod prometheus_v2;
