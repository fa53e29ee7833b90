//! Rolling origins: what each model would have said in the past, and how wrong it was.
use super::models::{Model, Past};
use super::seasons::Seasons;

/// Origins tried.
const ORIGINS_MAX: usize = 8;
/// How fast the weight of a model falls with its error.
const WEIGHT_POWER: i32 = 6;
/// Errors below this, of values scaled to 1, are rounding.
const LOSS_MIN: f64 = 1e-12;
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

    /// Every model that could, with its weight, and the errors `[origin][step]` of the weighted mean. A weight falls
    /// with the sixth power of the model's mean absolute error; the weights sum to 1.
    pub(super) fn combine(&self) -> Option<Combination> {
        let weights: Vec<f64> =
            self.errors.iter().map(|errors| loss(errors).max(LOSS_MIN).powi(-WEIGHT_POWER)).collect();
        let all: f64 = weights.iter().sum();
        let mut mean: Vec<Vec<f64>> = self.errors.first()?.iter().map(|row| vec![0.0; row.len()]).collect();
        for (errors, weight) in self.errors.iter().zip(&weights) {
            for (row, other) in mean.iter_mut().zip(errors) {
                row.iter_mut().zip(other).for_each(|(sum, e)| *sum += e * weight / all);
            }
        }
        Some((self.models.iter().copied().zip(weights.iter().map(|w| w / all)).collect(), mean))
    }
}

/// Models with their weights, and the errors `[origin][step]` of their weighted mean.
pub(super) type Combination = (Vec<(Model, f64)>, Vec<Vec<f64>>);

/// Mean absolute error.
fn loss(errors: &[Vec<f64>]) -> f64 {
    let (sum, count) = errors.iter().flatten().fold((0.0, 0.0), |(sum, count), e| (sum + e.abs(), count + 1.0));
    if count > 0.0 { sum / count } else { f64::INFINITY }
}
