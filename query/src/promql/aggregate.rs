//! Aggregations over the series of a vector, step by step.
use std::ops::Range;
use std::sync::Arc;

use foretell_engine::LabelSet;
use hashbrown::HashMap;

use super::annotation::{Note, Notes};
use super::expr::{Aggregate, AggregateOp as Op, Grouping};
use super::function::incompatible;
use super::histogram::Histogram;
use super::labels::{contains, is_name, is_name_fate, with};
use super::number::{Mean, Sum, Sums, nan_first, quantile};
use super::parallel::{self, GoOn, Pace};
use super::value::{ABSENT, Column, Columns, Sample, Value, is_absent};
use super::window::Found;
use crate::error::{Error, ErrorKind, Result};

/// Values that are looked at between two looks at the pace.
const STEPS_WORK: usize = 4096;
/// Steps whose totals are in the core's nearest cache while one column after another is added to them.
const TOTALS_AT_ONCE: usize = 512;
/// With fewer steps a column is over before it pays to go through it.
const TOTALS_MIN: usize = 8;
/// What making the text of a number takes, in samples looked at.
const TEXT_WORK: usize = 64;

/// Columns of one group, and its labels.
struct Group {
    labels: LabelSet,
    members: Vec<usize>,
}

/// What an aggregation does besides.
pub(crate) struct Upkeep<'a> {
    pub(crate) notes: &'a Notes,
    /// Asked now and then whether anybody still waits.
    pub(crate) go_on: &'a GoOn<'a>,
    /// Told of values that are made beside the input.
    pub(crate) count: &'a dyn Fn(usize) -> Result<()>,
}

/// The aggregation at each of `steps` steps.
///
/// # Errors
/// `Execution` for a parameter out of range; `Invalid` for one of the wrong type or a bad label name; those of `upkeep`.
pub(crate) fn evaluate(
    aggregate: &Aggregate,
    param: Option<Value>,
    input: Vec<Column>,
    steps: usize,
    upkeep: &Upkeep<'_>,
) -> Result<Vec<Column>> {
    let (groups, notes) = (groups(&aggregate.grouping, &input), upkeep.notes);
    match (aggregate.op, param) {
        (op @ (Op::Topk | Op::Bottomk | Op::Limitk), Some(Value::Scalar(k))) => {
            let k = k.into_iter().map(count_of).collect::<Result<Vec<usize>>>()?;
            pick(op, &k, &groups, &input, upkeep)
        }
        (Op::LimitRatio, Some(Value::Scalar(ratio))) => limit_ratio(&ratio, input, notes),
        (Op::CountValues, Some(Value::Text(label))) => count_values(&label, &groups, &input, steps, upkeep),
        (op @ Op::Quantile, Some(Value::Scalar(q))) => {
            note_invalid_quantiles(&q, notes);
            reduce(op, &groups, &input, steps, upkeep, |values, step| quantile(q[step], values))
        }
        (Op::Topk | Op::Bottomk | Op::Limitk | Op::LimitRatio | Op::CountValues | Op::Quantile, _) => {
            Err(Error::invalid("the parameter of an aggregation has the wrong type"))
        }
        (op, _) => reduce(op, &groups, &input, steps, upkeep, |values, _| fold(op, values)),
    }
}

/// The groups, and which columns belong to each: looked up once a column by the bytes of the group's labels.
fn groups(grouping: &Grouping, input: &[Column]) -> Vec<Group> {
    if grouping.is_of_all() && !input.is_empty() {
        return vec![Group { labels: LabelSet::default(), members: (0..input.len()).collect() }];
    }
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
        !is_name(name) && !contains(&grouping.labels, name)
    } else {
        contains(&grouping.labels, name)
    }
}

