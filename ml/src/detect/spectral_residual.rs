//! `spectral_residual`: what stands out of the last values once all that repeats in them is taken away.
//!
//! Ren et al., "Time-series anomaly detection service at Microsoft" (KDD 2019): the logarithm of the amplitude spectrum
//! less its moving average is what is new; transformed back it is the saliency of each value. Here it is computed for
//! every value over a window of the last 59, the value among them, which five values that go on with the slope before
//! it make 64. The paper compares with the mean saliency; so does this, in the standard deviations of a Gaussian with
//! that mean size, and the boundary comes from [`Tail`].
//!
//! It needs no season and knows none that is longer than the window. A saliency has no edges in the unit of the values:
//! `expected`, `lo` and `hi` are never given. State: 58 values and the tail, < 512 B.
use std::sync::{Arc, LazyLock};

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use super::Verdict;
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader, malformed};

/// Length of a transform.
const LENGTH: usize = 64;
/// Values that are made up after the last one, so that it does not stand at the border.
const MADE_UP: usize = 5;
/// Slopes that these are made from.
const SLOPES: usize = 5;
/// Values before the first score.
const PAST: usize = LENGTH - MADE_UP - 1;
/// Amplitudes below this share of the largest deviation are rounding.
const AMPLITUDE_MIN: f64 = 1e-9;
/// Deviations below this share of the magnitude are rounding.
const ROUNDING: f64 = 4.0 * f64::EPSILON;
/// The mean distance of a Gaussian in standard deviations, inverted.
const SIGMA_PER_MEAN: f64 = 1.2533;

type Plans = (Arc<dyn RealToComplex<f64>>, Arc<dyn ComplexToReal<f64>>);

static PLANS: LazyLock<Plans> = LazyLock::new(|| {
    let mut planner = RealFftPlanner::new();
    (planner.plan_fft_forward(LENGTH), planner.plan_fft_inverse(LENGTH))
});

#[derive(Clone, Debug, PartialEq)]
pub(super) struct SpectralResidual {
    /// The last values, a ring.
    past: [f64; PAST],
    len: u8,
    /// Place of the oldest once the ring is full.
    next: u8,
    tail: Tail,
}

impl SpectralResidual {
    pub(super) fn new() -> Self {
        Self { past: [0.0; PAST], len: 0, next: 0, tail: Tail::default() }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        let verdict = if usize::from(self.len) < PAST { Verdict::NONE } else { self.judge(value) };
        self.past[usize::from(self.next)] = value;
        self.next = (self.next + 1) % PAST as u8;
        self.len = self.len.max(self.next).max(if self.next == 0 { PAST as u8 } else { 0 });
        verdict
    }

    fn judge(&mut self, value: f64) -> Verdict {
        let next = usize::from(self.next);
        let limit = self.tail.limit();
        let z = salience(self.past[next..].iter().chain(&self.past[..next]).copied(), value);
        self.tail.learn(z);
        Verdict { score: Some(z / limit), tier: 1, ..Verdict::NONE }
    }

    /// All values so far in their order, while the window is not full.
    pub(super) fn values(&self) -> Option<Vec<f64>> {
        let len = usize::from(self.len);
        (len < PAST).then(|| self.past[..len].to_vec())
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(self.len);
        out.put_u8(self.next);
        for value in &self.past[..usize::from(self.len)] {
            out.put_f64(*value);
        }
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let (len, next) = (from.u8()?, from.u8()?);
        if usize::from(len) > PAST || usize::from(next) >= PAST || (usize::from(len) < PAST && next != len) {
            return Err(malformed("the window is larger than it can be"));
        }
        let mut past = [0.0; PAST];
        for value in &mut past[..usize::from(len)] {
            *value = from.finite()?;
        }
        Ok(Self { past, len, next, tail: Tail::load(from)? })
    }
}

/// How much `value` stands out after [`PAST`] values, oldest first, in spreads; infinite off a constant past.
pub(super) fn salience(past: impl Iterator<Item = f64>, value: f64) -> f64 {
    let mut row = [0.0; LENGTH];
    for (cell, past) in row.iter_mut().zip(past) {
        *cell = past;
    }
    let first = row[0];
    row[PAST] = value;
    // quarters: differences stay in the range of numbers
    let magnitude = row[..=PAST].iter().fold(0.0f64, |most, v| most.max(v.abs())) * 0.25;
    row[..=PAST].iter_mut().for_each(|v| *v = *v * 0.25 - first * 0.25);
    let furthest = |row: &[f64]| row.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    let is_flat = furthest(&row[..PAST]) <= ROUNDING * magnitude;
    let largest = furthest(&row[..=PAST]);
    if is_flat {
        return if row[PAST].abs() <= ROUNDING * magnitude { 0.0 } else { f64::INFINITY };
    }
    let mean = row[..=PAST].iter().map(|v| v / largest).sum::<f64>() / (PAST + 1) as f64;
    row[..=PAST].iter_mut().for_each(|v| *v = *v / largest - mean);
    let made_up = continuation(&row[PAST - 1 - SLOPES..PAST]);
    row[PAST + 1..].fill(made_up);
    let saliency = saliency(row);
    let mean = saliency[..PAST].iter().sum::<f64>() / PAST as f64;
    if mean > 0.0 { saliency[PAST] / (SIGMA_PER_MEAN * mean) } else { 0.0 }
}

/// The value that goes on from the last of `values` with their mean slope towards it (formula 7 and 8 of the paper, for
/// the values before the one that is judged, as its published implementation has it).
fn continuation(values: &[f64]) -> f64 {
    let last = values.len() - 1;
    let slopes: f64 = values[..last].iter().enumerate().map(|(i, v)| (values[last] - v) / (last - i) as f64).sum();
    values[1] + slopes
}

/// Saliency of each value of a row.
fn saliency(mut row: [f64; LENGTH]) -> [f64; LENGTH] {
    const BINS: usize = LENGTH / 2 + 1;
    let (forward, inverse) = &*PLANS;
    let mut spectrum = [Complex::new(0.0, 0.0); BINS];
    // lengths are those of the plans, so there is no error to meet
    let done = forward.process(&mut row, &mut spectrum);
    debug_assert!(done.is_ok());
    let amplitudes: [f64; BINS] = std::array::from_fn(|bin| spectrum[bin].norm());
    let logs: [f64; BINS] = std::array::from_fn(|bin| (amplitudes[bin] + AMPLITUDE_MIN).ln());
    for (bin, value) in spectrum.iter_mut().enumerate() {
        // the spectrum goes on as its mirror image at both ends
        let (before, after) =
            (logs[if bin == 0 { 1 } else { bin - 1 }], logs[if bin + 1 == BINS { bin - 1 } else { bin + 1 }]);
        let residual = logs[bin] - (before + logs[bin] + after) / 3.0;
        *value *= residual.exp() / (amplitudes[bin] + AMPLITUDE_MIN);
    }
    // real by symmetry, but for rounding
    (spectrum[0].im, spectrum[BINS - 1].im) = (0.0, 0.0);
    let done = inverse.process(&mut spectrum, &mut row);
    debug_assert!(done.is_ok());
    row.map(f64::abs)
}
