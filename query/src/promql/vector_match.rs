//! Binary operators between vectors: series find each other by a signature of their labels, step by step.
use std::collections::BTreeMap;

use foretell_engine::LabelSet;
use hashbrown::HashMap;

use super::annotation::{Note, Notes};
use super::binary::{drops_name, result, result_of_samples};
use super::expr::{Binary, BinaryOp, Cardinality, Matching};
use super::labels::{contains, signature, with, without_name};
use super::value::{ABSENT, Column, Columns, Sample, is_absent};
use super::window::Found;
use crate::error::{Error, ErrorKind, Result};

/// `and`, `or`, `unless`.
///
/// # Errors
/// `Execution` when two results have the same labels.
pub(crate) fn set(op: BinaryOp, matching: &Matching, lhs: Vec<Column>, rhs: Vec<Column>) -> Result<Vec<Column>> {
    // Filters look for partners on the right, `or` for those on the left.
    let (filtered, partners) = if op == BinaryOp::Or { (&rhs, &lhs) } else { (&lhs, &rhs) };
    let mut present: HashMap<LabelSet, Vec<bool>> = HashMap::new();
    for column in partners {
        let steps = present.entry(key(&column.labels, matching)).or_insert_with(|| vec![false; column.values.len()]);
        steps.iter_mut().zip(&column.values).for_each(|(step, &value)| *step |= !is_absent(value));
        if let Some(histograms) = &column.histograms {
            steps.iter_mut().zip(histograms).for_each(|(step, histogram)| *step |= histogram.is_some());
        }
    }
    let keep_partnered = op == BinaryOp::And;
    let kept = filtered.iter().map(|column| {
        let partner = present.get(&key(&column.labels, matching));
        let keep = |step: usize| partner.is_some_and(|steps| steps[step]) == keep_partnered;
        let values = column.values.iter().enumerate();
        let values = values.map(|(step, &value)| if keep(step) { value } else { ABSENT }).collect();
        let histograms = column.histograms.as_ref().map(|all| {
            let all = all.iter().enumerate();
            all.map(|(step, histogram)| if keep(step) { histogram.clone() } else { None }).collect()
        });
        Column { labels: column.labels.clone(), values, histograms }
    });
    let kept: Vec<Column> = kept.collect();
    let mut results = Columns::default();
    let left = if op == BinaryOp::Or { lhs } else { Vec::new() };
    for column in left.into_iter().chain(kept) {
        results.add(column)?;
    }
    Ok(results.finish())
}

/// Arithmetic and comparisons.
///
/// # Errors
/// `Execution` when a series has several partners and the expression does not allow it.
pub(crate) fn evaluate(binary: &Binary, lhs: &[Column], rhs: &[Column], notes: &Notes) -> Result<Vec<Column>> {
    let matching = &binary.matching;
    if matching.fill != (None, None) {
        return Err(Error::invalid("fill modifiers are not supported by this version"));
    }
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let (Some(first), false) = (one.first(), many.is_empty()) else { return Ok(Vec::new()) };
    let steps = first.values.len();
    let any = |columns: &[Column], step: usize| columns.iter().any(|column| column.has(step));
    let mut by_signature: HashMap<LabelSet, Vec<&Column>> = HashMap::new();
    for column in one {
        by_signature.entry(key(&column.labels, matching)).or_default().push(column);
    }
    for (signature, columns) in by_signature.iter().filter(|(_, columns)| columns.len() > 1) {
        for step in 0..steps {
            let at_once = columns.iter().filter(|column| column.has(step)).count();
            if at_once > 1 && any(many, step) {
                return Err(duplicate_partner(signature, swapped));
            }
        }
    }
    let mut results = Columns::default();
    // Of each step the last, as Prometheus has it.
    let mut told: BTreeMap<usize, Note> = BTreeMap::new();
    let mut taken: HashMap<LabelSet, Vec<bool>> = HashMap::new();
    for column in many {
        let signature = key(&column.labels, matching);
        let Some(partners) = by_signature.get(&signature) else { continue };
        for partner in partners {
            let both = if swapped { (*partner, column) } else { (column, *partner) };
            let mut found = operate(binary, both, &mut told);
            if matching.cardinality == Cardinality::OneToOne {
                let taken = taken.entry(signature.clone()).or_insert_with(|| vec![false; steps]);
                for (_, taken) in taken.iter_mut().enumerate().filter(|(step, _)| found.has(*step)) {
                    if std::mem::replace(taken, true) {
                        return Err(Error::new(
                            ErrorKind::Execution,
                            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                        ));
                    }
                }
            }
            found.labels = result_labels(binary, &column.labels, &partner.labels)?;
            results.add(found).map_err(|error| match matching.cardinality {
                Cardinality::OneToOne => error,
                _ => Error::new(
                    ErrorKind::Execution,
                    "multiple matches for labels: grouping labels must ensure unique matches",
                ),
            })?;
        }
    }
    told.values().for_each(|note| notes.add(note));
    Ok(results.finish())
}

