//! Evaluating matchers over postings: (label, value) -> bitmap of series.
use croaring::Bitmap;

use crate::error::Result;
use crate::types::CompiledMatcher;

/// A set of series numbers, indexed by label and value.
pub(crate) trait Postings {
    /// Every series.
    fn all(&self) -> Result<Bitmap>;
    /// The series whose `label` is `value`.
    fn exact(&self, label: &str, value: &str) -> Result<Bitmap>;
    /// The series that have `label` with a value that `want` accepts.
    fn any(&self, label: &str, want: &dyn Fn(&str) -> bool) -> Result<Bitmap>;
}

/// The series that satisfy all `matchers`; an absent label counts as "".
pub(crate) fn evaluate(postings: &impl Postings, matchers: &[CompiledMatcher]) -> Result<Bitmap> {
    // A matcher that refuses "" selects; one that accepts it can only take away.
    let (takes, selects): (Vec<_>, Vec<_>) = matchers.iter().partition(|matcher| matcher.matches(""));
    let mut result: Option<Bitmap> = None;
    for matcher in selects {
        let selected = match matcher.values() {
            Some(values) if !matcher.is_negated() => exact(postings, &matcher.name, values)?,
            _ => postings.any(&matcher.name, &|value| matcher.matches(value))?,
        };
        let narrowed = match result {
            Some(so_far) => so_far.and(&selected),
            None => selected,
        };
        if narrowed.is_empty() {
            return Ok(narrowed);
        }
        result = Some(narrowed);
    }
    let mut result = match result {
        Some(result) => result,
        None => postings.all()?,
    };
    for matcher in takes {
        if result.is_empty() {
            break;
        }
        let taken = match matcher.values() {
            Some(values) if matcher.is_negated() => exact(postings, &matcher.name, values)?,
            _ => postings.any(&matcher.name, &|value| !matcher.matches(value))?,
        };
        result.andnot_inplace(&taken);
    }
    Ok(result)
}

fn exact(postings: &impl Postings, label: &str, values: &[String]) -> Result<Bitmap> {
    let mut union = Bitmap::new();
    for value in values {
        union.or_inplace(&postings.exact(label, value)?);
    }
    Ok(union)
}
