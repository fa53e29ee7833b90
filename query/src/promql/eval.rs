//! Walks an expression; each node answers for all steps at once.
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use foretell_engine::LabelSet;

use super::expr::{Expr, Selector, Subquery};
use super::grid::{Ends, Grid};
use super::labels::without_name;
use super::source::{Matchers, SampleSource, SeriesSamples, has_stale, too_many_samples, without_stale};
use super::value::{ABSENT, Answer, Column, Point, Row, Value, is_absent, refuse_same_labels};
use super::window::{Window, slide};
use super::{Limits, PromQuery, aggregate, binary, parallel};
use crate::error::{Error, ErrorKind, Result};

/// Different selectors among which equal ones are looked for.
const SHARED_MAX: usize = 64;

/// Evaluates one query.
pub(crate) struct Evaluator<'a> {
    source: &'a dyn SampleSource,
    limits: &'a Limits,
    cancelled: &'a dyn Fn() -> bool,
    /// First and last instant of the query.
    bounds: (i64, i64),
    grid: Grid,
    lookback_ms: i64,
    instant: bool,
    /// Values held by columns and samples of the whole evaluation, an upper bound.
    held: Cell<usize>,
    /// What is selected more than once.
    repeated: RefCell<Vec<Repeated>>,
}

/// Conditions of several selectors of a query, and what was read for the first of them.
struct Repeated {
    matchers: Matchers,
    /// After and through which instants, milliseconds.
    range: (i64, i64),
    series: Arc<Vec<SeriesSamples>>,
}

/// Series with samples, and where their windows end.
pub(crate) struct Ranges {
    /// Samples outside of all windows may be among them.
    pub(crate) series: Arc<Vec<SeriesSamples>>,
    pub(crate) ends: Ends,
    pub(crate) range_ms: i64,
    grid: Grid,
}

