//! Native histograms: counters that restart and change their resolution, gauges, custom borders, observations that are not
//! numbers, series that are floats first and histograms later, stale ones.
//!
//! No histogram is that of the scrape before: whether an unchanged one is the same to Prometheus's `changes` and `==` depends
//! on where its chunks begin and on what came later into them. And series begin in the order of their labels: that in which
//! they came is the order in which Prometheus takes the first of them (`limitk`) and adds them up.
use std::collections::BTreeMap;

use foretell_proto::prometheus::v1::histogram::{Count, ResetHint, ZeroCount};
use foretell_proto::prometheus::v1::{BucketSpan, Histogram};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::data::{STALE, Series, labels, scrapes};

const CUSTOM: i32 = -53;
const ZERO_THRESHOLD: f64 = 0.001;

/// What a histogram has observed so far.
#[derive(Clone, Debug, Default)]
struct Observed {
    schema: i32,
    borders: Vec<f64>,
    count: u64,
    sum: f64,
    zero: u64,
    negative: BTreeMap<i32, u64>,
    positive: BTreeMap<i32, u64>,
}

impl Observed {
    fn with(schema: i32, borders: &[f64]) -> Self {
        Self { schema, borders: borders.to_vec(), ..Self::default() }
    }

    fn observe(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        if value.is_nan() {
            return;
        }
        if self.schema == CUSTOM {
            let index = self.borders.partition_point(|&border| border < value);
            *self.positive.entry(index as i32).or_default() += 1;
        } else if value.abs() <= ZERO_THRESHOLD {
            self.zero += 1;
        } else {
            let index = (value.abs().log2() * f64::from(self.schema).exp2()).ceil() as i32;
            let side = if value < 0.0 { &mut self.negative } else { &mut self.positive };
            *side.entry(index).or_default() += 1;
        }
    }

    /// Halves the resolution.
    fn coarsen(&mut self) {
        self.schema -= 1;
        for side in [&mut self.negative, &mut self.positive] {
            let mut merged = BTreeMap::new();
            for (&index, &count) in side.iter() {
                *merged.entry(((index - 1) >> 1) + 1).or_default() += count;
            }
            *side = merged;
        }
    }

    /// As a counter sends it.
    fn counter(&self, timestamp: i64) -> Histogram {
        let deltas = |side: &BTreeMap<i32, u64>| {
            let mut before = 0;
            let delta = |&count: &u64| {
                let delta = count as i64 - before;
                before = count as i64;
                delta
            };
            side.values().map(delta).collect()
        };
        Histogram {
            count: Some(Count::CountInt(self.count)),
            zero_count: Some(ZeroCount::ZeroCountInt(self.zero)),
            negative_deltas: deltas(&self.negative),
            positive_deltas: deltas(&self.positive),
            ..self.layout(timestamp)
        }
    }

    /// As a gauge of floats, a share of the counts.
    fn gauge(&self, timestamp: i64, share: f64) -> Histogram {
        let counts = |side: &BTreeMap<i32, u64>| side.values().map(|&count| count as f64 * share).collect();
        Histogram {
            count: Some(Count::CountFloat(self.count as f64 * share)),
            zero_count: Some(ZeroCount::ZeroCountFloat(self.zero as f64 * share)),
            sum: self.sum * share,
            negative_counts: counts(&self.negative),
            positive_counts: counts(&self.positive),
            reset_hint: ResetHint::Gauge as i32,
            ..self.layout(timestamp)
        }
    }

    fn layout(&self, timestamp: i64) -> Histogram {
        Histogram {
            sum: self.sum,
            schema: self.schema,
            zero_threshold: if self.schema == CUSTOM { 0.0 } else { ZERO_THRESHOLD },
            negative_spans: spans(&self.negative),
            positive_spans: spans(&self.positive),
            custom_values: self.borders.clone(),
            timestamp,
            ..Histogram::default()
        }
    }
}

/// Runs of adjacent buckets.
fn spans(side: &BTreeMap<i32, u64>) -> Vec<BucketSpan> {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next = 0;
    for &index in side.keys() {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(BucketSpan { offset: index - next, length: 1 }),
        }
        next = index + 1;
    }
    spans
}

