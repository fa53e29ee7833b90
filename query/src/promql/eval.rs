//! Walks an expression; each node answers for all steps at once.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foretell_engine::LabelSet;

use super::account::{Account, Held, Reserve};
use super::annotation::{Annotations, Notes};
use super::expr::{AggregateOp, Edges, Expr, Selector, Subquery};
use super::feature::Feature;
use super::grid::{Ends, Grid};
use super::labels::{named_for_good, shown, stored, without_name};
use super::parallel::Pace;
use super::ranges::{Making, Ranges, Windows, weight};
use super::shared::{Shared, Wanted};
use super::source::{SampleSource, SeriesSamples, Work, has_stale, without_stale};
use super::value::{ABSENT, Answer, Column, Columns, Point, Row, Sample, Value, is_absent, refuse_same_labels};
use super::window::{Found, Window, newest, slide_mixed};
use super::{Cancelled, Limits, PromQuery, aggregate, binary, extended, parallel};
use crate::error::{Error, ErrorKind, Result};

/// Evaluates one query.
pub(crate) struct Evaluator<'a> {
    source: &'a dyn SampleSource,
    limits: &'a Limits,
    cancelled: &'a Cancelled<'a>,
    /// First and last instant of the query.
    bounds: (i64, i64),
    grid: Grid,
    lookback_ms: i64,
    instant: bool,
    account: Account<'a>,
    shared: Shared,
    /// Whether selectors leave out the buckets of histograms, because nobody will look at them.
    bare: AtomicBool,
    /// Whether columns of selectors may come in any order.
    any_order: AtomicBool,
    pub(crate) notes: Notes,
}

/// What a selector's column is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The sample.
    Sample,
    /// Its time, milliseconds.
    Time,
}

/// What becomes of stale markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Markers {
    Stay,
    /// They go, and so do series that have nothing else.
    Go,
}

/// A sample of an answer: itself, and the text that it becomes.
const ANSWERED_BYTES: usize = 48;

impl<'a> Evaluator<'a> {
    /// # Errors
    /// `Invalid` for a range without an instant, a step that is not positive, or too many steps.
    pub(crate) fn new(
        query: &PromQuery,
        source: &'a dyn SampleSource,
        limits: &'a Limits,
        cancelled: &'a Cancelled<'a>,
        reserve: &'a Reserve<'a>,
    ) -> Result<Self> {
        let grid = match query.step_ms {
            None => Grid::instant(query.start_ms),
            Some(step_ms) if step_ms <= 0 => {
                return Err(Error::invalid(
                    "zero or negative query resolution step widths are not accepted. Try a positive integer",
                ));
            }
            Some(_) if query.end_ms < query.start_ms => {
                return Err(Error::invalid("end timestamp must not be before start time"));
            }
            Some(step_ms) => Grid::range(query.start_ms, query.end_ms, step_ms),
        };
        if grid.steps > limits.points_max {
            return Err(Error::invalid(format!(
                "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
                limits.points_max
            )));
        }
        let bounds = (query.start_ms, if query.step_ms.is_some() { query.end_ms } else { query.start_ms });
        Ok(Self {
            source,
            limits,
            cancelled,
            bounds,
            grid,
            lookback_ms: query.lookback_ms,
            instant: query.step_ms.is_none(),
            account: Account::new(limits.samples_max, reserve),
            shared: Shared::default(),
            bare: AtomicBool::new(false),
            any_order: AtomicBool::new(false),
            notes: Notes::default(),
        })
    }

    /// # Errors
    /// `Invalid` for an expression whose value cannot be told at several instants.
    pub(crate) fn check(&self, expr: &Expr) -> Result<()> {
        if let Expr::Range(..) | Expr::Subquery(_) | Expr::Text(_) = expr
            && !self.instant
        {
            return Err(Error::invalid(
                "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
            ));
        }
        Ok(())
    }

    /// The answer of the whole query, and what it says about itself.
    pub(crate) fn run(&self, expr: &Expr) -> Result<(Answer, Annotations)> {
        self.check(expr)?;
        self.shared.expect(expr);
        let answer = self.answer(expr)?;
        Ok((answer, self.notes.take()))
    }

