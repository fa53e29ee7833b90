//! Work of one evaluation on all cores: the only place of PromQL that has threads. They are kept, with what they have allocated:
//! starting one takes as long as a small query.
//!
//! Results come in the order of the work, whoever did it, and what is done for one item does not depend on the others: an
//! answer does not depend on the number of cores, not even in its last bit.
use std::cell::Cell;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::error::{Error, ErrorKind, Result};

/// Work worth a thread: samples or steps looked at, a nanosecond or two each. Waking one takes some ten thousand.
const WORK_MIN: usize = 100_000;
/// Work between two looks at whether anybody still waits.
pub(crate) const WORK_AT_ONCE: usize = 1 << 20;
/// Most threads of one evaluation.
const THREADS_MAX: usize = 16;
/// Threads of all evaluations for each core: so many evaluations at once do not wait for each other's parts.
const THREADS_EACH_CORE: usize = 4;

static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));

static THREADS: LazyLock<std::result::Result<ThreadPool, ThreadPoolBuildError>> = LazyLock::new(|| {
    let count = CORES.saturating_mul(THREADS_EACH_CORE);
    ThreadPoolBuilder::new().num_threads(count).thread_name(|_| "foretell-promql".to_owned()).build()
});

/// Asked whether anybody still waits; an error ends the work.
pub(crate) type GoOn<'a> = dyn Fn() -> Result<()> + Sync + 'a;

/// The work of one thread, which asks now and then whether anybody still waits.
pub(crate) struct Pace<'a> {
    go_on: &'a GoOn<'a>,
    done: Cell<usize>,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(go_on: &'a GoOn<'a>) -> Self {
        Self { go_on, done: Cell::new(0) }
    }

    /// So many samples or steps are looked at next.
    ///
    /// # Errors
    /// Those of `go_on`.
    pub(crate) fn spend(&self, work: usize) -> Result<()> {
        let (before, after) = (self.done.get(), self.done.get().saturating_add(work));
        self.done.set(after);
        if before / WORK_AT_ONCE != after / WORK_AT_ONCE { (self.go_on)() } else { Ok(()) }
    }
}

/// How many parts to divide `items` into that mean `work` samples or steps in all.
pub(crate) fn parts(items: usize, work: usize) -> usize {
    (work / WORK_MIN + 1).min(items).min(*CORES).clamp(1, THREADS_MAX)
}

/// `f` of each of `items`, which mean `work` in all. `go_on` is asked between pieces of work.
///
/// # Errors
/// Of those of `go_on` and `f` the first in the order of the items; `Unavailable` when no thread can be started.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    work: usize,
    go_on: impl Fn() -> Result<()> + Sync,
    f: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let length = items.len().div_ceil(parts(items.len(), work)).max(1);
    let asked_every = (items.len().saturating_mul(WORK_AT_ONCE) / work.max(1)).max(1);
    let of_chunk = |chunk: &[T]| -> Result<Vec<R>> {
        let mut results = Vec::with_capacity(chunk.len());
        for (i, item) in chunk.iter().enumerate() {
            if i % asked_every == 0 {
                go_on()?;
            }
            results.push(f(item)?);
        }
        Ok(results)
    };
    let mut chunks = each(items.chunks(length).collect(), of_chunk)?.into_iter();
    let mut results = chunks.next().unwrap_or_else(|| Ok(Vec::new()))?;
    for chunk in chunks {
        results.extend(chunk?);
    }
    Ok(results)
}

/// `f` of each of `parts`, all at once: the last one here, each other one on a thread.
///
/// # Errors
/// `Unavailable` when no thread can be started.
pub(crate) fn each<P: Send, R: Send>(mut parts: Vec<P>, f: impl Fn(P) -> R + Sync) -> Result<Vec<R>> {
    let Some(last) = parts.pop() else { return Ok(Vec::new()) };
    if parts.is_empty() {
        return Ok(vec![f(last)]);
    }
    let threads = THREADS.as_ref().map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("cannot start threads for queries: {error}: start the server anew"))
    })?;
    let mut results: Vec<Option<R>> = parts.iter().map(|_| None).collect();
    let f = &f;
    let last = threads.in_place_scope(|scope| {
        for (part, result) in parts.into_iter().zip(&mut results) {
            scope.spawn(move |_| *result = Some(f(part)));
        }
        f(last)
    });
    // A panic of one of them has come out of the scope: all are there.
    Ok(results.into_iter().flatten().chain([last]).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1_001).collect();
        let double: Vec<usize> = items.iter().map(|i| i * 2).collect();
        for work in [0, 10 * WORK_MIN] {
            assert_eq!(map(&items, work, || Ok(()), |i| Ok(i * 2)).unwrap(), double);
        }
        assert_eq!(each(vec![3, 1, 2], |i| i + 1).unwrap(), [4, 2, 3]);
        assert!(map(&[] as &[usize], WORK_MIN, || Ok(()), |i| Ok(i * 2)).unwrap().is_empty());
    }

    #[test]
    fn the_first_error_in_the_order_of_the_items_is_told() {
        let items: Vec<usize> = (0..1_001).collect();
        let f = |&i: &usize| if i % 400 == 399 { Err(Error::invalid(i.to_string())) } else { Ok(i) };
        for work in [0, 10 * WORK_MIN] {
            assert_eq!(map(&items, work, || Ok(()), f).unwrap_err().message, "399");
        }
    }

    #[test]
    fn nobody_works_on_when_nobody_waits() {
        let (items, done) = (vec![(); 1_000], AtomicUsize::new(0));
        let refuse = || Err(Error::new(ErrorKind::Cancelled, "enough"));
        let work = |_: &()| Ok(done.fetch_add(1, Ordering::Relaxed));
        assert_eq!(map(&items, 10 * WORK_MIN, refuse, work).unwrap_err().kind, ErrorKind::Cancelled);
        assert_eq!(done.into_inner(), 0);
    }

    #[test]
    fn a_pace_asks_once_for_much_work() {
        let asked = AtomicUsize::new(0);
        let go_on = || match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Error::new(ErrorKind::Cancelled, "enough")),
        };
        let pace = Pace::new(&go_on);
        let outcomes: Vec<bool> = (0..8).map(|_| pace.spend(WORK_AT_ONCE / 4).is_ok()).collect();
        assert_eq!(outcomes, [true, true, true, true, true, true, true, false]);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn little_work_starts_no_thread() {
        assert_eq!((parts(1_000_000, WORK_MIN - 1), parts(1, usize::MAX), parts(0, usize::MAX)), (1, 1, 1));
    }
}
