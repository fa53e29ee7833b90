//! Whether an engine answers as the model does.
//!
//! Each comparison returns the first difference as text; `Ok` is the number of rows it has compared. Series are known by
//! their labels: ids are the engine's affair.
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use foretell_engine::{
    Aggregate, AggregateBatch, Engine, Error, LabelSet, MatchOp, Matcher, ScanBatch, Selector, SeriesId, Snapshot,
    Statistics, TimeRange,
};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::model::{Conditions, Model, Row};
use super::story::{DAY, JOBS, METRICS, MODES, Span};
use crate::support::all;

/// A difference, or the error that the engine gave instead of an answer.
pub(crate) type Outcome = Result<u64, String>;

/// A snapshot, its series in the order of their ids, and which tracks of the model they are.
pub(crate) struct View<'a> {
    snapshot: Snapshot,
    model: &'a Model,
    series: Vec<(SeriesId, usize)>,
    /// Rows that rollups have answered for.
    pub(crate) rolled_up: Cell<u64>,
}

fn text(error: Error) -> String {
    format!("the engine says: {error}")
}

impl<'a> View<'a> {
    /// Of everything that `engine` has. Series without rows may be there or not; others must be, and each once.
    pub(crate) fn of(engine: &Engine, model: &'a mut Model) -> Result<Self, String> {
        model.settle();
        let snapshot = engine.snapshot();
        let series = known(&snapshot, model, &all())?;
        Ok(Self { snapshot, model, series, rolled_up: Cell::new(0) })
    }

    /// Every comparison.
    pub(crate) fn check(&self, span: Span, random: &mut StdRng) -> Outcome {
        self.names()?;
        let (all, count) = (self.all_rows(random)?, self.count()?);
        if all != count {
            return Err(format!("{all} rows with values, {count} without"));
        }
        Ok(all + count + self.some(span, 40, random)?)
    }

    /// Random selections, their labels, and newest values.
    pub(crate) fn some(&self, span: Span, times: usize, random: &mut StdRng) -> Outcome {
        let mut rows = 0;
        for _ in 0..times {
            rows += self.selection(span, random)?;
            rows += self.last_values(span, random)?;
            rows += self.sums(span, random)?;
            self.labels(span, random)?;
        }
        Ok(rows)
    }

    /// Every row, bit for bit.
    pub(crate) fn all_rows(&self, random: &mut StdRng) -> Outcome {
        self.scan(&self.series, TimeRange::ALL, true, rows_target(random))
    }

    /// How many rows there are, and when.
    pub(crate) fn count(&self) -> Outcome {
        self.scan(&self.series, TimeRange::ALL, false, 100_000)
    }

    /// What a random selector selects, and the rows of that in its range.
    pub(crate) fn selection(&self, span: Span, random: &mut StdRng) -> Outcome {
        let selector = selector(span, random);
        let found = known(&self.snapshot, self.model, &selector)?;
        self.scan(&found, selector.range, true, rows_target(random)).map_err(|e| format!("{selector:?}: {e}"))
    }

    /// Label names and the values of one label for a random selector: all of the series with rows in its range, none that
    /// no matching series ever had.
    pub(crate) fn labels(&self, span: Span, random: &mut StdRng) -> Result<(), String> {
        let selector = selector(span, random);
        let conditions = Conditions::of(&selector);
        let label = ["__name__", "job", "mode", "instance", "nowhere"][random.random_range(0..5)];
        let (mut ever, mut now) = ([BTreeSet::new(), BTreeSet::new()], [BTreeSet::new(), BTreeSet::new()]);
        for track in self.model.tracks.iter().filter(|track| conditions.hold(&track.labels)) {
            let has_rows = !track.in_range(selector.range).is_empty();
            for sets in [Some(&mut ever), has_rows.then_some(&mut now)].into_iter().flatten() {
                sets[0].extend(track.labels.iter().map(|pair| pair.0.to_owned()));
                sets[1].extend(track.labels.get(label).map(str::to_owned));
            }
        }
        let names = self.snapshot.label_names(&selector).map_err(text)?;
        let values = self.snapshot.label_values(label, &selector, usize::MAX).map_err(text)?;
        let few = self.snapshot.label_values(label, &selector, 3).map_err(text)?;
        if few != values[..values.len().min(3)] {
            return Err(format!("{selector:?}: the first values of {label} are {few:?}, of {values:?}"));
        }
        for (which, got) in [names, values].into_iter().enumerate() {
            let set: BTreeSet<String> = got.iter().cloned().collect();
            if !got.is_sorted_by(|a, b| a < b) || !now[which].is_subset(&set) || !set.is_subset(&ever[which]) {
                let what = if which == 0 { "names" } else { label };
                return Err(format!("{selector:?}: {what} {got:?}, not from {:?} to {:?}", now[which], ever[which]));
            }
        }
        Ok(())
    }