/// One column a group: `answer` of the values that its members have at each step, in their order. The steps are divided
/// among the cores.
fn reduce(
    op: Op,
    groups: &[Group],
    input: &[Column],
    steps: usize,
    upkeep: &Upkeep<'_>,
    answer: impl Fn(&mut Vec<f64>, usize) -> f64 + Sync,
) -> Result<Vec<Column>> {
    let (notes, go_on) = (upkeep.notes, upkeep.go_on);
    let work = input.iter().map(Column::weight).sum();
    let length = steps.div_ceil(parallel::parts(steps, work)).max(1);
    let blocks = (0..steps).step_by(length).map(|from| from..steps.min(from + length)).collect();
    let of_block = |block: Range<usize>| -> Result<Vec<Column>> {
        let pace = Pace::new(go_on);
        // Reused from group to group.
        let (mut members, mut sums): (Vec<&[f64]>, _) = (Vec::new(), Sums::default());
        let column = |group: &Group| {
            if group.members.iter().any(|&i| input[i].histograms.is_some()) {
                return reduce_mixed(op, group, input, block.clone(), (notes, &pace), &answer);
            }
            members.clear();
            members.extend(group.members.iter().map(|&i| &input[i].values[block.clone()]));
            let values = match op {
                Op::Quantile | Op::Stdvar | Op::Stddev => None,
                _ if block.len() < TOTALS_MIN => None,
                _ => Some(totals(op, &members, block.len(), &mut sums, &pace)?),
            };
            let values = values.map_or_else(|| step_by_step(&members, block.clone(), &pace, &answer), Ok)?;
            Ok(Column::floats(group.labels.clone(), values))
        };
        groups.iter().map(column).collect()
    };
    let mut blocks = parallel::each(blocks, of_block).into_iter();
    let mut columns = blocks.next().unwrap_or_else(|| Ok(Vec::new()))?;
    for block in blocks {
        columns.iter_mut().zip(block?).for_each(|(column, more)| column.append(more));
    }
    columns.retain(|column| !column.is_empty());
    Ok(columns)
}

/// What `answer` finds of the values that `members` have at each of `steps`.
fn step_by_step(
    members: &[&[f64]],
    steps: Range<usize>,
    pace: &Pace<'_>,
    answer: &dyn Fn(&mut Vec<f64>, usize) -> f64,
) -> Result<Vec<f64>> {
    let (mut present, mut values) = (Vec::new(), Vec::with_capacity(steps.len()));
    let mut value = |at: usize| {
        present.clear();
        present.extend(members.iter().map(|values| values[at]).filter(|&value| !is_absent(value)));
        if present.is_empty() { ABSENT } else { answer(&mut present, steps.start + at) }
    };
    let at_once = (STEPS_WORK / members.len().max(1)).max(1);
    for from in (0..steps.len()).step_by(at_once) {
        let some = from..steps.len().min(from.saturating_add(at_once));
        pace.spend(some.len().saturating_mul(members.len()))?;
        values.extend(some.map(&mut value));
    }
    Ok(values)
}

/// What [`fold`] finds of the values that `members` have at each of `steps` steps, in one pass over each member; `sums` is
/// memory.
fn totals(op: Op, members: &[&[f64]], steps: usize, sums: &mut Sums, pace: &Pace<'_>) -> Result<Vec<f64>> {
    let (mut values, mut present) = (Vec::with_capacity(steps), Vec::new());
    for from in (0..steps).step_by(TOTALS_AT_ONCE) {
        let some = from..steps.min(from + TOTALS_AT_ONCE);
        match op {
            Op::Sum | Op::Avg => {
                sums.begin(some.len());
                for member in members {
                    pace.spend(some.len())?;
                    sums.add(&member[some.clone()]);
                }
                for at in 0..some.len() {
                    let total = match op {
                        _ if sums.count(at) == 0.0 => Some(ABSENT),
                        Op::Sum => sums.sum(at).map(Sum::value),
                        _ => sums.mean(at).map(Mean::value),
                    };
                    values.push(match total {
                        Some(total) => total,
                        None => {
                            // Infinite on the way: one after another.
                            pace.spend(members.len())?;
                            present.clear();
                            present.extend(members.iter().map(|v| v[from + at]).filter(|&value| !is_absent(value)));
                            fold(op, &present)
                        }
                    });
                }
            }
            _ => {
                values.resize(some.end, ABSENT);
                for member in members {
                    pace.spend(some.len())?;
                    let pairs = values[some.clone()].iter_mut().zip(&member[some.clone()]);
                    match op {
                        Op::Min => each_present(pairs, |a, b| if b < a || a.is_nan() { b } else { a }),
                        Op::Max => each_present(pairs, |a, b| if b > a || a.is_nan() { b } else { a }),
                        Op::Count => each_present(pairs, |a, _| if is_absent(a) { 1.0 } else { a + 1.0 }),
                        _ => each_present(pairs, |_, _| 1.0),
                    }
                }
            }
        }
    }
    Ok(values)
}

