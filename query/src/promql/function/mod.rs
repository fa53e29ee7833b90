//! Functions, one file a family. The parser has checked number and types of arguments.
mod absent;
mod civil;
mod histogram;
mod info;
mod label;
mod math;
mod native;
mod over_time;
mod rate;
mod sort;
mod trend;

use foretell_engine::LabelSet;

use super::annotation::Note;
use super::arctangent::atan;
use super::eval::{Evaluator, Pick};
use super::expr::{Expr, Type};
use super::grid::Grid;
use super::histogram::Histogram;
use super::labels::without_name;
use super::number::quantile;
use super::ranges::Making;
use super::value::{ABSENT, Column, Columns, Value, is_absent};
use super::window::Window;
use crate::error::{Error, Result};

pub(crate) use native::{Native, note as incompatible};
pub(crate) use sort::order;

/// A function of PromQL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    kind: Kind,
}

/// What a function does with its arguments.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Each value by itself.
    Map(fn(f64) -> f64),
    /// A part of the date and time that a value, or the step, is in Unix seconds.
    Civil(fn(civil::Civil) -> i128),
    /// The window before each step, and what is made of histograms in it.
    Window(fn(&Window<'_>) -> Option<f64>, Native),
    /// As `Window`, and the name stays true.
    NamedWindow(fn(&Window<'_>) -> Option<f64>, Native),
    QuantileOverTime,
    PredictLinear,
    DoubleExponentialSmoothing,
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    Time,
    Pi,
    Timestamp,
    Scalar,
    Vector,
    Absent,
    AbsentOverTime,
    LabelReplace,
    LabelJoin,
    Sort,
    SortByLabel,
    HistogramQuantile,
    HistogramFraction,
    Info,
    /// A part of native histograms; their buckets are not looked at.
    BareHistogramPart(fn(&Histogram) -> f64),
    /// A figure that the buckets of native histograms give.
    HistogramPart(fn(&Histogram) -> f64),
}

const FUNCTIONS: &[(&str, Kind)] = &[
    ("abs", Kind::Map(f64::abs)),
    ("absent", Kind::Absent),
    ("absent_over_time", Kind::AbsentOverTime),
    ("acos", Kind::Map(f64::acos)),
    ("acosh", Kind::Map(f64::acosh)),
    ("asin", Kind::Map(f64::asin)),
    ("asinh", Kind::Map(f64::asinh)),
    ("atan", Kind::Map(atan)),
    ("atanh", Kind::Map(f64::atanh)),
    ("avg_over_time", Kind::Window(over_time::avg, Native::Average)),
    ("ceil", Kind::Map(f64::ceil)),
    ("changes", Kind::Window(over_time::changes, Native::Changes)),
    ("clamp", Kind::Clamp),
    ("clamp_max", Kind::ClampMax),
    ("clamp_min", Kind::ClampMin),
    ("cos", Kind::Map(f64::cos)),
    ("cosh", Kind::Map(f64::cosh)),
    ("count_over_time", Kind::Window(over_time::count, Native::Count)),
    ("day_of_month", Kind::Civil(|t| t.day)),
    ("day_of_week", Kind::Civil(|t| t.weekday)),
    ("day_of_year", Kind::Civil(|t| t.year_day)),
    ("days_in_month", Kind::Civil(civil::Civil::days_in_month)),
    ("deg", Kind::Map(f64::to_degrees)),
    ("delta", Kind::Window(rate::delta, Native::Delta)),
    ("deriv", Kind::Window(trend::deriv, Native::Ignored)),
    ("double_exponential_smoothing", Kind::DoubleExponentialSmoothing),
    ("exp", Kind::Map(f64::exp)),
    ("first_over_time", Kind::NamedWindow(over_time::first, Native::First)),
    ("floor", Kind::Map(f64::floor)),
    ("histogram_avg", Kind::BareHistogramPart(|histogram| histogram.sum / histogram.count)),
    ("histogram_count", Kind::BareHistogramPart(|histogram| histogram.count)),
    ("histogram_fraction", Kind::HistogramFraction),
    ("histogram_quantile", Kind::HistogramQuantile),
    ("histogram_stddev", Kind::HistogramPart(|histogram| histogram.variance().sqrt())),
    ("histogram_stdvar", Kind::HistogramPart(Histogram::variance)),
    ("histogram_sum", Kind::BareHistogramPart(|histogram| histogram.sum)),
    ("hour", Kind::Civil(|t| t.hour)),
    ("idelta", Kind::Window(rate::idelta, Native::InstantDelta)),
    ("increase", Kind::Window(rate::increase, Native::Increase)),
    ("info", Kind::Info),
    ("irate", Kind::Window(rate::irate, Native::InstantRate)),
    ("label_join", Kind::LabelJoin),
    ("label_replace", Kind::LabelReplace),
    ("last_over_time", Kind::NamedWindow(over_time::last, Native::Last)),
    ("ln", Kind::Map(f64::ln)),
    ("log10", Kind::Map(f64::log10)),
    ("log2", Kind::Map(f64::log2)),
    ("mad_over_time", Kind::Window(over_time::mad, Native::Ignored)),
    ("max_over_time", Kind::Window(over_time::max, Native::Ignored)),
    ("min_over_time", Kind::Window(over_time::min, Native::Ignored)),
    ("minute", Kind::Civil(|t| t.minute)),
    ("month", Kind::Civil(|t| t.month)),
    ("pi", Kind::Pi),
    ("predict_linear", Kind::PredictLinear),
    ("present_over_time", Kind::Window(|_| Some(1.0), Native::Present)),
    ("quantile_over_time", Kind::QuantileOverTime),
    ("rad", Kind::Map(f64::to_radians)),
    ("rate", Kind::Window(rate::rate, Native::Rate)),
    ("resets", Kind::Window(over_time::resets, Native::Resets)),
    ("round", Kind::Round),
    ("scalar", Kind::Scalar),
    ("sgn", Kind::Map(math::sgn)),
    ("sin", Kind::Map(f64::sin)),
    ("sinh", Kind::Map(f64::sinh)),
    ("sort", Kind::Sort),
    ("sort_by_label", Kind::SortByLabel),
    ("sort_by_label_desc", Kind::SortByLabel),
    ("sort_desc", Kind::Sort),
    ("sqrt", Kind::Map(f64::sqrt)),
    ("stddev_over_time", Kind::Window(over_time::stddev, Native::Ignored)),
    ("stdvar_over_time", Kind::Window(over_time::stdvar, Native::Ignored)),
    ("sum_over_time", Kind::Window(over_time::sum, Native::Sum)),
    ("tan", Kind::Map(f64::tan)),
    ("tanh", Kind::Map(f64::tanh)),
    ("time", Kind::Time),
    ("timestamp", Kind::Timestamp),
    ("ts_of_first_over_time", Kind::Window(over_time::ts_of_first, Native::TimeOfFirst)),
    ("ts_of_last_over_time", Kind::Window(over_time::ts_of_last, Native::TimeOfLast)),
    ("ts_of_max_over_time", Kind::Window(over_time::ts_of_max, Native::Ignored)),
    ("ts_of_min_over_time", Kind::Window(over_time::ts_of_min, Native::Ignored)),
    ("vector", Kind::Vector),
    ("year", Kind::Civil(|t| t.year)),
];

impl Function {
    /// The function called `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let at = FUNCTIONS.binary_search_by(|(other, _)| (*other).cmp(name)).ok()?;
        let (name, kind) = FUNCTIONS[at];
        Some(Self { name, kind })
    }

    /// Whether it takes one range and nothing else.
    pub(crate) fn takes_range(&self) -> bool {
        matches!(self.kind, Kind::Window(..) | Kind::NamedWindow(..))
    }

    /// Whether it takes one vector and nothing else, and works on each value by itself.
    pub(crate) fn maps(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    /// The names of all.
    #[cfg(test)]
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().map(|(name, _)| *name)
    }

    /// The type of its value.
    pub(crate) fn returns(&self) -> Type {
        match self.kind {
            Kind::Time | Kind::Pi | Kind::Scalar => Type::Scalar,
            _ => Type::Vector,
        }
    }

    /// Whether its value depends on the step even where its arguments do not.
    pub(crate) fn reads_step_time(&self, _args: &[Expr]) -> bool {
        matches!(self.kind, Kind::Time | Kind::Civil(_) | Kind::PredictLinear | Kind::Timestamp)
    }

    /// What the parser does not check.
    ///
    /// # Errors
    /// `Invalid`
    pub(crate) fn check(&self, args: &[Expr]) -> Result<()> {
        match self.kind {
            Kind::LabelReplace | Kind::LabelJoin => label::check(self.name, args),
            _ => Ok(()),
        }
    }
}

/// What a function makes of the floats of a window.
type WindowAnswer<'a> = dyn Fn(&Window<'_>) -> Result<Option<f64>> + Sync + 'a;

/// The function's value at each step of `grid`.
///
/// # Errors
/// `Execution` for a parameter out of range or results with the same labels; what the arguments answer.
pub(crate) fn evaluate(ev: &Evaluator<'_>, function: &Function, args: &[Expr], grid: Grid) -> Result<Value> {
    let step_seconds = |step: usize| grid.at(step) as f64 / 1000.0;
    let constant = |values: Vec<f64>| vec![Column::floats(LabelSet::default(), values)];
    let notes = &ev.notes;
    let over_windows = |arg: &Expr, keep_name, native, answer: &WindowAnswer<'_>| {
        ev.over_windows(arg, grid, Making { keep_name, native, may_fail: false, notes }, answer)
    };
    let columns = match function.kind {
        Kind::Time => return Ok(Value::Scalar((0..grid.steps).map(step_seconds).collect())),
        Kind::Pi => return Ok(Value::Scalar(vec![std::f64::consts::PI; grid.steps])),
        Kind::Scalar => return Ok(Value::Scalar(only_value(&ev.vector(&args[0], grid)?, grid.steps))),
        Kind::Vector => constant(ev.scalar(&args[0], grid)?),
        Kind::Map(f) => map(ev.vector(&args[0], grid)?, |value, _| Some(f(value)))?,
        Kind::Civil(part) => {
            let input = match args.first() {
                Some(arg) => ev.vector(arg, grid)?,
                None => constant((0..grid.steps).map(step_seconds).collect()),
            };
            map(input, |value, _| Some(part(civil::Civil::of(value)) as f64))?
        }
        Kind::Round => {
            let to = optional_scalar(ev, args.get(1), grid, 1.0)?;
            map(ev.vector(&args[0], grid)?, |value, step| Some(math::round(value, to[step])))?
        }
        Kind::Clamp => {
            let (low, high) = (ev.scalar(&args[1], grid)?, ev.scalar(&args[2], grid)?);
            map(ev.vector(&args[0], grid)?, |value, step| math::clamp(value, low[step], high[step]))?
        }
        Kind::ClampMin => {
            let low = ev.scalar(&args[1], grid)?;
            map(ev.vector(&args[0], grid)?, |value, step| Some(math::larger(low[step], value)))?
        }
        Kind::ClampMax => {
            let high = ev.scalar(&args[1], grid)?;
            map(ev.vector(&args[0], grid)?, |value, step| Some(math::smaller(high[step], value)))?
        }
        Kind::Timestamp => timestamps(ev, &args[0], grid)?,
        Kind::Window(f, native) => over_windows(&args[0], false, native, &|window| Ok(f(window)))?,
        Kind::NamedWindow(f, native) => over_windows(&args[0], true, native, &|window| Ok(f(window)))?,
        Kind::QuantileOverTime => {
            let q = ev.scalar(&args[0], grid)?;
            over_windows(&args[1], false, Native::Ignored, &|window| {
                if !(0.0..=1.0).contains(&q[window.step]) {
                    notes.add(&Note::InvalidQuantile(q[window.step]));
                }
                Ok(Some(quantile(q[window.step], &mut window.values.to_vec())))
            })?
        }
        Kind::PredictLinear => {
            let ahead = ev.scalar(&args[1], grid)?;
            let predict = |window: &Window<'_>| Ok(trend::predict(window, ahead[window.step]));
            over_windows(&args[0], false, Native::Ignored, &predict)?
        }
        Kind::DoubleExponentialSmoothing => {
            let (smoothing, trend) = (ev.scalar(&args[1], grid)?, ev.scalar(&args[2], grid)?);
            let making = Making { keep_name: false, native: Native::Ignored, may_fail: true, notes };
            ev.over_windows(&args[0], grid, making, |window| {
                let (smoothing, trend) = (smoothing[window.step], trend[window.step]);
                trend::check_factors(smoothing, trend)?;
                Ok(trend::smooth(window, smoothing, trend))
            })?
        }
        Kind::Absent => absent::absent(&args[0], &ev.vector(&args[0], grid)?, grid.steps)?,
        Kind::AbsentOverTime => {
            let present = over_windows(&args[0], true, Native::Present, &|_| Ok(Some(1.0)))?;
            absent::absent(&args[0], &present, grid.steps)?
        }
        Kind::LabelReplace => label::replace(ev.vector(&args[0], grid)?, &args[1..])?,
        Kind::LabelJoin => label::join(ev.vector(&args[0], grid)?, &args[1..])?,
        Kind::Sort => numbers(ev.vector(&args[0], grid)?),
        Kind::SortByLabel => ev.vector(&args[0], grid)?,
        Kind::HistogramQuantile => {
            let q = ev.scalar(&args[0], grid)?;
            let columns = ev.without_buckets(false, || ev.vector(&args[1], grid))?;
            histogram::quantiles(&q, &columns, notes, &|| ev.go_on())?
        }
        Kind::HistogramFraction => {
            let (low, high) = (ev.scalar(&args[0], grid)?, ev.scalar(&args[1], grid)?);
            let columns = ev.without_buckets(false, || ev.vector(&args[2], grid))?;
            histogram::fractions((&low, &high), &columns, notes, &|| ev.go_on())?
        }
        Kind::Info => info::info(ev, args, grid)?,
        Kind::BareHistogramPart(part) => parts(&ev.without_buckets(true, || ev.vector(&args[0], grid))?, part)?,
        Kind::HistogramPart(part) => parts(&ev.without_buckets(false, || ev.vector(&args[0], grid))?, part)?,
    };
    Ok(Value::Vector(columns))
}

