//! Small queries: those that take less time than handing them to another thread and back.
//!
//! Whether one is small shows in part only when it is answered: the text says that there are few terms, no pattern and no
//! subquery, the index that selectors find few series, and the account that there are few samples. As soon as one of them
//! says otherwise the evaluation is given up, and the query goes the usual way.
use std::sync::Arc;

use foretell_engine::{MatchOp, Snapshot};

use super::annotation::Annotations;
use super::eval::Evaluator;
use super::expr::{Expr, Selector};
use super::source::FewSeries;
use super::value::Answer;
use super::{Cancelled, Limits, PromQuery, lately};
use crate::error::Result;

/// Most terms.
const TERMS_MAX: usize = 16;
/// Most series of a selector.
const SERIES_MAX: u64 = 16;
/// Most samples held at once, and steps.
const SAMPLES_MAX: usize = 16 << 10;
const STEPS_MAX: i64 = 1000;

/// The expression of `query`, if it was asked lately and may be small.
pub(crate) fn plain(query: &PromQuery, limits: &Limits) -> Option<Arc<Expr>> {
    let steps = query.step_ms.map_or(1, |step| query.end_ms.saturating_sub(query.start_ms) / step.max(1));
    if steps > STEPS_MAX {
        return None;
    }
    lately::kept(&query.text, limits).filter(|expr| is_plain(expr, &mut { TERMS_MAX }))
}

/// Evaluates `expr`, which [`plain`] has found for `query`, if it is small; `None` otherwise, and whenever there is an error.
/// Needs no large stack. Well below a millisecond when the data is in memory.
pub(crate) fn evaluate(
    expr: &Expr,
    query: &PromQuery,
    snapshot: &Snapshot,
    limits: &Limits,
    cancelled: &Cancelled<'_>,
    reserve: &(dyn Fn(usize) -> Result<()> + Sync),
) -> Option<(Answer, Annotations)> {
    let limits = Limits { samples_max: limits.samples_max.min(SAMPLES_MAX), ..limits.clone() };
    let source = FewSeries { snapshot, series_max: SERIES_MAX };
    Evaluator::new(query, &source, &limits, cancelled, reserve).ok()?.run(expr).ok()
}

/// Whether an expression has no more than `terms` terms, which it takes off, and none that may take long on few samples.
fn is_plain(expr: &Expr, terms: &mut usize) -> bool {
    if *terms == 0 {
        return false;
    }
    *terms -= 1;
    match expr {
        Expr::Number(_) => true,
        Expr::Selector(selector) | Expr::Range(selector, _) => is_exact(selector),
        // A text may be a pattern.
        Expr::Subquery(_) | Expr::Text(_) => false,
        Expr::Call(_, args) => args.iter().all(|arg| is_plain(arg, terms)),
        Expr::Aggregate(aggregate) => {
            is_plain(&aggregate.expr, terms) && aggregate.param.as_ref().is_none_or(|param| is_plain(param, terms))
        }
        Expr::Binary(binary) => is_plain(&binary.lhs, terms) && is_plain(&binary.rhs, terms),
        Expr::Negate(expr) => is_plain(expr, terms),
    }
}

/// Whether nothing but whole values of labels are asked for.
fn is_exact(selector: &Selector) -> bool {
    let mut matchers = selector.matchers.0.iter().flatten();
    matchers.all(|matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::NotEqual))
}