impl<'a> Evaluator<'a> {
    /// # Errors
    /// `Invalid` for a range without an instant, a step that is not positive, or too many steps.
    pub(crate) fn new(
        query: &PromQuery,
        source: &'a dyn SampleSource,
        limits: &'a Limits,
        cancelled: &'a dyn Fn() -> bool,
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
            held: Cell::new(0),
            repeated: RefCell::default(),
        })
    }

    /// The answer of the whole query.
    pub(crate) fn run(&self, expr: &Expr) -> Result<Answer> {
        self.repeated.replace(repeated(expr));
        if self.instant
            && let Expr::Range(..) | Expr::Subquery(_) = expr
        {
            return self.run_ranges(expr);
        }
        if let Expr::Range(..) | Expr::Subquery(_) | Expr::Text(_) = expr
            && !self.instant
        {
            return Err(Error::invalid(
                "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
            ));
        }
        let value = self.eval(expr, self.grid)?;
        Ok(if self.instant { self.at_instant(expr, value) } else { self.over_range(value) })
    }

    /// The samples that a range vector selects at one instant.
    fn run_ranges(&self, expr: &Expr) -> Result<Answer> {
        let ranges = self.ranges(expr, self.grid)?;
        let (end, _) = ranges.ends.bounds();
        let rows = ranges.series.iter().map(|series| {
            let points =
                series.ts_ms.iter().zip(&series.values).filter(|&(&ts, _)| ts > end - ranges.range_ms && ts <= end);
            let points = points.map(|(&ts_ms, &value)| Point { ts_ms, value }).collect();
            Row { labels: series.labels.clone(), points }
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
            let present = column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
            let mut points = Vec::with_capacity(column.values.len());
            points.extend(present.map(|(i, &value)| Point { ts_ms: self.grid.at(i), value }));
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
        if (self.cancelled)() {
            return Err(Error::new(ErrorKind::Cancelled, "the query was cancelled or timed out"));
        }
        if grid.steps > 1 && expr.is_step_invariant() && !matches!(expr, Expr::Number(_) | Expr::Text(_)) {
            return self.repeat(self.eval(expr, Grid { steps: 1, ..grid })?, grid.steps);
        }
        match expr {
            Expr::Number(number) => Ok(Value::Scalar(vec![*number; grid.steps])),
            Expr::Text(text) => Ok(Value::Text(text.clone())),
            Expr::Selector(selector) => Ok(Value::Vector(self.select(selector, grid, |_, value| value)?)),
            Expr::Range(..) | Expr::Subquery(_) => Err(Error::invalid("a range vector cannot be used here")),
            Expr::Negate(inner) => negate(self.eval(inner, grid)?),
            Expr::Binary(binary) => {
                let value = binary::evaluate(binary, self.eval(&binary.lhs, grid)?, self.eval(&binary.rhs, grid)?)?;
                self.hold(value)
            }
            Expr::Aggregate(aggregate) => {
                let param = aggregate.param.as_ref().map(|param| self.eval(param, grid)).transpose()?;
                let input = self.vector(&aggregate.expr, grid)?;
                aggregate::evaluate(aggregate, param, input, grid.steps).map(Value::Vector)
            }
            Expr::Call(function, args) => {
                let value = super::function::evaluate(self, function, args, grid)?;
                self.hold(value)
            }
        }
    }

    /// Accounts for what `value` holds.
    fn hold(&self, value: Value) -> Result<Value> {
        if let Value::Vector(columns) = &value {
            self.count(columns.iter().map(|column| column.values.len()).sum())?;
        }
        Ok(value)
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
        pick: impl Fn(i64, f64) -> f64 + Sync,
    ) -> Result<Vec<Column>> {
        let (ends, lookback_ms) = (grid.ends(selector.when, self.bounds), self.lookback_ms);
        let series = self.load(selector, ends, lookback_ms)?;
        let values = series.len().saturating_mul(grid.steps);
        self.count(values)?;
        let column = |series: &SeriesSamples| {
            let newest = |window: &Window<'_>| {
                let value = window.last();
                (!is_absent(value)).then(|| pick(window.ts_ms[window.len() - 1], value))
            };
            let values = slide((&series.ts_ms, &series.values), ends, lookback_ms, |_| 0, newest);
            Column { labels: series.labels.clone(), values }
        };
        let mut columns = parallel::map(&series, values.saturating_add(samples(&series)), column)?;
        columns.retain(|column| !column.is_empty());
        Ok(columns)
    }

    /// The series of a range vector.
    pub(crate) fn ranges(&self, expr: &Expr, grid: Grid) -> Result<Ranges> {
        match expr {
            Expr::Range(selector, range_ms) => {
                let ends = grid.ends(selector.when, self.bounds);
                let mut series = self.load(selector, ends, *range_ms)?;
                if series.iter().any(has_stale) {
                    // A copy where others need the markers.
                    let own = Arc::make_mut(&mut series);
                    own.iter_mut().filter(|series| has_stale(series)).for_each(without_stale);
                    own.retain(|series| !series.ts_ms.is_empty());
                }
                Ok(Ranges { series, ends, range_ms: *range_ms, grid })
            }
            Expr::Subquery(subquery) => self.subquery(subquery, grid),
            _ => Err(Error::invalid("expected a range vector")),
        }
    }

    fn subquery(&self, subquery: &Subquery, grid: Grid) -> Result<Ranges> {
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
        self.count(inner.steps)?;
        let columns = if inner.steps == 0 { Vec::new() } else { self.as_vector(&subquery.expr, inner)? };
        let series = columns.into_iter().map(|column| {
            let present = column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
            let (ts_ms, values) = present.map(|(i, &value)| (inner.at(i), value)).unzip();
            SeriesSamples { labels: column.labels, ts_ms, values }
        });
        Ok(Ranges { series: Arc::new(series.collect()), ends, range_ms: subquery.range_ms, grid })
    }

    /// A subquery's inner value; a scalar counts as one series without labels.
    fn as_vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Column>> {
        match self.eval(expr, grid)? {
            Value::Vector(columns) => Ok(columns),
            Value::Scalar(values) => Ok(vec![Column { labels: LabelSet::default(), values }]),
            Value::Text(_) => Err(Error::invalid("expected an instant vector")),
        }
    }

    /// Series with their samples of the windows before `ends`, and maybe more. What several selectors of the query want is
    /// read once, if the first of them wants the longest time.
    fn load(&self, selector: &Selector, ends: Ends, range_ms: i64) -> Result<Arc<Vec<SeriesSamples>>> {
        let (first, last) = ends.bounds();
        let range = (first.saturating_sub(range_ms), last);
        let at = self.repeated.borrow().iter().position(|repeated| repeated.matchers == selector.matchers);
        if let Some(at) = at {
            let all = self.repeated.borrow();
            let repeated = &all[at];
            if repeated.range.0 <= range.0 && range.1 <= repeated.range.1 {
                return Ok(Arc::clone(&repeated.series));
            }
        }
        let left = self.limits.samples_max.saturating_sub(self.held.get());
        let series = self.source.select(&selector.matchers, range.0, range.1, left)?;
        self.count(samples(&series))?;
        let series = Arc::new(series);
        if let Some(at) = at {
            let mut repeated = self.repeated.borrow_mut();
            repeated[at].range = range;
            repeated[at].series = Arc::clone(&series);
        }
        Ok(series)
    }

    /// Accounts for `values` more.
    pub(crate) fn count(&self, values: usize) -> Result<()> {
        let held = self.held.get().saturating_add(values);
        self.held.set(held);
        if held > self.limits.samples_max { Err(too_many_samples()) } else { Ok(()) }
    }

    /// The same answer at each of `steps` steps.
    fn repeat(&self, value: Value, steps: usize) -> Result<Value> {
        Ok(match value {
            Value::Scalar(values) => Value::Scalar(vec![values[0]; steps]),
            Value::Text(text) => Value::Text(text),
            Value::Vector(columns) => {
                self.count(columns.len().saturating_mul(steps))?;
                let repeat = |column: Column| Column { labels: column.labels, values: vec![column.values[0]; steps] };
                Value::Vector(columns.into_iter().map(repeat).collect())
            }
        })
    }
}

