//! A server under test, and an encoder of write requests.
pub mod api;
mod example;
pub mod grpc;
pub mod http2;
mod server;
mod write_request;

pub use example::{example, run_example, run_example_of, run_script};
pub use server::{Answer, BytesAnswer, Server, binary, is_hang_up, read_to_close, wait_until};
pub use write_request::{Series, body, compress, encode};

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "samples must be near the server's own clock")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}
