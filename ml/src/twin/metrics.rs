//! What a scrape sees: the table of series, and the meters that fill it.
use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand_distr::{Distribution, StandardNormal};

use super::topology::{Service, Topology};

/// How to read a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Bucket, sum or count of a classic histogram: grows.
    Histogram,
}

/// A series of the simulated system; its index in the table is [`Sample::series`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Metric name.
    pub metric: &'static str,
    /// Kind of the metric.
    pub kind: MetricKind,
    /// Labels sorted by name, without `__name__`.
    pub labels: Vec<(&'static str, String)>,
}

impl Series {
    /// Value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }
}

/// A value of one series at the time of a scrape. NaN where nothing was observed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Index into the table of series.
    pub series: u32,
    /// Value.
    pub value: f64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Ok,
    Failed,
    BadGateway,
    Unavailable,
    GatewayTimeout,
}

const CODES: [&str; 5] = ["200", "500", "502", "503", "504"];
/// Upper edges of the histogram's buckets in seconds; +Inf follows.
const EDGES_S: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const EDGE_LABELS: [&str; 12] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
const GAUGES: [&str; 7] = [
    "service_latency_p99_seconds",
    "service_self_latency_p99_seconds",
    "requests_in_flight",
    "queue_depth",
    "cpu_usage_ratio",
    "memory_working_set_bytes",
    "request_errors_ratio",
];
/// Series of one instance.
const SERIES_PER_INSTANCE: usize = CODES.len() + EDGE_LABELS.len() + 2 + GAUGES.len();

/// The errors ratio looks back over this many scrapes: single requests must not make it jump.
const ERRORS_SCRAPES: usize = 20;
/// CPU of an instance without requests.
const CPU_IDLE: f64 = 0.02;
const CPU_NOISE: f64 = 0.003;
/// Garbage collects to this part of the idle working set, about every `GARBAGE_PERIOD_S`, before it is freed.
const GARBAGE_MAX: f64 = 0.015;
const GARBAGE_PERIOD_S: f64 = 150.0;
const MEMORY_NOISE: f64 = 0.001;
/// Memory held by a request in the system.
const MEMORY_PER_REQUEST: f64 = 256.0 * 1024.0;
/// A leak stops here, as a multiple of the idle working set.
const LEAK_MAX: f64 = 4.0;

/// The meters of one instance since the start, and since the last scrape.
pub(crate) struct Meter {
    memory_idle: f64,
    cores: f64,
    garbage_per_request: f64,
    codes: [u64; CODES.len()],
    buckets: [u64; EDGE_LABELS.len()],
    duration_sum_s: f64,
    durations_s: Vec<f64>,
    /// Durations without the time spent waiting for calls.
    self_durations_s: Vec<f64>,
    cpu_s: f64,
    garbage: f64,
    leaked: f64,
    /// (requests, errors) of the last scrapes.
    errors: VecDeque<(u64, u64)>,
    areas: (u128, u128),
}

/// What only the simulation knows at a scrape.
pub(crate) struct Reading {
    /// Request-nanoseconds in the system and waiting since the start.
    pub(crate) areas: (u128, u128),
    pub(crate) in_system: usize,
    /// Part of the cores that something else takes.
    pub(crate) hog: f64,
    pub(crate) interval_s: f64,
}

impl Meter {
    /// `rate`: requests per second expected at this instance.
    pub(crate) fn new(service: &Service, rate: f64) -> Self {
        let requests = (rate * GARBAGE_PERIOD_S).max(1.0);
        Self {
            memory_idle: service.memory_bytes,
            cores: service.cores,
            garbage_per_request: GARBAGE_MAX * service.memory_bytes / requests,
            codes: [0; CODES.len()],
            buckets: [0; EDGE_LABELS.len()],
            duration_sum_s: 0.0,
            durations_s: Vec::new(),
            self_durations_s: Vec::new(),
            cpu_s: 0.0,
            garbage: 0.0,
            leaked: 0.0,
            errors: VecDeque::with_capacity(ERRORS_SCRAPES),
            areas: (0, 0),
        }
    }

    /// A request's own work begins.
    pub(crate) fn work(&mut self, cpu_s: f64) {
        self.cpu_s += cpu_s;
        self.garbage += self.garbage_per_request;
        if self.garbage > GARBAGE_MAX * self.memory_idle {
            self.garbage = 0.0;
        }
    }

    /// A request's own work is done, so long after it arrived.
    pub(crate) fn worked(&mut self, duration_s: f64) {
        self.self_durations_s.push(duration_s);
    }

