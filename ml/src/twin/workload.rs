//! When customers arrive: a Poisson process whose rate follows the day and wanders a little.
use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, StandardNormal};

use super::nanos;

const DAY_S: f64 = 86_400.0;
/// How often the wandering part of the rate is redrawn.
const WANDER_STEP_S: f64 = 60.0;
/// How much of the last step's wandering remains: a memory of about ten minutes.
const WANDER_KEEP: f64 = 0.9;
/// The wandering stays within this factor, which also bounds the thinning.
const WANDER_LOG_MAX: f64 = 0.3;

/// The arrival rate of customers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    /// Mean over a day, per second.
    pub rate: f64,
    /// Swing of the day, as a part of the mean: 0.4 moves between 60 % and 140 %.
    pub daily_swing: f64,
    /// Second of the day (UTC) with most customers.
    pub peak_second: f64,
    /// Second of the day at which the simulation starts.
    pub start_second: f64,
    /// Sigma of the logarithm of the wandering part; 0 for none.
    pub wander: f64,
}

impl Default for Workload {
    fn default() -> Self {
        Self { rate: 20.0, daily_swing: 0.4, peak_second: 19.0 * 3600.0, start_second: 0.0, wander: 0.04 }
    }
}

impl Workload {
    /// Rate per second at `t_s` seconds after the start, without the wandering.
    pub fn rate_at(&self, t_s: f64) -> f64 {
        let angle = (self.start_second + t_s - self.peak_second) / DAY_S * std::f64::consts::TAU;
        self.rate * (1.0 + self.daily_swing * angle.cos())
    }

    fn rate_max(&self) -> f64 {
        self.rate * (1.0 + self.daily_swing.abs()) * WANDER_LOG_MAX.exp()
    }

    pub(crate) fn is_valid(&self) -> bool {
        (0.0..=100_000.0).contains(&self.rate)
            && (0.0..1.0).contains(&self.daily_swing)
            && (0.0..=1.0).contains(&self.wander)
            && self.peak_second.is_finite()
            && self.start_second.is_finite()
    }
}

/// Draws the arrivals of a [`Workload`] by thinning.
pub(crate) struct Arrivals {
    workload: Workload,
    wander_log: f64,
    wander_until_s: f64,
}

impl Arrivals {
    pub(crate) fn new(workload: Workload) -> Self {
        Self { workload, wander_log: 0.0, wander_until_s: WANDER_STEP_S }
    }

    /// Time of the first arrival after `now`; `None` when nobody ever comes.
    pub(crate) fn next(&mut self, now: u64, rng: &mut SmallRng) -> Option<u64> {
        let rate_max = self.workload.rate_max();
        if rate_max <= 0.0 {
            return None;
        }
        let mut t_s = super::seconds(now);
        loop {
            t_s += exponential(rate_max, rng);
            let rate = self.workload.rate_at(t_s) * self.wander(t_s, rng).exp();
            if rng.random::<f64>() * rate_max < rate {
                return Some(nanos(t_s).max(now + 1));
            }
        }
    }

    fn wander(&mut self, t_s: f64, rng: &mut SmallRng) -> f64 {
        while t_s >= self.wander_until_s {
            self.wander_until_s += WANDER_STEP_S;
            let step: f64 = StandardNormal.sample(rng);
            let spread = self.workload.wander * (1.0 - WANDER_KEEP * WANDER_KEEP).sqrt();
            self.wander_log = (WANDER_KEEP * self.wander_log + spread * step).clamp(-WANDER_LOG_MAX, WANDER_LOG_MAX);
        }
        self.wander_log
    }
}

/// A waiting time in seconds of a Poisson process of `rate` per second.
pub(crate) fn exponential(rate: f64, rng: &mut SmallRng) -> f64 {
    // 1 - u lies in (0, 1], so the logarithm is finite.
    -(1.0 - rng.random::<f64>()).ln() / rate
}
