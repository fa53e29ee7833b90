//! `patches`: how far the last window of values is, as a small trained encoder sees it, from the windows of the past.
//!
//! A patch of 32 values goes through a hidden layer of 24 and, in training only, on to a direction of eight numbers. The
//! encoder is trained on the series' own past alone, by triplets: a patch and one that begins up to four rows later are to
//! point the same way, a patch and the most unlike of some others from elsewhere are not (as PaAno trains its patches, with
//! one layer in place of convolutions, so that it takes milliseconds of one core). As usual with such training the layer
//! before the last is what patches are compared by: it has not forgotten what no patch of the past was like. The measure is
//! the mean distance to the three nearest patches of the past that do not overlap; [`Novelty`] turns it into a score. Tier
//! 2: behind the feature `patches`.
//!
//! Every 256 values the encoder is trained again from the same beginning, so it is a function of the values that are kept and
//! of a seed, and only the values are saved (< 4 KiB).
use super::Verdict;
use super::dice::Dice;
use super::novelty::Novelty;
use super::recent::Recent;
use crate::Result;
use crate::state::Reader;

/// Values in a patch.
const PATCH: usize = 32;
const HIDDEN: usize = 24;
const EMBEDDED: usize = 8;
/// Values that patches are learnt from.
const PAST: usize = 512;
/// Values between two trainings, and before the first.
const RETRAIN: u64 = 256;
const KEPT: usize = PAST + RETRAIN as usize;
/// Triplets of a training, and how much each changes.
const TRIPLETS: usize = 600;
const RATE: f32 = 0.05;
/// A patch from elsewhere is to be this much less alike.
const MARGIN: f32 = 0.5;
/// A positive patch begins at most so many rows later; a negative one is the most unlike of so many.
const NEAR: usize = 4;
const CANDIDATES: usize = 4;
/// Patches of the past that are asked. All are remembered: of a series with an even period every second one would know
/// every second phase.
const NEIGHBOURS: usize = 3;
/// Distances, about 1 in units of what is usual, are judged by their logarithm, which scatters by no less.
const DISTANCE_MIN: f32 = 1e-3;
const SPREAD_MIN: f64 = 0.1;
/// An embedding this short has no direction.
const LENGTH_MIN: f32 = 1e-6;
/// What all draws come from.
const SEED: u64 = 0x7A7C_4E50;

type Hidden = [f32; HIDDEN];
type Direction = [f32; EMBEDDED];

/// Weights of the two layers.
#[derive(Clone, Debug, PartialEq)]
struct Encoder {
    first: [[f32; PATCH]; HIDDEN],
    bias: Hidden,
    second: [Hidden; EMBEDDED],
}

