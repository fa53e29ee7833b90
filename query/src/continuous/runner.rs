//! The task that keeps all queries going: woken by commits, paced so that commits close together share a tick.
//!
//! What is new is read once. Queries that it has no rows for move on without a step. Those whose steps are short are stepped together,
//! so that a thousand of them are a few records of the log and not a thousand; one that takes long has a thread of its own and holds
//! up nobody.
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::ContinuousQueries;
use super::feed::Look;
use super::query::{Query, step_together};
use super::worker::Shared;
use crate::planner;

/// Runs until `stopped` or until nobody holds the queries any more.
pub(super) async fn run(queries: Weak<ContinuousQueries>, mut stopped: watch::Receiver<bool>) {
    let Some((mut commits, limits)) =
        queries.upgrade().map(|all| (all.shared.engine.commits(), all.shared.limits.clone()))
    else {
        return;
    };
    let permits = Arc::new(Semaphore::new(limits.steps_at_once));
    let mut retries = Retries::default();
    let mut steps: JoinSet<Arc<Query>> = JoinSet::new();
    let mut at_work = HashSet::new();
    loop {
        let Some(all) = queries.upgrade() else { return };
        let through = *commits.borrow_and_update();
        let now = Instant::now();
        let waits = |query: &Arc<Query>, retries: &Retries| {
            query.is_at(through) || retries.waiting(query, now) || query.rests_until(now).is_some()
        };
        let everybody = all.all();
        all.shared.feed.forget_before(everybody.iter().filter_map(|query| query.position()).min().unwrap_or(through));
        let due = everybody.iter().filter(|query| !waits(query, &retries) && !at_work.contains(query.name()));
        let begun = Instant::now();
        let (quick, slow, look) = behind(&all.shared, due.cloned().collect()).await;
        for query in slow {
            let Some(look) = look.clone() else { break };
            at_work.insert(query.name().to_owned());
            let (shared, permits, stopped) = (all.shared.clone(), Arc::clone(&permits), stopped.clone());
            steps.spawn(async move {
                let _permit = permits.acquire_owned().await;
                if !*stopped.borrow() {
                    // The error is in the query's status.
                    let _ = query.step(&shared, Some(look)).await;
                }
                query
            });
        }
        if let Some(look) = look {
            together(&all.shared, &quick, &look).await;
            quick.iter().for_each(|query| retries.note(query, limits.retry));
        }
        let pause = (begun.elapsed() * 2).clamp(limits.pause, limits.pause_max);
        let rests = everybody.iter().filter_map(|query| query.rests_until(now)).min();
        let (changed, wake) = (all.changed(), retries.next().into_iter().chain(rests).min());
        drop((all, everybody));
        tokio::select! {
            _ = stopped.changed() => break,
            Some(step) = steps.join_next() => {
                let mut step = Some(step);
                // Those that end together are looked at together.
                while let Some(ended) = step {
                    if let Ok(query) = ended {
                        at_work.remove(query.name());
                        retries.note(&query, limits.retry);
                    }
                    step = steps.try_join_next();
                }
            }
            gone = commits.changed() => if gone.is_err() { break },
            () = changed.notified() => {}
            () = async { match wake { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
        }
        tokio::select! {
            _ = stopped.changed() => break,
            () = sleep(pause) => {}
        }
    }
    while steps.join_next().await.is_some() {}
}

/// Those of `queries` that have rows among what is new, with short steps and others, and the look at it.
async fn behind(shared: &Shared, queries: Vec<Arc<Query>>) -> (Vec<Arc<Query>>, Vec<Arc<Query>>, Option<Arc<Look>>) {
    if queries.is_empty() {
        return Default::default();
    }
    let feed = Arc::clone(&shared.feed);
    let looked = planner::on_large_stack(move || {
        let look = Arc::new(feed.look());
        let behind = queries.into_iter().filter(|query| !query.pass_over(&look));
        let (quick, slow) = behind.partition(|query| query.is_quick());
        Ok((quick, slow, Some(look)))
    });
    looked.await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what is new could not be looked at by continuous queries");
        Default::default()
    })
}

/// Steps queries whose steps are short.
async fn together(shared: &Shared, queries: &[Arc<Query>], look: &Arc<Look>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<Vec<Arc<Query>>> = queries.chunks(shared.limits.steps_together).map(<[_]>::to_vec).collect();
    let parts = parts.into_iter().map(|part| {
        let (shared, look) = (shared.clone(), Arc::clone(look));
        planner::on_large_stack(move || {
            step_together(&part, &shared, &look);
            Ok(())
        })
    });
    // What fails is in the status of the queries.
    let _: Vec<_> = futures::stream::iter(parts).buffer_unordered(threads).collect().await;
}

/// When failed queries are tried again.
#[derive(Default)]
struct Retries(HashMap<String, Instant>);

impl Retries {
    fn waiting(&self, query: &Arc<Query>, now: Instant) -> bool {
        self.0.get(query.name()).is_some_and(|&at| now < at)
    }
    /// After a step.
    fn note(&mut self, query: &Arc<Query>, first: Duration) {
        match query.failures() {
            0 => drop(self.0.remove(query.name())),
            failures => {
                let doublings = (failures - 1).min(6);
                self.0.insert(query.name().to_owned(), Instant::now() + first * (1 << doublings));
            }
        }
    }
    fn next(&self) -> Option<Instant> {
        self.0.values().copied().min()
    }
}
