//! `matrix_profile`: how far the last window of values is from everything the series did before.
//!
//! Yeh et al., "Matrix profile I" (ICDM 2016), to the left only, as a stream needs it: the distance of the last 32 values
//! to the nearest of all windows within the 1,024 values before them, each brought to mean 0 and spread 1, so that shapes
//! are compared. A window unlike all others is a discord (Keogh, Lin and Fu 2005); [`Novelty`] turns the distance into a
//! score. A window that hardly moves is not stretched to spread 1: its shape is rounding and noise (after De Paepe et al.
//! 2020, "Eliminating noise in the matrix profile").
//!
//! All distances are computed anew for each value, in some microseconds: sums that are carried along
//! would drift, and would have to be saved. Saved: the values, < 5 KiB.
use super::Verdict;
use super::novelty::Novelty;
use super::recent::Recent;
use crate::Result;
use crate::state::Reader;

/// Values in a window.
const WINDOW: usize = 32;
/// Values that windows of the past lie in; none of them is part of the last window.
const PAST: usize = 1024;
/// Values before the first distance.
const FIRST: u64 = 4 * WINDOW as u64;
/// Windows with less spread than this share of the series' are flat.
const FLAT: f64 = 0.1;
/// Distances scatter by no less, as shares of the largest.
const SPREAD_MIN: f64 = 0.02;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct MatrixProfile {
    novelty: Novelty,
    recent: Recent,
}

impl MatrixProfile {
    pub(super) fn new() -> Self {
        Self { novelty: Novelty::new(), recent: Recent::new(PAST + WINDOW) }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        let Some(z) = self.novelty.standardise(value) else { return Verdict::NONE };
        if z.is_infinite() {
            return self.novelty.off_a_constant();
        }
        self.recent.push(z);
        if self.recent.rows() < FIRST {
            return Verdict::NONE;
        }
        let (past, window) = self.recent.last().split_at(self.recent.last().len() - WINDOW);
        self.novelty.judge(nearest(past, window), SPREAD_MIN, WINDOW)
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.novelty.save(out);
        self.recent.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { novelty: Novelty::load(from)?, recent: Recent::load(from, PAST + WINDOW)? })
    }
}

/// Distance from `window` to the nearest window of `past` (as long at least), from 0 to 1 for opposite shapes.
pub(super) fn nearest(past: &[f32], window: &[f32]) -> f64 {
    let length = WINDOW as f64;
    let (mean, spread) = moments(sum(window, |v| v), sum(window, |v| v * v));
    let shape: [f32; WINDOW] = std::array::from_fn(|i| ((f64::from(window[i]) - mean) / spread) as f32);
    let square = sum(&shape, |v| v * v);
    let places = past.len() - WINDOW + 1;
    // place by place within, so that all places go on at once
    let mut products = [0.0f32; PAST];
    let products = &mut products[..places];
    for (i, factor) in shape.iter().enumerate() {
        for (product, value) in products.iter_mut().zip(&past[i..]) {
            *product += factor * value;
        }
    }
    let (mut total, mut squares) = (sum(&past[..WINDOW], |v| v), sum(&past[..WINDOW], |v| v * v));
    let mut least = f64::INFINITY;
    for place in 0..places {
        if place > 0 {
            let (old, new) = (f64::from(past[place - 1]), f64::from(past[place + WINDOW - 1]));
            total += new - old;
            squares += new * new - old * old;
        }
        let (_, spread) = moments(total, squares);
        let variance = (squares / length - (total / length).powi(2)).max(0.0);
        // the shape has mean 0, so the mean of the other window drops out of the product
        let distance = square + length * variance / (spread * spread) - 2.0 * f64::from(products[place]) / spread;
        least = least.min(distance);
    }
    (least.max(0.0) / (4.0 * length)).sqrt()
}

fn sum(values: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    values.iter().map(|&v| f(f64::from(v))).sum()
}

/// Mean, and spread but no less than that of a flat window, from the sums of a window's values and of their squares.
fn moments(total: f64, squares: f64) -> (f64, f64) {
    let mean = total / WINDOW as f64;
    (mean, (squares / WINDOW as f64 - mean * mean).max(FLAT * FLAT).sqrt())
}
