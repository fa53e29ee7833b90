//! The last values of a series, kept in arrival order and in sorted order at once.
use super::state::{Put, Reader, malformed};
use crate::Result;

/// Values kept: with the order and the tail this stays below 512 bytes a series.
pub(super) const CAPACITY: usize = 48;

/// A ring of values and the ascending order of its slots.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    values: [f64; CAPACITY],
    order: [u8; CAPACITY],
    len: u8,
    next: u8,
}

/// Where `slot` stands in `order`, which holds each slot once: compared all at once.
fn position(order: &[u8; CAPACITY], slot: u8) -> u8 {
    order.iter().zip(0..).map(|(&s, i): (&u8, u8)| if s == slot { i } else { 0 }).fold(0, |found, i| found | i)
}

impl Default for Window {
    fn default() -> Self {
        Self { values: [0.0; CAPACITY], order: [0; CAPACITY], len: 0, next: 0 }
    }
}

impl Window {
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn sorted(&self, rank: usize) -> f64 {
        self.values[usize::from(self.order[rank])]
    }

    /// Adds a finite value; the oldest leaves a full window. Ranks are counted over the whole window rather than
    /// searched for: no branch depends on the values.
    pub(super) fn push(&mut self, value: f64) {
        let slot = self.next;
        let len = self.len();
        let below = |values: &[f64]| values.iter().map(|&v| u64::from(v <= value)).sum::<u64>() as usize;
        if len < CAPACITY {
            let rank = below(&self.values[..len]);
            self.order.copy_within(rank..len, rank + 1);
            self.order[rank] = slot;
            self.len = (len + 1) as u8;
        } else {
            let oldest = self.values[usize::from(slot)];
            let rank = below(&self.values) - usize::from(oldest <= value);
            let gap = usize::from(position(&self.order, slot));
            match rank < gap {
                true => self.order.copy_within(rank..gap, rank + 1),
                false => self.order.copy_within(gap + 1..=rank, gap),
            }
            self.order[rank] = slot;
        }
        self.values[usize::from(slot)] = value;
        self.next = if usize::from(slot) + 1 == CAPACITY { 0 } else { slot + 1 };
    }

    /// Median; the window must not be empty.
    pub(super) fn median(&self) -> f64 {
        let n = self.len();
        let upper = self.sorted(n / 2);
        if n % 2 == 1 { upper } else { 0.5 * self.sorted(n / 2 - 1) + 0.5 * upper }
    }

    /// The `k`-th smallest (from 0) distance from the median: a search in the two sorted halves, O(log n).
    pub(super) fn distance(&self, median: f64, k: usize) -> f64 {
        let n = self.len();
        let split = n / 2;
        let left = |j: usize| median - self.sorted(split - 1 - j);
        let right = |j: usize| self.sorted(split + j) - median;
        // `i` of the k + 1 smallest lie on the left
        let mut lo = (k + 1).saturating_sub(n - split);
        let mut hi = (k + 1).min(split);
        while lo < hi {
            let i = (lo + hi) / 2;
            let enough = right(k - i) <= left(i);
            // two selections, not a branch that is wrong every other time
            (lo, hi) = (if enough { lo } else { i + 1 }, if enough { i } else { hi });
        }
        let from_left = if lo > 0 { left(lo - 1) } else { 0.0 };
        let from_right = if lo <= k { right(k - lo) } else { 0.0 };
        from_left.max(from_right)
    }

    /// Mean distance from the median.
    pub(super) fn mean_distance(&self, median: f64) -> f64 {
        let n = self.len();
        self.values[..n].iter().map(|v| (v - median).abs() / n as f64).sum()
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(self.len);
        out.put_u8(self.next);
        for value in &self.values[..self.len()] {
            out.put_f64(*value);
        }
        // the order of equal values is part of the state: it decides nothing that can be seen, but bits are bits
        out.extend_from_slice(&self.order[..self.len()]);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let mut window = Self { len: from.u8()?, next: from.u8()?, ..Self::default() };
        let n = window.len();
        let next = usize::from(window.next);
        if n > CAPACITY || next >= CAPACITY || (n < CAPACITY && next != n) {
            return Err(malformed("the window is larger than it can be"));
        }
        for i in 0..n {
            window.values[i] = from.finite()?;
        }
        let mut seen = [false; CAPACITY];
        for i in 0..n {
            let slot = from.u8()?;
            let known =
                seen[..n].get_mut(usize::from(slot)).ok_or_else(|| malformed("the order names an absent slot"))?;
            if std::mem::replace(known, true) {
                return Err(malformed("the order names a slot twice"));
            }
            window.order[i] = slot;
        }
        if window.order[..n].windows(2).any(|w| window.values[usize::from(w[0])] > window.values[usize::from(w[1])]) {
            return Err(malformed("the window is not in order"));
        }
        Ok(window)
    }
}
