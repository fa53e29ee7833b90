//! PromQL: every step of a range is evaluated at once, over columns.
//!
//! ```text
//!  text -> parse (guarded) -> Expr -> Evaluator over a Grid of steps -> Answer
//!                                        |  selectors: postings, one scan for all steps
//!                                        |  range functions: a window slides over each series
//!                                        `- operators and aggregations: column by column
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`expr`] | what an expression is, after types are checked |
//! | [`parse`] | from text to [`expr::Expr`], bounded before anything recursive sees it |
//! | [`grid`] | the instants that an expression is evaluated at |
//! | [`value`] | scalars and vectors over all steps of a grid; answers |
//! | [`source`] | where samples come from |
//! | [`eval`] | walking the expression |
//! | [`window`] | samples of a series within the range before each step |
//! | [`aggregate`], [`binary`], [`vector_match`] | operators |
//! | [`function`] | functions, one file a family |
//! | [`number`] | compensated sums, quantiles, regression |
//! | [`labels`] | label sets of results |
//! | [`lookup`] | names, values and series from the index |
//!
//! Times are milliseconds, as in Prometheus, whose answers these are: `query/tests/it/promql.rs` holds cases, and
//! `bench promql-diff` compares with the real one.
//!
//! Invariants: a value is absent if and only if its bits are the stale marker's, which no operator produces; a series of a
//! result has a value somewhere; samples held at once are bounded by [`Limits::samples_max`].
mod aggregate;
mod binary;
mod eval;
mod expr;
mod function;
mod grid;
mod labels;
mod lookup;
mod number;
mod parse;
mod source;
mod value;
mod vector_match;
mod window;

#[cfg(test)]
mod tests;

pub use lookup::{Found, Lookup, What};
pub(crate) use parse::format;
pub use source::{Matchers, SampleSource, SeriesSamples};
pub use value::{Answer, Point, Row};

use crate::error::Result;

/// What a PromQL query asks for. `start == end` is an instant query if `step_ms` is `None`.
#[derive(Clone, Debug)]
pub struct PromQuery {
    /// The expression.
    pub text: String,
    /// First instant, milliseconds UTC.
    pub start_ms: i64,
    /// Last instant, milliseconds UTC.
    pub end_ms: i64,
    /// Distance of instants; `None` for an instant query at `start_ms`.
    pub step_ms: Option<i64>,
    /// How far back a sample counts as current.
    pub lookback_ms: i64,
}

/// Bounds of one evaluation.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest text, bytes.
    pub text_bytes_max: usize,
    /// Most operators, calls and selectors.
    pub terms_max: usize,
    /// Deepest nesting.
    pub depth_max: usize,
    /// Samples held at once.
    pub samples_max: usize,
    /// Steps of a range.
    pub points_max: usize,
    /// Step of subqueries that name none.
    pub subquery_step_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes_max: 64 << 10,
            terms_max: 4096,
            depth_max: 100,
            samples_max: 50_000_000,
            points_max: 11_000,
            subquery_step_ms: 60_000,
        }
    }
}

/// Evaluates `query` over `source`.
///
/// `cancelled` is asked between pieces of work and ends the evaluation with `Cancelled`.
///
/// # Errors
/// `Invalid` for a bad expression or range; `Execution` when Prometheus's rules refuse it at run time (many-to-many
/// matching, duplicate series) or a limit is reached; what `source` answers.
pub fn evaluate(
    query: &PromQuery,
    source: &dyn SampleSource,
    limits: &Limits,
    cancelled: &dyn Fn() -> bool,
) -> Result<Answer> {
    let expr = parse::parse(&query.text, limits)?;
    eval::Evaluator::new(query, source, limits, cancelled)?.run(&expr)
}
