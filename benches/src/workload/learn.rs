//! Makes a [`Page`] from successive scrapes of a real exporter, so that a replay changes as often, and by as much, as the
//! real thing does.
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::behaviour::{Behaviour, POWERS, Unit};
use super::page::{Labels, Page, parse_series};

/// Steps kept of a series.
const STEPS_MAX: usize = 60;
/// Integers beyond this are not exact in a float.
const EXACT_MAX: f64 = 9e15;

/// A page from the texts of at least three scrapes, oldest first. Series that are missing from any of them are left out.
///
/// # Errors
/// When a line is not in the exposition format.
pub fn learn(scrapes: &[String]) -> Result<Page> {
    ensure!(scrapes.len() >= 3, "need at least three scrapes, got {}", scrapes.len());
    let mut observed: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    let mut order = Vec::new();
    for (i, scrape) in scrapes.iter().enumerate() {
        for line in scrape.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (labels, rest) = parse_series(line)?;
            let value = rest.split_whitespace().next().unwrap_or_default().parse()?;
            if i == 0 {
                order.push(labels.clone());
            }
            observed.entry(labels).or_default().push(value);
        }
    }
    let mut page = Page::default();
    for labels in order {
        if let Some(values) = observed.get(&labels).filter(|values| values.len() == scrapes.len()) {
            page.series.push((labels, Arc::new(behaviour_of(values))));
        }
    }
    Ok(page)
}

/// What a series seems to do.
fn behaviour_of(values: &[f64]) -> Behaviour {
    if values.iter().all(|v| v.to_bits() == values[0].to_bits()) {
        return Behaviour::Constant(values[0]);
    }
    let Some((mut unit, mut integers)) = as_integers(values) else {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
        return Behaviour::Float { mean, sd: variance.sqrt() };
    };
    unit.quantum = integers.iter().fold(0, |a, &b| gcd(a, b)).max(1);
    for n in &mut integers {
        *n /= unit.quantum;
    }
    let steps: Vec<i64> = integers.windows(2).map(|w| w[1] - w[0]).collect();
    let every = steps.len().div_ceil(STEPS_MAX);
    let kept = steps.iter().copied().step_by(every).collect();
    if steps.iter().all(|&s| s >= 0) {
        return Behaviour::Counter { unit, start: integers[0], steps: kept };
    }
    let (lo, hi) = integers.iter().fold((i64::MAX, i64::MIN), |(lo, hi), &n| (lo.min(n), hi.max(n)));
    Behaviour::Gauge { unit, lo, hi, steps: kept }
}

/// The values as integers in the coarsest decimal unit that gives back their exact bits; failing that (an exporter that
/// divides twice), one that gives back the nearest float but one.
fn as_integers(values: &[f64]) -> Option<(Unit, Vec<i64>)> {
    for tolerance in [0.0, 2.0 * f64::EPSILON] {
        for decimals in 0..POWERS.len() as u8 {
            for multiplies in [false, true] {
                let unit = Unit { quantum: 1, decimals, multiplies };
                let scaled = |v: f64| (v * POWERS[usize::from(decimals)]).round();
                let fits = |&v: &f64| {
                    scaled(v).abs() < EXACT_MAX && (unit.value(scaled(v) as i64) - v).abs() <= tolerance * v.abs()
                };
                if values.iter().all(fits) {
                    return Some((unit, values.iter().map(|&v| scaled(v) as i64).collect()));
                }
            }
        }
    }
    None
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}