    /// The newest row of some series in a random range.
    pub(crate) fn last_values(&self, span: Span, random: &mut StdRng) -> Outcome {
        let share = random.random_range(0.02..1.0);
        let some: Vec<(SeriesId, usize)> = self.series.iter().copied().filter(|_| random.random_bool(share)).collect();
        let ids: Vec<SeriesId> = some.iter().map(|pair| pair.0).collect();
        let range = if random.random_bool(0.3) { TimeRange::ALL } else { span.range(random) };
        let found = self.snapshot.last_values(&ids, range).map_err(text)?;
        for (last, &(_, track)) in found.iter().zip(&some) {
            let (track, got) = (&self.model.tracks[track], last.map(|(ts, value)| (ts, value.to_bits())));
            let expected = track.in_range(range).last().copied();
            if got != expected {
                return Err(format!("newest of {:?} in {range:?}: {}", track.labels, difference(expected, got)));
            }
        }
        Ok(found.iter().flatten().count() as u64)
    }

    /// Rows of some series summed up by step of time, which zone maps and rollups may answer.
    pub(crate) fn sums(&self, span: Span, random: &mut StdRng) -> Outcome {
        let share = random.random_range(0.02..0.5);
        let some: Vec<(SeriesId, usize)> = self.series.iter().copied().filter(|_| random.random_bool(share)).collect();
        let ids: Vec<SeriesId> = some.iter().map(|pair| pair.0).collect();
        let range = if random.random_bool(0.3) { TimeRange::ALL } else { span.range(random) };
        let step = [DAY / 2, DAY, 3 * DAY, 7 * DAY, 30 * DAY][random.random_range(0..5)];
        let statistics = Statistics { extremes: true, times: true, ends: true, ..Statistics::default() };
        let aggregate = Aggregate { series: &ids, groups: &[], range, step_ns: Some(step), statistics };
        let mut running = self.snapshot.aggregate(&aggregate, 1000).map_err(text)?;
        let (mut batch, mut got) = (AggregateBatch::default(), BTreeMap::<(usize, i64), Sum>::new());
        while running.next_batch(&mut batch).map_err(text)? {
            let mut at = 0;
            for &(index, n) in &batch.runs {
                for row in at..at + n as usize {
                    let first = (batch.first_ts[row], batch.first[row].to_bits());
                    let last = (batch.last_ts[row], batch.last[row].to_bits());
                    let sum = got.entry((index as usize, batch.starts[row])).or_insert_with(|| Sum::from(first));
                    sum.add(batch.rows[row], last, [batch.min[row], batch.max[row]]);
                }
                at += n as usize;
            }
        }
        self.rolled_up.update(|rows| rows + running.rows_rolled_up());
        let mut expected = BTreeMap::<(usize, i64), Sum>::new();
        for (index, &(_, track)) in some.iter().enumerate() {
            for &(ts, bits) in self.model.tracks[track].in_range(range) {
                let sum = expected.entry((index, ts.div_euclid(step) * step)).or_insert_with(|| Sum::from((ts, bits)));
                sum.add(1, (ts, bits), [f64::from_bits(bits); 2]);
            }
        }
        if got == expected {
            return Ok(expected.values().map(|sum| sum.rows as u64).sum());
        }
        let differs = expected.iter().find(|(key, sum)| got.get(*key) != Some(*sum));
        let other = differs.and_then(|(key, _)| got.get(key));
        Err(format!("sums by {step} ns in {range:?}: {other:?} for {differs:?}, {} of {}", got.len(), expected.len()))
    }

