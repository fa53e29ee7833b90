//! `info(v, {selector})`: adds the labels of info series (by default `target_info`) of the same instance and job.
use foretell_engine::{LabelSet, METRIC_NAME, MatchOp, Matcher};
use hashbrown::HashMap;

use super::super::eval::{Evaluator, Pick};
use super::super::expr::{Expr, Selector, When};
use super::super::filter::LabelFilter;
use super::super::grid::Grid;
use super::super::labels::with;
use super::super::source::Matchers;
use super::super::value::{Column, Columns, is_absent};
use crate::error::{Error, ErrorKind, Result};

/// Labels that say which info series belongs to a series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
const DEFAULT_NAME: &str = "target_info";

/// # Errors
/// `Execution` when several info series disagree at one step; `Invalid` for a second argument that is no selector.
pub(super) fn info(ev: &Evaluator<'_>, args: &[Expr], grid: Grid) -> Result<Vec<Column>> {
    let base = ev.vector(&args[0], grid)?;
    let given = match args.get(1) {
        None => Vec::new(),
        Some(Expr::Selector(selector)) => match selector.matchers.0.as_slice() {
            [all] => all.clone(),
            _ => return Err(Error::invalid("the second argument of info() must have one set of matchers")),
        },
        Some(_) => return Err(Error::invalid("the second argument of info() must be a label selector")),
    };
    let (mut names, wanted): (Vec<Matcher>, Vec<Matcher>) = given.into_iter().partition(|m| m.name == METRIC_NAME);
    if names.is_empty() {
        names.push(Matcher { name: METRIC_NAME.into(), op: MatchOp::Equal, value: DEFAULT_NAME.into() });
    }
    let matchers = Matchers(vec![names.iter().chain(&wanted).cloned().collect()]);
    // The value of an info series says nothing; the time of its sample says which of two is newer.
    let infos = ev.select(&Selector { matchers, when: When::default() }, grid, Pick::Time)?;
    let mut of_target: HashMap<LabelSet, Vec<&Column>> = HashMap::new();
    for column in &infos {
        of_target.entry(target(&column.labels)).or_default().push(column);
    }
    let is_info = LabelFilter::of(vec![names])?;
    let may_lack = LabelFilter::of(vec![wanted.clone()])?.matches(&LabelSet::default());
    let mut results = Columns::default();
    for column in base {
        if is_info.matches(&column.labels) {
            results.add(column)?;
            continue;
        }
        let partners = of_target.get(&target(&column.labels)).map(Vec::as_slice).unwrap_or_default();
        for enriched in enrich(&column, partners, &wanted, may_lack)? {
            results.add(enriched)?;
        }
    }
    Ok(results.finish())
}

fn target(labels: &LabelSet) -> LabelSet {
    labels.filtered(|name| IDENTIFYING.contains(&name))
}

/// Samples of `column` by the labels that they have with those of the info series of their step.
fn enrich(column: &Column, partners: &[&Column], wanted: &[Matcher], may_lack: bool) -> Result<Vec<Column>> {
    let steps = column.values.len();
    let mut enriched: Vec<Column> = Vec::new();
    for step in (0..steps).filter(|&step| column.has(step)) {
        let current = newest_by_name(partners, step)?;
        let mut added: Vec<(&str, &str)> = Vec::new();
        for (name, value) in current.iter().flat_map(|info| info.labels.iter()) {
            let is_wanted = wanted.is_empty() || wanted.iter().any(|matcher| matcher.name == name);
            if name == METRIC_NAME || IDENTIFYING.contains(&name) || !is_wanted || column.labels.get(name).is_some() {
                continue;
            }
            match added.iter().find(|pair| pair.0 == name) {
                Some(pair) if pair.1 != value => {
                    return Err(Error::new(ErrorKind::Execution, format!("conflicting label: {name}")));
                }
                Some(_) => {}
                None => added.push((name, value)),
            }
        }
        if added.is_empty() && !may_lack {
            continue;
        }
        let labels = with(&column.labels, &added)?;
        let at = enriched.iter().position(|column| column.labels == labels).unwrap_or_else(|| {
            enriched.push(Column::blank(labels, steps));
            enriched.len() - 1
        });
        enriched[at].copy_step(column, step);
    }
    Ok(enriched)
}

/// Of the info series with one name, the one with the newest sample.
fn newest_by_name<'a>(partners: &[&'a Column], step: usize) -> Result<Vec<&'a Column>> {
    let mut newest: Vec<&Column> = Vec::new();
    for &info in partners.iter().filter(|info| !is_absent(info.values[step])) {
        match newest.iter_mut().find(|other| other.labels.metric_name() == info.labels.metric_name()) {
            None => newest.push(info),
            Some(other) if other.values[step] == info.values[step] => {
                return Err(Error::new(
                    ErrorKind::Execution,
                    format!("found duplicate series for info metric: {}", info.labels.to_promql()),
                ));
            }
            Some(other) => {
                if other.values[step] < info.values[step] {
                    *other = info;
                }
            }
        }
    }
    Ok(newest)
}
