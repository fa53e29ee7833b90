//! Bytes of detectors that continuous queries hold in memory, all together.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much all may hold.
#[derive(Debug)]
pub(super) struct HeldBudget {
    used: AtomicUsize,
    /// Those who hold anything.
    holders: AtomicUsize,
    max: usize,
}

impl HeldBudget {
    pub(super) fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), holders: AtomicUsize::new(0), max }
    }

    /// Bytes held now.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }
}

/// What one query holds of it.
#[derive(Debug)]
pub(super) struct Holding {
    budget: Arc<HeldBudget>,
    bytes: usize,
}

impl Holding {
    pub(super) fn new(budget: &Arc<HeldBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Says how much it holds now.
    pub(super) fn set(&mut self, bytes: usize) {
        // In two steps: others may see the sum a little too high.
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        match (self.bytes > 0, bytes > 0) {
            (false, true) => drop(self.budget.holders.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.budget.holders.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        self.bytes = bytes;
    }

    /// Whether it has to let go: all together hold too much, and it no less than the average.
    pub(super) fn is_too_much(&self) -> bool {
        let used = self.budget.used();
        let average = used / self.budget.holders.load(Ordering::Relaxed).max(1);
        used > self.budget.max && self.bytes > 0 && self.bytes >= average
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_most_lets_go_and_nobody_while_there_is_room() {
        let budget = Arc::new(HeldBudget::new(100));
        let [mut small, mut large, idle] = [(); 3].map(|()| Holding::new(&budget));
        small.set(10);
        large.set(90);
        assert!(!small.is_too_much() && !large.is_too_much());
        large.set(91);
        assert!(large.is_too_much() && !small.is_too_much() && !idle.is_too_much());
        large.set(0);
        assert_eq!((budget.used(), budget.holders.load(Ordering::Relaxed)), (10, 1));
        drop(small);
        large.set(100);
        assert!(!large.is_too_much());
        large.set(101);
        assert!(large.is_too_much());
        drop(large);
        assert_eq!((budget.used(), budget.holders.load(Ordering::Relaxed)), (0, 0));
    }
}
