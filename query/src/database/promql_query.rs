//! PromQL queries: what is known already, what is small, and the others.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;
use std::time::Duration;

use datafusion::execution::memory_pool::MemoryReservation;
use foretell_engine::Snapshot;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Database;
use crate::error::Result;
use crate::execute::{self, Held};
use crate::promql::expr::Expr;
use crate::promql::result_cache::Found;
use crate::promql::{self, Annotations, Answer, KeptText, PromQuery, ResultCacheStats};

/// The answer to a PromQL query. As long as it is held, so is its part of the memory of all queries: write it out, then let go.
#[derive(Debug)]
pub struct PromAnswer {
    /// The answer, which others may share.
    pub answer: Arc<Answer>,
    /// What it says about itself.
    pub annotations: Annotations,
    /// The whole as it was written out for an earlier request, where the same is asked again: whoever writes it puts it here.
    pub text: KeptText,
    #[expect(dead_code, reason = "held until the answer is dropped")]
    memory: MemoryReservation,
}

/// Small queries that are evaluated by threads that serve requests: at most half of these threads do.
static HERE: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    Semaphore::new((cores / 2).max(1))
});

/// A query on its way, over the snapshot that answers it.
struct Asked {
    query: PromQuery,
    snapshot: Snapshot,
    limits: promql::Limits,
    /// Whether an answer may come from the result cache, and go there.
    cached: bool,
}

impl Database {
    /// Evaluates a PromQL query over everything acknowledged so far, every step of it. Dropping the future cancels it.
    ///
    /// # Errors
    /// As [`promql::evaluate`]; `Timeout` after `timeout` or the configured deadline, whichever is shorter; `Unavailable`
    /// when too many queries run.
    pub async fn promql(self: &Arc<Self>, query: PromQuery, timeout: Option<Duration>) -> Result<Answer> {
        let answered = self.answer(query, timeout, false).await?;
        Ok(Arc::unwrap_or_clone(answered.answer))
    }

    /// As [`Database::promql`], with the warnings and infos of the evaluation, and with the memory that both take. Where an
    /// earlier answer still holds it is not evaluated again, unless it shall be `fresh`.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub async fn promql_annotated(
        self: &Arc<Self>,
        query: PromQuery,
        timeout: Option<Duration>,
        fresh: bool,
    ) -> Result<PromAnswer> {
        self.answer(query, timeout, !fresh).await
    }

    /// The result cache in numbers.
    pub fn result_cache_stats(&self) -> ResultCacheStats {
        self.results.stats()
    }

    async fn answer(self: &Arc<Self>, query: PromQuery, timeout: Option<Duration>, cached: bool) -> Result<PromAnswer> {
        let (limits, deadline) = (self.limits.promql(), self.deadline(timeout));
        let held = self.enter(&query.text, deadline).await?;
        let memory = self.sessions.reservation("a PromQL query");
        let asked = Asked { query, snapshot: self.engine.snapshot(), limits, cached };
        let found =
            if cached { self.results.find(&asked.query, &asked.limits, &asked.snapshot) } else { Found::Nothing };
        let reserve = |bytes| memory.try_resize(bytes).map_err(|error| execute::no_memory(error, &self.running));
        reserve(found.bytes())?;
        let found = match found {
            Found::Whole(answer, annotations, text) => return Ok(PromAnswer { answer, annotations, text, memory }),
            Found::Part(..) => found,
            Found::Nothing => match self.small(&asked, deadline, &held, &memory) {
                Some((answer, annotations)) => {
                    return Ok(PromAnswer { answer, annotations, text: KeptText::default(), memory });
                }
                None => found,
            },
        };
        let database = Arc::clone(self);
        Self::aside(held, deadline, move |held| {
            let Asked { query, limits, snapshot, .. } = &asked;
            let known = found.bytes();
            let reserve = |bytes: usize| {
                let resized = memory.try_resize(known.saturating_add(bytes));
                resized.map_err(|error| execute::no_memory(error, &database.running))
            };
            reserve(0)?;
            let cancelled = || held.listed.query.cancel.is_cancelled();
            let expr = promql::parsed(query, limits)?;
            let (answer, annotations) = database.complete(&asked, &expr, found, |query, made| {
                let reserve = |bytes: usize| reserve(made.saturating_add(bytes));
                promql::evaluate_parsed(&expr, query, snapshot, limits, &cancelled, &reserve)
            })?;
            Ok(PromAnswer { answer, annotations, text: KeptText::default(), memory })
        })
        .await
    }

    /// The answer, of which `found` is known, the rest by `evaluate`.
    fn complete(
        &self,
        asked: &Asked,
        expr: &Expr,
        found: Found,
        evaluate: impl Fn(&PromQuery, usize) -> Result<(Answer, Annotations)>,
    ) -> Result<(Arc<Answer>, Annotations)> {
        let Asked { query, snapshot, limits, cached } = asked;
        if *cached {
            self.results.complete((query, expr), snapshot, limits, found, evaluate)
        } else {
            evaluate(query, 0).map(|(answer, annotations)| (Arc::new(answer), annotations))
        }
    }

    /// Evaluates a small query on this thread, which serves requests: handing over what else it has to do would take as long.
    /// `None` if it is not one, and after any error.
    fn small(
        &self,
        asked: &Asked,
        deadline: Instant,
        held: &Held,
        memory: &MemoryReservation,
    ) -> Option<(Arc<Answer>, Annotations)> {
        let Asked { query, limits, snapshot, .. } = asked;
        // Others go on while one of them waits for a disk.
        let _permit = HERE.try_acquire().ok()?;
        let give_up = deadline.min(Instant::now() + promql::small::TIME_MAX);
        let evaluate = || {
            let expr = promql::small::plain(query, limits)?;
            let cancelled = || held.listed.query.cancel.is_cancelled() || Instant::now() >= give_up;
            let reserve = |bytes| memory.try_resize(bytes).map_err(|error| execute::no_memory(error, &self.running));
            let one =
                |query: &PromQuery, _| promql::small::evaluate(&expr, query, snapshot, limits, &cancelled, &reserve);
            self.complete(asked, &expr, Found::Nothing, one).ok()
        };
        // What panics here goes the usual way.
        catch_unwind(AssertUnwindSafe(evaluate)).ok().flatten()
    }
}
