//! Rows of one series on a grid that all candidates share.

/// Means of the rows in each of a number of equal cells of time.
#[derive(Clone, Debug)]
pub struct Cells {
    start: i64,
    step: i64,
    counter: bool,
    before: Option<(i64, f64)>,
    /// Mean and number of rows of each.
    cells: Vec<(f64, u32)>,
}

impl Cells {
    /// `cells` cells of `step` ns (at least 1) from `start` on. Of a `counter` the rate counts: the rise since the row before,
    /// or all of it after a reset, by the seconds between.
    pub fn new(start: i64, step: i64, cells: usize, counter: bool) -> Self {
        Self { start, step: step.max(1), counter, before: None, cells: vec![(0.0, 0); cells] }
    }

    /// Adds rows in the order of time; those out of the grid and those that are not finite are left out.
    pub fn add(&mut self, ts: &[i64], values: &[f64]) {
        for (&ts, &value) in ts.iter().zip(values).filter(|row| row.1.is_finite()) {
            let row = if self.counter { self.rate(ts, value) } else { Some(value) };
            let Some(value) = row.filter(|value| value.is_finite()) else { continue };
            let cell = (i128::from(ts) - i128::from(self.start)).div_euclid(i128::from(self.step));
            if let Some((mean, rows)) = usize::try_from(cell).ok().and_then(|cell| self.cells.get_mut(cell)) {
                *rows += 1;
                *mean += (value - *mean) / f64::from(*rows);
            }
        }
    }

    fn rate(&mut self, ts: i64, value: f64) -> Option<f64> {
        let (then, before) = self.before.replace((ts, value))?;
        let seconds = (i128::from(ts) - i128::from(then)) as f64 / 1e9;
        let rise = if value < before { value } else { value - before };
        (seconds > 0.0).then(|| rise / seconds)
    }

    /// The mean of each cell, NaN without rows.
    pub fn means(&self) -> impl Iterator<Item = f64> + '_ {
        self.cells.iter().map(|&(mean, rows)| if rows > 0 && mean.is_finite() { mean } else { f64::NAN })
    }
}