/// `f` of each value and its step; names and histograms are dropped.
fn map(input: Vec<Column>, f: impl Fn(f64, usize) -> Option<f64>) -> Result<Vec<Column>> {
    let mut results = Columns::default();
    for Column { labels, mut values, .. } in input {
        for (step, value) in values.iter_mut().enumerate().filter(|(_, value)| !is_absent(**value)) {
            *value = f(*value, step).unwrap_or(ABSENT);
        }
        results.add(Column::floats(without_name(&labels), values))?;
    }
    Ok(results.finish())
}

/// `part` of each histogram; names and numbers are dropped.
fn parts(input: &[Column], part: impl Fn(&Histogram) -> f64) -> Result<Vec<Column>> {
    let mut results = Columns::default();
    for column in input.iter().filter(|column| column.has_histograms()) {
        let at = |step: usize| column.histogram(step).map_or(ABSENT, |histogram| part(histogram));
        let values = (0..column.values.len()).map(at).collect();
        results.add(Column::floats(without_name(&column.labels), values))?;
    }
    Ok(results.finish())
}

/// Without histograms.
fn numbers(input: Vec<Column>) -> Vec<Column> {
    let numbers = input.into_iter().map(|column| Column::floats(column.labels, column.values));
    numbers.filter(|column| !column.is_empty()).collect()
}