/// Adds all of them to `all`.
pub(super) fn series(random: &mut StdRng, all: &mut Vec<Series>) {
    let mut begun = None;
    for (i, instance) in ["a:9100", "b:9100", "c:9100"].into_iter().enumerate() {
        let job = if i < 2 { "node" } else { "db" };
        let instants = loop {
            let instants = scrapes([15_000, 15_000, 30_000][i], random);
            if instants.first().copied() > begun {
                break instants;
            }
        };
        begun = instants.first().copied();
        let schema = [3, 3, 1][i];
        let borders: &[f64] = if i < 2 { &[0.1, 0.5, 1.0, 5.0] } else { &[0.25, 1.0] };
        let mut add = |name: &str, samples: Vec<(i64, f64)>, histograms: Vec<Histogram>| {
            let pairs = [("__name__", name), ("instance", instance), ("job", job)];
            all.push(Series { labels: labels(&pairs), samples, histograms });
        };
        add("duration_seconds", Vec::new(), counters(Observed::with(schema, &[]), &instants, random));
        add("payload_bytes", Vec::new(), counters(Observed::with(CUSTOM, borders), &instants, random));
        add("balance", Vec::new(), gauges(&instants, random));
        let (floats, histograms) = instants.split_at(instants.len() / 2);
        let floats = floats.iter().enumerate().map(|(i, &at)| (at, i as f64)).collect();
        add("switching", floats, counters(Observed::with(0, &[]), histograms, random));
        add("with_nan", Vec::new(), with_nan(&instants, random));
    }
}

/// Restarts now and then; an exponential one becomes coarser after a while; stale after a third, for twenty scrapes.
fn counters(fresh: Observed, instants: &[i64], random: &mut StdRng) -> Vec<Histogram> {
    let mut observed = fresh.clone();
    let mut histograms = Vec::new();
    for (i, &at) in instants.iter().enumerate() {
        if i % 97 == 60 {
            observed = fresh.clone();
        }
        if i % 97 == 40 && fresh.schema != CUSTOM {
            observed.coarsen();
        }
        for _ in 0..random.random_range(1..12) {
            let value: f64 = random.random_range(0.0f64..2.5);
            observed.observe(value * value * value / 4.0);
        }
        let third = instants.len() / 3;
        if i == third {
            histograms.push(Histogram { sum: STALE, timestamp: at, ..Histogram::default() });
        } else if !(third..third + 20).contains(&i) {
            histograms.push(observed.counter(at));
        }
    }
    histograms
}

/// Counts that go up and down, values of both signs.
fn gauges(instants: &[i64], random: &mut StdRng) -> Vec<Histogram> {
    let gauge = |&at: &i64| {
        let mut observed = Observed::with(2, &[]);
        for _ in 0..random.random_range(1..30) {
            observed.observe(random.random_range(-3.0..3.0));
        }
        observed.gauge(at, 0.25)
    };
    instants.iter().map(gauge).collect()
}

/// A counter that at some time observes what is no number.
fn with_nan(instants: &[i64], random: &mut StdRng) -> Vec<Histogram> {
    let mut observed = Observed::with(1, &[]);
    let mut histograms = Vec::new();
    for (i, &at) in instants.iter().enumerate() {
        let value = random.random_range(0.1..9.0);
        observed.observe(if i == 30 { f64::NAN } else { value });
        histograms.push(observed.counter(at));
    }
    histograms
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn series_begin_in_the_order_of_their_labels() {
        for seed in 0..20 {
            let mut all = Vec::new();
            series(&mut StdRng::seed_from_u64(seed), &mut all);
            let first = |one: &Series| {
                let floats = one.samples.first().map(|&(at, _)| at);
                floats.or(one.histograms.first().map(|histogram| histogram.timestamp))
            };
            all.sort_by(|a, b| a.labels.cmp(&b.labels));
            for pair in all.windows(2).filter(|pair| pair[0].labels[0] == pair[1].labels[0]) {
                assert!(first(&pair[0]) < first(&pair[1]), "{seed} {:?}", pair[1].labels);
            }
        }
    }

    #[test]
    fn no_histogram_is_that_of_the_scrape_before() {
        for seed in 0..20 {
            let mut all = Vec::new();
            series(&mut StdRng::seed_from_u64(seed), &mut all);
            for one in &all {
                let same =
                    one.histograms.windows(2).find(|pair| pair[0].count == pair[1].count && pair[0].sum == pair[1].sum);
                assert!(same.is_none(), "{seed} {:?}: {same:?}", one.labels);
            }
        }
    }
}
