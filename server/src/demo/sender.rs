//! Sends scrapes by remote write: bounded batches, and patience with a server that is busy.
use std::time::Duration;

use anyhow::{Context as _, bail};
use foretell_ml::twin::{Sample, Series};
use ureq::Agent;
use ureq::http::StatusCode;

use super::remote_write::{Encoder, Scrapes};

/// Scrapes in a request: about 7,000 samples of the shop.
const SCRAPES_PER_REQUEST: usize = 12;
/// Attempts of a request that the server was too busy for.
const ATTEMPTS_MAX: u32 = 20;
const PAUSE_MAX: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an error answer that are shown.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// A remote write client of one server.
pub(super) struct Sender {
    agent: Agent,
    url: String,
    encoder: Encoder,
    pending: Scrapes,
    samples: u64,
    bytes: u64,
    requests: u64,
}

impl Sender {
    pub(super) fn new(server_url: &str, series: &[Series]) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        Self {
            agent: config.new_agent(),
            url: format!("{server_url}/api/v1/write"),
            encoder: Encoder::new(series),
            pending: Scrapes::default(),
            samples: 0,
            bytes: 0,
            requests: 0,
        }
    }

    /// Takes a scrape; sends when a request is full.
    ///
    /// # Errors
    /// When the server refuses it or stays busy.
    pub(super) fn push(&mut self, ts_ms: i64, samples: &[Sample]) -> anyhow::Result<()> {
        self.pending.timestamps_ms.push(ts_ms);
        self.pending.values.extend(samples.iter().map(|sample| sample.value));
        if self.pending.timestamps_ms.len() >= SCRAPES_PER_REQUEST { self.flush() } else { Ok(()) }
    }

    /// Sends what is pending. When this returns, the server has it on disk.
    ///
    /// # Errors
    /// When the server refuses it or stays busy.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        if self.pending.timestamps_ms.is_empty() {
            return Ok(());
        }
        let body = self.encoder.encode(&self.pending, self.requests == 0).context("cannot compress a request")?;
        post(&self.agent, &self.url, body)?;
        self.samples += self.pending.values.len() as u64;
        self.bytes += body.len() as u64;
        self.requests += 1;
        self.pending.clear();
        Ok(())
    }

    /// Samples the server has acknowledged.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Compressed bytes they took on the wire.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn post(agent: &Agent, url: &str, body: &[u8]) -> anyhow::Result<()> {
    for attempt in 0..ATTEMPTS_MAX {
        let request = agent
            .post(url)
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .header("User-Agent", concat!("foretell-demo/", env!("CARGO_PKG_VERSION")));
        let response = request.send(body).context("the server does not answer remote writes any more")?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
            let answer = response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_string();
            bail!("the server refused a remote write with {status}: {}", answer.unwrap_or_default().trim());
        }
        let wanted = response.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
        let pause = wanted.map_or(Duration::from_millis(50 << attempt.min(6)), Duration::from_secs);
        std::thread::sleep(pause.min(PAUSE_MAX));
    }
    bail!("the server was too busy for {ATTEMPTS_MAX} attempts of a remote write")
}
