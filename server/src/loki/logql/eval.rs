//! What is calculated with the results of reads: aggregations and operators, instant by instant.
use std::collections::{BTreeMap, HashMap};

use foretell_query::Error;

use super::metric::{AggregateOp, BinaryOp, Expr, Grouping};
use super::window::{Grid, InTime, Series, variance};

/// After so many values were sorted the deadline is looked at.
const SORTED_AT_ONCE: usize = 1 << 18;

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// The same number at each instant.
    Number(f64),
    /// Series with different labels.
    Series(Vec<Series>),
}

/// The result of `expr`, given those of its reads, from the left.
///
/// # Errors
/// Those of `in_time`.
pub(crate) fn evaluate(
    expr: &Expr,
    grid: Grid,
    reads: &mut dyn Iterator<Item = Vec<Series>>,
    in_time: InTime<'_>,
) -> Result<Value, Error> {
    in_time()?;
    Ok(match expr {
        Expr::Number(number) => Value::Number(*number),
        Expr::Vector(number) => Value::Series(constant(*number, grid)),
        Expr::Range(_) => Value::Series(reads.next().unwrap_or_default()),
        Expr::Aggregate { op, parameter, grouping, of } => {
            let series = match evaluate(of, grid, reads, in_time)? {
                Value::Number(number) => constant(number, grid),
                Value::Series(series) => series,
            };
            Value::Series(aggregate(*op, *parameter, grouping, series, grid, in_time)?)
        }
        Expr::Binary { op, yields_bool, left, right } => {
            let left = evaluate(left, grid, reads, in_time)?;
            let right = evaluate(right, grid, reads, in_time)?;
            binary(*op, *yields_bool, left, right, grid)
        }
    })
}

fn constant(number: f64, grid: Grid) -> Vec<Series> {
    vec![Series { labels: Vec::new(), values: vec![Some(number); grid.count] }]
}

fn aggregate(
    op: AggregateOp,
    k: usize,
    grouping: &Grouping,
    series: Vec<Series>,
    grid: Grid,
    in_time: InTime<'_>,
) -> Result<Vec<Series>, Error> {
    let mut groups: BTreeMap<Vec<(String, String)>, Vec<Series>> = BTreeMap::new();
    for one in series {
        let labels = one.labels.iter().filter(|(name, _)| grouping.keeps(name)).cloned().collect();
        groups.entry(labels).or_default().push(one);
    }
    let (mut all, mut sorted) = (Vec::new(), 0);
    for (labels, mut members) in groups {
        in_time()?;
        if matches!(op, AggregateOp::TopK | AggregateOp::BottomK) {
            for i in 0..grid.count {
                keep_first(op, k, &mut members, i);
                sorted += members.len();
                if sorted >= SORTED_AT_ONCE {
                    in_time()?;
                    sorted = 0;
                }
            }
            all.extend(members.into_iter().filter(|one| one.values.iter().any(Option::is_some)));
            continue;
        }
        let value = |i: usize| {
            let numbers = members.iter().filter_map(|one| one.values[i]);
            let count = numbers.clone().count() as f64;
            (count > 0.0).then(|| match op {
                AggregateOp::Sum => numbers.sum(),
                AggregateOp::Avg => numbers.sum::<f64>() / count,
                AggregateOp::Min => numbers.fold(f64::INFINITY, f64::min),
                AggregateOp::Max => numbers.fold(f64::NEG_INFINITY, f64::max),
                AggregateOp::Stdvar => variance(numbers),
                AggregateOp::Stddev => variance(numbers).sqrt(),
                AggregateOp::Count | AggregateOp::TopK | AggregateOp::BottomK => count,
            })
        };
        let values = (0..grid.count).map(value).collect();
        all.push(Series { labels, values });
    }
    Ok(all)
}

