//! Alerts that wait for one Alertmanager: of each the newest state, bounded by number and bytes; the oldest go first.
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foretell_engine::LabelSet;

/// Most bytes that wait.
const BYTES_MAX: usize = 32 << 20;

/// Alerts by their labels, as they are told.
pub(super) type Batch = Vec<(LabelSet, Arc<str>)>;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    /// Since when each waits: the oldest first.
    order: VecDeque<LabelSet>,
    texts: HashMap<LabelSet, Arc<str>>,
    bytes: usize,
    len_max: usize,
}

impl Queue {
    pub(super) fn new(len_max: usize) -> Self {
        Self { order: VecDeque::new(), texts: HashMap::new(), bytes: 0, len_max: len_max.max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Adds one, in the place of what waits of the same alert; returns how many others had to go for it.
    pub(super) fn push(&mut self, alert: LabelSet, text: Arc<str>) -> u64 {
        self.bytes += text.len();
        match self.texts.insert(alert.clone(), text) {
            Some(older) => self.bytes -= older.len(),
            None => self.order.push_back(alert),
        }
        self.shrink()
    }

    /// Takes the oldest, at most `len_max`.
    pub(super) fn take(&mut self, len_max: usize) -> Batch {
        let oldest = self.order.drain(..len_max.min(self.order.len()));
        let taken: Batch = oldest.filter_map(|alert| self.texts.remove_entry(&alert)).collect();
        self.bytes -= taken.iter().map(|(_, text)| text.len()).sum::<usize>();
        taken
    }

    /// Puts back in front what was taken and not told, but for alerts of which something newer waits by now; returns how many
    /// had to go.
    pub(super) fn put_back(&mut self, batch: Batch) -> u64 {
        for (alert, text) in batch.into_iter().rev() {
            if !self.texts.contains_key(&alert) {
                self.bytes += text.len();
                self.texts.insert(alert.clone(), text);
                self.order.push_front(alert);
            }
        }
        self.shrink()
    }

    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.order.len() > self.len_max || self.bytes > BYTES_MAX {
            let Some(text) = self.order.pop_front().and_then(|oldest| self.texts.remove(&oldest)) else { break };
            self.bytes -= text.len();
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn alert(name: &str) -> LabelSet {
        LabelSet::from_pairs([("alertname", name)]).unwrap()
    }

    fn push(queue: &mut Queue, name: &str, text: &str) -> u64 {
        queue.push(alert(name), text.into())
    }

    fn take(queue: &mut Queue, len_max: usize) -> Vec<String> {
        queue.take(len_max).iter().map(|(_, text)| text.to_string()).collect()
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let mut queue = Queue::new(3);
        let dropped: u64 = ["a", "b", "c", "d", "e"].into_iter().map(|name| push(&mut queue, name, name)).sum();
        assert_eq!((dropped, queue.len()), (2, 3));
        assert_eq!(take(&mut queue, 2), ["c", "d"]);
        assert_eq!(take(&mut queue, 2), ["e"]);
        assert!(queue.take(2).is_empty());
        assert_eq!((queue.bytes, queue.texts.len()), (0, 0));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut queue = Queue::new(1000);
        let large: Arc<str> = "x".repeat(BYTES_MAX / 4).into();
        let dropped: u64 = (0..6).map(|i| queue.push(alert(&i.to_string()), Arc::clone(&large))).sum();
        assert_eq!((dropped, queue.len()), (2, 4));
    }

    #[test]
    fn the_newest_state_of_an_alert_takes_the_place_of_older_ones() {
        let mut queue = Queue::new(2);
        let told = [("a", "a fires"), ("b", "b fires"), ("a", "a has resolved"), ("b", "b still fires")];
        assert_eq!(told.into_iter().map(|(name, text)| push(&mut queue, name, text)).sum::<u64>(), 0);
        assert_eq!(take(&mut queue, 9), ["a has resolved", "b still fires"]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn what_was_not_told_goes_back_in_front_unless_there_is_news_of_it() {
        let mut queue = Queue::new(3);
        ["a", "b"].into_iter().for_each(|name| assert_eq!(push(&mut queue, name, name), 0));
        let batch = queue.take(2);
        push(&mut queue, "c", "c");
        push(&mut queue, "b", "newer b");
        assert_eq!(queue.put_back(batch), 0);
        assert_eq!(take(&mut queue, 9), ["a", "c", "newer b"]);
        let batch: Batch = ["a", "b", "c", "d"].map(|name| (alert(name), name.into())).into();
        assert_eq!(queue.put_back(batch), 1, "what goes is the oldest");
        assert_eq!(take(&mut queue, 9), ["b", "c", "d"]);
        assert_eq!(queue.bytes, 0);
    }
}
