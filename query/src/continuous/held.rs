//! Bytes of detectors that continuous queries hold in memory, all together.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much all may hold.
#[derive(Debug)]
pub(super) struct HeldBudget {
    used: AtomicUsize,
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
        budget.holders.fetch_add(1, Ordering::Relaxed);
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Says how much it holds now. Answers whether it has to let go: all together hold too much, and it no less than the average.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        // In two steps: others may see the sum a little too high.
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        let used = self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed) - self.bytes;
        self.bytes = bytes;
        used > self.budget.max && bytes > 0 && bytes >= used / self.budget.holders.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_most_lets_go_and_nobody_while_there_is_room() {
        let budget = Arc::new(HeldBudget::new(100));
        let (mut small, mut large) = (Holding::new(&budget), Holding::new(&budget));
        assert!(!small.set(10) && !large.set(90));
        assert!(large.set(91) && !small.set(10));
        assert!(!large.set(0) && budget.used() == 10);
        drop(small);
        assert!(!large.set(100) && large.set(101));
        drop(large);
        assert_eq!(budget.used(), 0);
    }
}
