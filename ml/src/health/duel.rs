//! Which of two versions foretold the same rows better?
//!
//! Differences of their losses, averaged over blocks of neighbouring rows so that what neighbours share does not count as
//! evidence many times; then a t-test on the means of blocks (Diebold and Mariano 1995, with batch means).
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Rows of a block, over all series in the order of time.
const BLOCK: u32 = 64;
/// Fewer blocks decide nothing.
const BLOCKS_MIN: u64 = 6;

/// Losses of two versions on the same rows.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Duel {
    rows: u32,
    sum: f64,
    blocks: u64,
    means: f64,
    squares: f64,
}

impl Duel {
    /// Adds the losses of one row.
    pub fn observe(&mut self, first: f64, second: f64) {
        self.sum += first - second;
        self.rows += 1;
        if self.rows == BLOCK {
            let mean = self.sum / f64::from(BLOCK);
            self.blocks += 1;
            self.means += mean;
            self.squares += mean * mean;
            (self.rows, self.sum) = (0, 0.0);
        }
    }

    /// How likely the second would look this much better than the first, or more, if it were not: near 0 the second is
    /// better, near 1 the first. `None` with fewer than six blocks of 64 rows.
    pub fn p_second_not_better(&self) -> Option<f64> {
        if self.blocks < BLOCKS_MIN {
            return None;
        }
        let n = self.blocks as f64;
        let mean = self.means / n;
        let variance = (self.squares / n - mean * mean).max(0.0) * n / (n - 1.0);
        if variance <= 1e-24 * (1.0 + mean * mean) {
            return Some(if mean > 0.0 {
                0.0
            } else if mean < 0.0 {
                1.0
            } else {
                0.5
            });
        }
        let t = mean / (variance / n).sqrt();
        Some(StudentsT::new(0.0, 1.0, n - 1.0).ok()?.sf(t))
    }
}
