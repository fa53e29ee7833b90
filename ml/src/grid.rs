//! Irregular rows on a regular grid.
//!
//! The step is the median time between rows; each cell is the mean of its rows, gaps are filled by linear
//! interpolation.

/// Values at `start + i * step`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    /// Time of the first cell, ns.
    pub(crate) start: i64,
    /// Time between cells, ns, >= 1.
    pub(crate) step: i64,
    /// Finite values.
    pub(crate) values: Vec<f64>,
}

impl Grid {
    /// The last `cells_max` cells of the rows, which need not be sorted; rows that are not finite are left out.
    /// `None` with fewer than 2 distinct times.
    pub(crate) fn new(ts: &[i64], values: &[f64], cells_max: usize) -> Option<Self> {
        let mut rows: Vec<(i64, f64)> =
            ts.iter().copied().zip(values.iter().copied()).filter(|row| row.1.is_finite()).collect();
        if !rows.is_sorted_by_key(|row| row.0) {
            rows.sort_by_key(|row| row.0);
        }
        let mut steps: Vec<i64> =
            rows.windows(2).map(|w| w[1].0.saturating_sub(w[0].0)).filter(|&step| step > 0).collect();
        let middle = steps.len() / 2;
        let step = if steps.is_empty() { return None } else { *steps.select_nth_unstable(middle).1 };
        let last = rows[rows.len() - 1].0;
        // cells are counted back from the last row, so the newest row is never in a half-filled cell
        let back = |t: i64| ((i128::from(last) - i128::from(t) + i128::from(step / 2)) / i128::from(step)) as u128;
        let cells = back(rows[0].0).saturating_add(1).min(cells_max as u128) as usize;
        let mut sums = vec![(0.0, 0u32); cells];
        for &(t, value) in &rows {
            let back = back(t);
            if back < cells as u128 {
                let cell = &mut sums[cells - 1 - back as usize];
                cell.1 += 1;
                cell.0 += (value - cell.0) / f64::from(cell.1);
            }
        }
        let first = sums.iter().position(|cell| cell.1 > 0)?;
        let cells = cells - first;
        let mut filled: Vec<f64> = Vec::with_capacity(cells);
        for &(value, count) in &sums[first..] {
            filled.push(if count > 0 && value.is_finite() { value } else { f64::NAN });
        }
        interpolate(&mut filled);
        let start = i128::from(last) - i128::from(step) * (cells as i128 - 1);
        Some(Self { start: i64::try_from(start).unwrap_or(i64::MIN), step, values: filled })
    }
}

/// Fills NaN cells from their neighbours; at the ends with the nearest.
pub(crate) fn interpolate(values: &mut [f64]) {
    let mut known: Option<usize> = None;
    for i in 0..values.len() {
        if values[i].is_nan() {
            continue;
        }
        let from = known.map_or(0, |k| k + 1);
        for j in from..i {
            values[j] = match known {
                Some(k) => {
                    let share = (j - k) as f64 / (i - k) as f64;
                    values[k] * (1.0 - share) + values[i] * share
                }
                None => values[i],
            };
        }
        known = Some(i);
    }
    if let Some(k) = known {
        let last = values[k];
        values[k + 1..].fill(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_interpolated_and_jitter_is_rounded_away() {
        let grid = Grid::new(&[0, 11, 19, 50, 60], &[0.0, 1.0, 2.0, 5.0, 6.0], 100).unwrap();
        assert_eq!((grid.start, grid.step), (5, 11));
        let grid = Grid::new(&[0, 10, 20, 50, 60], &[0.0, 1.0, 2.0, 5.0, 6.0], 100).unwrap();
        assert_eq!(grid.values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let grid = Grid::new(&[0, 10, 20, 50, 60], &[0.0, 1.0, 2.0, 5.0, 6.0], 3).unwrap();
        assert_eq!((grid.start, grid.values), (50, vec![5.0, 6.0]));
    }

    #[test]
    fn extreme_times_neither_overflow_nor_allocate() {
        let grid = Grid::new(&[i64::MIN, 0, i64::MAX], &[1.0, 2.0, 3.0], 10).unwrap();
        assert!(grid.values.len() <= 10);
        let grid = Grid::new(&[i64::MIN, i64::MAX - 1, i64::MAX], &[1.0, 2.0, 3.0], 10).unwrap();
        assert!(grid.values.len() <= 10 && grid.values.iter().all(|v| v.is_finite()));
        assert!(Grid::new(&[5, 5], &[1.0, 2.0], 10).is_none());
        assert!(Grid::new(&[], &[], 10).is_none());
    }
}
