//! Sends scrapes by remote write, in bounded batches.
use std::time::Duration;

use anyhow::Context as _;
use foretell_ml::twin::{Sample, Series};

use super::remote_write::{Encoder, Scrapes};
use crate::sender::{Patience, Target};

/// Scrapes in a request: about 7,000 samples of the shop.
const SCRAPES_PER_REQUEST: usize = 12;
const PATIENCE: Patience = Patience { pause_max: Duration::from_secs(2), total_max: Duration::from_secs(40) };

/// A remote write client of one server.
pub(super) struct Sender {
    target: Target,
    encoder: Encoder,
    pending: Scrapes,
    samples: u64,
    bytes: u64,
    requests: u64,
}

impl Sender {
    pub(super) fn new(server_url: &str, series: &[Series]) -> Self {
        Self {
            target: Target::new(server_url, concat!("foretell-demo/", env!("CARGO_PKG_VERSION")), PATIENCE),
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
        self.target.post(body)?;
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
