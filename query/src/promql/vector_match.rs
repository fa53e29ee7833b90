//! Binary operators between vectors: series find each other by a signature of their labels, step by step.
use std::collections::BTreeMap;

use foretell_engine::LabelSet;
use hashbrown::HashMap;

use super::annotation::{Note, Notes};
use super::binary::{drops_name, note_of_numbers, result, result_of_samples};
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

/// Arithmetic and comparisons. `count` is told of the values and histograms of each pair of series.
///
/// # Errors
/// `Execution` when a series has several partners and the expression does not allow it; those of `count`.
pub(crate) fn evaluate(
    binary: &Binary,
    lhs: &[Column],
    rhs: &[Column],
    notes: &Notes,
    count: &dyn Fn(usize) -> Result<()>,
) -> Result<Vec<Column>> {
    let matching = &binary.matching;
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let (fill_many, fill_one) = if swapped { (matching.fill.1, matching.fill.0) } else { matching.fill };
    let can_answer = (!many.is_empty() || fill_many.is_some()) && (!one.is_empty() || fill_one.is_some());
    let (Some(first), true) = (many.iter().chain(one).next(), can_answer) else { return Ok(Vec::new()) };
    let steps = first.values.len();
    let mut groups = Groups::of(one, matching);
    groups.refuse_duplicates(many, steps, fill_many.is_some(), swapped)?;
    let filled = |fill: Option<f64>| fill.map(|fill| Column::floats(LabelSet::default(), vec![fill; steps]));
    let (filled_many, filled_one) = (filled(fill_many), filled(fill_one));
    let (taken, told) = (HashMap::new(), BTreeMap::new());
    let mut results = Results { binary, swapped, taken, told, columns: Columns::default(), count };
    for column in many {
        let signature = key(&column.labels, matching);
        for partner in groups.partners(&signature) {
            count(steps)?;
            results.pair(&signature, (&column.labels, column), (&partner.labels, partner))?;
        }
        if let Some(filled) = &filled_one {
            count(steps)?;
            let alone = groups.without_a_partner(&signature, column);
            results.pair(&signature, (&column.labels, &alone), (&signature, filled))?;
        }
        if filled_many.is_some() {
            groups.note_present(&signature, column);
        }
    }
    if let Some(filled) = &filled_many {
        for column in one {
            let signature = key(&column.labels, matching);
            count(steps)?;
            let alone = groups.without_any_of_many(&signature, column);
            results.pair(&signature, (&signature, filled), (&column.labels, &alone))?;
        }
    }
    results.told.values().for_each(|note| notes.add(note));
    Ok(results.columns.finish())
}

/// The series of the "one" side by their signature.
struct Groups<'a> {
    partners: HashMap<LabelSet, Vec<&'a Column>>,
    /// Steps at which the "many" side has a value.
    present: HashMap<LabelSet, Vec<bool>>,
}

impl<'a> Groups<'a> {
    fn of(one: &'a [Column], matching: &Matching) -> Self {
        let mut partners: HashMap<LabelSet, Vec<&Column>> = HashMap::new();
        for column in one {
            partners.entry(key(&column.labels, matching)).or_default().push(column);
        }
        Self { partners, present: HashMap::new() }
    }

    fn partners(&self, signature: &LabelSet) -> &[&'a Column] {
        self.partners.get(signature).map_or(&[], Vec::as_slice)
    }

