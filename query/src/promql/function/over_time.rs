//! Aggregations over the samples of a window.
use super::super::number::{Mean, Sum, quantile};
use super::super::window::Window;

pub(super) fn avg(window: &Window<'_>) -> Option<f64> {
    Some(Mean::of(window.values).value())
}

pub(super) fn sum(window: &Window<'_>) -> Option<f64> {
    Some(Sum::of(window.values).value())
}

pub(super) fn count(window: &Window<'_>) -> Option<f64> {
    Some(window.len() as f64)
}

pub(super) fn first(window: &Window<'_>) -> Option<f64> {
    Some(window.first())
}

pub(super) fn last(window: &Window<'_>) -> Option<f64> {
    Some(window.last())
}

pub(super) fn min(window: &Window<'_>) -> Option<f64> {
    Some(window.values[extreme(window, |new, best| new < best)])
}

pub(super) fn max(window: &Window<'_>) -> Option<f64> {
    Some(window.values[extreme(window, |new, best| new > best)])
}

pub(super) fn ts_of_min(window: &Window<'_>) -> Option<f64> {
    Some(seconds(window, extreme(window, |new, best| new <= best)))
}

pub(super) fn ts_of_max(window: &Window<'_>) -> Option<f64> {
    Some(seconds(window, extreme(window, |new, best| new >= best)))
}

pub(super) fn ts_of_first(window: &Window<'_>) -> Option<f64> {
    Some(seconds(window, 0))
}

pub(super) fn ts_of_last(window: &Window<'_>) -> Option<f64> {
    Some(seconds(window, window.len() - 1))
}

fn seconds(window: &Window<'_>, at: usize) -> f64 {
    window.ts_ms[at] as f64 / 1000.0
}

/// Where the best value is; NaN is worse than all.
fn extreme(window: &Window<'_>, better: impl Fn(f64, f64) -> bool) -> usize {
    let mut best = 0;
    for (at, &value) in window.values.iter().enumerate() {
        if better(value, window.values[best]) || window.values[best].is_nan() {
            best = at;
        }
    }
    best
}

pub(super) fn stdvar(window: &Window<'_>) -> Option<f64> {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for &value in window.values {
        count += 1.0;
        let delta = value - (mean.sum + mean.compensation);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.compensation)));
    }
    Some((squares.sum + squares.compensation) / count)
}

pub(super) fn stddev(window: &Window<'_>) -> Option<f64> {
    stdvar(window).map(f64::sqrt)
}

/// Median of the distances to the median.
pub(super) fn mad(window: &Window<'_>) -> Option<f64> {
    let mut values = window.values.to_vec();
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    Some(quantile(0.5, &mut values))
}

/// Times that the value changed.
pub(super) fn changes(window: &Window<'_>) -> Option<f64> {
    Some(pairs(window, |old, new| new != old && !(new.is_nan() && old.is_nan())))
}

/// Times that a counter started again.
pub(super) fn resets(window: &Window<'_>) -> Option<f64> {
    Some(pairs(window, |old, new| new < old))
}

fn pairs(window: &Window<'_>, which: impl Fn(f64, f64) -> bool) -> f64 {
    window.values.windows(2).filter(|pair| which(pair[0], pair[1])).count() as f64
}