/// What the layers made of a patch.
struct Pass {
    hidden: Hidden,
    length: f32,
    direction: Direction,
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Encoder {
    /// Small random weights, the same each time.
    fn new(dice: &mut Dice) -> Self {
        let mut draw = |inputs: usize| (2.0 * dice.share() - 1.0) as f32 * (3.0 / inputs as f32).sqrt();
        Self {
            first: std::array::from_fn(|_| std::array::from_fn(|_| draw(PATCH))),
            bias: [0.0; HIDDEN],
            second: std::array::from_fn(|_| std::array::from_fn(|_| draw(HIDDEN))),
        }
    }

    /// Trained on the patches of `values`, of which there are at least some tens.
    fn train(values: &[f32]) -> Self {
        let mut dice = Dice::new(SEED);
        let mut encoder = Self::new(&mut dice);
        let starts = values.len() - PATCH + 1;
        let patch = |start: usize| &values[start..start + PATCH];
        for _ in 0..TRIPLETS {
            let anchor = dice.below(starts - NEAR);
            let positive = anchor + 1 + dice.below(NEAR);
            let unlike =
                |start: usize| -> f32 { patch(start).iter().zip(patch(anchor)).map(|(a, b)| (a - b) * (a - b)).sum() };
            let mut negative = None;
            for _ in 0..CANDIDATES {
                let start = dice.below(starts);
                if start.abs_diff(anchor) >= PATCH && negative.is_none_or(|best| unlike(start) > unlike(best)) {
                    negative = Some(start);
                }
            }
            if let Some(negative) = negative {
                encoder.learn(patch(anchor), patch(positive), patch(negative));
            }
        }
        encoder
    }

    fn hidden(&self, patch: &[f32]) -> Hidden {
        std::array::from_fn(|i| (dot(&self.first[i], patch) + self.bias[i]).max(0.0))
    }

    fn pass(&self, patch: &[f32]) -> Pass {
        let hidden = self.hidden(patch);
        let embedded: Direction = std::array::from_fn(|i| dot(&self.second[i], &hidden));
        let length = dot(&embedded, &embedded).sqrt();
        let direction = if length > LENGTH_MIN { embedded.map(|v| v / length) } else { [0.0; EMBEDDED] };
        Pass { hidden, length, direction }
    }

    /// One step down the gradient of the triplet loss of cosines.
    fn learn(&mut self, anchor: &[f32], positive: &[f32], negative: &[f32]) {
        let passes = [self.pass(anchor), self.pass(positive), self.pass(negative)];
        let [a, p, n] = [&passes[0].direction, &passes[1].direction, &passes[2].direction];
        if MARGIN - dot(a, p) + dot(a, n) <= 0.0 {
            return;
        }
        let slopes: [Direction; 3] = [std::array::from_fn(|i| n[i] - p[i]), a.map(|v| -v), *a];
        let before = self.second;
        for ((pass, slope), patch) in passes.iter().zip(slopes).zip([anchor, positive, negative]) {
            if pass.length <= LENGTH_MIN {
                continue;
            }
            let along = dot(&slope, &pass.direction);
            let embedded: Direction =
                std::array::from_fn(|i| (slope[i] - along * pass.direction[i]) / pass.length.max(1.0));
            for (weights, slope) in self.second.iter_mut().zip(embedded) {
                for (weight, hidden) in weights.iter_mut().zip(&pass.hidden) {
                    *weight -= RATE * slope * hidden;
                }
            }
            for (i, weights) in self.first.iter_mut().enumerate() {
                if pass.hidden[i] > 0.0 {
                    let slope: f32 = (0..EMBEDDED).map(|j| before[j][i] * embedded[j]).sum();
                    self.bias[i] -= RATE * slope;
                    for (weight, value) in weights.iter_mut().zip(patch) {
                        *weight -= RATE * slope * value;
                    }
                }
            }
        }
    }
}

/// An encoder and what it makes of the patches of the past.
#[derive(Clone, Debug, PartialEq)]
struct Memory {
    encoder: Encoder,
    /// The row after each patch, and what its hidden layer is.
    patches: Vec<(u64, Hidden)>,
    /// Median distance of these from those before: what is usual for this encoder.
    usual: f32,
}

impl Memory {
    /// Of `values`, the last of which is the row before `row`.
    fn new(values: &[f32], row: u64) -> Self {
        let encoder = Encoder::train(values);
        let first = row - values.len() as u64;
        let patches = (0..=values.len() - PATCH)
            .map(|start| (first + (start + PATCH) as u64, encoder.hidden(&values[start..start + PATCH])))
            .collect();
        let mut memory = Self { encoder, patches, usual: 1.0 };
        let mut distances: Vec<f32> =
            memory.patches.iter().filter_map(|(end, hidden)| memory.nearest(hidden, *end)).collect();
        distances.sort_unstable_by(f32::total_cmp);
        memory.usual = distances.get(distances.len() / 2).copied().unwrap_or(1.0).max(DISTANCE_MIN);
        memory
    }

    /// How far a patch that ends before `row` is from those of the past, in units of what is usual.
    fn distance(&self, patch: &[f32], row: u64) -> Option<f32> {
        Some(self.nearest(&self.encoder.hidden(patch), row)? / self.usual)
    }

    /// Mean distance of a patch that ends before `row` from the nearest that end before it begins; `None` when there are
    /// not enough.
    fn nearest(&self, hidden: &Hidden, row: u64) -> Option<f32> {
        let mut nearest = [f32::INFINITY; NEIGHBOURS];
        for (end, other) in &self.patches {
            if end + PATCH as u64 > row {
                break;
            }
            let distance = hidden.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
            let place = nearest.partition_point(|near| *near <= distance);
            if place < NEIGHBOURS {
                nearest[place..].rotate_right(1);
                nearest[place] = distance;
            }
        }
        let mean = nearest.iter().sum::<f32>() / NEIGHBOURS as f32;
        mean.is_finite().then_some(mean)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Patches {
    novelty: Novelty,
    recent: Recent,
    memory: Option<Box<Memory>>,
}

impl Patches {
    pub(super) fn new() -> Self {
        Self { novelty: Novelty::new(), recent: Recent::new(KEPT), memory: None }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        let Some(z) = self.novelty.standardise(value) else { return Verdict::NONE };
        if z.is_infinite() {
            return tier_2(self.novelty.off_a_constant());
        }
        self.recent.push(z);
        let (last, row) = (self.recent.last(), self.recent.rows());
        let distance = self.memory.as_ref().and_then(|memory| memory.distance(&last[last.len() - PATCH..], row));
        let verdict = distance.map_or(Verdict::NONE, |distance| {
            self.novelty.judge(f64::from(distance.max(DISTANCE_MIN)).ln(), SPREAD_MIN, PATCH)
        });
        if row.is_multiple_of(RETRAIN) {
            self.train();
        }
        tier_2(verdict)
    }

    /// Trains on the values up to the last multiple of [`RETRAIN`].
    fn train(&mut self) {
        let row = self.recent.rows() / RETRAIN * RETRAIN;
        if row >= RETRAIN {
            self.memory = Some(Box::new(Memory::new(self.recent.until(row, PAST), row)));
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.novelty.save(out);
        self.recent.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let mut loaded = Self { novelty: Novelty::load(from)?, recent: Recent::load(from, KEPT)?, memory: None };
        loaded.train();
        Ok(loaded)
    }
}

fn tier_2(verdict: Verdict) -> Verdict {
    Verdict { tier: if verdict.tier == 0 { 0 } else { 2 }, ..verdict }
}
