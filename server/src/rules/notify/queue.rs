//! Alerts that wait for one Alertmanager: bounded by number and bytes, the oldest go first.
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes that wait.
const BYTES_MAX: usize = 32 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    alerts: VecDeque<Arc<str>>,
    bytes: usize,
    len_max: usize,
}

impl Queue {
    pub(super) fn new(len_max: usize) -> Self {
        Self { alerts: VecDeque::new(), bytes: 0, len_max: len_max.max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Adds one; returns how many had to go for it.
    pub(super) fn push(&mut self, alert: Arc<str>) -> u64 {
        self.bytes += alert.len();
        self.alerts.push_back(alert);
        let mut dropped = 0;
        while self.alerts.len() > self.len_max || self.bytes > BYTES_MAX {
            let Some(oldest) = self.alerts.pop_front() else { break };
            self.bytes -= oldest.len();
            dropped += 1;
        }
        dropped
    }

    /// Takes the oldest, at most `len_max`.
    pub(super) fn take(&mut self, len_max: usize) -> Vec<Arc<str>> {
        let taken: Vec<Arc<str>> = self.alerts.drain(..len_max.min(self.alerts.len())).collect();
        self.bytes -= taken.iter().map(|alert| alert.len()).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let mut queue = Queue::new(3);
        let dropped: u64 = ["a", "b", "c", "d", "e"].into_iter().map(|text| queue.push(text.into())).sum();
        assert_eq!((dropped, queue.len()), (2, 3));
        let texts = |taken: Vec<Arc<str>>| taken.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        assert_eq!(texts(queue.take(2)), ["c", "d"]);
        assert_eq!(texts(queue.take(2)), ["e"]);
        assert!(queue.take(2).is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut queue = Queue::new(1000);
        let large: Arc<str> = "x".repeat(BYTES_MAX / 4).into();
        let dropped: u64 = (0..6).map(|_| queue.push(Arc::clone(&large))).sum();
        assert_eq!((dropped, queue.len()), (2, 4));
    }
}