    /// Metrics and the names of their labels: all that have rows, none that never were.
    pub(crate) fn names(&self) -> Result<(), String> {
        let (mut ever, mut now) = (Names::new(), Names::new());
        for track in &self.model.tracks {
            add(&mut ever, &track.labels);
            if !track.rows.is_empty() {
                add(&mut now, &track.labels);
            }
        }
        let listed: Names = self
            .snapshot
            .metrics()
            .into_iter()
            .map(|metric| (metric.name.to_string(), metric.label_names.iter().map(|name| name.to_string()).collect()))
            .collect();
        let lacks = |all: &Names, some: &Names| {
            let lacking = |(metric, names): &(&String, &BTreeSet<String>)| {
                !all.get(*metric).is_some_and(|there| names.is_subset(there))
            };
            some.iter().find(lacking).map(|(metric, names)| format!("{metric} with {names:?}"))
        };
        if let Some(lacking) = lacks(&listed, &now) {
            return Err(format!("the list of metrics lacks {lacking}: {listed:?}"));
        }
        if let Some(unknown) = lacks(&ever, &listed) {
            return Err(format!("the list of metrics has {unknown}, which never were"));
        }
        Ok(())
    }

    /// Compares a scan of `series` (in the order of ids) with the model, as it goes.
    fn scan(&self, series: &[(SeriesId, usize)], range: TimeRange, want_values: bool, rows_target: usize) -> Outcome {
        let ids: Vec<SeriesId> = series.iter().map(|pair| pair.0).collect();
        let mut scan = self.snapshot.scan(&ids, range, want_values, rows_target).map_err(text)?;
        let mut rest = Rest { view: self, series, range, next: 0, left: &[] };
        let (mut batch, mut rows) = (ScanBatch::default(), 0);
        while scan.next_batch(&mut batch).map_err(text)? {
            let mut at = 0;
            for &(index, n) in &batch.runs {
                let run = at..at + n as usize;
                let values = want_values.then(|| &batch.values[run.clone()]);
                rest.take(index as usize, &batch.ts[run.clone()], values)?;
                at = run.end;
            }
            if at != batch.ts.len() {
                return Err(format!("runs of {at} rows in a batch of {}", batch.ts.len()));
            }
            rows += at as u64;
        }
        rest.end()?;
        Ok(rows)
    }
}

/// What of the model a scan has still to answer.
struct Rest<'a> {
    view: &'a View<'a>,
    series: &'a [(SeriesId, usize)],
    range: TimeRange,
    /// Series that have been begun; `left` is of the last of them.
    next: usize,
    left: &'a [Row],
}

impl Rest<'_> {
    /// Begins series up to `index`; the ones before it must be answered whole.
    fn begin(&mut self, index: usize) -> Result<(), String> {
        while self.next <= index {
            self.nothing_left()?;
            self.left = self.view.model.tracks[self.series[self.next].1].in_range(self.range);
            self.next += 1;
        }
        Ok(())
    }

    fn nothing_left(&self) -> Result<(), String> {
        match self.left.first() {
            Some(&row) => Err(format!("{:?}: {}", self.labels(), difference(Some(row), None))),
            None => Ok(()),
        }
    }

    fn labels(&self) -> &LabelSet {
        &self.view.model.tracks[self.series[self.next - 1].1].labels
    }

    /// The next rows of series `index`.
    fn take(&mut self, index: usize, ts: &[i64], values: Option<&[f64]>) -> Result<(), String> {
        self.begin(index)?;
        if index + 1 != self.next {
            return Err(format!("series {index} comes after series {}", self.next - 1));
        }
        for (row, &ts) in ts.iter().enumerate() {
            let expected = self.left.first().copied();
            let bits = values.map_or_else(|| expected.map_or(0, |row| row.1), |values| values[row].to_bits());
            if expected != Some((ts, bits)) {
                return Err(format!("{:?}: {}", self.labels(), difference(expected, Some((ts, bits)))));
            }
            self.left = &self.left[1..];
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), String> {
        if let Some(last) = self.series.len().checked_sub(1) {
            self.begin(last)?;
        }
        self.nothing_left()
    }
}

fn difference(expected: Option<Row>, got: Option<Row>) -> String {
    let show = |row: Option<Row>| {
        row.map_or("no row".to_owned(), |(ts, bits)| format!("{ts} = {:?} ({bits:#018x})", f64::from_bits(bits)))
    };
    format!("the model has {}, the engine {}", show(expected), show(got))
}