/// Makes `next` of each total and the value beside it, where there is one.
fn each_present<'a>(pairs: impl Iterator<Item = (&'a mut f64, &'a f64)>, next: impl Fn(f64, f64) -> f64) {
    pairs.for_each(|(total, &value)| *total = if is_absent(value) { *total } else { next(*total, value) });
}

/// The column of a group that has histograms, step by step.
fn reduce_mixed(
    op: Op,
    group: &Group,
    input: &[Column],
    steps: Range<usize>,
    (notes, pace): (&Notes, &Pace<'_>),
    answer: &dyn Fn(&mut Vec<f64>, usize) -> f64,
) -> Result<Column> {
    let mut result = Column::blank(group.labels.clone(), steps.len());
    let mut members: Vec<(&Column, Sample<'_>)> = Vec::new();
    let mut values = Vec::new();
    for (at, step) in steps.enumerate() {
        members.clear();
        members.extend(group.members.iter().filter_map(|&i| Some((&input[i], input[i].sample(step)?))));
        let histograms = members.iter().map(|(_, sample)| match sample {
            Sample::Value(_) => 0,
            Sample::Histogram(histogram) => histogram.weight(),
        });
        pace.spend(group.members.len() + histograms.sum::<usize>())?;
        values.clear();
        values.extend(members.iter().filter_map(|(_, sample)| match sample {
            Sample::Value(value) => Some(*value),
            Sample::Histogram(_) => None,
        }));
        let found = match op {
            _ if members.is_empty() => None,
            Op::Count => Some(Found::Value(members.len() as f64)),
            Op::Group => Some(Found::Value(1.0)),
            Op::Sum | Op::Avg if values.len() < members.len() => {
                total(op, &members, notes).map(|total| Found::Histogram(Arc::new(total)))
            }
            _ => {
                if values.len() < members.len() {
                    notes.add(&Note::IgnoredInAggregation(name(op)));
                }
                (!values.is_empty()).then(|| Found::Value(answer(&mut values, step)))
            }
        };
        match found {
            None => {}
            Some(Found::Value(value)) => result.values[at] = value,
            Some(Found::Histogram(histogram)) => result.put(at, histogram),
        }
    }
    Ok(result)
}

/// Sum or average of samples of which some are histograms: nothing unless all are, and go together.
fn total(op: Op, members: &[(&Column, Sample<'_>)], notes: &Notes) -> Option<Histogram> {
    let (mut total, mut has_float, mut count): (Option<Histogram>, _, _) = (None, false, 0.0);
    for &(column, sample) in members {
        count += 1.0;
        let added = match (sample, &mut total) {
            (Sample::Value(_), _) => {
                has_float = true;
                Ok(())
            }
            (Sample::Histogram(histogram), Some(total)) if op == Op::Sum => total.add(histogram),
            (Sample::Histogram(histogram), Some(total)) => total.average_in(histogram, count),
            (Sample::Histogram(histogram), total) => {
                if count == 1.0 {
                    *total = Some(Histogram::clone(histogram));
                }
                Ok(())
            }
        };
        if let Err(reason) = added {
            notes.add(&incompatible(reason, column.labels.metric_name()));
            if has_float {
                notes.add(&Note::MixedInAggregation);
            }
            return None;
        }
    }
    if has_float {
        notes.add(&Note::MixedInAggregation);
        return None;
    }
    let mut total = total?;
    total.compact();
    Some(total)
}

/// Of quantiles outside of 0 to 1 the worst on each side, and that one is no number.
fn note_invalid_quantiles(q: &[f64], notes: &Notes) {
    let worst = [extreme(q, f64::max), extreme(q, f64::min)].into_iter().filter(|q| !(0.0..=1.0).contains(q));
    let no_number = q.iter().copied().find(|q| q.is_nan());
    worst.chain(no_number).for_each(|q| notes.add(&Note::InvalidQuantile(q)));
}

/// What a text calls the aggregation.
fn name(op: Op) -> &'static str {
    match op {
        Op::Min => "min",
        Op::Max => "max",
        Op::Stddev => "stddev",
        Op::Stdvar => "stdvar",
        Op::Quantile => "quantile",
        Op::Topk => "topk",
        Op::Bottomk => "bottomk",
        _ => "this",
    }
}

fn fold(op: Op, values: &[f64]) -> f64 {
    match op {
        Op::Sum => Sum::of(values).value(),
        Op::Avg => Mean::of(values).value(),
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

/// `topk`, `bottomk`, `limitk`: samples of the input that stay. In an instant query the order is the answer's.
fn pick(op: Op, k: &[usize], groups: &[Group], input: &[Column], upkeep: &Upkeep<'_>) -> Result<Vec<Column>> {
    let (steps, notes, pace) = (k.len(), upkeep.notes, Pace::new(upkeep.go_on));
    let mut kept: Vec<Column> = input.iter().map(|column| Column::blank(column.labels.clone(), steps)).collect();
    let mut order = Vec::new();
    for group in groups {
        let mut present: Vec<usize> = Vec::new();
        for (step, &k) in k.iter().enumerate() {
            let value = |i: usize| input[i].values[step];
            pace.spend(group.members.len())?;
            present.clear();
            present.extend(group.members.iter().copied().filter(|&i| input[i].has(step)));
            if op != Op::Limitk {
                let samples = present.len();
                present.retain(|&i| !is_absent(value(i)));
                if present.len() < samples && k > 0 {
                    notes.add(&Note::IgnoredInAggregation(name(op)));
                }
            }
            match op {
                // NaN is the worst on both sides.
                Op::Topk => present.sort_by(|&a, &b| nan_first(&value(b), &value(a))),
                Op::Bottomk => present.sort_by(|&a, &b| {
                    value(a).is_nan().cmp(&value(b).is_nan()).then_with(|| nan_first(&value(a), &value(b)))
                }),
                _ => {}
            }
            present.truncate(k);
            present.iter().for_each(|&i| kept[i].copy_step(&input[i], step));
        }
        if steps == 1 {
            order.extend_from_slice(&present);
        } else {
            order.extend_from_slice(&group.members);
        }
    }
    let columns: Vec<Column> = order.into_iter().map(|i| std::mem::take(&mut kept[i])).collect();
    Ok(columns.into_iter().filter(|column| !column.is_empty()).collect())
}

/// A share of the series, the same at every step and in every Prometheus: a series stays if the hash of its labels, as a
/// fraction, is below the ratio. A negative ratio keeps those that its complement leaves out.
fn limit_ratio(ratio: &[f64], mut input: Vec<Column>, notes: &Notes) -> Result<Vec<Column>> {
    if ratio.iter().any(|ratio| ratio.is_nan()) {
        return Err(Error::new(ErrorKind::Execution, "Ratio value is NaN"));
    }
    let (largest, smallest) = (extreme(ratio, f64::max), extreme(ratio, f64::min));
    if largest > 1.0 {
        notes.add(&Note::InvalidRatio(largest, 1.0));
    }
    if smallest < -1.0 {
        notes.add(&Note::InvalidRatio(smallest, -1.0));
    }
    for column in &mut input {
        let offset = column.labels.prometheus_hash() as f64 / u64::MAX as f64;
        for (step, &ratio) in ratio.iter().enumerate() {
            let stays = if ratio >= 0.0 { offset < ratio.min(1.0) } else { offset >= 1.0 + ratio.max(-1.0) };
            if !stays {
                column.clear(step);
            }
        }
    }
    input.retain(|column| !column.is_empty());
    Ok(input)
}

fn extreme(values: &[f64], which: impl Fn(f64, f64) -> f64) -> f64 {
    values.iter().copied().reduce(which).unwrap_or(0.0)
}

fn count_values(
    label: &str,
    groups: &[Group],
    input: &[Column],
    steps: usize,
    upkeep: &Upkeep<'_>,
) -> Result<Vec<Column>> {
    if label.is_empty() || is_name_fate(label) {
        return Err(Error::new(ErrorKind::Execution, format!("invalid label name {label:?}")));
    }
    let pace = Pace::new(upkeep.go_on);
    let mut results = Columns::default();
    for group in groups {
        let mut counts: HashMap<String, Vec<f64>> = HashMap::new();
        let mut order: Vec<String> = Vec::new();
        for step in 0..steps {
            for sample in group.members.iter().filter_map(|&i| input[i].sample(step)) {
                let text = match sample {
                    Sample::Value(value) => super::value::format(value),
                    Sample::Histogram(histogram) => histogram.to_string(),
                };
                // A text takes a hundred times what looking at a number takes.
                pace.spend(TEXT_WORK.saturating_add(text.len()))?;
                if !counts.contains_key(&text) {
                    // The text is held here, in the order and in the labels.
                    (upkeep.count)(steps.saturating_add(3 * text.len() / size_of::<f64>()))?;
                }
                let counts = counts.entry_ref(text.as_str()).or_insert_with(|| {
                    order.push(text.clone());
                    vec![ABSENT; steps]
                });
                counts[step] = if is_absent(counts[step]) { 1.0 } else { counts[step] + 1.0 };
            }
        }
        for text in order {
            let labels = with(&group.labels, &[(label, &text)])?;
            results.add(Column::floats(labels, counts.remove(&text).unwrap_or_default()))?;
        }
    }
    Ok(results.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn totals_over_columns_are_those_step_by_step() {
        let mut random = 5u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let odd = [ABSENT, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -0.0];
        for round in 0..60 {
            // More steps than are taken at once, now and then.
            let (steps, members) = (next(3) as usize * 500 + next(40) as usize, next(20) as usize);
            let mut value = || match next(if round % 3 == 0 { 12 } else { 9000 }) as usize {
                k if k < odd.len() => odd[k],
                k => k as f64 / 10.0,
            };
            let columns: Vec<Vec<f64>> = (0..members).map(|_| (0..steps).map(|_| value()).collect()).collect();
            let members: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
            let go_on = || Ok(());
            let (pace, mut sums) = (Pace::new(&go_on), Sums::default());
            for op in [Op::Sum, Op::Avg, Op::Min, Op::Max, Op::Count, Op::Group] {
                let found = totals(op, &members, steps, &mut sums, &pace).unwrap();
                let expect = step_by_step(&members, 0..steps, &pace, &|values, _| fold(op, values)).unwrap();
                assert_eq!(found.len(), steps);
                for (found, expect) in found.iter().zip(&expect) {
                    let same = found.to_bits() == expect.to_bits();
                    assert!(same || found.is_nan() && expect.is_nan() && !is_absent(*found) && !is_absent(*expect));
                }
            }
        }
    }
}
