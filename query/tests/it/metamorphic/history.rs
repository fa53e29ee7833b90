//! What is sent to a store, in epochs, and the rows that it leaves: worked out row by row.
//!
//! Inside an epoch no two different values meet at one instant of a series, and a delete ends it. So the rows of an epoch
//! may come in any order and any number of times; the epochs may not.
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use foretell_engine::{LabelSet, MatchOp, Matcher, Selector, TimeRange};
use rand::Rng;
use rand::rngs::StdRng;

use crate::conditions::{LABELS, Labels, Row, VALUES};
use crate::store::START;

const SECOND: i64 = 1_000_000_000;
const STEP: i64 = 30 * SECOND;

/// Multiples of 1/4, whose sums are exact in any order, on a grid of time.
pub(crate) const PLAIN: usize = 0;
/// The same, on the same grid.
pub(crate) const OTHER: usize = 1;
/// NaN payloads, infinities, -0.0, anything; at any time.
pub(crate) const ODD: usize = 2;
/// Few long series, for detectors.
pub(crate) const SCORED: usize = 3;
/// Names of the metrics.
pub(crate) const METRICS: [&str; 4] = ["plain", "other:rate", "odd", "scored"];

/// How the rows are worked out wrongly on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Not at all.
    None,
    /// One row is missing.
    LostRow,
    /// One value is another.
    ChangedValue,
    /// Overwrites change nothing.
    OlderWins,
    /// Deletes delete nothing.
    ForgottenDeletes,
}

/// A series of one of [`METRICS`].
pub(crate) struct Series {
    metric: usize,
    labels: Arc<Labels>,
}

impl Series {
    pub(crate) fn label_set(&self) -> LabelSet {
        let name = [("__name__", METRICS[self.metric])];
        LabelSet::from_pairs(name.into_iter().chain(self.labels.iter().map(|(name, value)| (*name, *value)))).unwrap()
    }
}

/// Number of the series, time, value.
pub(crate) type Sent = (usize, i64, f64);

/// Rows in any order, then a delete.
#[derive(Default)]
pub(crate) struct Epoch {
    pub(crate) rows: Vec<Sent>,
    pub(crate) delete: Option<Delete>,
}

/// A delete, and which series it is about.
pub(crate) struct Delete {
    pub(crate) selector: Selector,
    series: Vec<usize>,
}

/// See the module.
pub(crate) struct History {
    pub(crate) series: Vec<Series>,
    pub(crate) epochs: Vec<Epoch>,
}

impl History {
    pub(crate) fn random(random: &mut StdRng) -> Self {
        let mut series = Vec::new();
        for (metric, most) in [(PLAIN, 14), (OTHER, 9), (ODD, 7), (SCORED, 3)] {
            for labels in label_sets(random, most) {
                series.push(Series { metric, labels: Arc::new(labels) });
            }
        }
        let count = random.random_range(2..6);
        let mut epochs: Vec<Epoch> = (0..count).map(|_| Epoch::default()).collect();
        let mut sent = HashSet::new();
        for (number, one) in series.iter().enumerate() {
            let points = points(one.metric, random);
            let n = points.len();
            for (i, (ts, value)) in points.into_iter().enumerate() {
                // Most come when they are due, others late or early.
                let due = if random.random_bool(0.8) { i * count / n } else { random.random_range(0..count) };
                let mut send = |epoch: usize, value| {
                    if sent.insert((epoch, number, ts)) {
                        epochs[epoch].rows.push((number, ts, value));
                    }
                };
                send(due, value);
                match random.random_range(0..20) {
                    // Again the same, or another value.
                    0 => send(random.random_range(due..count), value),
                    1 | 2 => send(random.random_range(due..count), self::value(one.metric, random)),
                    _ => {}
                }
            }
        }
        for epoch in &mut epochs {
            if random.random_bool(0.6) {
                epoch.delete = delete(&series, random);
            }
        }
        Self { series, epochs }
    }

    /// The rows of each metric.
    pub(crate) fn tables(&self, flaw: Flaw) -> [Vec<Row>; METRICS.len()] {
        let mut rows: BTreeMap<(usize, i64), f64> = BTreeMap::new();
        for epoch in &self.epochs {
            for &(series, ts, value) in &epoch.rows {
                let kept = rows.entry((series, ts)).or_insert(value);
                if flaw != Flaw::OlderWins {
                    *kept = value;
                }
            }
            if let Some(delete) = epoch.delete.as_ref().filter(|_| flaw != Flaw::ForgottenDeletes) {
                rows.retain(|(series, ts), _| !(delete.series.contains(series) && delete.selector.range.contains(*ts)));
            }
        }
        let mut tables = [const { Vec::new() }; METRICS.len()];
        for ((series, ts), value) in rows {
            let Series { metric, labels } = &self.series[series];
            tables[*metric].push(Row { ts, value, labels: Arc::clone(labels) });
        }
        for metric in [PLAIN, ODD] {
            let middle = tables[metric].len() / 2;
            match flaw {
                Flaw::LostRow => drop(tables[metric].remove(middle)),
                Flaw::ChangedValue => tables[metric][middle].value += 0.25,
                _ => {}
            }
        }
        tables
    }
}

