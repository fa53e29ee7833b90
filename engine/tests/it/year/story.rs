//! How the year goes: targets are scraped, come and go; rows come late, twice, again with another value; some are deleted.
//!
//! A target is one exporter: its series share their instants. The story only says what happens next; it is told to an
//! engine and to a model alike.
use std::ops::Range;

use foretell_engine::{MatchOp, Matcher, Selector, TimeRange};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::check::matcher;
use super::model::Model;
use crate::support::{HOUR, labels};

/// 2025-01-01T00:00:00Z
const START: i64 = 1_735_689_600_000_000_000;
pub(crate) const DAY: i64 = 24 * HOUR;
const MINUTE: i64 = HOUR / 60;
const STALE: u64 = 0x7ff0_0000_0000_0002;
/// Series of one target: a metric and a mode each.
const TARGET_SERIES: usize = METRICS.len() * MODES.len();

pub(crate) const METRICS: [&str; 5] = ["m_total", "m_bytes", "m_ratio", "m_info", "m_anything"];
/// "" is a series without the label.
pub(crate) const MODES: [&str; 5] = ["", "idle", "user", "system", "wait"];
pub(crate) const JOBS: [&str; 4] = ["api", "db", "node", "queue"];

/// How much happens.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) seed: u64,
    /// Series at any time; those that come for others that go are more.
    pub(crate) series: usize,
    pub(crate) days: i64,
    /// Minutes between two scrapes of a target.
    pub(crate) step_minutes: Range<i64>,
    /// Hours of what is sent between two interruptions.
    pub(crate) epoch_hours: Range<i64>,
    /// Days of a time partition.
    pub(crate) partition_days: Range<i64>,
}

/// The time that the story has covered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: i64,
    end: i64,
}

impl Span {
    /// All of it, an instant, or something between, short ranges as often as long ones.
    pub(crate) fn range(self, random: &mut StdRng) -> TimeRange {
        if random.random_bool(0.1) {
            return TimeRange::ALL;
        }
        let start = random.random_range(self.start - 10 * DAY..=self.end);
        let longest = (self.end - self.start) >> random.random_range(0..16);
        TimeRange { start, end: start + random.random_range(0..=longest) }
    }

    fn instant(self, random: &mut StdRng) -> i64 {
        random.random_range(self.start..=self.end)
    }
}

/// A row to be sent: number of the series, time, bits of the value.
pub(crate) type Sent = (usize, i64, u64);

/// What values a series has.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Decimal,
    Float,
    Constant,
    /// Any 64 bits.
    Anything,
}

struct Source {
    kind: Kind,
    level: f64,
}

struct Target {
    /// Numbers of its series.
    series: Range<usize>,
    step: i64,
    jitter: i64,
    next: i64,
    /// When it goes.
    until: i64,
}

/// See the module.
pub(crate) struct Story {
    form: Form,
    random: StdRng,
    targets: Vec<Target>,
    /// By number of the series.
    sources: Vec<Source>,
    /// Scraped rows that are under way for long.
    delayed: Vec<Sent>,
    instances: usize,
    now: i64,
}

impl Story {
    pub(crate) fn new(form: &Form, model: &mut Model) -> Self {
        let mut story = Self {
            form: form.clone(),
            random: StdRng::seed_from_u64(form.seed),
            targets: Vec::new(),
            sources: Vec::new(),
            delayed: Vec::new(),
            instances: 0,
            now: START,
        };
        while story.targets.len() * TARGET_SERIES < form.series {
            let target = story.target(model);
            story.targets.push(target);
        }
        story
    }

    pub(crate) fn span(&self) -> Span {
        Span { start: START, end: self.now }
    }

    /// A target that appears now.
    fn target(&mut self, model: &mut Model) -> Target {
        let random = &mut self.random;
        let instance = format!("i{}", self.instances);
        let job = JOBS[random.random_range(0..JOBS.len())];
        let first = self.sources.len();
        for metric in METRICS {
            for mode in MODES {
                model.add(labels(&[("__name__", metric), ("job", job), ("instance", &instance), ("mode", mode)]));
                let kind = match metric {
                    "m_total" => Kind::Counter,
                    "m_bytes" => Kind::Decimal,
                    "m_ratio" => Kind::Float,
                    "m_info" => Kind::Constant,
                    _ => Kind::Anything,
                };
                self.sources.push(Source { kind, level: f64::from(random.random_range(0..1000)) });
            }
        }
        self.instances += 1;
        let step = random.random_range(self.form.step_minutes.clone()) * MINUTE;
        let year = self.form.days * DAY;
        // Two in three stay for long.
        let stay = if random.random_bool(0.7) { 2 * year } else { random.random_range(0..year / 2) };
        Target {
            series: first..first + TARGET_SERIES,
            step,
            jitter: [0, 1_000_000, step / 3][random.random_range(0..3)],
            next: self.now + random.random_range(0..step),
            until: self.now + stay,
        }
    }

