//! `half_space_trees`: successions of values that are rare in the recent past, though each value may be usual.
//!
//! Tan, Ting and Liu, "Fast anomaly detection for streaming data" (IJCAI 2011): trees that halve the space of points
//! again and again, without looking at the data, and count how many of the last 250 points fell into each part; a point in
//! a part of little mass is an anomaly. A point is the last two values, standardised by a robust running centre and
//! spread and drawn together to between 0 and 1. All that is random in a tree is a function of the seed, of its number and
//! of the node, so only masses are kept: 25 trees of depth 6, twice (the window that judges and the one that fills),
//! < 8 KiB.
//!
//! In place of the sum over trees stands the mean of logarithms, which one crowded part does not decide. Its own centre and
//! spread and [`Tail`] turn it into a score. A rarity has no edges in the unit of the values: `expected`, `lo` and `hi`
//! are never given.
use super::Verdict;
use super::ewma::clip;
use super::outlook::Outlook;
use super::reference::Reference;
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader, malformed};

const TREES: usize = 25;
const DEPTH: usize = 6;
const NODES: usize = (1 << (DEPTH + 1)) - 1;
/// Values in a point.
const DIMENSIONS: usize = 2;
/// Points in a window; a mass fits into a byte.
const WINDOW: u8 = 250;
/// The first window is shorter: scores begin after it.
const FIRST_WINDOW: u8 = 64;
/// A part with no more than this share of a window is not halved further (the paper's size limit, which is larger for its
/// deeper trees).
const MASS_MIN: f64 = 0.02;
/// Values that say what is usual before the first point is counted.
const WARM_UP: u16 = 16;
/// Least weight of a value in the centre and spread of values, and of a rarity in its own.
const VALUE_WEIGHT: f64 = 1.0 / 256.0;
const RARITY_WEIGHT: f64 = 1.0 / 128.0;
/// How far away a value or a rarity counts, in spreads.
const REACH: f64 = 3.0;
/// Rarities, logarithms of masses, scatter by no less: a single point more or less in a part is no news.
const SPREAD_MIN: f64 = 0.2;
/// Rarities of which the spread is learnt before they are judged.
const RARITIES_MIN: u16 = 10;
/// What all trees come from.
const SEED: u64 = 0x5EED_0F_7EE5;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct HalfSpaceTrees {
    values: Reference,
    /// The coordinates of the values before, newest first.
    last: [f64; DIMENSIONS - 1],
    /// Masses of the window that judges, and of the one that fills, tree by tree.
    judging: Vec<u8>,
    filling: Vec<u8>,
    /// Points in each of them.
    judging_points: u8,
    filling_points: u8,
    rarity: Reference,
    tail: Tail,
}