    fn answer(&self, expr: &Expr) -> Result<Answer> {
        if let Expr::Range(..) | Expr::Subquery(_) = expr {
            return self.run_ranges(expr);
        }
        let value = self.shown(self.eval(expr, self.grid)?)?;
        let samples = self.account.held().samples;
        self.account.add(Held { samples: 0, bytes: samples.saturating_mul(ANSWERED_BYTES) })?;
        if self.instant { Ok(self.at_instant(expr, value)) } else { self.over_range(value) }
    }

    /// Takes the names away that were to go at the end.
    fn shown(&self, value: Value) -> Result<Value> {
        let Value::Vector(columns) = value else { return Ok(value) };
        if !self.limits.features.has(Feature::DelayedNameRemoval) {
            return Ok(Value::Vector(columns));
        }
        let mut results = Columns::default();
        for column in columns {
            let labels = shown(&column.labels);
            results.add(column.named(labels))?;
        }
        Ok(Value::Vector(results.finish()))
    }

    /// The samples that a range vector selects at one instant.
    fn run_ranges(&self, expr: &Expr) -> Result<Answer> {
        let ranges = self.ranges(expr, self.grid)?;
        let samples = self.account.held().samples;
        self.account.add(Held { samples: 0, bytes: samples.saturating_mul(ANSWERED_BYTES) })?;
        let (end, _) = ranges.windows.ends.bounds();
        let start = end.saturating_sub(ranges.windows.range_ms);
        let rows = ranges.series.iter().map(|series| {
            let is_inside = |ts: i64| ts > start && ts <= end;
            let points = series.ts_ms.iter().zip(&series.values).filter(|&(&ts, _)| is_inside(ts));
            let points = points.map(|(&ts_ms, &value)| Point { ts_ms, value }).collect();
            let histograms = series.histograms.iter().filter(|&&(ts, _)| is_inside(ts)).cloned().collect();
            Row { labels: shown(&series.labels), points, histograms }
        });
        let mut rows: Vec<Row> = rows.filter(|row| !row.is_empty()).collect();
        rows.sort_by(|a, b| a.labels.compare(&b.labels));
        Ok(Answer::Matrix(rows))
    }

    fn at_instant(&self, expr: &Expr, value: Value) -> Answer {
        let ts_ms = self.grid.start_ms;
        match value {
            Value::Scalar(values) => Answer::Scalar(Point { ts_ms, value: values[0] }),
            Value::Text(text) => Answer::Text(ts_ms, text),
            Value::Vector(mut columns) => {
                columns.retain(|column| !column.is_empty());
                super::function::order(expr, &mut columns);
                Answer::Vector(columns.into_iter().map(|column| row(column, |_| ts_ms)).collect())
            }
        }
    }

    fn over_range(&self, value: Value) -> Result<Answer> {
        let columns = match value {
            Value::Scalar(values) => vec![Column::floats(LabelSet::default(), values)],
            Value::Vector(columns) => columns,
            Value::Text(_) => Vec::new(),
        };
        let go_on = || self.go_on();
        let (pace, mut rows) = (Pace::new(&go_on), Vec::new());
        for column in columns {
            pace.spend(column.values.len())?;
            rows.push(row(column, |step| self.grid.at(step)));
        }
        rows.retain(|row| !row.is_empty());
        rows.sort_by(|a, b| a.labels.compare(&b.labels));
        Ok(Answer::Matrix(rows))
    }

    /// The value of `expr` at each step of `grid`.
    pub(crate) fn eval(&self, expr: &Expr, grid: Grid) -> Result<Value> {
        self.go_on()?;
        let before = self.account.held();
        let value = self.node(expr, grid)?;
        self.account.keep(before, Held::value(&value))?;
        Ok(value)
    }

