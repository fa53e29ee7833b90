//! A series as the sum of a trend, its seasons and a rest.
//!
//! Seasons and trend come from MSTL (Bandara, Hyndman and Bergmeir 2021: loess in turns, season after season). Without a
//! season the trend is a loess of its own: straight lines through the nearest fifth of the series, weighted by distance
//! (Cleveland 1979). Irregular rows are put on a grid of their median step first, so answers are a value for each cell.
use augurs::mstl::stlrs;

use crate::error::{Error, Result};
use crate::forecast::seasons::Seasons;
use crate::grid::Grid;

/// The parts of a series, a value for each cell; their sum is the series.
#[derive(Clone, Debug, PartialEq)]
pub struct Decomposition {
    /// Time of each cell, ns UTC.
    pub ts: Vec<i64>,
    /// Where the level goes.
    pub trend: Vec<f64>,
    /// What repeats, the sum of all seasons; zeros when nothing does.
    pub seasonal: Vec<f64>,
    /// What is left.
    pub residual: Vec<f64>,
}

/// Cells looked at, the newest.
const CELLS_MAX: usize = 16_384;
/// Cells that are needed.
const CELLS_MIN: usize = 3;
/// Shares of the series that a line of the trend is drawn through, at least and at most that many cells.
const SPAN: f64 = 0.2;
const SPAN_MIN: usize = 7;
const SPAN_MAX: usize = 1_001;

/// Decomposes rows sorted by time; those that are not finite are left out. The season is found from the data when
/// `season_ns` is `None`; one that was not seen twice explains nothing. `Ok(None)` with fewer than three cells.
///
/// # Errors
/// `Invalid` for a season that is not positive.
pub fn decompose(ts: &[i64], values: &[f64], season_ns: Option<i64>) -> Result<Option<Decomposition>> {
    if let Some(season) = season_ns.filter(|&season| season <= 0) {
        return Err(Error::Invalid(format!(
            "a season of {season} ns is not possible, give one above 0 or none to have it found"
        )));
    }
    let Some(grid) = Grid::new(ts, values, CELLS_MAX) else { return Ok(None) };
    let n = grid.values.len();
    if n < CELLS_MIN {
        return Ok(None);
    }
    let times = (0..n as i64).map(|i| grid.start.saturating_add(grid.step.saturating_mul(i))).collect();
    let largest = grid.values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    if grid.values.iter().all(|v| *v == grid.values[0]) {
        let zeros = vec![0.0; n];
        return Ok(Some(Decomposition { ts: times, trend: grid.values, seasonal: zeros.clone(), residual: zeros }));
    }
    // sums of values near the end of the number line do not exist
    let scaled: Vec<f64> = grid.values.iter().map(|v| v / largest).collect();
    let season = season_ns.map(|ns| (ns as f64 / grid.step as f64).round() as usize);
    let seasons = Seasons::find(&scaled, season, grid.step);
    let (trend, seasonal) =
        seasonal_parts(&scaled, seasons.within(n)).unwrap_or_else(|| (smooth(&scaled), vec![0.0; n]));
    let back = |part: &[f64]| -> Vec<f64> { part.iter().map(|v| v * largest).collect() };
    let residual: Vec<f64> = scaled.iter().zip(&trend).zip(&seasonal).map(|((v, t), s)| v - t - s).collect();
    Ok(Some(Decomposition { ts: times, trend: back(&trend), seasonal: back(&seasonal), residual: back(&residual) }))
}

/// Trend and seasons by MSTL; `None` without a season.
fn seasonal_parts(values: &[f64], periods: &[usize]) -> Option<(Vec<f64>, Vec<f64>)> {
    if periods.is_empty() {
        return None;
    }
    let parts = stlrs::Mstl::params().fit(values, periods).ok()?;
    let mut seasonal = vec![0.0; values.len()];
    for season in parts.seasonal() {
        seasonal.iter_mut().zip(season).for_each(|(sum, v): (&mut f64, &f64)| *sum += v);
    }
    let trend = parts.trend().to_vec();
    trend.iter().chain(&seasonal).all(|v: &f64| v.is_finite()).then_some((trend, seasonal))
}