/// Different label sets; the first has every label, so that every column exists.
fn label_sets(random: &mut StdRng, most: usize) -> BTreeSet<Labels> {
    let mut sets = BTreeSet::from([Labels::from([("a", "k"), ("b", "k"), ("c", "k")])]);
    for _ in 0..random.random_range(most / 2..most) {
        let mut labels = Labels::new();
        for name in LABELS {
            let value = VALUES[random.random_range(0..VALUES.len())];
            if !value.is_empty() && random.random_bool(0.8) {
                labels.insert(name, value);
            }
        }
        sets.insert(labels);
    }
    sets
}

fn points(metric: usize, random: &mut StdRng) -> Vec<(i64, f64)> {
    let n = if metric == SCORED { random.random_range(100..300) } else { random.random_range(5..80) };
    let first = random.random_range(0..160);
    let at = |i: i64, random: &mut StdRng| match metric {
        ODD if random.random_bool(0.05) => START - random.random_range(0..40 * 365 * 86_400 * SECOND),
        ODD if random.random_bool(0.02) => -random.random_range(0..86_400 * SECOND),
        ODD => START + random.random_range(0..7_200 * SECOND),
        _ => START + (first + i) * STEP,
    };
    (0..n).map(|i| (at(i, random), value(metric, random))).collect()
}

fn value(metric: usize, random: &mut StdRng) -> f64 {
    let noise = f64::from(random.random_range(-20..=40)) * 0.25;
    match (metric, random.random_range(0..30)) {
        (PLAIN | OTHER, _) => noise,
        (SCORED, 0) => noise * 50.0,
        (SCORED, 2..) => noise,
        (ODD, 15..) => noise,
        (_, rest) => {
            let special =
                [f64::NAN.to_bits(), 0x7ff0_0000_0000_0002, 0xfff8_0000_0000_beef, f64::INFINITY.to_bits(), u64::MAX];
            match rest {
                0..5 => f64::from_bits(special[rest as usize]),
                5 => f64::NEG_INFINITY,
                6 | 7 => -0.0,
                8 => f64::MIN_POSITIVE / 3.0,
                _ => f64::from_bits(random.random()),
            }
        }
    }
}

/// Whether a value of a label matches.
type Holds = Box<dyn Fn(&str) -> bool>;

/// A delete that leaves alone the series that have all columns; `None` when the dice show one that would not.
fn delete(series: &[Series], random: &mut StdRng) -> Option<Delete> {
    let metric = random.random_bool(0.6).then(|| random.random_range(0..METRICS.len()));
    let name = LABELS[random.random_range(0..LABELS.len())];
    let value = VALUES[random.random_range(0..VALUES.len())];
    let (op, text, holds): (MatchOp, &str, Holds) = match random.random_range(0..5) {
        0 => (MatchOp::NotEqual, "k", Box::new(|v| v != "k")),
        1 => (MatchOp::Regex, "x.*", Box::new(|v| v.starts_with('x'))),
        2 => (MatchOp::OneOf, "y\0Zz", Box::new(|v| v == "y" || v == "Zz")),
        _ => (MatchOp::Equal, value, Box::new(move |v| v == value)),
    };
    let matched: Vec<usize> = (0..series.len())
        .filter(|&at| {
            let Series { metric: of, labels } = &series[at];
            metric.is_none_or(|metric| metric == *of) && holds(labels.get(name).copied().unwrap_or(""))
        })
        .collect();
    if matched.iter().any(|&at| series[at].labels.get("a") == Some(&"k")) {
        return None;
    }
    let start = START + random.random_range(-600..7_200) * SECOND;
    let range = match random.random_range(0..4) {
        0 => TimeRange { start: i64::MIN, end: start },
        1 => TimeRange { start, end: i64::MAX },
        _ => TimeRange { start, end: start + random.random_range(0..1_800) * SECOND },
    };
    let matchers = vec![Matcher { name: name.into(), op, value: text.into() }];
    let metric = metric.map(|metric| METRICS[metric].to_owned());
    Some(Delete { selector: Selector { metric, matchers, range }, series: matched })
}