/// The series that `selector` finds: all with rows in its range, none that do not match, each once.
fn known(snapshot: &Snapshot, model: &Model, selector: &Selector) -> Result<Vec<(SeriesId, usize)>, String> {
    let conditions = Conditions::of(selector);
    let (mut found, mut seen) = (Vec::new(), vec![false; model.tracks.len()]);
    for series in snapshot.select(selector).map_err(text)? {
        let track = model.find(&series.labels);
        let track = track.ok_or_else(|| format!("{:?} was never written", series.labels))?;
        if !conditions.hold(&series.labels) || std::mem::replace(&mut seen[track], true) {
            return Err(format!("{selector:?} finds {:?}, wrongly or twice", series.labels));
        }
        found.push((series.id, track));
    }
    let missing = |(track, seen): &(&super::model::Track, bool)| {
        !seen && conditions.hold(&track.labels) && !track.in_range(selector.range).is_empty()
    };
    match model.tracks.iter().zip(seen).find(missing) {
        Some((track, _)) => Err(format!("{selector:?} does not find {:?}", track.labels)),
        None => Ok(found),
    }
}

/// Label names by metric.
type Names = BTreeMap<String, BTreeSet<String>>;

fn add(names: &mut Names, labels: &LabelSet) {
    let of_metric = names.entry(labels.metric_name().to_owned()).or_default();
    of_metric.extend(labels.iter().map(|pair| pair.0.to_owned()).filter(|name| name != "__name__"));
}

/// Batches of a few rows, which end inside a series, and of many.
fn rows_target(random: &mut StdRng) -> usize {
    [1_000, 8_192, 65_536, 1_000_003][random.random_range(0..4)]
}

/// A random selector over a random range of time.
fn selector(span: Span, random: &mut StdRng) -> Selector {
    let metric = random.random_bool(0.4).then(|| METRICS[random.random_range(0..METRICS.len())].to_owned());
    let matchers = (0..random.random_range(0..3)).map(|_| matcher(random)).collect();
    Selector { metric, matchers, range: span.range(random) }
}

/// A random condition on the labels that the story gives.
pub(crate) fn matcher(random: &mut StdRng) -> Matcher {
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex, MatchOp::OneOf];
    let op = ops[random.random_range(0..ops.len())];
    let mut pick = |from: &[&str]| from[random.random_range(0..from.len())].to_owned();
    let name = pick(&["job", "mode", "instance", "__name__", "nowhere"]);
    let value = match (op, name.as_str()) {
        (MatchOp::Regex | MatchOp::NotRegex, "instance") => pick(&["i.*[02468]", "i1.?", ".+7"]),
        (MatchOp::Regex | MatchOp::NotRegex, _) => pick(&[".*", ".+", "", "(api|idle).*", "[a-m].*", "db|user"]),
        (MatchOp::OneOf, _) => pick(&["api\0db", "\0idle", "i1\0i3\0i5\0i7\0i9", "m_total\0m_ratio"]),
        (_, "job") => pick(&JOBS),
        (_, "mode") => pick(&MODES),
        (_, "instance") => pick(&["i0", "i1", "i2", "i11"]),
        (_, "__name__") => pick(&METRICS),
        _ => pick(&["", "x"]),
    };
    Matcher { name, op, value }
}

/// Rows of a series and step. Extremes are those of the values that are not NaN, in the total order, as bits.
#[derive(Debug, PartialEq)]
struct Sum {
    rows: i64,
    first: Row,
    last: Row,
    extremes: [u64; 2],
}

impl Sum {
    fn from(first: Row) -> Self {
        Self { rows: 0, first, last: first, extremes: [f64::INFINITY, f64::NEG_INFINITY].map(f64::to_bits) }
    }

    fn add(&mut self, rows: i64, last: Row, [min, max]: [f64; 2]) {
        self.rows += rows;
        self.last = last;
        let [least, most] = self.extremes.map(f64::from_bits);
        if !min.is_nan() && min.total_cmp(&least).is_lt() {
            self.extremes[0] = min.to_bits();
        }
        if !max.is_nan() && max.total_cmp(&most).is_gt() {
            self.extremes[1] = max.to_bits();
        }
    }
}
