//! The first rows of a series, kept until they say what kind of series it is.
use crate::Result;
use crate::state::{Put, Reader, malformed};

/// Rows kept.
pub(super) const ROWS: usize = 12;

/// Up to [`ROWS`] rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Start {
    rows: Vec<(i64, f64)>,
}

impl Start {
    /// Adds a row and says whether there are enough now.
    pub(super) fn push(&mut self, ts: i64, value: f64) -> bool {
        self.rows.push((ts, value));
        self.rows.len() >= ROWS
    }

    pub(super) fn rows(&self) -> &[(i64, f64)] {
        &self.rows
    }

    /// Median time between rows, at least 1 ns.
    pub(super) fn step(&self) -> i64 {
        let mut steps: Vec<i64> =
            self.rows.windows(2).map(|w| w[1].0.saturating_sub(w[0].0)).filter(|&s| s > 0).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied().unwrap_or(1)
    }

    /// Whether the rows look like a counter: not negative, rising on half of the steps at least, falling only by a
    /// reset.
    pub(super) fn is_counter(&self) -> bool {
        let (mut rises, mut resets) = (0, 0);
        for w in self.rows.windows(2) {
            let (before, now) = (w[0].1, w[1].1);
            if now > before {
                rises += 1;
            } else if now < before {
                if !is_reset(before, now) {
                    return false;
                }
                resets += 1;
            }
        }
        self.rows.iter().all(|row| row.1 >= 0.0) && resets <= 1 && 2 * rises >= self.rows.len()
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(self.rows.len() as u8);
        for &(ts, value) in &self.rows {
            out.put_i64(ts);
            out.put_f64(value);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let n = usize::from(from.u8()?);
        if n >= ROWS {
            return Err(malformed("more first rows than are ever kept"));
        }
        let rows = (0..n).map(|_| Ok((from.i64()?, from.finite()?))).collect::<Result<_>>()?;
        Ok(Self { rows })
    }
}

/// A counter that starts again starts near zero: a fall by more than half, and not below zero.
pub(super) fn is_reset(before: f64, now: f64) -> bool {
    (0.0..0.5 * before).contains(&now)
}
