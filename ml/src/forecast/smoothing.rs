//! Exponential smoothing: a level and one pattern for each season, all following the errors, of which the last is
//! carried on (Taylor 2003, 2010: double seasonal smoothing with first-order errors).
//!
//! How fast each follows is not searched for: a grid of answers is smoothed at once, in one pass, and at each origin
//! the mean of those with the least error so far is the forecast. So a back-test costs no more than a fit.
//!
//! Without a season the model is chosen by AICc (Hyndman et al. 2002), from `augurs`.
use augurs::ets::AutoETS;
use augurs::{Fit, Predict};

use super::backtest::Span;
use super::models::bounds;
use super::seasons::Seasons;

/// Shares of an error that the level, the pattern of a second, shorter season and that of the longest take over, and the
/// share that is left one step later.
const LEVEL: [f64; 5] = [0.003, 0.03, 0.1, 0.3, 0.6];
const SHORTER: [f64; 3] = [0.02, 0.1, 0.3];
const LONGEST: [f64; 3] = [0.05, 0.15, 0.4];
const PERSISTENCE: [f64; 3] = [0.0, 0.5, 0.9];
/// Answers that are averaged.
const BEST: usize = 8;
/// Values smoothed before the first origin, and longest seasons if that is more.
const VALUES_MAX: usize = 4_000;
const SEASONS_MAX: usize = 6;
/// Times a season must have been seen at the first origin.
const CYCLES_MIN: usize = 2;

/// `None` when there is too little to go by.
pub(super) fn smoothed(values: &[f64], seasons: &Seasons, spans: &[Span]) -> Option<Vec<Vec<f64>>> {
    let first = spans.first()?.origin;
    let periods: Vec<usize> = seasons.within(first).iter().copied().filter(|p| CYCLES_MIN * p <= first).collect();
    let Some(&longest) = periods.last() else {
        return spans.iter().map(|span| unseasonal(&values[..span.origin], span.steps)).collect();
    };
    let from = first.saturating_sub(VALUES_MAX.max(SEASONS_MAX * longest));
    let recent = &values[from..];
    let mut grid = Grid::new(&recent[..first - from], &periods);
    // errors count once the start, which knew the first values, is behind
    let counted = ((first - from) / 3).max(longest);
    let mut answers = Vec::with_capacity(spans.len());
    let mut at = 0;
    for span in spans {
        for (i, &value) in recent[..span.origin - from].iter().enumerate().skip(at) {
            grid.update(i, value, i >= counted);
        }
        at = span.origin - from;
        answers.push(grid.ahead(at, span.steps));
    }
    Some(answers)
}

/// All answers at once: each vector has one element for each of them.
struct Grid {
    level_rate: Vec<f64>,
    persistence: Vec<f64>,
    patterns: Vec<Pattern>,
    level: Vec<f64>,
    /// The last error, of which a share is carried on.
    carried: Vec<f64>,
    /// Sum of absolute errors.
    loss: Vec<f64>,
    /// Scratch.
    error: Vec<f64>,
}

/// A season.
struct Pattern {
    period: usize,
    rate: Vec<f64>,
    /// `[place in the season][answer]`
    places: Vec<f64>,
}

impl Grid {
    /// Starts from the first seasons of `past`.
    fn new(past: &[f64], periods: &[usize]) -> Self {
        // a single season has the rates of the longest
        let shorter: &[f64] = if periods.len() > 1 { &SHORTER } else { &SHORTER[..1] };
        let mut answers: Vec<[f64; 4]> = Vec::new();
        for level in LEVEL {
            for &shorter in shorter {
                for longest in LONGEST {
                    answers.extend(PERSISTENCE.map(|persistence| [level, shorter, longest, persistence]));
                }
            }
        }
        let column = |i: usize| -> Vec<f64> { answers.iter().map(|answer| answer[i]).collect() };
        let longest = periods[periods.len() - 1];
        let level = past[..longest].iter().sum::<f64>() / longest as f64;
        let mut rest: Vec<f64> = past.iter().map(|v| v - level).collect();
        let mut patterns = Vec::new();
        for &period in periods {
            let cycles = if 4 * period <= past.len() { 2 } else { 1 };
            let mut means: Vec<f64> = (0..period)
                .map(|place| (0..cycles).map(|cycle| rest[cycle * period + place]).sum::<f64>() / cycles as f64)
                .collect();
            let centre = means.iter().sum::<f64>() / period as f64;
            means.iter_mut().for_each(|v| *v -= centre);
            rest.iter_mut().zip(means.iter().cycle()).for_each(|(v, s)| *v -= s);
            let places = means.iter().flat_map(|&v| std::iter::repeat_n(v, answers.len())).collect();
            patterns.push(Pattern { period, rate: column(if period == longest { 2 } else { 1 }), places });
        }
        let zeros = vec![0.0; answers.len()];
        Self {
            level_rate: column(0),
            persistence: column(3),
            patterns,
            level: vec![level; answers.len()],
            carried: zeros.clone(),
            loss: zeros.clone(),
            error: zeros,
        }
    }