impl Ranges {
    /// A column for each series: `answer` of the window at each step. Names are dropped unless `keep_name`.
    ///
    /// # Errors
    /// `Execution` when two series have the same labels without their names.
    pub(crate) fn columns(
        &self,
        keep_name: bool,
        answer: impl Fn(&Window<'_>) -> Option<f64> + Sync,
    ) -> Result<Vec<Column>> {
        let column = |series: &SeriesSamples| {
            let values = slide((&series.ts_ms, &series.values), self.ends, self.range_ms, |i| self.grid.at(i), &answer);
            let labels = if keep_name { series.labels.clone() } else { without_name(&series.labels) };
            Column { labels, values }
        };
        let visits = samples(&self.series).saturating_mul(self.ends.visits(self.range_ms));
        let work = self.series.len().saturating_mul(self.ends.steps).saturating_add(visits);
        let mut columns = parallel::map(&self.series, work, column)?;
        columns.retain(|column| !column.is_empty());
        if !keep_name {
            refuse_same_labels(&columns)?;
        }
        Ok(columns)
    }
}

/// How many samples there are.
fn samples(series: &[SeriesSamples]) -> usize {
    series.iter().map(|series| series.values.len()).sum()
}

/// The conditions that several selectors of `expr` have, each once; nothing has been read for them.
fn repeated(expr: &Expr) -> Vec<Repeated> {
    let mut seen: Vec<(&Matchers, usize)> = Vec::new();
    expr.selectors(&mut |selector| match seen.iter().position(|(matchers, _)| **matchers == selector.matchers) {
        Some(at) => seen[at].1 += 1,
        None if seen.len() < SHARED_MAX => seen.push((&selector.matchers, 1)),
        None => {}
    });
    let several = seen.into_iter().filter(|(_, times)| *times > 1);
    // No range is inside this one.
    let nothing = (i64::MAX, i64::MIN);
    several
        .map(|(matchers, _)| Repeated { matchers: matchers.clone(), range: nothing, series: Arc::default() })
        .collect()
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
