//! Evaluating matchers over postings: (label, value) -> bitmap of series.
use croaring::{Bitmap, Portable};

use crate::error::Result;
use crate::format;
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

/// Lists up to this long are stored as steps, longer ones as a roaring bitmap.
const STEPS_MAX: u64 = 16;
const STEPS: u8 = 0;
const ROARING: u8 = 1;

/// A posting list as bytes. Most lists are short: those are steps, a byte or two each.
pub(super) fn encode(numbers: &mut Bitmap) -> Vec<u8> {
    if numbers.cardinality() > STEPS_MAX {
        numbers.run_optimize();
        let mut out = vec![ROARING];
        out.extend_from_slice(&numbers.serialize::<Portable>());
        return out;
    }
    let (mut out, mut next) = (vec![STEPS], 0u64);
    for number in numbers.iter() {
        format::put_varint(&mut out, u64::from(number) - next);
        next = u64::from(number) + 1;
    }
    out
}

/// Inverse of [`encode`]; `None` when the bytes are not a posting list.
pub(super) fn decode(bytes: &[u8]) -> Option<Bitmap> {
    match bytes.split_first()? {
        (&ROARING, rest) => Bitmap::try_deserialize::<Portable>(rest),
        (&STEPS, rest) => {
            let (mut numbers, mut at, mut next) = (Bitmap::new(), 0, 0u64);
            while at < rest.len() {
                let number = next.checked_add(format::take_varint(rest, &mut at)?)?;
                numbers.add(u32::try_from(number).ok()?);
                next = number + 1;
            }
            Some(numbers)
        }
        _ => None,
    }
}
