//! What is sent: samples in any order, samples that are a little out of order, and lines.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::http::{REMOTE_WRITE_HEADERS, Sender};
use crate::workload::encode::{BodyEncoder, encode_labels};

/// Of samples in any order; of those that are a little out of order.
pub(super) const ANY: &str = "stream_any";
pub(super) const WATCHED: &str = "stream_watched";
/// How far those are out of order at most, seconds.
const DISORDER_S: i64 = 20;
/// Series at a time.
const HOSTS: usize = 5;
const SECOND_MS: i64 = 1000;
/// A busy server is asked again so often.
const BUSY_MAX: u32 = 5_000;
const LOKI_HEADERS: &str = "Content-Type: application/json\r\n";

/// What a sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    Watched,
    Lines,
}

/// Sends one request after the other; one that was not answered is the next one, too.
pub(super) struct Load {
    kind: Kind,
    rng: SmallRng,
    now_ms: i64,
    /// Samples that are due later: when, host, time, value.
    held: Vec<(i64, usize, i64, f64)>,
    /// Seconds that each host goes on to be odd for.
    odd: [u32; HOSTS],
    unanswered: Option<Vec<u8>>,
    pub(super) acknowledged: u64,
    pub(super) repeated: u64,
}

impl Load {
    /// Begins at `start_ms`.
    pub(super) fn new(kind: Kind, seed: u64, start_ms: i64) -> Self {
        Self {
            kind,
            rng: SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9).wrapping_add(kind as u64)),
            now_ms: start_ms,
            held: Vec::new(),
            odd: [0; HOSTS],
            unanswered: None,
            acknowledged: 0,
            repeated: 0,
        }
    }

    /// Sends until the connection breaks or `stop`.
    pub(super) fn send_until(&mut self, address: SocketAddr, stop: &AtomicBool) -> Result<()> {
        let Ok(mut sender) = self.connect(address) else { return Ok(()) };
        while !stop.load(Ordering::Acquire) && self.send(&mut sender)? {
            thread::sleep(Duration::from_millis(self.rng.random_range(0..12)));
        }
        Ok(())
    }

    /// Has `count` requests acknowledged.
    pub(super) fn send_some(&mut self, address: SocketAddr, count: u32) -> Result<()> {
        let mut sender = self.connect(address)?;
        for _ in 0..count {
            ensure!(self.send(&mut sender)?, "the connection broke");
        }
        Ok(())
    }

    /// Has the samples acknowledged that are held back, and some that are newer than the watermark after them.
    pub(super) fn finish(&mut self, address: SocketAddr) -> Result<()> {
        self.now_ms += 120 * SECOND_MS;
        self.send_some(address, 2)
    }

    fn connect(&self, address: SocketAddr) -> Result<Sender> {
        match self.kind {
            Kind::Lines => Sender::connect(address, "/loki/api/v1/push", LOKI_HEADERS),
            _ => Sender::connect(address, "/api/v1/write", REMOTE_WRITE_HEADERS),
        }
    }

    /// Sends a request until it is acknowledged; `false` when the connection broke.
    fn send(&mut self, sender: &mut Sender) -> Result<bool> {
        let body = match self.unanswered.take() {
            Some(body) => {
                self.repeated += 1;
                body
            }
            None => match self.kind {
                Kind::Any => self.any()?,
                Kind::Watched => self.watched()?,
                Kind::Lines => self.lines(),
            },
        };
        let body = self.unanswered.insert(body);
        for _ in 0..BUSY_MAX {
            let Ok((status, answer)) = sender.post(body) else { return Ok(false) };
            match status {
                200..=299 => {
                    self.acknowledged += 1;
                    // Now and then a request comes twice although it was answered.
                    if !self.rng.random_bool(0.03) {
                        self.unanswered = None;
                    }
                    return Ok(true);
                }
                429 | 503 => thread::sleep(Duration::from_millis(1)),
                _ => bail!("a request was answered with {status}: {answer}"),
            }
        }
        bail!("the server is busy for ever");
    }

    /// Samples of some jobs and instances, new ones among them; a tenth comes minutes late, over known ones or between them.
    fn any(&mut self) -> Result<Vec<u8>> {
        let mut body = BodyEncoder::default();
        self.now_ms += self.rng.random_range(1..6) * SECOND_MS;
        for _ in 0..self.rng.random_range(1..30) {
            let host = self.rng.random_range(0..HOSTS);
            let churned = if self.rng.random_bool(0.02) { self.now_ms / (600 * SECOND_MS) } else { 0 };
            let late = if self.rng.random_bool(0.1) { self.rng.random_range(0..1200) } else { 0 };
            let (instance, job) = (format!("i{host}-{churned}"), ["web", "db"][host % 2]);
            let labels = encode_labels(&[("__name__", ANY), ("instance", &instance), ("job", job)]);
            let ts = self.now_ms - late * SECOND_MS + self.rng.random_range(0..8) * 125;
            // Eighths: sums of them are exact, whatever their order.
            let value = f64::from(self.rng.random_range(0..800)) / 8.0;
            body.push(&labels, ts, value);
        }
        Ok(body.finish()?.to_vec())
    }

    /// A sample each second of each host, held back for up to [`DISORDER_S`].
    fn watched(&mut self) -> Result<Vec<u8>> {
        for _ in 0..self.rng.random_range(1..6) {
            self.now_ms += SECOND_MS;
            for host in 0..HOSTS {
                let odd = &mut self.odd[host];
                *odd = match *odd {
                    0 if self.rng.random_bool(0.02) => self.rng.random_range(1..20),
                    left => left.saturating_sub(1),
                };
                let base = if *odd > 0 && self.rng.random_bool(0.9) { 90 } else { 40 };
                let value = f64::from(base + self.rng.random_range(0..8));
                let held = self.rng.random_range(0..DISORDER_S) * SECOND_MS;
                self.held.push((self.now_ms + held, host, self.now_ms, value));
            }
        }
        let mut due: Vec<_> = self.held.extract_if(.., |sample| sample.0 <= self.now_ms).collect();
        if due.is_empty() {
            return self.watched();
        }
        for at in (1..due.len()).rev() {
            due.swap(at, self.rng.random_range(0..=at));
        }
        let mut body = BodyEncoder::default();
        for (_, host, ts, value) in due {
            let host = format!("h{host}");
            body.push(&encode_labels(&[("__name__", WATCHED), ("host", host.as_str())]), ts, value);
        }
        Ok(body.finish()?.to_vec())
    }

    /// Lines of some services, some of them late.
    fn lines(&mut self) -> Vec<u8> {
        self.now_ms += self.rng.random_range(1..20) * SECOND_MS;
        let mut values = Vec::new();
        for _ in 0..self.rng.random_range(1..8) {
            let late = if self.rng.random_bool(0.1) { self.rng.random_range(0..900) } else { 0 };
            let ts = (self.now_ms - late * SECOND_MS) * 1_000_000 + self.rng.random_range(0..1_000_000);
            values.push(serde_json::json!([ts.to_string(), format!("took {} ms", self.rng.random_range(0..500))]));
        }
        let service = format!("s{}", self.rng.random_range(0..3));
        let stream = serde_json::json!({"stream": {"service_name": service}, "values": values});
        serde_json::json!({ "streams": [stream] }).to_string().into_bytes()
    }
}
