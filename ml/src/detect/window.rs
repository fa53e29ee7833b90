//! The last values of a series in ascending order, and where each of them stands.
use crate::Result;
use crate::state::{Put, Reader, malformed};

/// Values kept: with their ranks and the tail this stays below 512 bytes a series.
pub(super) const CAPACITY: usize = 48;

/// Ascending values, and their ranks by slots of a ring in arrival order. A slot that no value has taken yet holds
/// +Infinity, so that every new value takes the place of another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    sorted: [f64; CAPACITY],
    ranks: [u8; CAPACITY],
    len: u8,
    next: u8,
}

impl Default for Window {
    fn default() -> Self {
        Self { sorted: [f64::INFINITY; CAPACITY], ranks: std::array::from_fn(|slot| slot as u8), len: 0, next: 0 }
    }
}

impl Window {
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Adds a finite value; the oldest leaves a full window.
    pub(super) fn push(&mut self, value: f64) {
        let slot = usize::from(self.next);
        let old = self.ranks[slot];
        let new = self.replace(usize::from(old), value);
        // what stood between the two places has moved by one: no branch, so all ranks are seen to at once
        for rank in &mut self.ranks {
            let closed = rank.wrapping_sub(u8::from(*rank > old));
            *rank = closed.wrapping_add(u8::from(closed >= new));
        }
        self.ranks[slot] = new;
        self.len = self.len.max(self.next + 1);
        self.next = if slot + 1 == CAPACITY { 0 } else { self.next + 1 };
    }

    /// Puts `value` in the place of the value of rank `at` and restores the order; returns its rank.
    fn replace(&mut self, mut at: usize, value: f64) -> u8 {
        let sorted = &mut self.sorted;
        while at + 1 < CAPACITY && sorted[at + 1] <= value {
            sorted[at] = sorted[at + 1];
            at += 1;
        }
        while at > 0 && sorted[at - 1] > value {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        sorted[at] = value;
        at as u8
    }

    /// Median; the window must not be empty.
    pub(super) fn median(&self) -> f64 {
        let n = self.len();
        let upper = self.sorted[n / 2];
        if n % 2 == 1 { upper } else { 0.5 * self.sorted[n / 2 - 1] + 0.5 * upper }
    }

    /// The `k`-th smallest (from 0) distance from the median. The k + 1 nearest values stand side by side: the first
    /// of them is counted out, not searched for, so no branch depends on the values.
    pub(super) fn distance(&self, median: f64, k: usize) -> f64 {
        let sorted = &self.sorted[..self.len()];
        // passing over the lowest of k + 1 neighbours pays while the value after them is no further away
        let passed = sorted
            .iter()
            .zip(&sorted[k + 1..])
            .map(|(low, high)| u64::from(high - median <= median - low))
            .sum::<u64>();
        let first = passed as usize;
        (median - sorted[first]).max(sorted[first + k] - median)
    }

    /// Mean distance from the median.
    pub(super) fn mean_distance(&self, median: f64) -> f64 {
        let n = self.len();
        self.sorted[..n].iter().map(|v| (v - median).abs() / n as f64).sum()
    }

    /// All values in the order they came in, while the window is not full.
    pub(super) fn values(&self) -> Option<Vec<f64>> {
        let ranks = &self.ranks[..self.len()];
        (ranks.len() < CAPACITY).then(|| ranks.iter().map(|&rank| self.sorted[usize::from(rank)]).collect())
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(self.len);
        out.put_u8(self.next);
        for value in &self.sorted[..self.len()] {
            out.put_f64(*value);
        }
        // the order of equal values is part of the state: it decides nothing that can be seen, but bits are bits
        out.extend_from_slice(&self.ranks[..self.len()]);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let mut window = Self { len: from.u8()?, next: from.u8()?, ..Self::default() };
        let n = window.len();
        let next = usize::from(window.next);
        if n > CAPACITY || next >= CAPACITY || (n < CAPACITY && next != n) {
            return Err(malformed("the window is larger than it can be"));
        }
        for value in &mut window.sorted[..n] {
            *value = from.finite()?;
        }
        if !window.sorted.is_sorted() {
            return Err(malformed("the window is not in order"));
        }
        let mut taken = [false; CAPACITY];
        for rank in &mut window.ranks[..n] {
            *rank = from.u8()?;
            let taken =
                taken[..n].get_mut(usize::from(*rank)).ok_or_else(|| malformed("a rank is beyond the window"))?;
            if std::mem::replace(taken, true) {
                return Err(malformed("two values have one rank"));
            }
        }
        Ok(window)
    }
}
