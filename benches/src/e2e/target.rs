//! A target that shows what the others do not: exemplars, and a classic histogram that Prometheus turns into one with custom
//! buckets.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

/// Longest request.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Borders of the histogram.
pub const BORDERS: [f64; 2] = [0.1, 1.0];
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers every request with the next page until it is dropped.
pub struct Target {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Target {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, stop) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("target".into()).spawn(move || {
            for (n, stream) in (1..).zip(listener.incoming()) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A scrape that fails is tried again a second later.
                let _ = stream.map_err(anyhow::Error::from).and_then(|stream| answer(stream, n));
            }
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, n: u64) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < REQUEST_BYTES_MAX {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let page = page(n, crate::run::now_ms()?);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let length = page.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
    )
    .context("the scrape was given up")
}

/// The `n`-th page, at this time: one exemplar that has a time and one that gets the scrape's.
fn page(n: u64, now_ms: i64) -> String {
    let (low, middle, all, sum) = (n / 2, 2 * n, 3 * n, n as f64 * 0.7);
    let seconds = now_ms as f64 / 1000.0;
    format!(
        "# TYPE e2e_requests counter\n\
         # HELP e2e_requests Requests that never were.\n\
         e2e_requests_total {n} # {{trace_id=\"{n:032x}\",place=\"café\"}} 1\n\
         # TYPE e2e_wait_seconds histogram\n\
         # HELP e2e_wait_seconds Time that nobody waited.\n\
         e2e_wait_seconds_bucket{{le=\"0.1\"}} {low}\n\
         e2e_wait_seconds_bucket{{le=\"1.0\"}} {middle} # {{trace_id=\"w{n}\"}} 0.67 {seconds:.3}\n\
         e2e_wait_seconds_bucket{{le=\"+Inf\"}} {all}\n\
         e2e_wait_seconds_count {all}\n\
         e2e_wait_seconds_sum {sum}\n\
         # EOF\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    #[test]
    fn each_scrape_gets_the_next_page_and_dropping_it_ends_it() {
        let target = Target::start().unwrap();
        let url = format!("http://{}/metrics", target.address());
        let page = || String::from_utf8(Client::default().get(&url).unwrap().1).unwrap();
        assert!(page().contains("\ne2e_requests_total 1 # {trace_id=\"00000000000000000000000000000001\""));
        assert!(page().contains("\ne2e_wait_seconds_count 6\n"));
        drop(target);
        assert!(Client::default().get(&url).is_err());
    }
}
