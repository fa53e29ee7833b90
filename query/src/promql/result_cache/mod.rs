//! Answers that were given lately and still hold: dashboards ask the same again and again, each time for a little more.
//!
//! ```text
//!  kept   ├──────────────────────────┤┄┄┄┄┄┤ a commit has reached back to here since: these steps do not hold any more
//!  asked      ├─────────────────────────────────┤
//!             └─ taken from there ───┘└evaluated┘  the whole is the answer, and kept in turn
//! ```
//! | module | owns |
//! |---|---|
//! | [`reads`] | how late the samples are that an expression reads; whether steps evaluated apart may be put together |
//! | [`shelf`] | the answers, bounded by their bytes |
//! | [`steps`] | cutting an answer, and putting parts together |
//!
//! A step of an answer holds as long as nothing has changed of the time up to the last instant that it reads
//! ([`Snapshot::unchanged_before`]: late samples, deletes and dropped partitions are changes); otherwise it is evaluated again.
//! So an answer is never older than the snapshot that it is asked of. Expressions with `@` are not kept, nor are any where the
//! instants of a query become part of the expression. Some steps of an answer are taken only where their values do not depend
//! on which others are evaluated with them, and put together with others only where Prometheus could not refuse the whole for
//! what two parts contain; never where an annotation would have to be split.
mod reads;
mod shelf;
mod steps;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foretell_engine::Snapshot;

use self::reads::Reads;
use self::shelf::{Kept, Key, Shelf};
use super::annotation::Annotations;
use super::expr::Expr;
use super::feature::Feature;
use super::value::Answer;
use super::{Limits, PromQuery};
use crate::error::Result;

pub use self::shelf::KeptText;

const NS_PER_MS: i64 = 1_000_000;

/// Answers, and how often they helped.
#[derive(Debug)]
pub(crate) struct ResultCache {
    shelf: Shelf,
    whole: AtomicU64,
    part: AtomicU64,
    none: AtomicU64,
}

/// The result cache in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultCacheStats {
    /// Answers kept.
    pub answers: u64,
    /// Memory of them, about.
    pub bytes: u64,
    /// Queries that were answered from it wholly.
    pub whole: u64,
    /// Queries some of whose steps were.
    pub part: u64,
    /// Queries for which it had nothing that still holds.
    pub none: u64,
}

/// What the cache has for a query.
pub(crate) enum Found {
    /// The answer, and where it is kept as it was written out.
    Whole(Arc<Answer>, Annotations, KeptText),
    /// A matrix, of which the instants from the first to the last of the two hold, maybe all that are asked for; and whether it
    /// is a much longer one.
    Part(Arc<Answer>, (i64, i64), bool),
    Nothing,
}

impl Found {
    /// Memory of what is made of what the cache has, on the way to the client, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Whole(_, _, text) if text.get().is_some() => 0,
            Self::Whole(answer, ..) | Self::Part(answer, ..) => shelf::bytes_of(answer),
            Self::Nothing => 0,
        }
    }
}

/// The first and the last instant of a query.
fn instants(query: &PromQuery) -> Option<(i64, i64)> {
    match query.step_ms {
        None => Some((query.start_ms, query.start_ms)),
        Some(step_ms) if step_ms > 0 && query.start_ms <= query.end_ms => {
            let length = query.end_ms.checked_sub(query.start_ms)?;
            Some((query.start_ms, query.start_ms + length / step_ms * step_ms))
        }
        Some(_) => None,
    }
}

/// How many instants a query has.
fn steps_of(query: &PromQuery) -> Option<u64> {
    let (first, last) = instants(query)?;
    Some(last.abs_diff(first) / query.step_ms.map_or(1, i64::unsigned_abs).max(1) + 1)
}

