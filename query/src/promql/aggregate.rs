//! Aggregations over the series of a vector, step by step.
use std::ops::Range;

use foretell_engine::{LabelSet, METRIC_NAME};
use hashbrown::HashMap;

use super::expr::{Aggregate, AggregateOp as Op, Grouping};
use super::labels::{contains, with};
use super::number::{Mean, Sum, nan_first, quantile};
use super::parallel;
use super::value::{ABSENT, Column, Columns, Value, is_absent};
use crate::error::{Error, ErrorKind, Result};

/// Columns of one group, and its labels.
struct Group {
    labels: LabelSet,
    members: Vec<usize>,
}

/// The aggregation at each of `steps` steps.
///
/// # Errors
/// `Execution` for a parameter out of range; `Invalid` for one of the wrong type or a bad label name.
pub(crate) fn evaluate(
    aggregate: &Aggregate,
    param: Option<Value>,
    input: Vec<Column>,
    steps: usize,
) -> Result<Vec<Column>> {
    let groups = groups(&aggregate.grouping, &input);
    match (aggregate.op, param) {
        (op @ (Op::Topk | Op::Bottomk | Op::Limitk), Some(Value::Scalar(k))) => {
            let k = k.into_iter().map(count_of).collect::<Result<Vec<usize>>>()?;
            Ok(pick(op, &k, &groups, input))
        }
        (Op::LimitRatio, Some(Value::Scalar(ratio))) => limit_ratio(&ratio, input),
        (Op::CountValues, Some(Value::Text(label))) => count_values(&label, &groups, &input, steps),
        (Op::Quantile, Some(Value::Scalar(q))) => {
            reduce(&groups, &input, steps, |values, step| quantile(q[step], values))
        }
        (Op::Topk | Op::Bottomk | Op::Limitk | Op::LimitRatio | Op::CountValues | Op::Quantile, _) => {
            Err(Error::invalid("the parameter of an aggregation has the wrong type"))
        }
        (op, _) => reduce(&groups, &input, steps, |values, _| fold(op, values)),
    }
}

/// The groups, and which columns belong to each: looked up once a column by the bytes of the group's labels.
fn groups(grouping: &Grouping, input: &[Column]) -> Vec<Group> {
    let mut index: HashMap<Box<[u8]>, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut key = Vec::new();
    for (i, column) in input.iter().enumerate() {
        column.labels.filtered_into(|name| keeps(grouping, name), &mut key);
        let at = match index.get(key.as_slice()) {
            Some(&at) => at,
            None => {
                let labels = column.labels.filtered(|name| keeps(grouping, name));
                groups.push(Group { labels, members: Vec::new() });
                index.insert(key.as_slice().into(), groups.len() - 1);
                groups.len() - 1
            }
        };
        groups[at].members.push(i);
    }
    groups
}

/// Whether a group has the label `name`.
fn keeps(grouping: &Grouping, name: &str) -> bool {
    if grouping.without {
        name != METRIC_NAME && !contains(&grouping.labels, name)
    } else {
        contains(&grouping.labels, name)
    }
}

/// One column a group: `answer` of the values that its members have at each step, in their order. The steps are divided
/// among the cores.
fn reduce(
    groups: &[Group],
    input: &[Column],
    steps: usize,
    answer: impl Fn(&mut Vec<f64>, usize) -> f64 + Sync,
) -> Result<Vec<Column>> {
    let length = steps.div_ceil(parallel::parts(steps, input.len().saturating_mul(steps))).max(1);
    let blocks = (0..steps).step_by(length).map(|from| from..steps.min(from + length)).collect();
    let of_block = |block: Range<usize>| -> Vec<Vec<f64>> {
        let mut present = Vec::new();
        let mut value = |group: &Group, step: usize| {
            present.clear();
            present.extend(group.members.iter().map(|&i| input[i].values[step]).filter(|&value| !is_absent(value)));
            if present.is_empty() { ABSENT } else { answer(&mut present, step) }
        };
        groups.iter().map(|group| block.clone().map(|step| value(group, step)).collect()).collect()
    };
    let empty = |group: &Group| Column { labels: group.labels.clone(), values: Vec::with_capacity(steps) };
    let mut columns: Vec<Column> = groups.iter().map(empty).collect();
    for block in parallel::each(blocks, of_block)? {
        columns.iter_mut().zip(block).for_each(|(column, values)| column.values.extend(values));
    }
    columns.retain(|column| !column.is_empty());
    Ok(columns)
}

