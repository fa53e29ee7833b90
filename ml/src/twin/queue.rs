//! The workers of one instance and the requests that wait for them.
use std::collections::VecDeque;

/// What became of a request that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// A worker is free: it starts now.
    Start,
    /// It waits.
    Wait,
    /// The queue is full.
    Reject,
}

/// A pool of workers with a bounded first-come-first-served queue. Keeps the time integrals of its two lengths, from
/// which the mean numbers waiting and in the system follow.
pub(crate) struct Pool {
    workers: usize,
    waiting_max: usize,
    busy: usize,
    waiting: VecDeque<u32>,
    changed_at: u64,
    /// Request-nanoseconds in the system and waiting.
    system_area: u128,
    waiting_area: u128,
}

impl Pool {
    pub(crate) fn new(workers: usize, waiting_max: usize) -> Self {
        Self { workers, waiting_max, busy: 0, waiting: VecDeque::new(), changed_at: 0, system_area: 0, waiting_area: 0 }
    }

    /// Brings the integrals up to `now`.
    pub(crate) fn advance(&mut self, now: u64) {
        let elapsed = u128::from(now - self.changed_at);
        self.waiting_area += elapsed * self.waiting.len() as u128;
        self.system_area += elapsed * self.len() as u128;
        self.changed_at = now;
    }

    pub(crate) fn arrive(&mut self, now: u64, slot: u32) -> Admission {
        self.advance(now);
        if self.busy < self.workers {
            self.busy += 1;
            return Admission::Start;
        }
        if self.waiting.len() >= self.waiting_max {
            return Admission::Reject;
        }
        self.waiting.push_back(slot);
        Admission::Wait
    }

    /// A worker is done; returns the slot of the request it takes up next.
    pub(crate) fn finish(&mut self, now: u64) -> Option<u32> {
        self.advance(now);
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.busy -= 1;
        }
        next
    }

    /// Requests waiting or being worked on.
    pub(crate) fn len(&self) -> usize {
        self.busy + self.waiting.len()
    }

    /// Request-nanoseconds in the system and waiting, up to the last [`Pool::advance`].
    pub(crate) fn areas(&self) -> (u128, u128) {
        (self.system_area, self.waiting_area)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_queues_then_rejects_and_counts_the_time() {
        let mut pool = Pool::new(1, 1);
        assert_eq!(pool.arrive(0, 7), Admission::Start);
        assert_eq!(pool.arrive(10, 8), Admission::Wait);
        assert_eq!(pool.arrive(20, 9), Admission::Reject);
        assert_eq!(pool.finish(30), Some(8));
        assert_eq!(pool.finish(40), None);
        assert_eq!(pool.len(), 0);
        assert_eq!(pool.areas(), (60, 20));
    }
}
