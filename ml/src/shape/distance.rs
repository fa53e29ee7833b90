//! Distances of shapes.
use realfft::num_complex::Complex;

use crate::grid::interpolate;
use crate::spectrum::Spectrum;

/// Cells of the common grid: as many as the middle series has rows, within these bounds.
const CELLS_MIN: usize = 8;
const CELLS_MAX: usize = 256;

/// The distance of each pair.
pub(super) struct Distances {
    len: usize,
    values: Vec<f32>,
}

impl Distances {
    /// Of series with a finite row each.
    pub(super) fn new(series: &[(&[i64], &[f64])]) -> Self {
        let shapes = on_one_grid(series);
        let cells = shapes.first().map_or(0, Vec::len);
        let mut spectrum = Spectrum::new(cells, cells.saturating_sub(1));
        let transforms: Vec<Option<Vec<Complex<f64>>>> =
            shapes.into_iter().map(|shape| normalised(shape).map(|s| spectrum.forward(s.into_iter()))).collect();
        let len = series.len();
        let mut values = vec![0.0; len * len];
        for (i, a) in transforms.iter().enumerate() {
            for (j, b) in transforms.iter().enumerate().skip(i + 1) {
                let distance = match (a, b) {
                    (Some(a), Some(b)) => {
                        let best = spectrum.cross(a, b).into_iter().fold(-1.0, f64::max);
                        (1.0 - best).clamp(0.0, 2.0) as f32
                    }
                    // two constants are alike; a constant has nothing in common with others
                    (None, None) => 0.0,
                    _ => 1.0,
                };
                values[i * len + j] = distance;
                values[j * len + i] = distance;
            }
        }
        Self { len, values }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// From one series to all.
    pub(super) fn of(&self, series: usize) -> &[f32] {
        &self.values[series * self.len..(series + 1) * self.len]
    }
}

/// Means of the cells of one grid over all times, gaps filled by interpolation.
fn on_one_grid(series: &[(&[i64], &[f64])]) -> Vec<Vec<f64>> {
    let finite = |(ts, values): &(&[i64], &[f64])| -> Vec<(i64, f64)> {
        ts.iter().copied().zip(values.iter().copied()).filter(|row| row.1.is_finite()).collect()
    };
    let rows: Vec<Vec<(i64, f64)>> = series.iter().map(finite).collect();
    let times = || rows.iter().flatten().map(|row| i128::from(row.0));
    let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let mut lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    let cells = lengths.get(lengths.len() / 2).copied().unwrap_or(0).clamp(CELLS_MIN, CELLS_MAX);
    let span = last - first + 1;
    let on_grid = |rows: Vec<(i64, f64)>| {
        let mut means = vec![(0.0, 0u32); cells];
        for (ts, value) in rows {
            let cell = &mut means[((i128::from(ts) - first) * cells as i128 / span) as usize];
            cell.1 += 1;
            cell.0 += (value - cell.0) / f64::from(cell.1);
        }
        let mean = |(mean, rows): (f64, u32)| if rows > 0 && mean.is_finite() { mean } else { f64::NAN };
        let mut values: Vec<f64> = means.into_iter().map(mean).collect();
        interpolate(&mut values);
        values
    };
    rows.into_iter().map(on_grid).collect()
}

/// About its mean, of length 1; `None` without spread.
fn normalised(mut shape: Vec<f64>) -> Option<Vec<f64>> {
    let largest = shape.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if !(largest.is_finite() && largest > 0.0) {
        return None;
    }
    shape.iter_mut().for_each(|v| *v /= largest);
    let mean = shape.iter().sum::<f64>() / shape.len() as f64;
    shape.iter_mut().for_each(|v| *v -= mean);
    let length = shape.iter().map(|v| v * v).sum::<f64>().sqrt();
    if length <= 1e-12 {
        return None;
    }
    shape.iter_mut().for_each(|v| *v /= length);
    Some(shape)
}
