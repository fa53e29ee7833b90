//! The task that keeps all queries going: woken by commits, paced so that commits close together share a tick.
use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::ContinuousQueries;
use super::query::Query;

/// Runs until `stopped` or until nobody holds the queries any more.
pub(super) async fn run(queries: Weak<ContinuousQueries>, mut stopped: watch::Receiver<bool>) {
    let Some(mut commits) = queries.upgrade().map(|all| all.shared.engine.commits()) else { return };
    let mut retries = Retries::default();
    loop {
        let Some(all) = queries.upgrade() else { return };
        let through = *commits.borrow_and_update();
        let now = Instant::now();
        for query in all.all() {
            if *stopped.borrow() {
                return;
            }
            if query.is_at(through) || retries.waiting(&query, now) || query.rests_until(now).is_some() {
                continue;
            }
            // The error is in the query's status.
            let outcome = query.step(&all.shared).await;
            retries.note(&query, outcome.is_err(), all.shared.limits.retry);
        }
        let pause = all.shared.limits.pause;
        let now = Instant::now();
        let behind = all
            .all()
            .iter()
            .any(|query| !query.is_at(through) && !retries.waiting(query, now) && query.rests_until(now).is_none());
        let rests = all.all().iter().filter_map(|query| query.rests_until(now)).min();
        let (changed, next_retry) = (all.changed(), retries.next().into_iter().chain(rests).min());
        drop(all);
        tokio::select! {
            _ = stopped.changed() => return,
            () = async {
                if !behind {
                    tokio::select! {
                        gone = commits.changed() => if gone.is_err() { std::future::pending::<()>().await },
                        () = changed.notified() => {}
                        () = async { match next_retry { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
                    }
                }
                sleep(pause).await;
            } => {}
        }
    }
}

/// When failed queries are tried again.
#[derive(Default)]
struct Retries(std::collections::HashMap<String, Instant>);

impl Retries {
    fn waiting(&self, query: &Arc<Query>, now: Instant) -> bool {
        self.0.get(&query.definition().name).is_some_and(|&at| now < at)
    }
    fn note(&mut self, query: &Arc<Query>, failed: bool, first: std::time::Duration) {
        let name = &query.definition().name;
        if failed {
            let doublings = query.failures().saturating_sub(1).min(6);
            self.0.insert(name.clone(), Instant::now() + first * (1 << doublings));
        } else {
            self.0.remove(name);
        }
    }
    fn next(&self) -> Option<Instant> {
        self.0.values().copied().min()
    }
}