fn fold(op: Op, values: &[f64]) -> f64 {
    match op {
        Op::Sum => {
            let mut sum = Sum::default();
            values.iter().for_each(|&value| sum.add(value));
            sum.value()
        }
        Op::Avg => {
            let mut mean = Mean::default();
            values.iter().for_each(|&value| mean.add(value));
            mean.value()
        }
        Op::Min => values.iter().copied().fold(f64::NAN, |a, b| if b < a || a.is_nan() { b } else { a }),
        Op::Max => values.iter().copied().fold(f64::NAN, |a, b| if b > a || a.is_nan() { b } else { a }),
        Op::Count => values.len() as f64,
        Op::Stdvar => variance(values),
        Op::Stddev => variance(values).sqrt(),
        _ => 1.0,
    }
}

/// Population variance by Welford's recurrence (B. P. Welford, 1962).
fn variance(values: &[f64]) -> f64 {
    if !values[0].is_finite() {
        return f64::NAN;
    }
    let (mut mean, mut squares, mut count) = (0.0, 0.0, 0.0);
    for &value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

/// A parameter that counts.
fn count_of(k: f64) -> Result<usize> {
    if k.is_nan() {
        return Err(Error::new(ErrorKind::Execution, "Parameter value is NaN"));
    }
    if !(-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&k) {
        return Err(Error::new(ErrorKind::Execution, format!("Scalar value {k} overflows int64")));
    }
    Ok(if k < 1.0 { 0 } else { k as usize })
}

/// `topk`, `bottomk`, `limitk`: values of the input that stay. In an instant query the order is the answer's.
fn pick(op: Op, k: &[usize], groups: &[Group], input: Vec<Column>) -> Vec<Column> {
    let steps = k.len();
    let mut kept: Vec<Vec<f64>> = input.iter().map(|column| vec![ABSENT; column.values.len()]).collect();
    let mut order = Vec::new();
    for group in groups {
        let mut present: Vec<usize> = Vec::new();
        for step in 0..steps {
            let value = |i: usize| input[i].values[step];
            present.clear();
            present.extend(group.members.iter().copied().filter(|&i| !is_absent(value(i))));
            match op {
                // NaN is the worst on both sides.
                Op::Topk => present.sort_by(|&a, &b| nan_first(&value(b), &value(a))),
                Op::Bottomk => present.sort_by(|&a, &b| {
                    value(a).is_nan().cmp(&value(b).is_nan()).then_with(|| nan_first(&value(a), &value(b)))
                }),
                _ => {}
            }
            present.truncate(k[step]);
            present.iter().for_each(|&i| kept[i][step] = value(i));
        }
        if steps == 1 {
            order.extend_from_slice(&present);
        } else {
            order.extend_from_slice(&group.members);
        }
    }
    let column = |i: usize| Column { labels: input[i].labels.clone(), values: std::mem::take(&mut kept[i]) };
    let columns: Vec<Column> = order.into_iter().map(column).collect();
    columns.into_iter().filter(|column| !column.is_empty()).collect()
}

/// A share of the series, the same at every step and in every Prometheus: a series stays if the hash of its labels, as a
/// fraction, is below the ratio. A negative ratio keeps those that its complement leaves out.
fn limit_ratio(ratio: &[f64], mut input: Vec<Column>) -> Result<Vec<Column>> {
    if ratio.iter().any(|ratio| ratio.is_nan()) {
        return Err(Error::new(ErrorKind::Execution, "Ratio value is NaN"));
    }
    for column in &mut input {
        let offset = column.labels.prometheus_hash() as f64 / u64::MAX as f64;
        for (value, &ratio) in column.values.iter_mut().zip(ratio) {
            let stays = if ratio >= 0.0 { offset < ratio.min(1.0) } else { offset >= 1.0 + ratio.max(-1.0) };
            if !stays {
                *value = ABSENT;
            }
        }
    }
    input.retain(|column| !column.is_empty());
    Ok(input)
}

fn count_values(label: &str, groups: &[Group], input: &[Column], steps: usize) -> Result<Vec<Column>> {
    if label.is_empty() {
        return Err(Error::new(ErrorKind::Execution, format!("invalid label name {label:?}")));
    }
    let mut results = Columns::default();
    for group in groups {
        let mut counts: HashMap<String, Vec<f64>> = HashMap::new();
        let mut order: Vec<String> = Vec::new();
        for step in 0..steps {
            for value in group.members.iter().map(|&i| input[i].values[step]).filter(|&value| !is_absent(value)) {
                let text = super::value::format(value);
                let counts = counts.entry_ref(text.as_str()).or_insert_with(|| {
                    order.push(text.clone());
                    vec![ABSENT; steps]
                });
                counts[step] = if is_absent(counts[step]) { 1.0 } else { counts[step] + 1.0 };
            }
        }
        for text in order {
            let labels = with(&group.labels, &[(label, &text)])?;
            results.add(labels, counts.remove(&text).unwrap_or_default())?;
        }
    }
    Ok(results.finish())
}
