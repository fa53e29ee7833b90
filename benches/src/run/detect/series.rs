//! Series without fault, of six kinds, deterministic by seed.
use std::f64::consts::TAU;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{LogNormal, Poisson, StandardNormal};

/// Kinds of series.
pub(super) const KINDS: [&str; 6] = ["seasonal", "trending", "bursty", "counter", "sparse", "flat"];
/// First time of every generated series, ms.
pub(super) const START_MS: i64 = 1_700_000_000_000;

/// `rows` values of a series of some kind, `per_day` of them in a day.
pub(super) fn values(kind: &str, rows: usize, per_day: f64, seed: u64) -> Result<Vec<f64>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let day = |i: usize| i as f64 / per_day * TAU;
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
            let (rate, resets) = (rng.random_range(20.0..200.0), rows.div_ceil(3));
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