fn optional_scalar(ev: &Evaluator<'_>, arg: Option<&Expr>, grid: Grid, default: f64) -> Result<Vec<f64>> {
    arg.map_or_else(|| Ok(vec![default; grid.steps]), |arg| ev.scalar(arg, grid))
}

/// The value of the only series at each step, NaN where there is none or several.
fn only_value(columns: &[Column], steps: usize) -> Vec<f64> {
    let at = |step: usize| {
        let mut present = columns.iter().map(|column| column.values[step]).filter(|&value| !is_absent(value));
        match (present.next(), present.next()) {
            (Some(value), None) => value,
            _ => f64::NAN,
        }
    };
    (0..steps).map(at).collect()
}

/// Unix seconds of the sample that a selector finds, or of the step for other expressions.
fn timestamps(ev: &Evaluator<'_>, arg: &Expr, grid: Grid) -> Result<Vec<Column>> {
    if let Expr::Selector(selector) = arg {
        return map(ev.select(selector, grid, Pick::Time)?, |ts_ms, _| Some(ts_ms / 1000.0));
    }
    if !matches!(arg, Expr::Call(..) | Expr::Aggregate(_) | Expr::Binary(_) | Expr::Negate(_)) {
        return Err(Error::invalid("timestamp needs an instant vector"));
    }
    let mut columns = ev.vector(arg, grid)?;
    for column in columns.iter_mut().filter(|column| column.histograms.is_some()) {
        let at = |step: usize| if column.has(step) { 0.0 } else { ABSENT };
        column.values = (0..grid.steps).map(at).collect();
    }
    map(columns, |_, step| Some(grid.at(step) as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_binary_search() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(Function::named("rate").is_some());
        assert!(Function::named("nonsense").is_none());
    }
}
