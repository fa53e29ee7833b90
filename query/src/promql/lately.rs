//! Expressions that were parsed lately: dashboards and rules ask the same ones again and again, and reading a text takes as long
//! as answering a small query (the parser builds an automaton for each pattern that is not plain, which nobody uses).
use std::sync::{Arc, LazyLock};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::duration_expr::Instants;
use super::expr::Expr;
use super::feature::{Feature, Features};
use super::{Limits, parse};
use crate::error::Result;

/// Longer texts are not kept: a tree takes some hundred times the bytes of its text.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Bytes of all texts that are kept; with more all are forgotten.
const BYTES_MAX: usize = 64 << 10;

/// What an expression depends on besides its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    text_bytes_max: usize,
    terms_max: usize,
    depth_max: usize,
    features: Features,
}

impl Bounds {
    fn of(limits: &Limits) -> Self {
        let Limits { text_bytes_max, terms_max, depth_max, features, .. } = *limits;
        Self { text_bytes_max, terms_max, depth_max, features }
    }
}

#[derive(Default)]
struct Kept {
    expressions: HashMap<Box<str>, (Bounds, Arc<Expr>)>,
    bytes: usize,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// As [`parse::parse_for`].
///
/// # Errors
/// As [`parse::parse_for`].
pub(crate) fn parsed(text: &str, limits: &Limits, instants: Instants) -> Result<Arc<Expr>> {
    // Duration expressions are replaced by what they come to at these instants.
    if text.len() > TEXT_BYTES_MAX || limits.features.has(Feature::DurationExpressions) {
        return parse::parse_for(text, limits, instants).map(Arc::new);
    }
    let bounds = Bounds::of(limits);
    if let Some(expr) = known(text, bounds) {
        return Ok(expr);
    }
    let expr = Arc::new(parse::parse_for(text, limits, instants)?);
    // Dropped after the lock, which threads that serve requests wait for: trees take long to drop.
    let mut forgotten = Kept::default();
    let mut kept = KEPT.lock();
    if kept.bytes.saturating_add(text.len()) > BYTES_MAX {
        std::mem::swap(&mut *kept, &mut forgotten);
    }
    if kept.expressions.insert(text.into(), (bounds, Arc::clone(&expr))).is_none() {
        kept.bytes += text.len();
    }
    Ok(expr)
}

/// The expression of `text`, if it was parsed lately; then it does not depend on the instants.
pub(super) fn kept(text: &str, limits: &Limits) -> Option<Arc<Expr>> {
    known(text, Bounds::of(limits))
}

fn known(text: &str, bounds: Bounds) -> Option<Arc<Expr>> {
    let kept = KEPT.lock();
    let (of, expr) = kept.expressions.get(text)?;
    (*of == bounds).then(|| Arc::clone(expr))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_that_of_its_text_its_features_and_its_instants() {
        let (plain, all) = (Limits::default(), Limits { features: Features::all(), ..Limits::default() });
        let at = |end_ms: i64| Instants { start_ms: 0, end_ms, step_ms: 15_000 };
        for _ in 0..2 {
            assert_eq!(
                format!("{:?}", parsed("rate(m[5m])", &plain, at(1)).unwrap()),
                format!("{:?}", parse::parse("rate(m[5m])", &plain).unwrap())
            );
            assert!(parsed("m[5m * 2]", &plain, at(1)).is_err());
            let range = |end_ms: i64| format!("{:?}", parsed("m[range()]", &all, at(end_ms)).unwrap());
            assert_ne!(range(60_000), range(120_000));
            let narrow = Limits { terms_max: 1, ..Limits::default() };
            assert!(parsed("m1 + m2 + m3", &plain, at(1)).is_ok() && parsed("m1 + m2 + m3", &narrow, at(1)).is_err());
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for i in 0..10_000 {
            parsed(&format!("up{{instance=\"host_{i}\"}}"), &Limits::default(), Instants::default()).unwrap();
        }
        let kept = KEPT.lock();
        assert!(kept.bytes <= BYTES_MAX);
        assert!(kept.expressions.keys().map(|text| text.len()).sum::<usize>() <= BYTES_MAX);
    }
}