/// What comes out of two series at each step, without labels.
fn operate(binary: &Binary, (lhs, rhs): (&Column, &Column), told: &mut BTreeMap<usize, Note>) -> Column {
    let pair = |(&a, &b): (&f64, &f64)| if is_absent(a) || is_absent(b) { ABSENT } else { result(binary, a, b, a) };
    let mut found = Column::floats(LabelSet::default(), lhs.values.iter().zip(&rhs.values).map(pair).collect());
    if lhs.histograms.is_none() && rhs.histograms.is_none() {
        return found;
    }
    for step in 0..found.values.len() {
        let (Some(a), Some(b)) = (lhs.sample(step), rhs.sample(step)) else { continue };
        if let (Sample::Value(_), Sample::Value(_)) = (a, b) {
            continue;
        }
        match result_of_samples(binary, a, b, a) {
            Ok(None) => {}
            Ok(Some(Found::Value(value))) => found.values[step] = value,
            Ok(Some(Found::Histogram(histogram))) => found.put(step, histogram),
            Err(note) => {
                told.insert(step, note);
            }
        }
    }
    found
}

fn key(labels: &LabelSet, matching: &Matching) -> LabelSet {
    signature(labels, matching.on, &matching.labels)
}

fn duplicate_partner(signature: &LabelSet, swapped: bool) -> Error {
    let side = if swapped { "left" } else { "right" };
    Error::new(
        ErrorKind::Execution,
        format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation;many-to-many \
             matching not allowed: matching labels must be unique on one side",
            signature.to_promql()
        ),
    )
}

fn result_labels(binary: &Binary, many: &LabelSet, one: &LabelSet) -> Result<LabelSet> {
    let matching = &binary.matching;
    let labels = if drops_name(binary) { without_name(many) } else { many.clone() };
    if matching.cardinality == Cardinality::OneToOne {
        return Ok(if matching.on {
            labels.filtered(|name| contains(&matching.labels, name))
        } else {
            labels.filtered(|name| !contains(&matching.labels, name))
        });
    }
    if matching.include.is_empty() {
        return Ok(labels);
    }
    let include = matching.include.iter().map(|name| (name.as_str(), one.get(name).unwrap_or("")));
    with(&labels, &include.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use foretell_engine::METRIC_NAME;

    use super::*;

    #[test]
    fn the_name_is_no_part_of_a_signature_unless_it_is_asked_for() {
        let labels = LabelSet::from_pairs([(METRIC_NAME, "m"), ("a", "1"), ("b", "2")]).unwrap_or_default();
        let names = ["a".to_owned()];
        assert_eq!(signature(&labels, false, &names).to_promql(), "{b=\"2\"}");
        assert_eq!(signature(&labels, true, &names).to_promql(), "{a=\"1\"}");
    }
}
