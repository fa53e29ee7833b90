//! Log lines and spans as services write them: rows in the order of time, the same for the same seed, with needles whose number is
//! known.
//!
//! | module | owns |
//! |---|---|
//! | [`line`] | log lines: templates as those of Loghub, and access logs in JSON |
//! | [`span`] | call trees of a shop |
//! | [`otlp`] | rows to requests of OTLP |
pub mod line;
pub mod otlp;
pub mod span;

use rand::Rng as _;
use rand::rngs::SmallRng;

use otlp::Requests;

/// Where rows come from.
pub trait Events: Send {
    /// Puts the next rows, as few as belong together, into `requests`, and each as a line of JSON into `json`; `false` when there
    /// are no more.
    fn next(&mut self, requests: &mut Requests, json: &mut String) -> bool;

    /// The route that takes the requests.
    fn path(&self) -> &'static str;

    /// Milliseconds of the latest row.
    fn due_ms(&self) -> i64;
}

/// Random hexadecimal digits of `bytes`.
fn id(random: &mut SmallRng, out: &mut [u8]) {
    random.fill(out);
    // an id of zeros is none
    out[0] |= 1;
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
