//! Series without fault: how often a detector cries wolf.
use anyhow::Result;
use foretell_ml::detect::{Detector, DetectorOptions, Method};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{LogNormal, Poisson, StandardNormal};

use super::Options;
use crate::report::Report;

const SECONDS_PER_DAY: f64 = 86_400.0;
/// Kinds of series.
const KINDS: [&str; 6] = ["seasonal", "trending", "bursty", "counter", "sparse", "flat"];
/// Seconds between rows.
const STEPS: [i64; 3] = [15, 60, 300];

/// Adds the false alarms a day of one series: scores that begin to be 1 or more.
pub(super) fn measure(name: &str, method: Method, options: &Options, report: &mut Report) -> Result<()> {
    for step in STEPS {
        let rows = options.days * (SECONDS_PER_DAY as usize) / step as usize;
        let mut total = 0;
        for kind in KINDS {
            let mut alarms = 0;
            for i in 0..options.controls {
                let seed = options.seed.wrapping_mul(1_000_003) + i as u64;
                let values = series(kind, rows, SECONDS_PER_DAY / step as f64, seed)?;
                alarms += count(method, step, &values)?;
            }
            total += alarms;
            let rate = alarms as f64 / (options.controls * options.days) as f64;
            report.figure(&format!("{name}/false_alarms_per_day/{kind}_{step}s"), rate, "series without fault");
        }
        let rate = total as f64 / (KINDS.len() * options.controls * options.days) as f64;
        report.figure(&format!("{name}/false_alarms_per_day/all_{step}s"), rate, "series without fault");
    }
    Ok(())
}

/// How often the scores of `values` begin to be 1 or more.
fn count(method: Method, step: i64, values: &[f64]) -> Result<usize> {
    let mut detector = Detector::new(method, DetectorOptions::default())?;
    let (mut alarms, mut on) = (0, false);
    for (i, &value) in values.iter().enumerate() {
        let ts = (1_700_000_000 + i as i64 * step) * 1_000_000_000;
        let now = detector.update(ts, value).score.is_some_and(|score| score >= 1.0);
        alarms += usize::from(now && !on);
        on = now;
    }
    Ok(alarms)
}

/// `rows` values of a series of some kind, `per_day` of them in a day.
fn series(kind: &str, rows: usize, per_day: f64, seed: u64) -> Result<Vec<f64>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let day = |i: usize| i as f64 / per_day * std::f64::consts::TAU;
    let mut noise = SmallRng::seed_from_u64(!seed);
    let mut gauss = move || noise.sample::<f64, _>(StandardNormal);
    Ok(match kind {
        "seasonal" => {
            let (once, twice) = (rng.random_range(5.0..50.0), rng.random_range(0.0..20.0));
            let (phase, scatter) = (rng.random_range(0.0..6.0), rng.random_range(1.0..8.0));
            let curve = |i: usize| once * (day(i) + phase).sin() + twice * (2.0 * day(i)).sin();
            (0..rows).map(|i| 100.0 + curve(i) + scatter * gauss()).collect()
        }
        "trending" => {
            let (slope, scatter) = (rng.random_range(-5.0..15.0) / per_day, rng.random_range(0.5..5.0));
            (0..rows).map(|i| 100.0 + slope * i as f64 + scatter * gauss()).collect()
        }
        "bursty" => {
            let burst = LogNormal::new(2.0, rng.random_range(0.3..0.9))?;
            (0..rows).map(|_| rng.sample(burst)).collect()
        }
        "counter" => {
            let (rate, resets) = (rng.random_range(20.0..200.0), rows / 3);
            let mut total = 0.0;
            (0..rows)
                .map(|i| {
                    total = if i > 0 && i % resets == 0 { 0.0 } else { total };
                    total += Poisson::new(rate * (1.0 + 0.5 * day(i).sin())).map_or(0.0, |steps| rng.sample(steps));
                    total
                })
                .collect()
        }
        "sparse" => {
            let (share, size) = (rng.random_range(0.01..0.1), Poisson::new(5.0)?);
            (0..rows).map(|_| if rng.random_bool(share) { rng.sample(size) } else { 0.0 }).collect()
        }
        _ => vec![rng.random_range(0.0..50.0); rows],
    })
}