    fn update(&mut self, at: usize, value: f64, counts: bool) {
        let m = self.level.len();
        self.error.iter_mut().zip(&self.level).for_each(|(e, level)| *e = value - level);
        for pattern in &self.patterns {
            let place = &pattern.places[at % pattern.period * m..][..m];
            self.error.iter_mut().zip(place).for_each(|(e, v)| *e -= v);
        }
        for ((e, carried), persistence) in self.error.iter_mut().zip(&mut self.carried).zip(&self.persistence) {
            let all = *e;
            *e -= persistence * *carried;
            *carried = all;
        }
        if counts {
            self.loss.iter_mut().zip(&self.error).for_each(|(sum, e)| *sum += e.abs());
        }
        let rates = self.level_rate.iter().zip(&self.error);
        self.level.iter_mut().zip(rates).for_each(|(level, (rate, e))| *level += rate * e);
        for pattern in &mut self.patterns {
            let place = &mut pattern.places[at % pattern.period * m..][..m];
            let rates = pattern.rate.iter().zip(&self.error);
            place.iter_mut().zip(rates).for_each(|(v, (rate, e))| *v += rate * e);
        }
    }

    /// The mean of the best answers at the `steps` cells from `at` on.
    fn ahead(&self, at: usize, steps: usize) -> Vec<f64> {
        let m = self.level.len();
        let mut best: Vec<usize> = (0..m).collect();
        best.sort_by(|&a, &b| self.loss[a].total_cmp(&self.loss[b]));
        best.truncate(BEST);
        let mut next = vec![0.0; steps];
        for &i in &best {
            let mut carried = self.carried[i];
            for (step, sum) in next.iter_mut().enumerate() {
                carried *= self.persistence[i];
                let seasons = self.patterns.iter().map(|p| p.places[(at + step) % p.period * m + i]).sum::<f64>();
                *sum += (self.level[i] + seasons + carried) / best.len() as f64;
            }
        }
        next
    }
}

/// Most recent values the search for a model without seasons looks at, and the fewest.
const UNSEASONAL_MAX: usize = 250;
const UNSEASONAL_MIN: usize = 12;

/// The model without seasons that AICc prefers.
pub(super) fn unseasonal(values: &[f64], steps: usize) -> Option<Vec<f64>> {
    let recent = &values[values.len().saturating_sub(UNSEASONAL_MAX)..];
    let (low, high) = bounds(recent);
    // its likelihood is a logarithm: without spread there is none
    if recent.len() < UNSEASONAL_MIN || high - low <= 1e-9 {
        return None;
    }
    // the library's own unwraps are reached by degenerate likelihoods only; the fallback is the same as for an error
    let fit = || {
        let model = AutoETS::new(1, "AZN").ok()?.damped(true).ok()?.fit(recent).ok()?;
        let forecast = model.predict(steps, None).ok()?;
        (forecast.point.len() == steps).then_some(forecast.point)
    };
    std::panic::catch_unwind(fit).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_inside_a_week_that_moves_is_followed() {
        let day = [5.0, 1.0, 3.0, 9.0];
        let truth = |i: usize| {
            let weekend = if (i / 4) % 7 >= 5 { -2.0 } else { 0.0 };
            let level = if i < 200 { 10.0 } else { 14.0 };
            level + day[i % 4] + weekend
        };
        let n = 28 * 16;
        let values: Vec<f64> = (0..n).map(truth).collect();
        let mut seasons = Seasons::find(&values, Some(4), 1);
        seasons.add(28);
        let spans = [Span { origin: n - 28, steps: 28 }, Span { origin: n, steps: 28 }];
        let answers = smoothed(&values, &seasons, &spans).unwrap();
        for (span, answer) in spans.iter().zip(answers) {
            for (step, v) in answer.iter().enumerate() {
                let truth = truth(span.origin + step);
                assert!((v - truth).abs() < 0.3, "{span:?} {step}: {v} {truth}");
            }
        }
    }

    #[test]
    fn a_back_test_says_what_a_forecast_from_there_would_have_said() {
        let values: Vec<f64> = (0..240).map(|i| (i * i % 37) as f64 + 10.0 * (i % 12) as f64).collect();
        let seasons = Seasons::find(&values, Some(12), 1);
        let both =
            smoothed(&values, &seasons, &[Span { origin: 180, steps: 9 }, Span { origin: 240, steps: 9 }]).unwrap();
        let early = smoothed(&values[..180], &seasons, &[Span { origin: 180, steps: 9 }]).unwrap();
        assert_eq!(both[0], early[0]);
        assert_ne!(both[0], both[1]);
    }
}