    fn node(&self, expr: &Expr, grid: Grid) -> Result<Value> {
        if grid.steps > 1 && expr.is_step_invariant() && !matches!(expr, Expr::Number(_) | Expr::Text(_)) {
            return self.repeat(self.eval(expr, Grid { steps: 1, ..grid })?, grid.steps);
        }
        match expr {
            Expr::Number(number) => {
                self.count(grid.steps)?;
                Ok(Value::Scalar(vec![*number; grid.steps]))
            }
            Expr::Text(text) => Ok(Value::Text(text.clone())),
            Expr::Selector(selector) => Ok(Value::Vector(self.select(selector, grid, Pick::Sample)?)),
            Expr::Range(..) | Expr::Subquery(_) => Err(Error::invalid("a range vector cannot be used here")),
            Expr::Negate(inner) => negate(self.eval(inner, grid)?),
            Expr::Binary(binary) => {
                // Comparisons look at buckets, and so may whatever decides what is kept.
                let (lhs, rhs) = self.without_buckets(false, || {
                    Ok::<_, Error>((self.eval(&binary.lhs, grid)?, self.eval(&binary.rhs, grid)?))
                })?;
                binary::evaluate(binary, lhs, rhs, &self.notes, &|values| self.count(values))
            }
            Expr::Aggregate(aggregate) => {
                let param = aggregate.param.as_ref();
                let param = param.map(|param| self.without_buckets(false, || self.eval(param, grid))).transpose()?;
                let vector = || self.vector(&aggregate.expr, grid);
                let input = during(&self.any_order, aggregate.takes_any_order(), vector)?;
                if matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk) {
                    self.count(input.len().saturating_mul(grid.steps))?;
                }
                let (go_on, count) = (|| self.go_on(), |values| self.count(values));
                let upkeep = aggregate::Upkeep { notes: &self.notes, go_on: &go_on, count: &count };
                aggregate::evaluate(aggregate, param, input, grid.steps, &upkeep).map(Value::Vector)
            }
            Expr::Call(function, args) => match extended::range(function.name, args) {
                Some(range) => extended::evaluate(self, function.name, range, grid).map(Value::Vector),
                None => {
                    // Functions of time make a column out of nothing.
                    self.count(grid.steps)?;
                    super::function::evaluate(self, function, args, grid)
                }
            },
        }
    }

    /// # Errors
    /// `Cancelled` when nobody waits any more.
    pub(crate) fn go_on(&self) -> Result<()> {
        if (self.cancelled)() { Err(cancelled()) } else { Ok(()) }
    }

    /// How far back a sample counts as current.
    pub(crate) fn lookback_ms(&self) -> i64 {
        self.lookback_ms
    }

    /// Where `selector` looks at each step.
    pub(crate) fn ends(&self, selector: &Selector, grid: Grid) -> Ends {
        grid.ends(selector.when, self.bounds)
    }

    /// The value of an expression that is a vector.
    pub(crate) fn vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Column>> {
        match self.eval(expr, grid)? {
            Value::Vector(columns) => Ok(columns),
            _ => Err(Error::invalid("expected an instant vector")),
        }
    }

    /// The value of an expression that is a scalar.
    pub(crate) fn scalar(&self, expr: &Expr, grid: Grid) -> Result<Vec<f64>> {
        match self.eval(expr, grid)? {
            Value::Scalar(values) => Ok(values),
            _ => Err(Error::invalid("expected a scalar")),
        }
    }

    /// What `work` answers while selectors leave out the buckets of histograms, or do not.
    pub(crate) fn without_buckets<T>(&self, bare: bool, work: impl FnOnce() -> T) -> T {
        during(&self.bare, bare, work)
    }

    /// The newest sample of each step within the look-back, unless it is a stale marker, or its time.
    pub(crate) fn select(&self, selector: &Selector, grid: Grid, pick: Pick) -> Result<Vec<Column>> {
        let ends = self.ends(selector, grid);
        if selector.when.edges != Edges::Exact {
            return self.select_extended(selector, grid, pick);
        }
        let (first, last) = ends.bounds();
        let column = |series: &SeriesSamples| {
            if !series.histograms.is_empty() {
                return Ok(self.select_mixed(series, ends, pick));
            }
            let picked = |ts_ms: i64, value: f64| match pick {
                Pick::Time if !is_absent(value) => ts_ms as f64,
                _ => value,
            };
            let values = newest((&series.ts_ms, &series.values), ends, self.lookback_ms, picked);
            Ok(Column::floats(series.labels.clone(), values))
        };
        let after = first.saturating_sub(self.lookback_ms);
        if !self.shared.has(&selector.matchers) {
            return self.read_columns(
                selector,
                (after, last),
                Work { steps: grid.steps, visits: 1, ..Work::default() },
                Markers::Stay,
                column,
            );
        }
        let series = self.load(selector, after, last)?;
        let values = series.len().saturating_mul(grid.steps);
        self.count(values)?;
        self.columns(&series, values.saturating_add(weight(&series)), column)
    }

    /// The columns that `column` makes of the series of a selector, each as soon as its samples of `(after, through]` are read:
    /// they are never all in memory.
    fn read_columns(
        &self,
        selector: &Selector,
        time: (i64, i64),
        work: Work,
        markers: Markers,
        column: impl Fn(&SeriesSamples) -> Result<Column> + Sync,
    ) -> Result<Vec<Column>> {
        let bare = self.bare.load(Ordering::Relaxed);
        let work = Work { any_order: self.any_order.load(Ordering::Relaxed), ..work };
        let take = |series: &mut SeriesSamples| {
            self.go_on()?;
            let read = series.weight();
            self.stored(series, bare)?;
            // Samples count as read; of histograms whose buckets are gone only the rest does.
            let read = Held { samples: read.saturating_sub(series.weight()), ..Held::read(read) };
            if markers == Markers::Go && has_stale(series) {
                without_stale(series);
            }
            let column = if series.is_empty() { None } else { Some(column(series)?) };
            let column = column.filter(|column| !column.is_empty());
            self.account.turn(read, column.as_ref().map_or(Held::default(), Held::column))?;
            Ok(column)
        };
        self.source.columns(&selector.matchers, time, work, &|samples| self.admit(samples), &take)
    }

    /// A column for each series that has a sample somewhere, made on all cores; `work` is what it takes in all.
    pub(crate) fn columns(
        &self,
        series: &[SeriesSamples],
        work: usize,
        column: impl Fn(&SeriesSamples) -> Result<Column> + Sync,
    ) -> Result<Vec<Column>> {
        let mut columns = parallel::map(series, work, || self.go_on(), column)?;
        columns.retain(|column| !column.is_empty());
        Ok(columns)
    }

    /// As [`Evaluator::select`], for a series that has histograms.
    fn select_mixed(&self, series: &SeriesSamples, ends: Ends, pick: Pick) -> Column {
        slide_mixed(
            series,
            ends,
            self.lookback_ms,
            |_| 0,
            |window| match window.newest()? {
                (_, Sample::Value(value)) if is_absent(value) => None,
                (ts_ms, _) if pick == Pick::Time => Some(Found::Value(ts_ms as f64)),
                (_, Sample::Value(value)) => Some(Found::Value(value)),
                (_, Sample::Histogram(histogram)) => Some(Found::Histogram(Arc::clone(histogram))),
            },
        )
    }

    /// As [`Evaluator::select`], for `anchored` and `smoothed`; these do not see histograms.
    fn select_extended(&self, selector: &Selector, grid: Grid, pick: Pick) -> Result<Vec<Column>> {
        let ends = self.ends(selector, grid);
        let series = self.load_extended(selector, 0, grid)?;
        let values = series.len().saturating_mul(grid.steps);
        self.count(values)?;
        let column = |series: &SeriesSamples| {
            let at = |step| extended::instant(selector.when.edges, series, ends.at(step), self.lookback_ms);
            let picked = |(ts_ms, value): (i64, f64)| if pick == Pick::Time { ts_ms as f64 } else { value };
            let values = (0..grid.steps).map(|step| at(step).map_or(ABSENT, picked)).collect();
            Ok(Column::floats(series.labels.clone(), values))
        };
        self.columns(&series, values, column)
    }

    /// The columns of a range vector, see [`Windows::column`]; the empty ones are left out. Its series are not kept, unless others
    /// want them, too, or an error may come of them: they are read in another order than that of their labels.
    ///
    /// # Errors
    /// Those of the columns; `Execution` when two series have the same labels without their names.
    pub(crate) fn over_windows(
        &self,
        expr: &Expr,
        grid: Grid,
        making: Making<'_>,
        answer: impl Fn(&Window<'_>) -> Result<Option<f64>> + Sync,
    ) -> Result<Vec<Column>> {
        let columns = match expr {
            Expr::Range(selector, range_ms) if !making.may_fail && !self.shared.has(&selector.matchers) => {
                let (ends, range_ms) = (self.ends(selector, grid), *range_ms);
                let (first, last) = ends.bounds();
                let windows = self.windows(ends, range_ms, grid);
                let column = |series: &SeriesSamples| windows.column(series, making, &answer);
                let time = (first.saturating_sub(range_ms), last);
                let work = Work { steps: grid.steps, visits: ends.visits(range_ms), ..Work::default() };
                self.read_columns(selector, time, work, Markers::Go, column)?
            }
            _ => self.ranges(expr, grid)?.columns(making, answer)?,
        };
        if !making.keep_name {
            refuse_same_labels(&columns)?;
        }
        Ok(columns)
    }

    /// The series of a range vector. What they become, a column each, is counted, too.
    fn ranges(&self, expr: &Expr, grid: Grid) -> Result<Ranges<'_>> {
        let ranges = match expr {
            Expr::Range(selector, range_ms) => {
                let ends = self.ends(selector, grid);
                let (first, last) = ends.bounds();
                let series = self.load(selector, first.saturating_sub(*range_ms), last)?;
                let series = self.without_markers(series)?;
                Ranges { series, windows: self.windows(ends, *range_ms, grid) }
            }
            Expr::Subquery(subquery) => self.subquery(subquery, grid)?,
            _ => return Err(Error::invalid("expected a range vector")),
        };
        self.count(ranges.series.len().saturating_mul(grid.steps))?;
        Ok(ranges)
    }

    fn subquery(&self, subquery: &Subquery, grid: Grid) -> Result<Ranges<'_>> {
        let ends = grid.ends(subquery.when, self.bounds);
        let (first, last) = ends.bounds();
        let step_ms = subquery.step_ms.unwrap_or(self.limits.subquery_step_ms).max(1);
        let after = first.saturating_sub(subquery.range_ms);
        // The first multiple of the step that is inside.
        let mut start = step_ms.saturating_mul(after / step_ms);
        if start <= after {
            start = start.saturating_add(step_ms);
        }
        let inner = Grid::range(start, last, step_ms);
        // Refused before anything is made for so many steps.
        self.account.add(Held::values(inner.steps))?;
        // Between steps that are not neighbours only buckets tell of a restart.
        let columns = match inner.steps {
            0 => Vec::new(),
            _ => self.without_buckets(false, || self.as_vector(&subquery.expr, inner))?,
        };
        self.account.add(Held::read(columns.len().saturating_mul(inner.steps)))?;
        let series = columns.into_iter().map(|column| {
            let present = column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
            let (ts_ms, values) = present.map(|(i, &value)| (inner.at(i), value)).unzip();
            // The sample before a sample is another one than where the histogram comes from.
            let histograms = column.histograms.iter().flatten().enumerate();
            let histograms = histograms
                .filter_map(|(i, histogram)| Some((inner.at(i), Arc::new(histogram.as_ref()?.out_of_sequence()))))
                .collect();
            SeriesSamples { labels: column.labels, ts_ms, values, histograms }
        });
        let series: Vec<SeriesSamples> = series.collect();
        self.account.add(Held::histograms(&series))?;
        Ok(Ranges { series: Arc::new(series), windows: self.windows(ends, subquery.range_ms, grid) })
    }

    fn windows(&self, ends: Ends, range_ms: i64, grid: Grid) -> Windows<'_> {
        Windows { ends, range_ms, grid, cancelled: self.cancelled, account: &self.account }
    }

    /// A subquery's inner value; a scalar counts as one series without labels.
    fn as_vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Column>> {
        match self.eval(expr, grid)? {
            Value::Vector(columns) => Ok(columns),
            Value::Scalar(values) => Ok(vec![Column::floats(LabelSet::default(), values)]),
            Value::Text(_) => Err(Error::invalid("expected an instant vector")),
        }
    }

    /// The series of an `anchored` or `smoothed` selector, with what lies around its ranges, without stale markers.
    pub(crate) fn load_extended(
        &self,
        selector: &Selector,
        range_ms: i64,
        grid: Grid,
    ) -> Result<Arc<Vec<SeriesSamples>>> {
        let (first, last) = self.ends(selector, grid).bounds();
        let after_ms = first.saturating_sub(range_ms).saturating_sub(self.lookback_ms);
        let ahead_ms = if selector.when.edges == Edges::Smoothed { self.lookback_ms } else { 0 };
        self.without_markers(self.load(selector, after_ms, last.saturating_add(ahead_ms))?)
    }

    /// The series without stale markers, and without those that had nothing else: a copy where others need the markers.
    fn without_markers(&self, mut series: Arc<Vec<SeriesSamples>>) -> Result<Arc<Vec<SeriesSamples>>> {
        if !series.iter().any(has_stale) {
            return Ok(series);
        }
        if Arc::get_mut(&mut series).is_none() {
            self.account.add(Held::copy(&series))?;
        }
        let own = Arc::make_mut(&mut series);
        own.iter_mut().filter(|series| has_stale(series)).for_each(without_stale);
        own.retain(|series| !series.is_empty());
        Ok(series)
    }

    /// The series of a selector with their samples of `(after_ms, through_ms]`, and maybe more.
    fn load(&self, selector: &Selector, after_ms: i64, through_ms: i64) -> Result<Arc<Vec<SeriesSamples>>> {
        let wanted = Wanted { after_ms, through_ms, bare: self.bare.load(Ordering::Relaxed) };
        let before = self.account.held();
        if let Some(series) = self.shared.take(&selector.matchers, wanted, &self.account) {
            return Ok(series);
        }
        // What was shared in vain is gone.
        self.account.keep(before, Held::default())?;
        let series = Arc::new(self.read(selector, wanted)?);
        let held = Held::series(&series);
        self.account.keep(before, held)?;
        self.shared.put(&selector.matchers, wanted, (&series, held), &self.account);
        Ok(series)
    }

    fn read(&self, selector: &Selector, wanted: Wanted) -> Result<Vec<SeriesSamples>> {
        let admit = |samples: usize| self.admit(samples);
        let mut series = self.source.select(&selector.matchers, wanted.after_ms, wanted.through_ms, &admit)?;
        series.iter_mut().try_for_each(|series| self.stored(series, wanted.bare))?;
        Ok(series)
    }

    /// So many samples are about to be read.
    fn admit(&self, samples: usize) -> Result<()> {
        self.go_on()?;
        self.account.add(Held::read(samples))
    }

    /// Makes a series that was read one of the evaluation, without buckets where nobody will look at them.
    fn stored(&self, series: &mut SeriesSamples, bare: bool) -> Result<()> {
        let labels = std::mem::take(&mut series.labels);
        let named_later = self.limits.features.has(Feature::DelayedNameRemoval);
        series.labels = if named_later { named_for_good(&labels)? } else { stored(labels) };
        if bare {
            series.drop_buckets();
        }
        Ok(())
    }

    /// Accounts for `values` more that are about to be made, if anybody still waits for them.
    pub(crate) fn count(&self, values: usize) -> Result<()> {
        self.go_on()?;
        self.account.add(Held::values(values))
    }

    /// The same answer at each of `steps` steps.
    fn repeat(&self, value: Value, steps: usize) -> Result<Value> {
        Ok(match value {
            Value::Scalar(values) => {
                self.count(steps)?;
                Value::Scalar(vec![values[0]; steps])
            }
            Value::Text(text) => Value::Text(text),
            Value::Vector(columns) => {
                self.count(columns.len().saturating_mul(steps))?;
                let repeat = |column: Column| Column {
                    values: vec![column.values[0]; steps],
                    histograms: column.histogram(0).map(|histogram| vec![Some(Arc::clone(histogram)); steps]),
                    labels: column.labels,
                };
                Value::Vector(columns.into_iter().map(repeat).collect())
            }
        })
    }
}