/// Leaves, at an instant, the values of the `k` largest, or smallest, only; of equal ones the first.
fn keep_first(op: AggregateOp, k: usize, members: &mut [Series], i: usize) {
    let mut order: Vec<(usize, f64)> =
        members.iter().enumerate().filter_map(|(n, one)| Some((n, one.values[i]?))).collect();
    order.sort_by(|(_, a), (_, b)| if op == AggregateOp::TopK { b.total_cmp(a) } else { a.total_cmp(b) });
    for (n, _) in order.into_iter().skip(k) {
        members[n].values[i] = None;
    }
}

fn binary(op: BinaryOp, yields_bool: bool, left: Value, right: Value, grid: Grid) -> Value {
    let filters = op.compares() && !yields_bool;
    let (left, right) = match (left, right) {
        (Value::Number(a), Value::Number(b)) if !op.is_set() => return Value::Number(calculate(op, a, b)),
        (Value::Series(series), Value::Number(b)) if !op.is_set() => {
            return Value::Series(map(series, |a| kept(filters, a, calculate(op, a, b))));
        }
        (Value::Number(a), Value::Series(series)) if !op.is_set() => {
            return Value::Series(map(series, |b| kept(filters, b, calculate(op, a, b))));
        }
        (left, right) => (in_full(left, grid), in_full(right, grid)),
    };
    let mut others: HashMap<Vec<(String, String)>, Vec<Option<f64>>> =
        right.into_iter().map(|one| (one.labels, one.values)).collect();
    let mut all = Vec::new();
    for Series { labels, values } in left {
        let other = others.remove(&labels);
        let at = |i: usize| other.as_ref().and_then(|values| values[i]);
        let values: Vec<Option<f64>> = values
            .into_iter()
            .enumerate()
            .map(|(i, a)| match op {
                BinaryOp::Or => a.or_else(|| at(i)),
                BinaryOp::And => a.filter(|_| at(i).is_some()),
                BinaryOp::Unless => a.filter(|_| at(i).is_none()),
                _ => a.and_then(|a| kept(filters, a, calculate(op, a, at(i)?))),
            })
            .collect();
        if values.iter().any(Option::is_some) {
            all.push(Series { labels, values });
        }
    }
    if op == BinaryOp::Or {
        all.extend(others.into_iter().map(|(labels, values)| Series { labels, values }));
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    Value::Series(all)
}

fn in_full(value: Value, grid: Grid) -> Vec<Series> {
    match value {
        Value::Number(number) => constant(number, grid),
        Value::Series(series) => series,
    }
}

/// What is left of `value`: a comparison without `bool` passes it on where it holds.
fn kept(filters: bool, value: f64, result: f64) -> Option<f64> {
    if filters { (result != 0.0).then_some(value) } else { Some(result) }
}

fn map(mut series: Vec<Series>, with: impl Fn(f64) -> Option<f64>) -> Vec<Series> {
    for one in &mut series {
        one.values.iter_mut().for_each(|value| *value = value.and_then(&with));
    }
    series.retain(|one| one.values.iter().any(Option::is_some));
    series
}

fn calculate(op: BinaryOp, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Subtract => a - b,
        BinaryOp::Multiply => a * b,
        // As in Loki, not infinite.
        BinaryOp::Divide | BinaryOp::Modulo if b == 0.0 => f64::NAN,
        BinaryOp::Divide => a / b,
        BinaryOp::Modulo => a % b,
        BinaryOp::Power => a.powf(b),
        BinaryOp::Equal => truth(a == b),
        BinaryOp::NotEqual => truth(a != b),
        BinaryOp::Less => truth(a < b),
        BinaryOp::LessEqual => truth(a <= b),
        BinaryOp::Greater => truth(a > b),
        BinaryOp::GreaterEqual => truth(a >= b),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless => f64::NAN,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Query;
    use super::*;

    const GRID: Grid = Grid { start: 0, step: 1, count: 2 };

    fn series(labels: &[(&str, &str)], values: [Option<f64>; 2]) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Series { labels, values: values.to_vec() }
    }

    fn result(text: &str) -> Value {
        let Query::Metric(expr) = Query::parse(text).unwrap() else { panic!("{text}") };
        let of_a = vec![
            series(&[("app", "a"), ("host", "x")], [Some(1.0), Some(4.0)]),
            series(&[("app", "a"), ("host", "y")], [Some(3.0), None]),
            series(&[("app", "b"), ("host", "x")], [Some(2.0), Some(5.0)]),
        ];
        let of_b = vec![series(&[("app", "a"), ("host", "x")], [Some(10.0), None])];
        evaluate(&expr, GRID, &mut [of_a, of_b].into_iter(), &|| Ok(())).unwrap()
    }

    #[test]
    fn a_deadline_that_passes_ends_the_calculation() {
        let Query::Metric(expr) = Query::parse("topk(1, count_over_time({a=\"b\"}[1s]))").unwrap() else { panic!() };
        let grid = Grid { count: 1_000, ..GRID };
        let one = |n: usize| {
            let labels = vec![("l".to_owned(), n.to_string())];
            Series { labels, values: vec![Some(n as f64); grid.count] }
        };
        let all: Vec<Series> = (0..1_000).map(one).collect();
        let checks = std::cell::Cell::new(0);
        let in_time = || {
            checks.set(checks.get() + 1);
            if checks.get() < 5 { Ok(()) } else { Err(Error::internal("late")) }
        };
        // A million values, of which a few hundred thousand are sorted.
        assert!(evaluate(&expr, grid, &mut [all].into_iter(), &in_time).is_err());
    }

    /// Of the lines of `{a="b"}`, which are a count of each instant here.
    const LINES: &str = "max_over_time({a=\"b\"} | unwrap v [1s])";

    #[test]
    fn numbers_are_calculated_with_the_usual_precedence() {
        for (text, number) in [
            ("1+1", 2.0),
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("2 ^ 3 ^ 2", 512.0),
            ("10 - 4 - 3", 3.0),
            ("7 % 4 / 2", 1.5),
            ("-2 * 3", -6.0),
            ("1 > bool 2", 0.0),
            ("2 > 1 + 0", 1.0),
        ] {
            assert_eq!(result(text), Value::Number(number), "{text}");
        }
        assert!(matches!(result("1 / 0"), Value::Number(number) if number.is_nan()));
        assert_eq!(result("vector(1)+vector(1)"), Value::Series(vec![series(&[], [Some(2.0), Some(2.0)])]));
    }

    #[test]
    fn series_are_put_together_by_labels() {
        let both = |text: &str| text.replace("LINES", LINES);
        for (text, expected) in [
            (
                "sum by (app) (LINES)",
                vec![series(&[("app", "a")], [Some(4.0), Some(4.0)]), series(&[("app", "b")], [Some(2.0), Some(5.0)])],
            ),
            ("avg(LINES)", vec![series(&[], [Some(2.0), Some(4.5)])]),
            ("count(LINES) without (app, host)", vec![series(&[], [Some(3.0), Some(2.0)])]),
            (
                "max without (host) (LINES) > 3",
                vec![series(&[("app", "a")], [None, Some(4.0)]), series(&[("app", "b")], [None, Some(5.0)])],
            ),
            (
                "topk(1, LINES)",
                vec![
                    series(&[("app", "a"), ("host", "y")], [Some(3.0), None]),
                    series(&[("app", "b"), ("host", "x")], [None, Some(5.0)]),
                ],
            ),
            (
                "bottomk by (host) (1, LINES) + 1",
                vec![
                    series(&[("app", "a"), ("host", "x")], [Some(2.0), Some(5.0)]),
                    series(&[("app", "a"), ("host", "y")], [Some(4.0), None]),
                ],
            ),
            ("LINES / LINES", vec![series(&[("app", "a"), ("host", "x")], [Some(0.1), None])]),
            ("LINES and LINES", vec![series(&[("app", "a"), ("host", "x")], [Some(1.0), None])]),
            ("10 < LINES", vec![]),
            ("sum(LINES) or vector(0)", vec![series(&[], [Some(6.0), Some(9.0)])]),
            ("sum(LINES) unless vector(0)", vec![]),
        ] {
            assert_eq!(result(&both(text)), Value::Series(expected), "{text}");
        }
    }
}
