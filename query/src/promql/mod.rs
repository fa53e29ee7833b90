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
//! | [`parse`], [`lately`] | from text to [`expr::Expr`], bounded before anything recursive sees it; those parsed lately |
//! | [`token`], [`fault`] | tokens with their places; where a text is wrong |
//! | [`rewrite`], [`duration_expr`], [`pattern`], [`regex_cost`] | syntax that the parser does not know, and patterns it should not see |
//! | [`feature`] | what must be switched on |
//! | [`grid`] | the instants that an expression is evaluated at |
//! | [`histogram`] | native histograms, and what is done with one |
//! | [`annotation`] | warnings and infos |
//! | [`value`] | scalars and vectors over all steps of a grid; answers |
//! | [`source`] | where samples come from |
//! | [`eval`] | walking the expression |
//! | [`shared`] | what several selectors read, read once |
//! | [`small`] | small queries, answered where they are asked |
//! | [`result_cache`] | answers that were given lately and still hold |
//! | [`account`] | samples and memory that an evaluation holds |
//! | [`parallel`] | dividing work among the cores |
//! | [`window`], [`ranges`], [`extended`] | samples of a series within the range before each step; all series with such windows; `anchored` and `smoothed` ranges |
//! | [`aggregate`], [`binary`], [`vector_match`] | operators |
//! | [`function`] | functions, one file a family |
//! | [`number`], [`arctangent`] | compensated sums, quantiles, regression; angles |
//! | [`labels`] | label sets of results |
//! | [`filter`] | selectors as tests of label sets |
//! | [`lookup`] | names, values and series from the index |
//! | [`exemplars`] | exemplars of selected series |
//! | [`raw`] | rows of selected series, for those who evaluate elsewhere |
//! | [`tree`], [`layout`] | an expression as it is written; in the usual layout |
//!
//! Times are milliseconds, as in Prometheus, whose answers these are: `query/tests/it/promql.rs` holds cases, and
//! `bench promql-diff` compares with the real one.
//!
//! Invariants: a value is absent if and only if its bits are the stale marker's, which no operator produces; at a step a series
//! has a value or a native histogram, and a series without histograms has no column of them; a series of a result has a
//! sample somewhere; samples held at once are bounded by [`Limits::samples_max`] and by memory.
mod account;
mod aggregate;
mod annotation;
mod arctangent;
mod binary;
mod direct;
mod duration_expr;
mod eval;
mod exemplars;
pub(crate) mod expr;
mod extended;
mod fault;
mod feature;
mod filter;
mod function;
mod grid;
mod histogram;
mod labels;
mod lately;
mod layout;
mod lookup;
mod number;
mod parallel;
mod parse;
mod pattern;
mod ranges;
mod raw;
mod regex_cost;
pub(crate) mod result_cache;
mod rewrite;
mod shared;
pub(crate) mod small;
mod source;
mod token;
mod tree;
mod value;
mod vector_match;
mod window;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use annotation::Annotations;
pub use duration_expr::duration_ms;
pub use exemplars::{Exemplar, ExemplarQuery, SeriesExemplars};
pub use feature::Features;
pub use filter::LabelFilter;
pub use histogram::{Bucket, Histogram, ResetHint};
pub(crate) use layout::format;
pub use lookup::{Found, Lookup, What};
pub(crate) use parallel::start as start_threads;
pub(crate) use parse::parse_selector;
pub use raw::{RawQuery, RawReader, RawSelection, RawSeries};
pub use result_cache::{KeptText, ResultCacheStats};
pub use source::{Admit, Matchers, SampleSource, SeriesSamples, at_most};
pub use tree::{Tree, TreeFunction, TreeMatcher, TreeMatching, TreeSelector, TreeWhen, tree};
pub use value::{Answer, Point, Row};

use std::sync::Arc;

use self::duration_expr::Instants;
use crate::error::Result;
use crate::planner;

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
    /// What is switched on.
    pub features: Features,
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
            features: Features::default(),
        }
    }
}

/// Whether nobody waits for an evaluation any more.
pub type Cancelled<'a> = dyn Fn() -> bool + Sync + 'a;

impl PromQuery {
    fn instants(&self) -> Instants {
        let end_ms = if self.step_ms.is_some() { self.end_ms } else { self.start_ms };
        Instants { start_ms: self.start_ms, end_ms, step_ms: self.step_ms.unwrap_or_default() }
    }

    /// Checks it without evaluating it: what it answers is an error at any time.
    ///
    /// # Errors
    /// `Invalid` for a bad expression or range.
    pub fn check(&self, source: &dyn SampleSource, limits: &Limits) -> Result<()> {
        let expr = lately::parsed(&self.text, limits, self.instants())?;
        eval::Evaluator::new(self, source, limits, &|| false, &|_| Ok(()))?.check(&expr)
    }
}

/// Evaluates `query` over `source`, on a stack as large as [`check`] has.
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
    cancelled: &Cancelled<'_>,
) -> Result<Answer> {
    evaluate_within(query, source, limits, cancelled, &|_| Ok(()))
}

/// As [`evaluate`], with memory: `reserve` is told how many bytes the evaluation holds whenever that changes much.
///
/// # Errors
/// As [`evaluate`]; those of `reserve`.
pub fn evaluate_within(
    query: &PromQuery,
    source: &dyn SampleSource,
    limits: &Limits,
    cancelled: &Cancelled<'_>,
    reserve: &(dyn Fn(usize) -> Result<()> + Sync),
) -> Result<Answer> {
    evaluate_annotated(query, source, limits, cancelled, reserve).map(|(answer, _)| answer)
}

/// As [`evaluate_within`], with what the answer says about itself.
///
/// # Errors
/// As [`evaluate_within`].
pub fn evaluate_annotated(
    query: &PromQuery,
    source: &dyn SampleSource,
    limits: &Limits,
    cancelled: &Cancelled<'_>,
    reserve: &(dyn Fn(usize) -> Result<()> + Sync),
) -> Result<(Answer, Annotations)> {
    evaluate_parsed(&*parsed(query, limits)?, query, source, limits, cancelled, reserve)
}

/// As [`evaluate_annotated`], of the expression that [`parsed`] has made of the query, or of one that differs in its bounds.
///
/// # Errors
/// As [`evaluate_annotated`].
pub(crate) fn evaluate_parsed(
    expr: &expr::Expr,
    query: &PromQuery,
    source: &dyn SampleSource,
    limits: &Limits,
    cancelled: &Cancelled<'_>,
    reserve: &(dyn Fn(usize) -> Result<()> + Sync),
) -> Result<(Answer, Annotations)> {
    eval::Evaluator::new(query, source, limits, cancelled, reserve)?.run(expr)
}

/// The expression of `query`.
///
/// # Errors
/// `Invalid` for a bad expression.
pub(crate) fn parsed(query: &PromQuery, limits: &Limits) -> Result<Arc<expr::Expr>> {
    lately::parsed(&query.text, limits, query.instants())
}

/// Checks `text` without evaluating it.
///
/// # Errors
/// `Invalid` for a bad expression.
pub fn check(text: &str, limits: &Limits) -> Result<()> {
    planner::with_large_stack(|| parse::parse(text, limits).map(|_| ()))
}

/// `text` in the usual layout on one line.
///
/// # Errors
/// `Invalid` for a bad expression.
pub fn one_line(text: &str, limits: &Limits) -> Result<String> {
    planner::with_large_stack(|| layout::one_line(text, limits))
}
