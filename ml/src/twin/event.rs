//! What will happen, in order of time; events of the same time in the order they were planned.
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A request in the slab: a slot, and the generation that tells it from earlier users of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A customer arrives at the entry.
    Arrival,
    /// An extra request of a traffic spike arrives; the number of the fault.
    Extra(u32),
    /// A request has done its own work.
    Worked(RequestId),
    /// A rejected request's answer reaches its caller.
    Rejected(RequestId),
    /// The caller of a request stops waiting for it.
    Timeout(RequestId),
    /// A fault begins.
    FaultStart(u32),
    /// A fault ends.
    FaultEnd(u32),
}

struct Planned {
    time: u64,
    order: u64,
    event: Event,
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        // Reversed: the heap's greatest is the earliest.
        (other.time, other.order).cmp(&(self.time, self.order))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Planned {}

/// The future.
#[derive(Default)]
pub(crate) struct EventQueue {
    heap: BinaryHeap<Planned>,
    planned: u64,
}

impl EventQueue {
    pub(crate) fn plan(&mut self, time: u64, event: Event) {
        self.planned += 1;
        self.heap.push(Planned { time, order: self.planned, event });
    }

    /// Takes the next event that happens no later than `until`.
    pub(crate) fn next(&mut self, until: u64) -> Option<(u64, Event)> {
        if self.heap.peek()?.time > until {
            return None;
        }
        self.heap.pop().map(|planned| (planned.time, planned.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_by_plan() {
        let mut queue = EventQueue::default();
        queue.plan(5, Event::FaultEnd(1));
        queue.plan(3, Event::FaultStart(1));
        queue.plan(5, Event::Arrival);
        assert_eq!(queue.next(4), Some((3, Event::FaultStart(1))));
        assert_eq!(queue.next(4), None);
        assert_eq!(queue.next(5), Some((5, Event::FaultEnd(1))));
        assert_eq!(queue.next(5), Some((5, Event::Arrival)));
        assert_eq!(queue.next(u64::MAX), None);
    }
}
