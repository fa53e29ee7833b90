//! `half_space_trees`: successions of values that are rare in the recent past, though each value may be usual.
//!
//! Tan, Ting and Liu, "Fast anomaly detection for streaming data" (IJCAI 2011): trees that halve the space of points
//! again and again, without looking at the data, and count how many of the last 250 points fell into each part; a point in
//! a part of little mass is an anomaly. A point is the last two values, standardised by a robust running centre and
//! spread and drawn together to between 0 and 1. All that is random in a tree is a function of the seed, of its number and
//! of the node, so only masses are kept: 25 trees of depth 6, twice (the window that judges and the one that fills),
//! < 8 KiB.
//!
//! In place of the sum over trees stands the mean of logarithms, which one crowded part does not decide; [`Novelty`] turns
//! it into a score. An empty part is the rarer the larger it is.
use super::Verdict;
use super::dice::{scramble, share};
use super::novelty::Novelty;
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
/// Rarities, logarithms of masses, scatter by no less: a single point more or less in a part is no news.
const SPREAD_MIN: f64 = 0.2;
/// What all trees come from.
const SEED: u64 = 0x5EED_0F7E_E500;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct HalfSpaceTrees {
    novelty: Novelty,
    /// The coordinates of the values before, newest first.
    last: [f64; DIMENSIONS - 1],
    /// Masses of the window that judges, and of the one that fills, tree by tree.
    judging: Vec<u8>,
    filling: Vec<u8>,
    /// Points in each of them.
    judging_points: u8,
    filling_points: u8,
}

/// The `n`-th random number of the trees.
fn random(n: usize) -> u64 {
    scramble(SEED.wrapping_add((n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// The nodes of one tree that a point lies in, from the root down.
fn path(tree: usize, point: &[f64; DIMENSIONS]) -> [usize; DEPTH + 1] {
    // work ranges: a random middle, and as far both ways as the space goes
    let mut ranges: [(f64, f64); DIMENSIONS] = std::array::from_fn(|dimension| {
        let middle = share(random(tree * DIMENSIONS + dimension));
        let half = middle.max(1.0 - middle);
        (middle - half, middle + half)
    });
    let mut node = 0;
    let mut nodes = [0; DEPTH + 1];
    for place in &mut nodes[1..] {
        let dimension = random((1 << 32) + tree * NODES + node) as usize % DIMENSIONS;
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
            novelty: Novelty::new(),
            last: [0.0; DIMENSIONS - 1],
            judging: vec![0; TREES * NODES],
            filling: vec![0; TREES * NODES],
            judging_points: 0,
            filling_points: 0,
        }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        let Some(z) = self.novelty.standardise(value) else { return Verdict::NONE };
        if z.is_infinite() {
            return self.novelty.off_a_constant();
        }
        let drawn = 0.5 + 0.5 * z / (1.0 + z.abs());
        let mut point = [drawn; DIMENSIONS];
        point[1..].copy_from_slice(&self.last);
        self.last.copy_from_slice(&point[..DIMENSIONS - 1]);
        let rarity = self.rarity(&point);
        self.turn();
        rarity.map_or(Verdict::NONE, |rarity| self.novelty.judge(rarity, SPREAD_MIN, DIMENSIONS))
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
            let mass = (1.0 + share * f64::from(WINDOW)) * (1 << depth) as f64;
            logarithms += mass.ln();
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
        self.novelty.save(out);
        for v in self.last {
            out.put_f64(v);
        }
        out.put_u8(self.judging_points);
        out.put_u8(self.filling_points);
        out.extend_from_slice(&self.judging);
        out.extend_from_slice(&self.filling);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let novelty = Novelty::load(from)?;
        let mut last = [0.0; DIMENSIONS - 1];
        for v in &mut last {
            *v = from.finite()?;
        }
        let (judging_points, filling_points) = (from.u8()?, from.u8()?);
        let judging = from.bytes(TREES * NODES)?.to_vec();
        let filling = from.bytes(TREES * NODES)?.to_vec();
        let is_more = |masses: &[u8], points: u8| masses.iter().any(|&mass| mass > points);
        if filling_points >= WINDOW || is_more(&filling, filling_points) || is_more(&judging, judging_points) {
            return Err(malformed("a part has more mass than the window has points"));
        }
        Ok(Self { novelty, last, judging, filling, judging_points, filling_points })
    }
}
