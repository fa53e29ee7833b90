//! `rcf`: a random cut forest over the last eight values: how much the present piece of the series would change trees grown
//! from its past.
//!
//! Guha, Mishra, Roy and Schrijvers, "Robust random cut forest based anomaly detection on streams" (ICML 2016). A point is
//! the last eight values (a shingle), standardised. A tree cuts the box around its points at random, in each dimension as
//! often as the box is long, until every point is alone. A point that a random cut would part from all others near the
//! root moves many points down by one: the expected number of them, as a share, is its displacement. The mean over 32
//! trees is what [`Novelty`] turns into a score.
//!
//! A tree is never changed. Each row one of the trees, in turn, is grown anew from 64 of the last 512 shingles, so a tree
//! is a function of these values and of the number of the row, and only the values are saved (< 3 KiB); in memory there
//! are < 64 KiB. The library `rcf3` keeps a box with every inner node, some 300 KiB for as many trees, and saves them as
//! JSON, of which it believes every index when it is loaded: no state of one among thousands of series, and none that may
//! be damaged.
use super::Verdict;
use super::dice::Dice;
use super::novelty::Novelty;
use super::recent::Recent;
use crate::Result;
use crate::state::Reader;

/// Values in a point.
const SHINGLE: usize = 8;
const TREES: usize = 32;
/// Points in a tree, and shingles they are chosen from.
const SAMPLE: usize = 64;
const PAST: usize = 512;
/// Values that a tree is grown from, and all of the trees.
const SOURCE: usize = PAST + SHINGLE - 1;
const KEPT: usize = SOURCE + TREES;
/// Values before the first tree.
const FIRST: u64 = (SHINGLE + SAMPLE / 2) as u64;
/// Displacements scatter by no less.
const SPREAD_MIN: f64 = 0.01;
/// What all cuts come from.
const SEED: u64 = 0x5EED_0F7E_E501;

type Point = [f32; SHINGLE];

/// An inner node, or the leaf of equal points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    /// Points with no more than this in the dimension are on the left.
    cut: f32,
    dimension: u8,
    /// Where the points on the right begin, and their node; 0 in a leaf.
    middle: u8,
    right: u8,
}

/// A tree whose nodes stand in preorder.
#[derive(Clone, Debug, PartialEq)]
struct Tree {
    row: u64,
    nodes: Vec<Node>,
    /// Where its points begin in the values that it was grown from, in the order of its leaves.
    starts: Vec<u16>,
}

/// The shingle that begins at `start`.
fn point(values: &[f32], start: u16) -> Point {
    let values = &values[usize::from(start)..usize::from(start) + SHINGLE];
    std::array::from_fn(|i| values[i])
}

/// Smallest and largest of each dimension.
fn bounds(values: &[f32], starts: &[u16]) -> (Point, Point) {
    let (mut low, mut high) = ([f32::INFINITY; SHINGLE], [f32::NEG_INFINITY; SHINGLE]);
    for &start in starts {
        let point = point(values, start);
        // no value is NaN, so a comparison does
        low = std::array::from_fn(|i| if point[i] < low[i] { point[i] } else { low[i] });
        high = std::array::from_fn(|i| if point[i] > high[i] { point[i] } else { high[i] });
    }
    (low, high)
}

impl Tree {
    /// The tree of a row, of some of the shingles of `values`, of which there is one at least.
    fn grow(values: &[f32], row: u64) -> Self {
        let mut dice = Dice::new(SEED ^ row);
        let shingles = values.len() - SHINGLE + 1;
        let sample = SAMPLE.min(shingles);
        let mut starts = Vec::with_capacity(sample);
        // each as likely as the other (Knuth, "Seminumerical algorithms", 3.4.2 S)
        for start in 0..shingles {
            if dice.below(shingles - start) < sample - starts.len() {
                starts.push(start as u16);
            }
        }
        let mut tree = Self { row, nodes: Vec::with_capacity(2 * sample), starts };
        tree.cut(values, 0, sample, &mut dice);
        tree
    }

