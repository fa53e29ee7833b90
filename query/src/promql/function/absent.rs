//! Answers where there is none.
use std::collections::BTreeMap;

use foretell_engine::{LabelSet, METRIC_NAME, MatchOp};

use super::super::expr::Expr;
use super::super::value::{ABSENT, Column};
use crate::error::{Error, Result};

/// 1 at each step where no series of `present` has a value.
pub(super) fn absent(arg: &Expr, present: &[Column], steps: usize) -> Result<Vec<Column>> {
    let at = |step: usize| !present.iter().any(|column| column.has(step));
    let values: Vec<f64> = (0..steps).map(|step| if at(step) { 1.0 } else { ABSENT }).collect();
    let column = Column::floats(labels(arg)?, values);
    Ok(if column.is_empty() { Vec::new() } else { vec![column] })
}

/// The labels that a selector fixes.
fn labels(arg: &Expr) -> Result<LabelSet> {
    let (Expr::Selector(selector) | Expr::Range(selector, _)) = arg else { return Ok(LabelSet::default()) };
    let [matchers] = selector.matchers.0.as_slice() else { return Ok(LabelSet::default()) };
    let mut fixed: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        let is_first = !fixed.contains_key(matcher.name.as_str());
        let value = (matcher.op == MatchOp::Equal && is_first).then_some(matcher.value.as_str());
        fixed.insert(&matcher.name, value);
    }
    let pairs = fixed.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    LabelSet::from_pairs(pairs).map_err(|error| Error::from_engine(&error))
}
