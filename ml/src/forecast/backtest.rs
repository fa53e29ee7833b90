//! Rolling origins: what each model would have said in the past, and how wrong it was.
use super::models::{Model, Past};
use super::seasons::Seasons;

/// Origins tried.
const ORIGINS_MAX: usize = 8;
/// A combination must be this much worse before a single model is preferred.
const COMBINATION_PREFERRED: f64 = 1.02;
/// Fewest values a model is fitted to.
const PAST_MIN: usize = 3;

/// Back-test of every candidate.
pub(super) struct Backtest {
    models: Vec<Model>,
    /// `errors[model][origin][step]`, truth minus prediction; an origin at which the model failed is absent from all.
    errors: Vec<Vec<Vec<f64>>>,
}

impl Backtest {
    /// Tries `models` at up to 8 origins, each followed by up to `horizon` known values.
    pub(super) fn run(values: &[f64], seasons: &Seasons, models: &[Model], horizon: usize) -> Self {
        let n = values.len();
        // at least half of the data, and two of the longest seasons where there are, must stand before the first
        // origin
        let past_min = (n / 2).max(2 * seasons.longest_in(n)).max(PAST_MIN).min(n.saturating_sub(1));
        let room = n - past_min;
        let horizon = horizon.min(room).max(1);
        let last_origin = n - horizon;
        let spread = last_origin.saturating_sub(past_min);
        let origins = (spread / horizon.div_ceil(2) + 1).min(ORIGINS_MAX);
        let stride = if origins > 1 { (spread / (origins - 1)).min(horizon) } else { 0 };
        let mut errors: Vec<Vec<Vec<f64>>> = vec![Vec::new(); models.len()];
        let mut alive = vec![true; models.len()];
        for i in 0..origins {
            let origin = last_origin - i * stride;
            let past = Past::new(&values[..origin], seasons);
            for ((model, errors), alive) in models.iter().zip(&mut errors).zip(&mut alive) {
                if !*alive {
                    continue;
                }
                match model.predict(&past, horizon) {
                    Some(next) => errors.push(values[origin..].iter().zip(&next).map(|(v, p)| v - p).collect()),
                    None => *alive = false,
                }
            }
        }
        let (models, errors) =
            models.iter().zip(errors).zip(alive).filter(|(_, alive)| *alive).map(|((m, e), _)| (*m, e)).unzip();
        Self { models, errors }
    }

    /// The best model or the best equal-weight combination of the two or three best, with its errors
    /// `[origin][step]`.
    pub(super) fn choose(&self) -> Option<(Vec<Model>, Vec<Vec<f64>>)> {
        let mut ranked: Vec<usize> = (0..self.models.len()).collect();
        let losses: Vec<f64> = self.errors.iter().map(|errors| loss(errors)).collect();
        ranked.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]).then(a.cmp(&b)));
        let mut best: Option<(f64, Vec<Model>, Vec<Vec<f64>>)> = None;
        for count in 1..=ranked.len().min(3) {
            let errors = self.combined(&ranked[..count]);
            let loss = loss(&errors);
            if best.as_ref().is_none_or(|b| loss < COMBINATION_PREFERRED * b.0) {
                best = Some((loss, ranked[..count].iter().map(|&i| self.models[i]).collect(), errors));
            }
        }
        best.map(|(_, models, errors)| (models, errors))
    }

    fn combined(&self, members: &[usize]) -> Vec<Vec<f64>> {
        let mut sum = self.errors[members[0]].clone();
        for &member in &members[1..] {
            for (row, other) in sum.iter_mut().zip(&self.errors[member]) {
                row.iter_mut().zip(other).for_each(|(a, b)| *a += b);
            }
        }
        let share = 1.0 / members.len() as f64;
        sum.iter_mut().flatten().for_each(|v| *v *= share);
        sum
    }
}

/// Mean absolute error.
fn loss(errors: &[Vec<f64>]) -> f64 {
    let (sum, count) = errors.iter().flatten().fold((0.0, 0.0), |(sum, count), e| (sum + e.abs(), count + 1.0));
    if count > 0.0 { sum / count } else { f64::INFINITY }
}