    /// Adds the node of the points `from..to` and all below it.
    fn cut(&mut self, values: &[f32], from: usize, to: usize, dice: &mut Dice) {
        let (low, high) = bounds(values, &self.starts[from..to]);
        let length: f32 = low.iter().zip(&high).map(|(low, high)| high - low).sum();
        let node = self.nodes.len();
        self.nodes.push(Node { cut: 0.0, dimension: 0, middle: 0, right: 0 });
        if length <= 0.0 {
            return;
        }
        let mut along = dice.share() as f32 * length;
        let mut chosen = None;
        for dimension in 0..SHINGLE {
            let side = high[dimension] - low[dimension];
            if side > 0.0 {
                // rounding may lead past the last side: it has the cut then
                chosen = Some((dimension, low[dimension] + along.min(side)));
                if along < side {
                    break;
                }
            }
            along -= side;
        }
        let Some((dimension, cut)) = chosen else { return };
        // neither half is empty
        let cut = if cut < high[dimension] { cut } else { low[dimension] };
        let mut middle = from;
        for i in from..to {
            if values[usize::from(self.starts[i]) + dimension] <= cut {
                self.starts.swap(i, middle);
                middle += 1;
            }
        }
        self.cut(values, from, middle, dice);
        let right = self.nodes.len() as u8;
        self.nodes[node] = Node { cut, dimension: dimension as u8, middle: middle as u8, right };
        self.cut(values, middle, to, dice);
    }

    /// Share of the points that a random cut is expected to part from `point`.
    fn displacement(&self, values: &[f32], point: &Point) -> f64 {
        let (mut from, mut to, mut node) = (0, self.starts.len(), 0);
        let (mut displaced, mut together) = (0.0, 1.0f64);
        loop {
            let (low, high) = bounds(values, &self.starts[from..to]);
            let (mut length, mut beyond) = (0.0f32, 0.0f32);
            for dimension in 0..SHINGLE {
                length += high[dimension] - low[dimension];
                beyond += (low[dimension] - point[dimension]).max(point[dimension] - high[dimension]).max(0.0);
            }
            let parted = if beyond > 0.0 { f64::from(beyond / (beyond + length)) } else { 0.0 };
            displaced += together * parted * (to - from) as f64;
            together *= 1.0 - parted;
            let Node { cut, dimension, middle, right } = self.nodes[node];
            if middle == 0 || together < 1e-3 {
                return displaced / self.starts.len() as f64;
            }
            if point[usize::from(dimension)] <= cut {
                (to, node) = (usize::from(middle), node + 1);
            } else {
                (from, node) = (usize::from(middle), usize::from(right));
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rcf {
    novelty: Novelty,
    recent: Recent,
    trees: Vec<Tree>,
}

impl Rcf {
    pub(super) fn new() -> Self {
        Self { novelty: Novelty::new(), recent: Recent::new(KEPT), trees: Vec::new() }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        let Some(z) = self.novelty.standardise(value) else { return Verdict::NONE };
        if z.is_infinite() {
            return self.novelty.off_a_constant();
        }
        self.recent.push(z);
        let verdict = if self.trees.len() < TREES {
            Verdict::NONE
        } else {
            let last = self.recent.last();
            let point = point(last, (last.len() - SHINGLE) as u16);
            let displaced: f64 =
                self.trees.iter().map(|tree| tree.displacement(self.recent.until(tree.row, SOURCE), &point)).sum();
            // the power 3/4 evens out the two sides: shares lie near 0 but for what is rare
            let share = displaced / TREES as f64;
            self.novelty.judge((share * share.sqrt()).sqrt(), SPREAD_MIN, SHINGLE)
        };
        let row = self.recent.rows();
        if row >= FIRST {
            let tree = Tree::grow(self.recent.until(row, SOURCE), row);
            match self.trees.get_mut(place(row)) {
                Some(old) => *old = tree,
                None => self.trees.push(tree),
            }
        }
        verdict
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.novelty.save(out);
        self.recent.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let (novelty, recent) = (Novelty::load(from)?, Recent::load(from, KEPT)?);
        let rows = recent.rows();
        let oldest = (rows + 1).saturating_sub(TREES as u64).max(FIRST);
        let mut trees: Vec<Tree> = (oldest..=rows).map(|row| Tree::grow(recent.until(row, SOURCE), row)).collect();
        trees.rotate_right(place(oldest));
        Ok(Self { novelty, recent, trees })
    }
}

/// Where the tree of a row stands.
fn place(row: u64) -> usize {
    ((row - FIRST) % TREES as u64) as usize
}
