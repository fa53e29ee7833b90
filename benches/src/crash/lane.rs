//! A writer with a metric of its own. It sends one request after the other over one connection, so what it may rely on is
//! plain: the newest acknowledged value of each (series, time), and one request at most of which nobody knows.
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::http::{REMOTE_WRITE_HEADERS, Sender};
use crate::workload::encode::{BodyEncoder, encode_labels};

/// Series that a lane writes at a time; older ones get late samples only.
const ACTIVE: usize = 12;
/// Rows of a request.
const ROWS_MAX: usize = 40;
/// How far back an out-of-order sample may go, seconds.
const LATE_SECONDS_MAX: i64 = 3 * 3600;
/// A busy server is asked again so often.
const BUSY_MAX: u32 = 5_000;

/// Series and milliseconds.
pub(super) type Key = (u32, i64);

/// Rows as they shall be stored: of equal keys the last.
#[derive(Clone, Default)]
pub(super) struct Request {
    pub(super) rows: BTreeMap<Key, u64>,
    body: Vec<u8>,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Lane {
    number: u32,
    rng: SmallRng,
    /// Labels of each series, encoded.
    series: Vec<Box<[u8]>>,
    active: Vec<u32>,
    now_ms: i64,
    values: u64,
    acknowledged: u64,
    /// What was acknowledged.
    pub(super) rows: BTreeMap<Key, u64>,
    /// Sent, and not answered.
    pub(super) unsure: Option<Request>,
    /// A settled request to be sent once more.
    again: Option<Request>,
    /// Series written since the last check.
    pub(super) touched: BTreeSet<u32>,
}

/// The metric of a lane.
pub(super) fn metric(number: u32) -> String {
    format!("crash_{number}")
}

impl Lane {
    /// A writer that begins at `start_ms`.
    pub(super) fn new(number: u32, seed: u64, start_ms: i64) -> Self {
        let mut lane = Self {
            number,
            rng: SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9).wrapping_add(number.into())),
            series: Vec::new(),
            active: Vec::new(),
            now_ms: start_ms,
            values: 0,
            acknowledged: 0,
            rows: BTreeMap::new(),
            unsure: None,
            again: None,
            touched: BTreeSet::new(),
        };
        (0..ACTIVE).for_each(|_| lane.add_series());
        lane
    }

    /// Its number.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Distinct rows acknowledged.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Requests acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    fn add_series(&mut self) {
        let n = self.series.len() as u32;
        let (text, pod) = (n.to_string(), format!("pod-{:x}", n.wrapping_mul(0x9e37_79b9)));
        self.series.push(encode_labels(&[("__name__", metric(self.number).as_str()), ("n", &text), ("pod", &pod)]));
        self.active.push(n);
    }

    /// No two values are alike, so that a row in the wrong place is seen; now and then one that is hard to keep.
    fn value(&mut self) -> u64 {
        self.values += 1;
        let distinct = f64::from(self.number) + self.values as f64 / 1024.0;
        match self.rng.random_range(0..40) {
            0 => 0x7ff8_0000_0000_0000 | (self.values & 0xffff_ffff),
            1 => (-0.0f64).to_bits(),
            2 => 0x7ff0_0000_0000_0002,
            3 => f64::NEG_INFINITY.to_bits(),
            4 => f64::from_bits(self.values).to_bits(),
            5 => self.rng.random::<f64>().to_bits(),
            _ => distinct.to_bits(),
        }
    }

    fn request(&mut self) -> Result<Request> {
        if self.rng.random_bool(0.04) {
            let retired = self.rng.random_range(0..self.active.len());
            self.active.swap_remove(retired);
            self.add_series();
        }
        self.now_ms += 300;
        let (mut rows, mut body) = (BTreeMap::new(), BodyEncoder::default());
        for _ in 0..self.rng.random_range(1..=ROWS_MAX) {
            let (key, bits) = self.row();
            rows.insert(key, bits);
            body.push(&self.series[key.0 as usize], key.1, f64::from_bits(bits));
        }
        Ok(Request { rows, body: body.finish()?.to_vec() })
    }

    /// A new sample, a late one, a known one once more, or a known one with another value.
    fn row(&mut self) -> (Key, u64) {
        let active = self.active[self.rng.random_range(0..self.active.len())];
        let chance = self.rng.random_range(0..100);
        if chance < 20 && !self.rows.is_empty() {
            let any: Key = (self.rng.random_range(0..self.series.len() as u32), i64::MIN);
            if let Some((&key, &bits)) = self.rows.range(any..).nth(self.rng.random_range(0..8)) {
                return if chance < 8 { (key, bits) } else { (key, self.value()) };
            }
        }
        let late = if chance < 40 { self.rng.random_range(0..LATE_SECONDS_MAX) * 1000 } else { 0 };
        let series = if chance < 25 { self.rng.random_range(0..self.series.len() as u32) } else { active };
        let within = self.rng.random_range(0..8) * 125;
        ((series, self.now_ms - late + within), self.value())
    }

    /// Writes until the connection breaks or `stop`.
    pub(super) fn write_until(&mut self, address: SocketAddr, stop: &AtomicBool) -> Result<()> {
        let Ok(mut sender) = Sender::connect(address, "/api/v1/write", REMOTE_WRITE_HEADERS) else { return Ok(()) };
        while !stop.load(Ordering::Acquire) && self.write(&mut sender)? {}
        Ok(())
    }

    /// Has exactly one request acknowledged.
    pub(super) fn write_one(&mut self, address: SocketAddr) -> Result<()> {
        let mut sender = Sender::connect(address, "/api/v1/write", REMOTE_WRITE_HEADERS)?;
        self.again = None;
        ensure!(self.write(&mut sender)?, "the connection broke");
        Ok(())
    }

    /// Sends a request until it is acknowledged; `false` when the connection broke.
    fn write(&mut self, sender: &mut Sender) -> Result<bool> {
        let request = match self.again.take() {
            Some(request) => request,
            None => self.request()?,
        };
        self.touched.extend(request.rows.keys().map(|key| key.0));
        let request = self.unsure.insert(request);
        for _ in 0..BUSY_MAX {
            let Ok((status, answer)) = sender.post(&request.body) else { return Ok(false) };
            match status {
                200..=299 => {
                    self.acknowledged += 1;
                    self.settle(true);
                    return Ok(true);
                }
                429 | 503 => thread::sleep(Duration::from_millis(1)),
                _ => bail!("a request was answered with {status}: {answer}"),
            }
        }
        bail!("the server is busy for ever");
    }

    /// Everything touched so far was compared.
    pub(super) fn checked(&mut self) {
        self.touched.clear();
    }

    /// What is unsure is now known. What was not there is sent again, half of the time what was there too.
    pub(super) fn settle(&mut self, there: bool) {
        let Some(request) = self.unsure.take() else { return };
        if there {
            self.rows.extend(request.rows.iter().map(|(&key, &bits)| (key, bits)));
        }
        if self.rng.random_bool(if there { 0.05 } else { 0.5 }) {
            self.again = Some(request);
        }
    }

    /// This lane with expectations that are false; nothing of it may be sent.
    pub(super) fn falsified(&self) -> impl Iterator<Item = Result<(&'static str, Self)>> + '_ {
        ["a lost row", "a changed bit", "a row nobody acknowledged", "half a request"].into_iter().map(|what| {
            let mut lane = self.clone();
            let Some((&(series, ts), &bits)) = lane.rows.iter().find(|row| f64::from_bits(*row.1).is_finite()) else {
                bail!("no plain row to falsify");
            };
            match what {
                "a lost row" => drop(lane.rows.insert((series, ts + 1), bits)),
                "a changed bit" => drop(lane.rows.insert((series, ts), bits ^ 1)),
                "a row nobody acknowledged" => drop(lane.rows.remove(&(series, ts))),
                _ => {
                    lane.rows.remove(&(series, ts));
                    let rows = BTreeMap::from([((series, ts), bits), ((series, ts + 1), bits)]);
                    lane.unsure = Some(Request { rows, body: Vec::new() });
                }
            }
            Ok((what, lane))
        })
    }
}
