//! The season of a series: how long it is and how much of the movement it explains.
//!
//! Candidate lengths are the peaks of the autocorrelation (by FFT) of the detrended series. A candidate counts only
//! if the pattern learnt from the first two thirds of the series explains the last third: the strength is that
//! out-of-sample share of variance (after Wang, Smith and Hyndman 2006, who measure it in sample), so that noise and
//! random walks have none. The length is sharpened on its multiples and snapped to the calendar when it is as near as
//! the grid can tell.
use crate::grid::Grid;
use crate::spectrum::autocorrelation;

#[cfg(test)]
mod tests;

/// A season.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Season {
    /// Length in nanoseconds.
    pub period_ns: i64,
    /// Share of the detrended variance that the repeating pattern predicts out of sample, in (0, 1].
    pub strength: f64,
}

/// Cells looked at, the newest.
const CELLS_MAX: usize = 16_384;
/// Whole seasons that must have been seen.
const CYCLES_MIN: usize = 3;
/// Cells in all that are needed.
const CELLS_MIN: usize = 12;
/// Weakest season that is reported when it has been seen often, and what is asked on top, divided by the number of
/// times: wandering noise repeats itself three times easily, ten times hardly.
const STRENGTH_MIN: f64 = 0.15;
const STRENGTH_MIN_ONCE: f64 = 1.0;
/// A shorter season is preferred when it loses less than this.
const SHORTER_PREFERRED: f64 = 0.05;
/// Peaks tried.
const PEAKS_MAX: usize = 8;
/// Height of a peak over the valley before it.
const PROMINENCE_MIN: f64 = 0.1;

const SECOND: i64 = 1_000_000_000;
const CALENDAR: [i64; 14] = [
    SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    5 * 60 * SECOND,
    10 * 60 * SECOND,
    15 * 60 * SECOND,
    30 * 60 * SECOND,
    3_600 * SECOND,
    6 * 3_600 * SECOND,
    8 * 3_600 * SECOND,
    12 * 3_600 * SECOND,
    24 * 3_600 * SECOND,
    7 * 24 * 3_600 * SECOND,
];

/// Finds the strongest season of rows `(ts in ns, value)`; irregular rows are put on a grid of their median step.
/// `None`: no season, or fewer than 12 cells or 3 seasons of data. O(n log n).
pub fn find(ts: &[i64], values: &[f64]) -> Option<Season> {
    let grid = Grid::new(ts, values, CELLS_MAX)?;
    let (period, strength) = strongest(&grid.values)?;
    let n = grid.values.len() as f64;
    let period_ns = snap(period * grid.step as f64, grid.step as f64 * (period / n).max(0.02));
    Some(Season { period_ns, strength })
}

/// To the calendar, if that is within the error of the estimate.
fn snap(period_ns: f64, error_ns: f64) -> i64 {
    let nearest =
        CALENDAR.iter().copied().find(|&c| (c as f64 - period_ns).abs() <= (2.0 * error_ns).max(0.01 * period_ns));
    nearest.unwrap_or(period_ns.round().clamp(1.0, i64::MAX as f64) as i64)
}

/// Strongest season of regular values, as (cells, strength).
pub(crate) fn strongest(values: &[f64]) -> Option<(f64, f64)> {
    let flat = detrended(values)?;
    let n = flat.len();
    let lag_max = n / CYCLES_MIN;
    let correlations = autocorrelation(&flat, (n / 2).max(lag_max));
    if correlations.is_empty() {
        return None;
    }
    let mut found: Vec<(f64, f64)> = peaks(&correlations[..=lag_max.min(correlations.len() - 1)])
        .into_iter()
        .filter_map(|lag| {
            let sharp = sharpen(&correlations, lag);
            let whole = sharp.round();
            let width = (whole as usize).max(2);
            if width > n / CYCLES_MIN {
                return None;
            }
            let local = about_level(&flat, width);
            // most seasons are whole numbers of cells: a fraction must be better to be believed
            let rounded = strength(&local, width, whole);
            let exact = if sharp == whole { rounded } else { strength(&local, width, sharp) };
            Some(if exact > rounded + 0.01 { (sharp, exact) } else { (whole, rounded) })
        })
        .filter(|&(period, strength)| strength >= STRENGTH_MIN + STRENGTH_MIN_ONCE * period / n as f64)
        .collect();
    let best = found.iter().map(|candidate| candidate.1).fold(f64::NEG_INFINITY, f64::max);
    found.retain(|candidate| candidate.1 >= best - SHORTER_PREFERRED);
    found.into_iter().min_by(|a, b| a.0.total_cmp(&b.0))
}

/// How much of the movement a season of `period` cells explains out of sample; `None` when it was not seen three
/// times or there is no spread.
pub(crate) fn strength_of(values: &[f64], period: usize) -> Option<f64> {
    if period < 2 || CYCLES_MIN * period > values.len() {
        return None;
    }
    Some(strength(&about_level(&detrended(values)?, period), period, period as f64))
}