/// A number that looks random (SplitMix64; Steele, Lea and Flood 2014).
fn scramble(n: u64) -> u64 {
    let mut z = SEED.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The nodes of one tree that a point lies in, from the root down.
fn path(tree: usize, point: &[f64; DIMENSIONS]) -> [usize; DEPTH + 1] {
    // work ranges: a random middle, and as far both ways as the space goes
    let mut ranges: [(f64, f64); DIMENSIONS] = std::array::from_fn(|dimension| {
        let middle = (scramble((tree * DIMENSIONS + dimension) as u64) >> 11) as f64 / (1u64 << 53) as f64;
        let half = middle.max(1.0 - middle);
        (middle - half, middle + half)
    });
    let mut node = 0;
    let mut nodes = [0; DEPTH + 1];
    for place in &mut nodes[1..] {
        let dimension = scramble((1 << 32) + (tree * NODES + node) as u64) as usize % DIMENSIONS;
        let (low, high) = ranges[dimension];
        let middle = 0.5 * (low + high);
        let is_upper = point[dimension] >= middle;
        ranges[dimension] = if is_upper { (middle, high) } else { (low, middle) };
        node = 2 * node + 1 + usize::from(is_upper);
        *place = node;
    }
    nodes
}

impl HalfSpaceTrees {
    pub(super) fn new() -> Self {
        Self {
            values: Reference::new(),
            last: [0.0; DIMENSIONS - 1],
            judging: vec![0; TREES * NODES],
            filling: vec![0; TREES * NODES],
            judging_points: 0,
            filling_points: 0,
            rarity: Reference::new(),
            tail: Tail::default(),
        }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        let outlook = Outlook { centre: self.values.centre(), spread: self.values.spread(), limit: 1.0 };
        let z = outlook.judge(value).z;
        let is_known = self.values.count() >= WARM_UP;
        self.values.learn(value, REACH, VALUE_WEIGHT);
        if !is_known {
            return Verdict::NONE;
        }
        let is_warm = self.rarity.count() >= RARITIES_MIN;
        if z == f64::INFINITY {
            // off a constant: no spread says how far
            return Verdict { score: is_warm.then_some(z), ..Verdict::NONE };
        }
        let drawn = 0.5 + 0.5 * (z / (1.0 + z)).copysign(value - outlook.centre);
        let mut point = [drawn; DIMENSIONS];
        point[1..].copy_from_slice(&self.last);
        self.last.copy_from_slice(&point[..DIMENSIONS - 1]);
        let rarity = self.rarity(&point);
        let verdict = match rarity {
            Some(rarity) if is_warm => self.judge(rarity),
            _ => Verdict::NONE,
        };
        if let Some(rarity) = rarity {
            let run = self.tail.run();
            let reach = if run > 0 { clip(run) * self.tail.limit() } else { REACH };
            self.rarity.learn(rarity, reach, RARITY_WEIGHT);
        }
        self.turn();
        verdict
    }

    fn judge(&mut self, rarity: f64) -> Verdict {
        let spread = self.rarity.spread().max(SPREAD_MIN);
        let z = ((rarity - self.rarity.centre()) / spread).max(0.0);
        let score = z / self.tail.limit();
        self.tail.learn(z);
        Verdict { score: Some(score), ..Verdict::NONE }
    }

    /// Counts the point, and says how rare its parts are in the window before: minus the mean logarithm of mass by volume.
    fn rarity(&mut self, point: &[f64; DIMENSIONS]) -> Option<f64> {
        let few = (MASS_MIN * f64::from(self.judging_points)) as u8;
        let mut logarithms = 0.0;
        for tree in 0..TREES {
            let nodes = path(tree, point).map(|node| tree * NODES + node);
            for &node in &nodes {
                self.filling[node] += 1;
            }
            let depth = nodes.iter().position(|&node| self.judging[node] <= few).unwrap_or(DEPTH);
            // as if every window were a full one
            let share = f64::from(self.judging[nodes[depth]]) / f64::from(self.judging_points.max(1));
            let mass = share * f64::from(WINDOW) * (1 << depth) as f64;
            logarithms += (1.0 + mass).ln();
        }
        self.filling_points += 1;
        (self.judging_points > 0).then_some(-logarithms / TREES as f64)
    }

    /// A full window judges from now on.
    fn turn(&mut self) {
        let full = if self.judging_points == 0 { FIRST_WINDOW } else { WINDOW };
        if self.filling_points >= full {
            std::mem::swap(&mut self.judging, &mut self.filling);
            self.filling.fill(0);
            (self.judging_points, self.filling_points) = (self.filling_points, 0);
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.values.save(out);
        for v in self.last {
            out.put_f64(v);
        }
        out.put_u8(self.judging_points);
        out.put_u8(self.filling_points);
        out.extend_from_slice(&self.judging);
        out.extend_from_slice(&self.filling);
        self.rarity.save(out);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let values = Reference::load(from)?;
        let mut last = [0.0; DIMENSIONS - 1];
        for v in &mut last {
            *v = from.finite()?;
        }
        let (judging_points, filling_points) = (from.u8()?, from.u8()?);
        let judging = from.bytes(TREES * NODES)?.to_vec();
        let filling = from.bytes(TREES * NODES)?.to_vec();
        if filling_points >= WINDOW || filling.iter().any(|&mass| mass > filling_points) {
            return Err(malformed("a part has more mass than the window has points"));
        }
        let (rarity, tail) = (Reference::load(from)?, Tail::load(from)?);
        Ok(Self { values, last, judging, filling, judging_points, filling_points, rarity, tail })
    }
}
