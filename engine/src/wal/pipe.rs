//! A queue between two threads, one that fills it and one that empties it, which holds so many bytes at most.
use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// See the module. Either side ends it by dropping its [`End`].
pub(crate) struct Pipe<T> {
    state: Mutex<State<T>>,
    /// At most one side ever waits: one waits for something in the queue, the other for nothing much in it.
    changed: Condvar,
    bytes_max: usize,
}

struct State<T> {
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
    ended: bool,
}

impl<T> Pipe<T> {
    /// A queue that takes a thing when it is empty, or holds at most `bytes_max` with it.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let state = State { waiting: VecDeque::new(), bytes: 0, ended: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), bytes_max }
    }

    /// Waits until there is room and adds a thing of `bytes`; `false` when the other side has ended.
    pub(crate) fn push(&self, thing: T, bytes: usize) -> bool {
        let mut state = self.state.lock();
        while !state.ended && state.bytes > 0 && state.bytes.saturating_add(bytes) > self.bytes_max {
            self.changed.wait(&mut state);
        }
        if state.ended {
            return false;
        }
        state.bytes = state.bytes.saturating_add(bytes);
        state.waiting.push_back((thing, bytes));
        self.changed.notify_one();
        true
    }

    /// Waits for the next thing; `None` when there is none and the other side has ended.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some((thing, bytes)) = state.waiting.pop_front() {
                state.bytes -= bytes;
                self.changed.notify_one();
                return Some(thing);
            }
            if state.ended {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// What each side holds as long as it works.
    pub(crate) fn end(&self) -> End<'_, T> {
        End(self)
    }
}

/// Ends a [`Pipe`] when it is dropped, by a panic too: what is in it can still be taken, nothing more is added.
pub(crate) struct End<'a, T>(&'a Pipe<T>);

impl<T> Drop for End<'_, T> {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn everything_comes_out_in_order_and_never_is_more_in_it_than_fits() {
        let (pipe, inside) = (Pipe::new(100), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let _end = pipe.end();
                for n in 0..2000usize {
                    let bytes = n * 7 % 60;
                    assert!(pipe.push((n, bytes), bytes));
                    inside.fetch_max(pipe.state.lock().bytes, Ordering::Relaxed);
                }
            });
            let mut next = 0;
            while let Some((n, bytes)) = pipe.pop() {
                assert_eq!((n, bytes), (next, next * 7 % 60));
                next += 1;
            }
            assert_eq!(next, 2000);
        });
        assert!(inside.into_inner() <= 100);
    }

    #[test]
    fn a_thing_larger_than_the_queue_passes_when_it_is_alone() {
        let pipe = Pipe::new(10);
        assert!(pipe.push(1, 1 << 40));
        assert_eq!(pipe.pop(), Some(1));
        assert!(pipe.push(2, usize::MAX));
        drop(pipe.end());
        assert_eq!((pipe.pop(), pipe.pop()), (Some(2), None));
    }

    #[test]
    fn a_side_that_ends_or_panics_sets_the_other_free() {
        let pipe = Pipe::new(10);
        assert!(pipe.push(0, 10));
        thread::scope(|scope| {
            let full = scope.spawn(|| pipe.push(1, 10));
            drop(pipe.end());
            assert!(!full.join().unwrap(), "nobody takes it any more");
        });
        let pipe: Pipe<u8> = Pipe::new(10);
        thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let _end = pipe.end();
                panic!("the side that fills it");
            });
            assert_eq!(pipe.pop(), None);
            assert!(panicked.join().is_err());
        });
    }
}