/// Values minus their straight line, scaled to unit variance; `None` when there are too few or they have no spread.
fn detrended(values: &[f64]) -> Option<Vec<f64>> {
    let n = values.len();
    if n < CELLS_MIN {
        return None;
    }
    let largest = values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    if !(largest > 0.0 && largest.is_finite()) {
        return None;
    }
    let scaled: Vec<f64> = values.iter().map(|v| v / largest).collect();
    let centre = (n as f64 - 1.0) / 2.0;
    let mean = scaled.iter().sum::<f64>() / n as f64;
    let (mut xy, mut xx) = (0.0, 0.0);
    for (i, v) in scaled.iter().enumerate() {
        let x = i as f64 - centre;
        xy += x * (v - mean);
        xx += x * x;
    }
    let slope = xy / xx;
    let mut flat: Vec<f64> = scaled.iter().enumerate().map(|(i, v)| v - mean - slope * (i as f64 - centre)).collect();
    let deviation = (flat.iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
    if deviation <= 1e-12 {
        return None;
    }
    flat.iter_mut().for_each(|v| *v /= deviation);
    Some(flat)
}

/// Lags (>= 2) of the highest local maxima that stand out from the valley before them.
fn peaks(correlations: &[f64]) -> Vec<usize> {
    let mut valley = f64::INFINITY;
    let mut found = Vec::new();
    for lag in 1..correlations.len() {
        let here = correlations[lag];
        valley = valley.min(here);
        let above_next = correlations.get(lag + 1).is_none_or(|&next| here >= next);
        if lag >= 2 && above_next && here > correlations[lag - 1] && here > 0.0 && here - valley >= PROMINENCE_MIN {
            found.push(lag);
        }
    }
    found.sort_by(|&a, &b| correlations[b].total_cmp(&correlations[a]).then(a.cmp(&b)));
    found.truncate(PEAKS_MAX);
    found
}

/// The period in fractions of a cell, from the peaks near its multiples: an error of half a cell is shared by all
/// cycles.
fn sharpen(correlations: &[f64], lag: usize) -> f64 {
    let mut period = lag as f64;
    let mut cycles = 2.0;
    while (cycles * period + 2.0) < correlations.len() as f64 {
        let near = (cycles * period).round() as usize;
        let reach = ((0.5 * period / cycles) as usize).clamp(1, 8).min(near - 1);
        let peak = (near - reach..=(near + reach).min(correlations.len() - 2))
            .max_by(|&a, &b| correlations[a].total_cmp(&correlations[b]))
            .unwrap_or(near);
        if correlations[peak] <= 0.0 {
            break;
        }
        let (a, b, c) = (correlations[peak - 1], correlations[peak], correlations[peak + 1]);
        let bend = a - 2.0 * b + c;
        let offset = if bend < 0.0 { (0.5 * (a - c) / bend).clamp(-0.5, 0.5) } else { 0.0 };
        let sharper = (peak as f64 + offset) / cycles;
        if (sharper - lag as f64).abs() > 0.75 {
            // followed the wrong peaks
            return lag as f64;
        }
        period = sharper;
        cycles += 1.0;
    }
    period
}

/// Share of the variance of the last third that the mean pattern of the first two thirds explains, of values about
/// their moving level. The period is at least 1 and nearly `width`.
fn strength(local: &[f64], width: usize, period: f64) -> f64 {
    let n = local.len();
    let split = n - (n / 3).max(width);
    // counted up, for a remainder of floats is slow; exact for whole periods
    let mut phase = 0.0;
    let mut next_slot = || {
        let slot = (phase as usize).min(width - 1);
        phase += 1.0;
        phase -= if phase < period { 0.0 } else { period };
        slot
    };
    let mut pattern = vec![(0.0, 0.0); width];
    for v in &local[..split] {
        let cell = &mut pattern[next_slot()];
        cell.0 += v;
        cell.1 += 1.0;
    }
    let (mut explained, mut total) = (0.0, 0.0);
    for v in &local[split..] {
        let (sum, count) = pattern[next_slot()];
        let expected = if count > 0.0 { sum / count } else { 0.0 };
        explained += v * v - (v - expected) * (v - expected);
        total += v * v;
    }
    if total > 0.0 { explained / total } else { f64::NEG_INFINITY }
}

/// Values minus the mean of the `width` values around them (fewer at the ends).
fn about_level(values: &[f64], width: usize) -> Vec<f64> {
    let n = values.len();
    let mut sums = Vec::with_capacity(n + 1);
    let mut sum = 0.0;
    sums.push(0.0);
    for v in values {
        sum += v;
        sums.push(sum);
    }
    (0..n)
        .map(|i| {
            let from = i.saturating_sub(width / 2).min(n - width);
            values[i] - (sums[from + width] - sums[from]) / width as f64
        })
        .collect()
}