    pub(crate) fn answer(&mut self, code: Code, duration_s: f64) {
        self.codes[code as usize] += 1;
        self.buckets[EDGES_S.partition_point(|edge| *edge < duration_s)] += 1;
        self.duration_sum_s += duration_s;
        self.durations_s.push(duration_s);
    }

    pub(crate) fn leak(&mut self, parts_of_idle: f64) {
        self.leaked = (self.leaked + parts_of_idle * self.memory_idle).min(LEAK_MAX * self.memory_idle);
    }

    /// The instance is restarted: what leaked is given back.
    pub(crate) fn free(&mut self) {
        self.leaked = 0.0;
    }

    /// Writes this instance's values in the order of [`series_of`] and starts the next interval.
    pub(crate) fn scrape(&mut self, reading: &Reading, rng: &mut SmallRng, out: &mut [Sample]) {
        let gauges = self.gauges(reading, rng);
        let counters = self.codes.iter().map(|&count| count as f64);
        let buckets = self.buckets.iter().scan(0, |sum, &count| {
            *sum += count;
            Some(*sum as f64)
        });
        let count: u64 = self.codes.iter().sum();
        let values = counters.chain(buckets).chain([self.duration_sum_s, count as f64]).chain(gauges);
        for (sample, value) in out.iter_mut().zip(values) {
            sample.value = value;
        }
        self.durations_s.clear();
        self.self_durations_s.clear();
        self.cpu_s = 0.0;
        self.areas = reading.areas;
    }

    fn gauges(&mut self, reading: &Reading, rng: &mut SmallRng) -> [f64; GAUGES.len()] {
        let mut noise = |sigma: f64| -> f64 {
            let z: f64 = StandardNormal.sample(rng);
            z * sigma
        };
        let cpu = CPU_IDLE + self.cpu_s / (self.cores * reading.interval_s) + reading.hog + noise(CPU_NOISE);
        let memory = (self.memory_idle + self.garbage + self.leaked) * (1.0 + noise(MEMORY_NOISE))
            + reading.in_system as f64 * MEMORY_PER_REQUEST;
        let mean = |now: u128, before: u128| (now - before) as f64 / 1e9 / reading.interval_s;
        [
            quantile(&mut self.durations_s, 0.99),
            quantile(&mut self.self_durations_s, 0.99),
            mean(reading.areas.0, self.areas.0),
            mean(reading.areas.1, self.areas.1),
            cpu.clamp(0.0, 1.0),
            memory.round(),
            self.errors_ratio(),
        ]
    }

    fn errors_ratio(&mut self) -> f64 {
        let requests: u64 = self.codes.iter().sum();
        let errors = requests - self.codes[Code::Ok as usize];
        let oldest =
            if self.errors.len() == ERRORS_SCRAPES { self.errors.pop_front() } else { self.errors.front().copied() };
        self.errors.push_back((requests, errors));
        let (requests_before, errors_before) = oldest.unwrap_or((0, 0));
        // NaN when there was no request, as a ratio of Prometheus's rates would be.
        (errors - errors_before) as f64 / (requests - requests_before) as f64
    }
}

/// The `q` quantile by nearest rank; NaN of nothing. Reorders `values`.
fn quantile(values: &mut [f64], q: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let rank = (values.len() as f64 * q).ceil() as usize - 1;
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}

/// The table of all series: instance after instance, services in order.
pub(crate) fn series_table(topology: &Topology) -> Vec<Series> {
    let mut table = Vec::new();
    for service in topology.services() {
        for instance in 0..service.instances {
            series_of(&service.name, &format!("{}-{instance}", service.name), &mut table);
        }
    }
    table
}

/// Number of the first sample of an instance; instances are numbered over all services.
pub(crate) fn first_sample(node: usize) -> usize {
    node * SERIES_PER_INSTANCE
}

fn series_of(service: &str, instance: &str, table: &mut Vec<Series>) {
    let mut push = |metric, kind, extra: Option<(&'static str, &str)>| {
        let mut labels = vec![("instance", instance.to_owned()), ("service", service.to_owned())];
        labels.extend(extra.map(|(name, value)| (name, value.to_owned())));
        labels.sort_unstable();
        table.push(Series { metric, kind, labels });
    };
    for code in CODES {
        push("http_requests_total", MetricKind::Counter, Some(("code", code)));
    }
    for edge in EDGE_LABELS {
        push("http_request_duration_seconds_bucket", MetricKind::Histogram, Some(("le", edge)));
    }
    push("http_request_duration_seconds_sum", MetricKind::Histogram, None);
    push("http_request_duration_seconds_count", MetricKind::Histogram, None);
    for gauge in GAUGES {
        push(gauge, MetricKind::Gauge, None);
    }
}
