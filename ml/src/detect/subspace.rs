//! `subspace`: how far the last window of values is from the shapes that the series is usually made of.
//!
//! Principal components of the windows of 32 values within the last 512 (Sub-PCA of Liu and Paparrizos, "TSB-AD", NeurIPS
//! 2024, which leads that benchmark's simple methods). Components that hold 90 % of the variance span what is usual; a
//! window is measured within by its components in units of their variance and beyond by what is left in units of the mean
//! variance that is left: the distance of Mahalanobis under probabilistic principal components (Tipping and Bishop 1999).
//! [`Novelty`] turns it into a score.
//!
//! Every 64 values the components are found again, so they are a function of the values that are kept, and only these are
//! saved (< 3 KiB).
use super::Verdict;
use super::novelty::Novelty;
use super::principal::{self, SIZE as WINDOW, Symmetric};
use super::recent::Recent;
use crate::Result;
use crate::state::Reader;

/// Values that windows are learnt from.
const PAST: usize = 512;
/// Values between two fits, and before the first.
const REFIT: u64 = 64;
const FIRST: u64 = 128;
const KEPT: usize = PAST + REFIT as usize;
/// Components hold this share of the variance, and are at most so many.
const SHARE: f64 = 0.9;
const COMPONENTS_MAX: usize = WINDOW / 2;
/// No variance is less, in squared spreads of the series.
const VARIANCE_MIN: f64 = 1e-4;
/// Distances, which are about 1, are judged by their logarithm, which scatters by no less.
const SPREAD_MIN: f64 = 0.02;
const DISTANCE_MIN: f64 = 1e-3;

type Window = [f64; WINDOW];

/// Mean, components and their variances, and the mean variance beyond them.
#[derive(Clone, Debug, PartialEq)]
struct Basis {
    mean: Window,
    components: Vec<(f64, Window)>,
    rest: f64,
}

fn window(values: &[f32]) -> Window {
    std::array::from_fn(|i| f64::from(values[i]))
}

impl Basis {
    /// Of the windows of `values`.
    fn fit(values: &[f32]) -> Self {
        let count = (values.len() - WINDOW + 1) as f64;
        let mut mean = [0.0; WINDOW];
        for values in values.windows(WINDOW) {
            mean = std::array::from_fn(|i| mean[i] + f64::from(values[i]) / count);
        }
        let mut covariance: Symmetric = [[0.0; WINDOW]; WINDOW];
        for values in values.windows(WINDOW) {
            let window = window(values);
            let off: Window = std::array::from_fn(|i| window[i] - mean[i]);
            for (row, a) in covariance.iter_mut().zip(&off) {
                for (cell, b) in row.iter_mut().zip(&off) {
                    *cell += a * b / count;
                }
            }
        }
        let total: f64 = (0..WINDOW).map(|i| covariance[i][i]).sum();
        let mut components = principal::components(covariance);
        let mut held = 0.0;
        let used = components.iter().take(COMPONENTS_MAX).take_while(|(variance, _)| {
            let more = held < SHARE * total;
            held += variance;
            more
        });
        let used = used.count();
        let rest: f64 = components[used..].iter().map(|(variance, _)| variance.max(0.0)).sum();
        let rest = (rest / (WINDOW - used) as f64).max(VARIANCE_MIN);
        components.truncate(used);
        for (variance, _) in &mut components {
            *variance = variance.max(rest);
        }
        Self { mean, components, rest }
    }

    /// Root mean square of a window's distances from the mean, each in units of its usual size.
    fn distance(&self, window: &Window) -> f64 {
        let off: Window = std::array::from_fn(|i| window[i] - self.mean[i]);
        let mut beyond: f64 = off.iter().map(|v| v * v).sum();
        let mut within = 0.0;
        for (variance, component) in &self.components {
            let length: f64 = off.iter().zip(component).map(|(a, b)| a * b).sum();
            beyond -= length * length;
            within += length * length / variance;
        }
        ((within + beyond.max(0.0) / self.rest) / WINDOW as f64).sqrt()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subspace {
    novelty: Novelty,
    recent: Recent,
    basis: Option<Box<Basis>>,
}

impl Subspace {
    pub(super) fn new() -> Self {
        Self { novelty: Novelty::new(), recent: Recent::new(KEPT), basis: None }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        let Some(z) = self.novelty.standardise(value) else { return Verdict::NONE };
        if z.is_infinite() {
            return self.novelty.off_a_constant();
        }
        self.recent.push(z);
        let verdict = self.basis.as_ref().map_or(Verdict::NONE, |basis| {
            let last = self.recent.last();
            let distance = basis.distance(&window(&last[last.len() - WINDOW..]));
            self.novelty.judge(distance.max(DISTANCE_MIN).ln(), SPREAD_MIN, WINDOW)
        });
        if self.recent.rows().is_multiple_of(REFIT) {
            self.fit();
        }
        verdict
    }

    /// Finds the components of the values up to the last multiple of [`REFIT`].
    fn fit(&mut self) {
        let row = self.recent.rows() / REFIT * REFIT;
        if row >= FIRST {
            self.basis = Some(Box::new(Basis::fit(self.recent.until(row, PAST))));
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.novelty.save(out);
        self.recent.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let mut loaded = Self { novelty: Novelty::load(from)?, recent: Recent::load(from, KEPT)?, basis: None };
        loaded.fit();
        Ok(loaded)
    }
}
