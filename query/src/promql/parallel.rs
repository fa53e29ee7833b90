//! Work of one evaluation on all cores: the only place of PromQL that starts threads. They end before the call does.
//!
//! Results come in the order of the work, whoever did it, and what is done for one item does not depend on the others: an
//! answer does not depend on the number of cores, not even in its last bit.
use std::panic::resume_unwind;
use std::sync::LazyLock;
use std::thread::{Builder, available_parallelism, scope};

use crate::error::{Error, ErrorKind, Result};

/// Work worth a thread: samples or steps looked at, a nanosecond or two each. Starting a thread takes some ten thousand.
const WORK_MIN: usize = 100_000;
/// Most threads of one evaluation.
const THREADS_MAX: usize = 16;

static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));

/// How many parts to divide `items` into that mean `work` samples or steps in all.
pub(crate) fn parts(items: usize, work: usize) -> usize {
    (work / WORK_MIN + 1).min(items).min(*CORES).clamp(1, THREADS_MAX)
}

/// `f` of each of `items`, which mean `work` in all.
///
/// # Errors
/// `Unavailable` when no thread can be started.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: usize, f: impl Fn(&T) -> R + Sync) -> Result<Vec<R>> {
    let parts = parts(items.len(), work);
    if parts == 1 {
        return Ok(items.iter().map(f).collect());
    }
    let chunks = items.chunks(items.len().div_ceil(parts)).collect();
    let results = each(chunks, |chunk: &[T]| chunk.iter().map(&f).collect::<Vec<R>>())?;
    Ok(results.into_iter().flatten().collect())
}

/// `f` of each of `parts`, all at once: the last one here, each other one on a thread.
///
/// # Errors
/// `Unavailable` when no thread can be started.
pub(crate) fn each<P: Send, R: Send>(mut parts: Vec<P>, f: impl Fn(P) -> R + Sync) -> Result<Vec<R>> {
    let Some(last) = parts.pop() else { return Ok(Vec::new()) };
    let f = &f;
    scope(|scope| {
        let start = |part: P| Builder::new().name("foretell-promql".to_owned()).spawn_scoped(scope, move || f(part));
        let threads = parts.into_iter().map(start).collect::<std::io::Result<Vec<_>>>().map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("cannot start a thread for the query: {error}: try again later"))
        })?;
        let last = f(last);
        let mut results = Vec::with_capacity(threads.len() + 1);
        for thread in threads {
            results.push(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results.push(last);
        Ok(results)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1_001).collect();
        let double: Vec<usize> = items.iter().map(|i| i * 2).collect();
        for work in [0, 10 * WORK_MIN] {
            assert_eq!(map(&items, work, |i| i * 2).unwrap(), double);
        }
        assert_eq!(each(vec![3, 1, 2], |i| i + 1).unwrap(), [4, 2, 3]);
        assert!(map(&[] as &[usize], WORK_MIN, |i| i * 2).unwrap().is_empty());
    }

    #[test]
    fn little_work_starts_no_thread() {
        assert_eq!((parts(1_000_000, WORK_MIN - 1), parts(1, usize::MAX), parts(0, usize::MAX)), (1, 1, 1));
    }
}
