//! Synthetic fleets that send what real exporters send: the same seed gives the same bytes.
//!
//! A [`Fleet`] is a set of [`Target`]s; a target is scraped at its own phase of the interval with a jitter of some
//! milliseconds, and all its series share that timestamp, as they do in Prometheus. Each series has a [`Behaviour`] that
//! produces its next value. Targets own their random numbers, so dividing a fleet among senders changes no value.
//!
//! | module | owns |
//! |---|---|
//! | [`behaviour`] | how a value follows the one before |
//! | [`page`] | a template of one exporter's page: label sets and behaviours |
//! | [`learn`] | making a page from successive scrapes of a real exporter |
//! | [`node`], [`tsbs`], [`churn`] | the three workloads |
//! | [`encode`] | remote write 1.0 bodies, written by hand into reused buffers |
//! | [`event`] | log lines and spans, which are no fleets |
pub mod behaviour;
pub mod churn;
pub mod encode;
pub mod event;
pub mod learn;
pub mod node;
pub mod page;
pub mod tsbs;

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use behaviour::{Behaviour, Walk};

/// Scrapes land this many milliseconds around their due time, at most.
const JITTER_MS_MAX: i64 = 4;

/// A workload by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A node exporter's page, every 15 s.
    Node,
    /// TSBS devops cpu-only: ten integer walks a host, every 10 s.
    Tsbs,
    /// `node`, of which a tenth of the series is replaced every ten minutes.
    Churn,
}

impl Kind {
    /// A fleet with at least `series` series whose first scrapes are due at `start_ms`.
    pub fn fleet(self, series: usize, seed: u64, start_ms: i64) -> Fleet {
        match self {
            Self::Node => node::fleet(series, seed, start_ms),
            Self::Tsbs => tsbs::fleet(series, seed, start_ms),
            Self::Churn => churn::fleet(series, seed, start_ms),
        }
    }
}

/// One series of a target.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels as the wire has them: the `labels` fields of a `TimeSeries`, one after the other.
    pub labels: Box<[u8]>,
    behaviour: Arc<Behaviour>,
    walk: Walk,
}

/// One scraped instance.
#[derive(Clone, Debug)]
pub struct Target {
    series: Vec<Series>,
    phase_ms: i64,
    churn: Option<churn::Churn>,
    rng: SmallRng,
}

/// Instances that are scraped at one interval.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Milliseconds between two scrapes of a target.
    pub interval_ms: i64,
    start_ms: i64,
    targets: Vec<Target>,
}

impl Target {
    fn new(seed: u64, interval_ms: i64, series: Vec<(Box<[u8]>, Arc<Behaviour>)>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let phase_ms = rng.random_range(0..interval_ms);
        let series = series
            .into_iter()
            .map(|(labels, behaviour)| Series { labels, walk: Walk::begin(&behaviour, &mut rng), behaviour })
            .collect();
        Self { series, phase_ms, churn: None, rng }
    }

    /// Series it has.
    pub fn series(&self) -> &[Series] {
        &self.series
    }
}

impl Fleet {
    fn new(interval_ms: i64, start_ms: i64, targets: Vec<Target>) -> Self {
        Self { interval_ms, start_ms, targets }
    }

    /// Its targets.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Series alive at a time.
    pub fn series(&self) -> usize {
        self.targets.iter().map(|t| t.series.len()).sum()
    }

    /// Scrapes of each target in `hours`.
    pub fn rounds(&self, hours: f64) -> u64 {
        ((hours * 3_600_000.0 / self.interval_ms as f64).round() as u64).max(1)
    }

    /// Due time of a round, milliseconds; its samples lie inside the interval that begins here, give or take the jitter.
    pub fn round_start_ms(&self, round: u64) -> i64 {
        self.start_ms + round as i64 * self.interval_ms
    }

    /// Divides the targets among `parts` senders, in turns.
    pub fn split(self, parts: usize) -> Vec<Self> {
        let mut out = vec![Self { targets: Vec::new(), ..self }; parts.max(1)];
        let parts = out.len();
        for (i, target) in self.targets.into_iter().enumerate() {
            out[i % parts].targets.push(target);
        }
        out
    }

    /// Scrapes every target once, in turn, and hands each sample to `sink` as (labels, ts in ms, value).
    /// Call it with 0, 1, 2, … : behaviours go on from where they stand.
    pub fn scrape(&mut self, round: u64, mut sink: impl FnMut(&[u8], i64, f64)) {
        for target in &mut self.targets {
            let due_ms = self.start_ms + round as i64 * self.interval_ms + target.phase_ms;
            let ts = due_ms + target.rng.random_range(0..=JITTER_MS_MAX);
            if let Some(churn) = &mut target.churn {
                churn.advance(due_ms - self.start_ms, &mut target.series, &mut target.rng);
            }
            for series in &mut target.series {
                sink(&series.labels, ts, series.walk.next(&series.behaviour, &mut target.rng));
            }
        }
    }
}

#[cfg(test)]
mod tests;
