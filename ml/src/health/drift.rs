//! Do residuals lie where they lay in training?
//!
//! The population stability index of two histograms, sum of (q - p) ln(q / p), is under no change about a chi-squared
//! variable divided by nm / (n + m), n and m the counts (Yurdakul 2018, "Statistical properties of population stability
//! index"). Rows of a series are not independent, so the counts of a histogram scatter more than those of independent
//! rows: how much more, and how unevenly, is measured in training between blocks of rows, and corrects the statistic and its
//! degrees of freedom (Rao and Scott 1981, of second order).
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::Health;
use crate::Result;
use crate::state::{Put, Reader};

/// Borders of the histogram, in shares of the distance from the centre to the boundary.
const BORDERS: [f64; 10] = [-1.0, -0.5, -0.3, -0.15, -0.05, 0.05, 0.15, 0.3, 0.5, 1.0];
const BINS: usize = BORDERS.len() + 1;
/// Rows of a block.
const BLOCK: u16 = 64;
/// Added to each count.
const SMOOTHING: f64 = 0.5;
/// Fewer rows on either side say nothing.
const ROWS_MIN: u64 = 50;

/// A histogram of residuals, and how much it scatters between blocks.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Residuals {
    counts: [u64; BINS],
    /// Of whole blocks: their number, counts and sums of the products of counts.
    blocks: u64,
    in_blocks: [u64; BINS],
    products: [[u64; BINS]; BINS],
}

/// The block of a series that is not whole yet.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Block {
    rows: u16,
    counts: [u16; BINS],
}

/// A distance between two histograms and what it is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Population stability index.
    pub psi: f64,
    /// How likely as large a distance was without a change.
    pub p_value: f64,
}

impl Residuals {
    pub(super) fn observe(&mut self, block: &mut Block, deviation: f64, half: f64) {
        if !(half > 0.0 && half.is_finite() && deviation.is_finite()) {
            return;
        }
        let share = deviation / half;
        let bin = BORDERS.partition_point(|&border| border < share);
        self.counts[bin] += 1;
        block.counts[bin] += 1;
        block.rows += 1;
        if block.rows == BLOCK {
            self.blocks += 1;
            for (bin, &count) in block.counts.iter().enumerate() {
                self.in_blocks[bin] += u64::from(count);
                for (product, &other) in self.products[bin].iter_mut().zip(&block.counts) {
                    *product += u64::from(count) * u64::from(other);
                }
            }
            *block = Block::default();
        }
    }

    fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What the variances of counts are multiplied with because rows are not independent: the mean, and the squared
    /// coefficient of variation, of the eigenvalues of the covariance of counts in units of that of independent rows. Never
    /// below 1; (1, 0) with fewer than two blocks.
    fn design(&self) -> (f64, f64) {
        let used: Vec<usize> = (0..BINS).filter(|&bin| self.in_blocks[bin] > 0).collect();
        if self.blocks < 2 || used.len() < 2 {
            return (1.0, 0.0);
        }
        let blocks = self.blocks as f64;
        let mean = |bin: usize| self.in_blocks[bin] as f64 / blocks;
        let (mut trace, mut squares) = (0.0, 0.0);
        for &a in &used {
            for &b in &used {
                let covariance = (self.products[a][b] as f64 - blocks * mean(a) * mean(b)) / (blocks - 1.0);
                squares += covariance * covariance / (mean(a) * mean(b));
                if a == b {
                    trace += covariance / mean(a);
                }
            }
        }
        let values = (used.len() - 1) as f64;
        let average = trace / values;
        if average <= 1.0 {
            return (1.0, 0.0);
        }
        (average, (squares / values / (average * average) - 1.0).max(0.0))
    }

    fn shares(&self) -> [f64; BINS] {
        let rows = self.rows() as f64 + SMOOTHING * BINS as f64;
        self.counts.map(|count| (count as f64 + SMOOTHING) / rows)
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u64(self.blocks);
        for counts in [&self.counts, &self.in_blocks].into_iter().chain(&self.products) {
            counts.iter().for_each(|&count| out.put_u64(count));
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let blocks = from.u64()?;
        let mut counts = || -> Result<[u64; BINS]> {
            let mut counts = [0; BINS];
            for count in &mut counts {
                // no sum of counts overflows
                *count = from.u64()?.min(u64::MAX >> 8);
            }
            Ok(counts)
        };
        let mut residuals = Self { blocks, counts: counts()?, in_blocks: counts()?, products: Default::default() };
        for row in &mut residuals.products {
            *row = counts()?;
        }
        Ok(residuals)
    }
}

impl Health {
    /// How far residuals lie from where they lay in `training`. `None` with fewer than 50 rows on either side.
    pub fn drift(&self, training: &Self) -> Option<Drift> {
        let (now, then) = (&self.residuals, &training.residuals);
        let (n, m) = (now.rows(), then.rows());
        if n < ROWS_MIN || m < ROWS_MIN {
            return None;
        }
        let psi = now.shares().iter().zip(then.shares()).map(|(q, p)| (q - p) * (q / p).ln()).sum::<f64>();
        let used = now.counts.iter().zip(&then.counts).filter(|(a, b)| **a + **b > 0).count();
        if used < 2 {
            return Some(Drift { psi, p_value: 1.0 });
        }
        let pairs = n as f64 * m as f64 / (n as f64 + m as f64);
        let (average, uneven) = then.design();
        let null = ChiSquared::new((used - 1) as f64 / (1.0 + uneven)).ok()?;
        Some(Drift { psi, p_value: null.sf(psi * pairs / (average * (1.0 + uneven))) })
    }
}
