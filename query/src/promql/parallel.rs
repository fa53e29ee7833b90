//! Work of one evaluation on all cores: the only place of PromQL that has threads. They are kept, with what they have allocated:
//! starting one takes as long as a small query.
//!
//! Results come in the order of the work, whoever did it, and what is done for one item does not depend on the others: an
//! answer does not depend on the number of cores, not even in its last bit.
use std::cell::Cell;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::Semaphore;

use crate::error::Result;

/// Work worth a thread: samples or steps looked at, a nanosecond or two each. Waking one takes some ten thousand.
const WORK_MIN: usize = 100_000;
/// Work between two looks at whether anybody still waits.
pub(crate) const WORK_AT_ONCE: usize = 1 << 20;
/// Most threads of one evaluation.
const THREADS_MAX: usize = 16;
/// Threads of all evaluations for each core. What finds none free is done by the thread that asks.
const THREADS_EACH_CORE: usize = 4;

static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));

/// The threads, and a permit for each that is free; none where the system gives none.
static THREADS: LazyLock<Option<(ThreadPool, Semaphore)>> = LazyLock::new(|| {
    let count = CORES.saturating_mul(THREADS_EACH_CORE);
    let pool = ThreadPoolBuilder::new().num_threads(count).thread_name(|_| "foretell-promql".to_owned()).build();
    Some((pool.ok()?, Semaphore::new(count)))
});

/// Starts the threads now; otherwise the first query that needs them waits for all of them.
pub(crate) fn start() {
    LazyLock::force(&THREADS);
}

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
/// Of those of `go_on` and `f` the first in the order of the items.
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
    let mut chunks = each(items.chunks(length).collect(), of_chunk).into_iter();
    let mut results = chunks.next().unwrap_or_else(|| Ok(Vec::new()))?;
    for chunk in chunks {
        results.extend(chunk?);
    }
    Ok(results)
}

/// `f` of each of `parts`, all at once: the last one here, each other one on a thread, as long as one is free.
pub(crate) fn each<P: Send, R: Send>(mut parts: Vec<P>, f: impl Fn(P) -> R + Sync) -> Vec<R> {
    let Some(last) = parts.pop() else { return Vec::new() };
    let threads = if parts.is_empty() { None } else { THREADS.as_ref() };
    let Some((pool, free)) = threads else { return parts.into_iter().chain([last]).map(f).collect() };
    let mut results: Vec<Option<R>> = parts.iter().map(|_| None).collect();
    let (f, slots) = (&f, results.iter_mut());
    let last = pool.in_place_scope(move |scope| {
        let mut left = Vec::new();
        for (part, slot) in parts.into_iter().zip(slots) {
            match free.try_acquire() {
                Ok(permit) => scope.spawn(move |_| {
                    *slot = Some(f(part));
                    drop(permit);
                }),
                Err(_) => left.push((part, slot)),
            }
        }
        left.into_iter().for_each(|(part, slot)| *slot = Some(f(part)));
        f(last)
    });
    // The scope ends when all are done; a panic of one of them has come out of it.
    let done = results.into_iter().map(|result| result.unwrap_or_else(|| unreachable!("the scope waits for each")));
    done.chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1_001).collect();
        let double: Vec<usize> = items.iter().map(|i| i * 2).collect();
        for work in [0, 10 * WORK_MIN] {
            assert_eq!(map(&items, work, || Ok(()), |i| Ok(i * 2)).unwrap(), double);
        }
        assert_eq!(each(vec![3, 1, 2], |i| i + 1), [4, 2, 3]);
        assert!(map(&[] as &[usize], WORK_MIN, || Ok(()), |i| Ok(i * 2)).unwrap().is_empty());
    }

    #[test]
    fn what_finds_no_free_thread_is_done_all_the_same() {
        let yielded = |i: usize| {
            std::thread::yield_now();
            i
        };
        let evaluation = |n: usize| each((n..n + 50).collect(), yielded);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..40).map(|n| scope.spawn(move || evaluation(n))).collect();
            for (n, one) in all.into_iter().enumerate() {
                assert_eq!(one.join().unwrap(), (n..n + 50).collect::<Vec<usize>>());
            }
        });
    }

    #[test]
    fn a_panic_of_a_part_comes_out_and_its_thread_is_free_again() {
        for _ in 0..100 {
            let work = || each(vec![0, 1, 2], |i| assert!(i != 1, "part 1"));
            assert!(std::panic::catch_unwind(work).is_err());
        }
        assert_eq!(each(vec![1, 2, 3], |i| i * 2), [2, 4, 6]);
        let (_, free) = THREADS.as_ref().unwrap();
        assert!((0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            free.available_permits() == *CORES * THREADS_EACH_CORE
        }));
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
    fn little_work_is_one_part() {
        assert_eq!((parts(1_000_000, WORK_MIN - 1), parts(1, usize::MAX), parts(0, usize::MAX)), (1, 1, 1));
    }
}