/// What `work` answers while `flag` is `on`.
fn during<T>(flag: &AtomicBool, on: bool, work: impl FnOnce() -> T) -> T {
    let before = flag.swap(on, Ordering::Relaxed);
    let answer = work();
    flag.store(before, Ordering::Relaxed);
    answer
}

/// The samples of `column`, at the times of their steps.
fn row(column: Column, at: impl Fn(usize) -> i64) -> Row {
    let present = || column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
    let mut points = Vec::with_capacity(present().count());
    points.extend(present().map(|(step, &value)| Point { ts_ms: at(step), value }));
    let histograms = column.histograms.into_iter().flatten().enumerate();
    let histograms = histograms.filter_map(|(step, histogram)| Some((at(step), histogram?))).collect();
    Row { labels: column.labels, points, histograms }
}

/// Nobody waits any more.
pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the query was cancelled or timed out")
}

fn negate(value: Value) -> Result<Value> {
    Ok(match value {
        Value::Scalar(values) => Value::Scalar(values.into_iter().map(|value| -value).collect()),
        Value::Vector(mut columns) => {
            for column in &mut columns {
                column.labels = without_name(&column.labels);
                column.values.iter_mut().for_each(|value| *value = if is_absent(*value) { ABSENT } else { -*value });
                for histogram in column.histograms.iter_mut().flatten().flatten() {
                    Arc::make_mut(histogram).scale(-1.0);
                }
            }
            refuse_same_labels(&columns)?;
            Value::Vector(columns)
        }
        Value::Text(_) => return Err(Error::invalid("a string cannot be negated")),
    })
}