/// Local straight lines with tricube weights.
fn smooth(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let span = ((n as f64 * SPAN) as usize).clamp(SPAN_MIN, SPAN_MAX).min(n);
    (0..n)
        .map(|i| {
            let from = i.saturating_sub(span / 2).min(n - span);
            let reach = (i - from).max(from + span - 1 - i) as f64 + 1.0;
            let (mut w, mut wx, mut wxx, mut wy, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for (j, y) in values[from..from + span].iter().enumerate() {
                let x = (from + j) as f64 - i as f64;
                let weight = (1.0 - (x.abs() / reach).powi(3)).powi(3);
                w += weight;
                wx += weight * x;
                wxx += weight * x * x;
                wy += weight * y;
                wxy += weight * x * y;
            }
            // the line at x = 0
            let determinant = w * wxx - wx * wx;
            if determinant > 0.0 { (wxx * wy - wx * wxy) / determinant } else { wy / w }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::f64::consts::TAU;

    const HOUR: i64 = 3_600_000_000_000;

    fn times(n: usize) -> Vec<i64> {
        (0..n as i64).map(|i| i * HOUR).collect()
    }

    #[test]
    fn a_line_with_a_day_comes_apart_into_both() {
        let day = |i: usize| 5.0 * (i as f64 * TAU / 24.0).sin();
        let values: Vec<f64> = (0..480).map(|i| 100.0 + 0.1 * i as f64 + day(i)).collect();
        for season in [None, Some(24 * HOUR)] {
            let parts = decompose(&times(480), &values, season).unwrap().unwrap();
            for (i, value) in values.iter().enumerate() {
                let sum = parts.trend[i] + parts.seasonal[i] + parts.residual[i];
                assert!((sum - value).abs() < 1e-9, "{i}");
                assert!((parts.seasonal[i] - day(i)).abs() < 0.5, "{i}: {}", parts.seasonal[i]);
                assert!((parts.trend[i] - 100.0 - 0.1 * i as f64).abs() < 0.5, "{i}: {}", parts.trend[i]);
            }
        }
    }

    #[test]
    fn without_a_season_a_line_is_all_trend() {
        let values: Vec<f64> = (0..100).map(|i| 3.0 - 2.0 * f64::from(i)).collect();
        let parts = decompose(&times(100), &values, None).unwrap().unwrap();
        assert_eq!(parts.ts, times(100));
        assert!(parts.seasonal.iter().all(|v| *v == 0.0));
        assert!(parts.residual.iter().all(|v| v.abs() < 1e-9), "{:?}", parts.residual);
    }

    #[test]
    fn a_constant_is_exactly_its_trend() {
        let parts = decompose(&times(50), &[0.1; 50], None).unwrap().unwrap();
        assert_eq!(
            parts,
            Decomposition { ts: times(50), trend: vec![0.1; 50], seasonal: vec![0.0; 50], residual: vec![0.0; 50] }
        );
    }

    #[test]
    fn too_few_rows_have_no_parts_and_a_season_must_be_positive() {
        assert_eq!(decompose(&[], &[], None), Ok(None));
        assert_eq!(decompose(&times(4), &[1.0, f64::NAN, f64::INFINITY, 2.0], None), Ok(None));
        assert!(decompose(&times(9), &[1.0; 9], Some(0)).is_err());
        let long = decompose(&times(9), &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0], Some(400 * HOUR)).unwrap();
        assert!(long.unwrap().seasonal.iter().all(|v| *v == 0.0));
    }

    proptest! {
        #[test]
        fn the_parts_of_any_input_are_finite_and_as_long_as_another(
            rows in prop::collection::vec((any::<i64>(), any::<f64>()), 0..80),
            season in prop_oneof![Just(None), (1i64..i64::MAX).prop_map(Some)],
        ) {
            let (mut ts, values): (Vec<i64>, Vec<f64>) = rows.into_iter().unzip();
            ts.sort_unstable();
            if let Some(parts) = decompose(&ts, &values, season).unwrap() {
                prop_assert!(parts.ts.len() <= CELLS_MAX);
                for part in [&parts.trend, &parts.seasonal] {
                    prop_assert_eq!(part.len(), parts.ts.len());
                    prop_assert!(part.iter().all(|v| !v.is_nan()));
                }
            }
        }
    }
}
