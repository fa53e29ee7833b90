//! Walks an expression; each node answers for all steps at once.
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use foretell_engine::LabelSet;

use super::account::{Account, Held, Reserve};
use super::expr::{AggregateOp, Edges, Expr, Selector, Subquery};
use super::feature::Feature;
use super::grid::{Ends, Grid};
use super::labels::{named_for_good, shown, without_name};
use super::source::{SampleSource, SeriesSamples};
use super::value::{ABSENT, Answer, Column, Columns, Point, Row, Value, is_absent, refuse_same_labels};
use super::window::{Window, slide};
use super::{Cancelled, Limits, PromQuery, aggregate, binary, extended};
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
}

/// Samples of windows that are worked on between two looks at whether anybody still waits.
const WINDOW_SAMPLES_AT_ONCE: usize = 1 << 20;
/// A sample of an answer: itself, and the text that it becomes.
const ANSWERED_BYTES: usize = 48;

/// Series with samples, and where their windows end.
pub(crate) struct Ranges<'a> {
    pub(crate) series: Vec<SeriesSamples>,
    pub(crate) ends: Ends,
    pub(crate) range_ms: i64,
    grid: Grid,
    cancelled: &'a Cancelled<'a>,
}

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

    /// The answer of the whole query.
    pub(crate) fn run(&self, expr: &Expr) -> Result<Answer> {
        self.check(expr)?;
        if let Expr::Range(..) | Expr::Subquery(_) = expr {
            return self.run_ranges(expr);
        }
        let value = self.shown(self.eval(expr, self.grid)?)?;
        let samples = self.account.held().samples;
        self.account.add(Held { samples: 0, bytes: samples.saturating_mul(ANSWERED_BYTES) })?;
        Ok(if self.instant { self.at_instant(expr, value) } else { self.over_range(value) })
    }

    /// Takes the names away that were to go at the end.
    fn shown(&self, value: Value) -> Result<Value> {
        let Value::Vector(columns) = value else { return Ok(value) };
        if !self.limits.features.has(Feature::DelayedNameRemoval) {
            return Ok(Value::Vector(columns));
        }
        let mut results = Columns::default();
        for column in columns {
            results.add(shown(&column.labels), column.values)?;
        }
        Ok(Value::Vector(results.finish()))
    }

    /// The samples that a range vector selects at one instant.
    fn run_ranges(&self, expr: &Expr) -> Result<Answer> {
        let ranges = self.ranges(expr, self.grid)?;
        let (end, _) = ranges.ends.bounds();
        let start = end.saturating_sub(ranges.range_ms);
        let rows = ranges.series.into_iter().map(|series| {
            let points = series.ts_ms.iter().zip(&series.values).filter(|&(&ts, _)| ts > start && ts <= end);
            let points = points.map(|(&ts_ms, &value)| Point { ts_ms, value }).collect();
            Row { labels: shown(&series.labels), points }
        });
        let mut rows: Vec<Row> = rows.filter(|row| !row.points.is_empty()).collect();
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
                let row = |column: Column| Row {
                    labels: column.labels,
                    points: vec![Point { ts_ms, value: column.values[0] }],
                };
                Answer::Vector(columns.into_iter().map(row).collect())
            }
        }
    }

    fn over_range(&self, value: Value) -> Answer {
        let row = |column: Column| {
            let points = column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
            let points = points.map(|(i, &value)| Point { ts_ms: self.grid.at(i), value }).collect();
            Row { labels: column.labels, points }
        };
        let columns = match value {
            Value::Scalar(values) => vec![Column { labels: LabelSet::default(), values }],
            Value::Vector(columns) => columns,
            Value::Text(_) => Vec::new(),
        };
        let mut rows: Vec<Row> = columns.into_iter().map(row).filter(|row| !row.points.is_empty()).collect();
        rows.sort_by(|a, b| a.labels.compare(&b.labels));
        Answer::Matrix(rows)
    }

    /// The value of `expr` at each step of `grid`.
    pub(crate) fn eval(&self, expr: &Expr, grid: Grid) -> Result<Value> {
        self.go_on()?;
        let before = self.account.held();
        let value = self.node(expr, grid)?;
        self.account.keep_value(before, &value)?;
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
            Expr::Selector(selector) => Ok(Value::Vector(self.select(selector, grid, |_, value| value)?)),
            Expr::Range(..) | Expr::Subquery(_) => Err(Error::invalid("a range vector cannot be used here")),
            Expr::Negate(inner) => negate(self.eval(inner, grid)?),
            Expr::Binary(binary) => {
                let (lhs, rhs) = (self.eval(&binary.lhs, grid)?, self.eval(&binary.rhs, grid)?);
                binary::evaluate(binary, lhs, rhs, &|values| self.count(values))
            }
            Expr::Aggregate(aggregate) => {
                let param = aggregate.param.as_ref().map(|param| self.eval(param, grid)).transpose()?;
                let input = self.vector(&aggregate.expr, grid)?;
                if matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk) {
                    self.count(input.len().saturating_mul(grid.steps))?;
                }
                aggregate::evaluate(aggregate, param, input, grid.steps, &|values| self.count(values))
                    .map(Value::Vector)
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

    /// The newest sample of each step within the look-back, unless it is a stale marker. `pick` turns time and value of
    /// the sample into what the column holds.
    pub(crate) fn select(
        &self,
        selector: &Selector,
        grid: Grid,
        pick: impl Fn(i64, f64) -> f64,
    ) -> Result<Vec<Column>> {
        let ends = self.ends(selector, grid);
        if selector.when.edges != Edges::Exact {
            return self.select_extended(selector, grid, pick);
        }
        let (first, last) = ends.bounds();
        let samples = self.load(selector, first.saturating_sub(self.lookback_ms), last)?;
        self.count(samples.len().saturating_mul(grid.steps))?;
        let column = |series: SeriesSamples| {
            let newest = |window: &Window<'_>| {
                let value = window.last();
                (!is_absent(value)).then(|| pick(window.ts_ms[window.len() - 1], value))
            };
            let values = slide((&series.ts_ms, &series.values), ends, self.lookback_ms, |_| 0, newest);
            Column { labels: series.labels, values }
        };
        let columns = samples.into_iter().map(column);
        Ok(columns.filter(|column| !column.is_empty()).collect())
    }

    /// As [`Evaluator::select`], for `anchored` and `smoothed`.
    fn select_extended(&self, selector: &Selector, grid: Grid, pick: impl Fn(i64, f64) -> f64) -> Result<Vec<Column>> {
        let ends = self.ends(selector, grid);
        let series = self.load_extended(selector, 0, grid)?;
        self.count(series.len().saturating_mul(grid.steps))?;
        let column = |series: SeriesSamples| {
            let at = |step| extended::instant(selector.when.edges, &series, ends.at(step), self.lookback_ms);
            let values = (0..grid.steps).map(|step| at(step).map_or(ABSENT, |(ts_ms, value)| pick(ts_ms, value)));
            Column { values: values.collect(), labels: series.labels.clone() }
        };
        Ok(series.into_iter().map(column).filter(|column| !column.is_empty()).collect())
    }

    /// The series of a range vector. What they become, a column each, is counted, too.
    pub(crate) fn ranges(&self, expr: &Expr, grid: Grid) -> Result<Ranges<'_>> {
        let ranges = match expr {
            Expr::Range(selector, range_ms) => {
                let ends = self.ends(selector, grid);
                let (first, last) = ends.bounds();
                let series = self.load(selector, first.saturating_sub(*range_ms), last)?;
                let series = extended::without_markers(series);
                Ranges { series, ends, range_ms: *range_ms, grid, cancelled: self.cancelled }
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
        let columns = if inner.steps == 0 { Vec::new() } else { self.as_vector(&subquery.expr, inner)? };
        self.account.add(Held::read(columns.len().saturating_mul(inner.steps)))?;
        let series = columns.into_iter().map(|column| {
            let present = column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
            let (ts_ms, values) = present.map(|(i, &value)| (inner.at(i), value)).unzip();
            SeriesSamples { labels: column.labels, ts_ms, values }
        });
        Ok(Ranges { series: series.collect(), ends, range_ms: subquery.range_ms, grid, cancelled: self.cancelled })
    }

    /// A subquery's inner value; a scalar counts as one series without labels.
    fn as_vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Column>> {
        match self.eval(expr, grid)? {
            Value::Vector(columns) => Ok(columns),
            Value::Scalar(values) => Ok(vec![Column { labels: LabelSet::default(), values }]),
            Value::Text(_) => Err(Error::invalid("expected an instant vector")),
        }
    }

    /// The series of an `anchored` or `smoothed` selector, with what lies around its ranges, without stale markers.
    pub(crate) fn load_extended(&self, selector: &Selector, range_ms: i64, grid: Grid) -> Result<Vec<SeriesSamples>> {
        let (first, last) = self.ends(selector, grid).bounds();
        let after_ms = first.saturating_sub(range_ms).saturating_sub(self.lookback_ms);
        let ahead_ms = if selector.when.edges == Edges::Smoothed { self.lookback_ms } else { 0 };
        self.load(selector, after_ms, last.saturating_add(ahead_ms)).map(extended::without_markers)
    }

    /// The series of a selector with their samples of `(after_ms, through_ms]`.
    fn load(&self, selector: &Selector, after_ms: i64, through_ms: i64) -> Result<Vec<SeriesSamples>> {
        let before = self.account.held();
        let (account, stop) = (&self.account, self.cancelled);
        let admit = |samples: usize| if stop() { Err(cancelled()) } else { account.add(Held::read(samples)) };
        let mut series = self.source.select(&selector.matchers, after_ms, through_ms, &admit)?;
        if self.limits.features.has(Feature::DelayedNameRemoval) {
            for series in &mut series {
                series.labels = named_for_good(&series.labels)?;
            }
        }
        self.account.keep_series(before, &series)?;
        Ok(series)
    }

    /// Accounts for `values` more.
    pub(crate) fn count(&self, values: usize) -> Result<()> {
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
                let repeat = |column: Column| Column { labels: column.labels, values: vec![column.values[0]; steps] };
                Value::Vector(columns.into_iter().map(repeat).collect())
            }
        })
    }
}