impl ResultCache {
    /// Whose answers take `bytes_max` at most; 0: there are none.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let zero = AtomicU64::default;
        Self { shelf: Shelf::new(bytes_max), whole: zero(), part: zero(), none: zero() }
    }

    /// In numbers.
    pub(crate) fn stats(&self) -> ResultCacheStats {
        let (answers, bytes) = self.shelf.size();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ResultCacheStats {
            answers: answers as u64,
            bytes: bytes as u64,
            whole: count(&self.whole),
            part: count(&self.part),
            none: count(&self.none),
        }
    }

    /// What there is for `query` that holds in `snapshot`, and later too.
    pub(crate) fn find(&self, query: &PromQuery, limits: &Limits, snapshot: &Snapshot) -> Found {
        let Some((first, last)) = instants(query) else { return Found::Nothing };
        // More steps than there may be are refused, whatever is known of them.
        if steps_of(query).is_none_or(|steps| steps > limits.points_max as u64) {
            return Found::Nothing;
        }
        // Of a later snapshot than this one it may know more: parts of one answer must not.
        let kept = self.shelf.get(&Key::of(query)).filter(|kept| kept.changes <= snapshot.changes());
        let found = kept.map_or(Found::Nothing, |kept| {
            let unchanged_ms = snapshot.unchanged_before(kept.changes).div_euclid(NS_PER_MS);
            holds(&kept, (first, last), query.step_ms, unchanged_ms)
        });
        let counter = match found {
            Found::Whole(..) => &self.whole,
            Found::Part(..) => &self.part,
            Found::Nothing => &self.none,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// The answer to `query` in `snapshot`: what [`ResultCache::find`] has found of it, and the rest by `evaluate`, which is told how
    /// many bytes were made before. It is kept.
    ///
    /// # Errors
    /// Those of `evaluate`.
    pub(crate) fn complete(
        &self,
        (query, expr): (&PromQuery, &Expr),
        snapshot: &Snapshot,
        limits: &Limits,
        found: Found,
        evaluate: impl Fn(&PromQuery, usize) -> Result<(Answer, Annotations)>,
    ) -> Result<(Arc<Answer>, Annotations)> {
        let (answer, annotations) = match found {
            Found::Whole(answer, annotations, _) => return Ok((answer, annotations)),
            Found::Part(part, bounds, is_longer) => {
                let part = part.cut(bounds);
                if instants(query) == Some(bounds) {
                    return Ok((Arc::new(part), Annotations::default()));
                }
                let (answer, annotations) = around(query, part, bounds, evaluate)?;
                // Who asks for the longer one will ask again.
                if is_longer {
                    return Ok((Arc::new(answer), annotations));
                }
                (answer, annotations)
            }
            Found::Nothing => evaluate(query, 0)?,
        };
        let answer = Arc::new(answer);
        self.keep((query, expr), snapshot, limits, &answer, &annotations);
        Ok((answer, annotations))
    }

    /// Keeps an answer that `snapshot` gave, if it may be kept.
    fn keep(
        &self,
        (query, expr): (&PromQuery, &Expr),
        snapshot: &Snapshot,
        limits: &Limits,
        answer: &Arc<Answer>,
        annotations: &Annotations,
    ) {
        let (Answer::Vector(_) | Answer::Matrix(_)) = &**answer else { return };
        // Such a text is another expression at other instants.
        if limits.features.has(Feature::DurationExpressions) {
            return;
        }
        let (Some(instants), Some(reads)) = (instants(query), Reads::of(expr)) else { return };
        let kept = Kept {
            instants,
            answer: Arc::clone(answer),
            annotations: annotations.clone(),
            text: KeptText::of(answer),
            changes: snapshot.changes(),
            reads,
        };
        self.shelf.put(Key::of(query), kept);
    }
}

/// What of `kept` answers a query of the instants `asked`, when nothing has changed before `unchanged_ms`.
fn holds(kept: &Kept, asked: (i64, i64), step_ms: Option<i64>, unchanged_ms: i64) -> Found {
    // The last instant that reads nothing of what has changed.
    let (from, until) = kept.instants;
    let good = unchanged_ms.saturating_sub(1).saturating_sub(kept.reads.ahead_ms);
    let until = match step_ms {
        _ if good < from => return Found::Nothing,
        None => until,
        Some(step_ms) => until.min(from.saturating_add(good.saturating_sub(from) / step_ms * step_ms)),
    };
    if kept.instants == asked && until == asked.1 {
        return Found::Whole(Arc::clone(&kept.answer), kept.annotations.clone(), kept.text.clone());
    }
    let is_plain = kept.annotations == Annotations::default();
    let (first, last) = (asked.0.max(from), asked.1.min(until));
    let is_enough = if (first, last) == asked { kept.reads.cuts } else { kept.reads.joins };
    if is_plain && is_enough && step_ms.is_some() && first <= last {
        let is_longer = (until.abs_diff(from)) / 2 > asked.1.abs_diff(asked.0);
        Found::Part(Arc::clone(&kept.answer), (first, last), is_longer)
    } else {
        Found::Nothing
    }
}

/// The answer to `query`, of which `part` is known: what lies before and after it is evaluated; or the whole, where that has
/// annotations: of some of them only the worst of all steps is told.
fn around(
    query: &PromQuery,
    part: Answer,
    (first, last): (i64, i64),
    evaluate: impl Fn(&PromQuery, usize) -> Result<(Answer, Annotations)>,
) -> Result<(Answer, Annotations)> {
    let (Some((start, end)), Some(step_ms)) = (instants(query), query.step_ms) else { return evaluate(query, 0) };
    let made = Cell::new(0);
    let apart = |start_ms: i64, end_ms: i64| -> Result<Option<(Answer, Annotations)>> {
        if start_ms > end_ms {
            return Ok(None);
        }
        let evaluated = evaluate(&PromQuery { start_ms, end_ms, ..query.clone() }, made.get())?;
        made.set(made.get() + shelf::bytes_of(&evaluated.0));
        Ok(Some(evaluated))
    };
    let (before, after) = (apart(start, first.saturating_sub(step_ms))?, apart(last.saturating_add(step_ms), end)?);
    if [&before, &after].into_iter().flatten().any(|(_, annotations)| *annotations != Annotations::default()) {
        return evaluate(query, 0);
    }
    let answers = [before.map(|(answer, _)| answer), Some(part), after.map(|(answer, _)| answer)];
    let rows = |answer| match answer {
        Answer::Matrix(rows) => rows,
        Answer::Vector(_) | Answer::Scalar(_) | Answer::Text(..) => Vec::new(),
    };
    let whole = answers.into_iter().flatten().map(rows).reduce(steps::join).unwrap_or_default();
    Ok((Answer::Matrix(whole), Annotations::default()))
}

impl Answer {
    /// Of a matrix what lies from the first to the last of two instants; nothing of others.
    fn cut(&self, instants: (i64, i64)) -> Self {
        let Self::Matrix(rows) = self else { return Self::Matrix(Vec::new()) };
        Self::Matrix(steps::cut(rows, instants))
    }
}