    /// Two series of the "one" side must not have a value at one step, where the other side has one or gets one. Of several
    /// faults the first is told, by step and then by signature.
    fn refuse_duplicates(&self, many: &[Column], steps: usize, fills: bool, swapped: bool) -> Result<()> {
        let mut asked = vec![fills; steps];
        for column in many {
            asked.iter_mut().enumerate().for_each(|(step, asked)| *asked |= column.has(step));
        }
        let several = self.partners.iter().filter(|(_, columns)| columns.len() > 1);
        let fault = |(signature, columns): (&'_ LabelSet, &Vec<&Column>)| {
            let is_fault = |step: &usize| columns.iter().filter(|column| column.has(*step)).count() > 1;
            let step = (0..steps).filter(|&step| asked[step]).find(is_fault)?;
            Some((step, signature.clone()))
        };
        let first = several.filter_map(fault).min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.compare(&b.1)));
        first.map_or(Ok(()), |(_, signature)| Err(duplicate_partner(&signature, swapped)))
    }

    fn note_present(&mut self, signature: &LabelSet, column: &Column) {
        let steps = self.present.entry(signature.clone()).or_insert_with(|| vec![false; column.values.len()]);
        steps.iter_mut().enumerate().for_each(|(step, present)| *present |= column.has(step));
    }

    /// `column` where the "one" side has nothing.
    fn without_a_partner(&self, signature: &LabelSet, column: &Column) -> Column {
        let mut alone = column.clone();
        for partner in self.partners(signature) {
            (0..column.values.len()).filter(|&step| partner.has(step)).for_each(|step| alone.clear(step));
        }
        alone
    }

    /// `column` where the "many" side has nothing.
    fn without_any_of_many(&self, signature: &LabelSet, column: &Column) -> Column {
        let mut alone = column.clone();
        let present = self.present.get(signature).map(Vec::as_slice).unwrap_or_default();
        present.iter().enumerate().filter(|(_, present)| **present).for_each(|(step, _)| alone.clear(step));
        alone
    }
}

/// Results of pairs of series.
struct Results<'a> {
    binary: &'a Binary,
    swapped: bool,
    /// Steps that have a result, by signature, where every series may have one partner.
    taken: HashMap<LabelSet, Vec<bool>>,
    /// Of each step the last annotation, as Prometheus has it.
    told: BTreeMap<usize, Note>,
    columns: Columns,
    /// Told of the histograms that are made.
    count: &'a dyn Fn(usize) -> Result<()>,
}

impl Results<'_> {
    /// Adds the result at each step where both have a value.
    fn pair(
        &mut self,
        signature: &LabelSet,
        (many_labels, many): (&LabelSet, &Column),
        (one_labels, one): (&LabelSet, &Column),
    ) -> Result<()> {
        let both = if self.swapped { (one, many) } else { (many, one) };
        let mut found = operate(self.binary, both, &mut self.told);
        (self.count)(found.weight() - found.values.len())?;
        let cardinality = self.binary.matching.cardinality;
        if cardinality == Cardinality::OneToOne {
            let taken = self.taken.entry(signature.clone()).or_insert_with(|| vec![false; found.values.len()]);
            for (_, taken) in taken.iter_mut().enumerate().filter(|(step, _)| found.has(*step)) {
                if std::mem::replace(taken, true) {
                    return Err(Error::new(
                        ErrorKind::Execution,
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
            }
        }
        found.labels = result_labels(self.binary, many_labels, one_labels)?;
        self.columns.add(found).map_err(|error| match cardinality {
            Cardinality::OneToOne => error,
            _ => Error::new(
                ErrorKind::Execution,
                "multiple matches for labels: grouping labels must ensure unique matches",
            ),
        })
    }
}

/// What comes out of two series at each step, without labels.
fn operate(binary: &Binary, (lhs, rhs): (&Column, &Column), told: &mut BTreeMap<usize, Note>) -> Column {
    let pair = |(&a, &b): (&f64, &f64)| if is_absent(a) || is_absent(b) { ABSENT } else { result(binary, a, b, a) };
    let mut found = Column::floats(LabelSet::default(), lhs.values.iter().zip(&rhs.values).map(pair).collect());
    let of_numbers = note_of_numbers(binary.op);
    if lhs.histograms.is_none() && rhs.histograms.is_none() && of_numbers.is_none() {
        return found;
    }
    for step in 0..found.values.len() {
        let (Some(a), Some(b)) = (lhs.sample(step), rhs.sample(step)) else { continue };
        if let (Sample::Value(_), Sample::Value(_)) = (a, b) {
            if let Some(note) = &of_numbers {
                told.insert(step, note.clone());
            }
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