    /// What is sent next, in order; `None` when the year is over.
    pub(crate) fn epoch(&mut self, model: &mut Model) -> Option<Vec<Sent>> {
        let end = START + self.form.days * DAY;
        if self.now >= end {
            return None;
        }
        let until = end.min(self.now + self.random.random_range(self.form.epoch_hours.clone()) * HOUR);
        let mut rows = Vec::new();
        for at in 0..self.targets.len() {
            self.scrapes(at, until, &mut rows);
        }
        self.now = until;
        let late = self.late(rows.len(), model);
        let place = if self.random.random_bool(0.5) { rows.len() } else { 0 };
        rows.splice(place..place, late);
        if self.random.random_bool(0.2) {
            rows.shuffle(&mut self.random);
        }
        for at in 0..self.targets.len() {
            if self.targets[at].until <= self.now {
                self.targets[at] = self.target(model);
            }
        }
        Some(rows)
    }

    /// Scrapes target `at` up to `until`. Some samples are missing, some are delayed, the last ones are stale markers.
    fn scrapes(&mut self, at: usize, until: i64, rows: &mut Vec<Sent>) {
        loop {
            let target = &mut self.targets[at];
            let (ts, goes) = (target.next, target.next + target.step >= target.until);
            if ts >= until.min(target.until) {
                return;
            }
            target.next += target.step;
            if target.jitter > 0 {
                target.next += self.random.random_range(-target.jitter..=target.jitter);
            }
            for series in target.series.clone() {
                if self.random.random_bool(0.01) {
                    continue;
                }
                let row = (series, ts, if goes { STALE } else { self.value(series) });
                if self.random.random_bool(0.004) {
                    self.delayed.push(row);
                } else {
                    rows.push(row);
                }
            }
        }
    }

    fn value(&mut self, series: usize) -> u64 {
        let (random, source) = (&mut self.random, &mut self.sources[series]);
        if random.random_bool(0.005) {
            let payload = random.random::<u64>();
            return match payload % 5 {
                0 => 0x7ff8_0000_0000_0000 | payload >> 13,
                1 => STALE,
                2 => f64::INFINITY.to_bits(),
                3 => f64::NEG_INFINITY.to_bits(),
                _ => (-0.0f64).to_bits(),
            };
        }
        source.level = match source.kind {
            Kind::Counter if random.random_bool(0.002) => 0.0,
            Kind::Counter => source.level + f64::from(random.random_range(0..100)),
            Kind::Decimal => (source.level * 100.0 + f64::from(random.random_range(-500..=500))).round() / 100.0,
            Kind::Float => random.random(),
            Kind::Constant => source.level,
            Kind::Anything => return random.random(),
        };
        source.level.to_bits()
    }

    /// What comes beside `n` rows on time: delayed rows, rows of any age, duplicates, overwrites.
    fn late(&mut self, n: usize, model: &Model) -> Vec<Sent> {
        let span = self.span();
        let mut rows = Vec::new();
        let mut i = 0;
        while i < self.delayed.len() {
            if self.random.random_bool(0.05) {
                rows.push(self.delayed.swap_remove(i));
            } else {
                i += 1;
            }
        }
        for _ in 0..n / 400 + self.random.random_range(0..3) {
            let series = self.random.random_range(0..self.sources.len());
            let ts = match self.random.random_range(0..2000) {
                // Long before, and where time begins and ends.
                0..10 => START - self.random.random_range(0..2000 * DAY),
                10 => -self.random.random_range(0..DAY),
                11 if self.form.seed.is_multiple_of(2) => [i64::MIN, i64::MAX][self.random.random_range(0..2)],
                _ => span.instant(&mut self.random),
            };
            rows.push((series, ts, self.value(series)));
        }
        for _ in 0..n / 150 + self.random.random_range(0..4) {
            let series = self.random.random_range(0..self.sources.len());
            let known = &model.tracks[series].rows;
            if known.is_empty() {
                continue;
            }
            let (ts, bits) = known[self.random.random_range(0..known.len())];
            rows.push((series, ts, if self.random.random_bool(0.5) { bits } else { self.value(series) }));
        }
        rows
    }

    /// What is deleted after the epoch, if something is.
    pub(crate) fn deletion(&mut self) -> Option<Selector> {
        if !self.random.random_bool(0.4) {
            return None;
        }
        let (span, random) = (self.span(), &mut self.random);
        let start = span.instant(random);
        let short = TimeRange { start, end: start + random.random_range(0..3 * DAY) };
        let equal = |name: &str, value: String| Matcher { name: name.into(), op: MatchOp::Equal, value };
        let instance = |random: &mut StdRng| equal("instance", format!("i{}", random.random_range(0..self.instances)));
        let metric = METRICS[random.random_range(0..METRICS.len())].to_owned();
        Some(match random.random_range(0..10) {
            // All of one target; one of its metrics, for long; anything, for some days at most.
            0 => Selector { metric: None, matchers: vec![instance(random)], range: TimeRange::ALL },
            1..4 => Selector { metric: Some(metric), matchers: vec![instance(random)], range: span.range(random) },
            4..7 => Selector { metric: None, matchers: vec![instance(random), matcher(random)], range: short },
            _ => Selector { metric: Some(metric), matchers: vec![matcher(random)], range: short },
        })
    }

    /// A few rows more, when the year is over.
    pub(crate) fn encore(&mut self, model: &Model) -> Vec<Sent> {
        self.late(2000, model)
    }
}
