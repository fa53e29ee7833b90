//! How often values are unusual: finds an incident of which no single value is out of the question, such as more spikes
//! than before.
//!
//! A value is unusual when it lies two spreads from what was expected. The rate over the last 24 values or so is compared
//! with the rate over the last 4,096 by the likelihood ratio of two Poisson rates, as in a scan statistic (Kulldorff 1997,
//! "A spatial scan statistic"). Unusual values come in clusters in most series, so the root of twice the ratio, which
//! would be a Gaussian deviation if they did not, has a boundary of its own from [`Tail`].
use super::gain::gain;
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader};

/// Spreads from which on a value is unusual.
const UNUSUAL: f64 = 2.0;
/// Weight of one value in the present rate, and least weight in the usual one.
const NOW_WEIGHT: f64 = 1.0 / 24.0;
const USUAL_WEIGHT: f64 = 1.0 / 4096.0;
/// Values that the present rate stands for. Half of what its weights come to: values are not independent.
const VALUES: f64 = 23.5;
/// What is believed of the usual rate before any value, and the weight of the belief in values.
const PRIOR_RATE: f32 = 0.05;
const PRIOR_VALUES: u16 = 20;
/// Values before the first opinion.
const WARM_UP: u16 = 100;
/// The boundary, as a share of the distance that one value in 10,000 lies beyond, inverted.
const BOUNDARY: f64 = 0.8;
/// What is left of the worst score told after one value.
const TOLD_KEPT: f64 = 0.995;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Burst {
    now: f32,
    usual: f32,
    count: u16,
    told: f32,
    tail: Tail,
}

impl Default for Burst {
    fn default() -> Self {
        Self { now: 0.0, usual: PRIOR_RATE, count: 0, told: 0.0, tail: Tail::of_clusters() }
    }
}

impl Burst {
    /// Takes a value that lies `z` spreads from what was expected; says how unusual the present rate is, 1 on the boundary
    /// and 0 while it was worse lately.
    pub(super) fn judge(&mut self, z: f64) -> f64 {
        let is_unusual = f64::from(u8::from(z > UNUSUAL));
        let (mut now, mut usual) = (f64::from(self.now), f64::from(self.usual));
        now += NOW_WEIGHT * (is_unusual - now);
        let ratio = if now > usual { VALUES * (now * (now / usual).ln() - (now - usual)) } else { 0.0 };
        let deviation = (2.0 * ratio.max(0.0)).sqrt();
        self.count = self.count.saturating_add(1);
        usual += gain(self.count.saturating_add(PRIOR_VALUES), USUAL_WEIGHT) * (is_unusual - usual);
        (self.now, self.usual) = (now as f32, usual.max(f64::from(f32::MIN_POSITIVE)) as f32);
        if self.count <= WARM_UP {
            return 0.0;
        }
        let score = BOUNDARY * deviation / self.tail.limit();
        self.tail.learn(deviation);
        let told = f64::from(self.told);
        self.told = (TOLD_KEPT * told).max(score) as f32;
        if score > told { score } else { 0.0 }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_f32(self.now);
        out.put_f32(self.usual);
        out.put_u16(self.count);
        out.put_f32(self.told);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            now: from.positive_f32()?.min(1.0),
            usual: from.positive_f32()?.clamp(f32::MIN_POSITIVE, 1.0),
            count: from.u16()?,
            told: from.positive_f32()?,
            tail: Tail::load(from)?,
        })
    }
}