impl Ranges<'_> {
    /// A column for each series: `answer` of the window at each step. Names are dropped unless `keep_name`.
    ///
    /// # Errors
    /// `Execution` when two series have the same labels without their names.
    pub(crate) fn columns(
        &self,
        keep_name: bool,
        mut answer: impl FnMut(&Window<'_>) -> Option<f64>,
    ) -> Result<Vec<Column>> {
        let mut columns = Vec::with_capacity(self.series.len());
        let (work, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut answer = |window: &Window<'_>| {
            let before = work.fetch_add(window.len(), Ordering::Relaxed);
            if before / WINDOW_SAMPLES_AT_ONCE != (before + window.len()) / WINDOW_SAMPLES_AT_ONCE && (self.cancelled)()
            {
                stopped.store(true, Ordering::Relaxed);
            }
            if stopped.load(Ordering::Relaxed) { None } else { answer(window) }
        };
        for series in &self.series {
            let values =
                slide((&series.ts_ms, &series.values), self.ends, self.range_ms, |i| self.grid.at(i), &mut answer);
            if stopped.load(Ordering::Relaxed) {
                return Err(cancelled());
            }
            let labels = if keep_name { series.labels.clone() } else { without_name(&series.labels) };
            columns.push(Column { labels, values });
        }
        columns.retain(|column| !column.is_empty());
        if !keep_name {
            refuse_same_labels(&columns)?;
        }
        Ok(columns)
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the query was cancelled or timed out")
}

fn negate(value: Value) -> Result<Value> {
    Ok(match value {
        Value::Scalar(values) => Value::Scalar(values.into_iter().map(|value| -value).collect()),
        Value::Vector(columns) => {
            let negate = |column: Column| {
                let values = column.values.into_iter().map(|value| if is_absent(value) { ABSENT } else { -value });
                Column { labels: without_name(&column.labels), values: values.collect() }
            };
            let columns: Vec<Column> = columns.into_iter().map(negate).collect();
            refuse_same_labels(&columns)?;
            Value::Vector(columns)
        }
        Value::Text(_) => return Err(Error::invalid("a string cannot be negated")),
    })
}
