//! Rolling origins: what each model would have said in the past, and how wrong it was.
use super::models::{Model, bounds};
use super::seasons::Seasons;

/// Origins tried.
const ORIGINS_MAX: usize = 12;
/// Steps between origins at least, where there is room: prime, so that they stand at different hours of a day.
const STRIDE_MIN: usize = 7;
/// How fast the weight of a model falls with its error.
const WEIGHT_POWER: i32 = 3;
/// Errors below this, of values scaled to 1, are rounding.
const LOSS_MIN: f64 = 1e-12;
/// Fewest values a model is fitted to.
const PAST_MIN: usize = 3;
/// A forecast this many ranges of the past outside of it has diverged.
const DIVERGED: f64 = 3.0;

/// A forecast from the first `origin` values over the next `steps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) origin: usize,
    pub(super) steps: usize,
}

/// Up to 12 origins of `n` values, oldest first, each followed by up to `tried` known values; the last span is the
/// forecast itself. At least half of the data, and two of the longest seasons where there are, stand before the first.
pub(super) fn spans(n: usize, longest: usize, tried: usize, steps: usize) -> Vec<Span> {
    let past_min = (n / 2).max(2 * longest).max(PAST_MIN).min(n.saturating_sub(1));
    let known = tried.min(n - past_min).max(1);
    let spread = (n - known).saturating_sub(past_min);
    let stride = known.div_ceil(2).max(STRIDE_MIN).min(spread);
    let origins = spread.checked_div(stride).map_or(1, |more| (more + 1).min(ORIGINS_MAX));
    let tests = (0..origins).rev().map(|i| Span { origin: n - known - i * stride, steps: known });
    tests.chain([Span { origin: n, steps }]).collect()
}

/// What models are tried on.
pub(super) struct Trial<'a> {
    pub(super) values: &'a [f64],
    pub(super) seasons: &'a Seasons,
    /// As [`spans`] makes them.
    pub(super) spans: &'a [Span],
    /// For each span what regressors add to each value up to its end, as known at its origin; empty without any.
    pub(super) effects: &'a [Vec<f64>],
}

impl Trial<'_> {
    /// What a model says at each span.
    fn answers(&self, model: Model) -> Option<Vec<Vec<f64>>> {
        if self.effects.is_empty() {
            return model.predict(self.values, self.seasons, self.spans);
        }
        let one = |(span, effect): (&Span, &Vec<f64>)| {
            let (before, after) = effect.split_at(span.origin);
            let past: Vec<f64> = self.values.iter().zip(before).map(|(v, e)| v - e).collect();
            let mut next = model.predict(&past, self.seasons, &[*span])?.pop()?;
            next.iter_mut().zip(after).for_each(|(v, e)| *v += e);
            Some(next)
        };
        self.spans.iter().zip(self.effects).map(one).collect()
    }
}

/// A model that answered at every origin.
pub(super) struct Candidate {
    pub(super) model: Model,
    /// `[origin][step]`, truth minus prediction.
    errors: Vec<Vec<f64>>,
    /// What it says about the future.
    next: Vec<f64>,
}

impl Candidate {
    /// `None` when the model cannot, is not finite or diverges at any origin.
    fn try_one(model: Model, trial: &Trial<'_>) -> Option<Self> {
        let Trial { values, spans, .. } = *trial;
        let mut answers = trial.answers(model)?;
        let sound = |(span, answer): (&Span, &Vec<f64>)| {
            let (low, high) = bounds(&values[..span.origin]);
            let room = DIVERGED * (high - low) * (span.steps as f64 / span.origin as f64).max(1.0) + LOSS_MIN;
            answer.len() == span.steps && answer.iter().all(|v| (low - room..=high + room).contains(v))
        };
        if !spans.iter().zip(&answers).all(sound) {
            return None;
        }
        let next = answers.pop()?;
        let errors = spans
            .iter()
            .zip(answers)
            .map(|(span, answer)| values[span.origin..].iter().zip(answer).map(|(v, p)| v - p).collect())
            .collect();
        Some(Self { model, errors, next })
    }

    /// Mean absolute error.
    fn loss(&self) -> f64 {
        mean(self.errors.iter().flatten().map(|e| e.abs()))
    }

    /// Mean absolute error of what `back` makes of predictions.
    pub(super) fn loss_as(&self, values: &[f64], spans: &[Span], back: impl Fn(f64) -> f64) -> f64 {
        let rows = spans.iter().zip(&self.errors);
        mean(rows.flat_map(|(span, row)| {
            values[span.origin..].iter().zip(row).map(|(v, e)| (back(*v) - back(v - e)).abs()).collect::<Vec<_>>()
        }))
    }
}

/// Those of the models that could.
pub(super) fn candidates(models: &[Model], trial: &Trial<'_>) -> Vec<Candidate> {
    models.iter().filter_map(|&model| Candidate::try_one(model, trial)).collect()
}

/// The weighted mean of several models.
pub(super) struct Combination {
    /// What it says about the future.
    pub(super) next: Vec<f64>,
    /// What it would have been wrong by, `[origin][step]`.
    pub(super) errors: Vec<Vec<f64>>,
}

impl Combination {
    /// Mean absolute error.
    pub(super) fn loss(&self) -> f64 {
        mean(self.errors.iter().flatten().map(|e| e.abs()))
    }
}

/// Weights fall with the third power of a model's mean absolute error. Simple models stay out while two others are
/// there, unless they do better than all of those. `None` without a model.
pub(super) fn combine(candidates: &[Candidate]) -> Option<Combination> {
    let losses: Vec<f64> = candidates.iter().map(|c| c.loss().max(LOSS_MIN)).collect();
    let able = candidates.iter().zip(&losses).filter(|(c, _)| !c.model.is_simple());
    let bar = if able.clone().count() < 2 { f64::INFINITY } else { able.map(|a| *a.1).fold(f64::INFINITY, f64::min) };
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let weights: Vec<f64> = candidates
        .iter()
        .zip(&losses)
        .map(|(c, &loss)| if c.model.is_simple() && loss > bar { 0.0 } else { (best / loss).powi(WEIGHT_POWER) })
        .collect();
    let all: f64 = weights.iter().sum();
    let first = candidates.first()?;
    let mut next = vec![0.0; first.next.len()];
    let mut errors: Vec<Vec<f64>> = first.errors.iter().map(|row| vec![0.0; row.len()]).collect();
    let add = |sum: &mut [f64], row: &[f64], weight: f64| {
        sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * v);
    };
    for (candidate, weight) in candidates.iter().zip(weights) {
        add(&mut next, &candidate.next, weight / all);
        errors.iter_mut().zip(&candidate.errors).for_each(|(sum, row)| add(sum, row, weight / all));
    }
    Some(Combination { next, errors })
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0));
    if count > 0.0 { sum / count } else { f64::INFINITY }
}
