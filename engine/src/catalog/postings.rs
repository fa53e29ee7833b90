//! Evaluating matchers over postings: (label, value) -> bitmap of series.
use croaring::{Bitmap, Portable};

use crate::error::Result;
use crate::format;
use crate::types::{CompiledMatcher, Test};

/// Takes one name or value; whether it wants more.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&str) -> Result<bool>;

/// A set of series numbers, indexed by label and value.
pub(crate) trait Postings {
    /// Every series.
    fn all(&self) -> Result<Bitmap>;
    /// The series that have `label`, whatever its value.
    fn present(&self, label: &str) -> Result<Bitmap>;
    /// The series whose `label` is `value`.
    fn exact(&self, label: &str, value: &str) -> Result<Bitmap>;
    /// The series whose `label` has a value that begins with `prefix` and that `want` accepts. It is asked once for each
    /// distinct value.
    fn any(&self, label: &str, prefix: &str, want: &dyn Fn(&str) -> bool) -> Result<Bitmap>;
    /// The values of `label`, in order, that occur in `among`, or anywhere.
    fn values(&self, label: &str, among: Option<&Bitmap>, visit: Visit<'_>) -> Result<()>;
    /// The labels, in order, that occur in `among`, or anywhere.
    fn names(&self, among: Option<&Bitmap>, visit: Visit<'_>) -> Result<()>;
}

/// The series that satisfy all `matchers`; an absent label counts as "". `None` without matchers: all.
pub(crate) fn evaluate(postings: &impl Postings, matchers: &[CompiledMatcher]) -> Result<Option<Bitmap>> {
    let mut matchers: Vec<&CompiledMatcher> = matchers.iter().collect();
    // What narrows first, and of that the cheap first; what takes away last.
    matchers.sort_by_key(|matcher| (matcher.matches(""), matcher.values().is_none()));
    let mut result: Option<Bitmap> = None;
    for matcher in matchers {
        if result.as_ref().is_some_and(Bitmap::is_empty) {
            break;
        }
        result = Some(match term(postings, matcher)? {
            Term::These(these) => match result {
                Some(so_far) => so_far.and(&these),
                None => these,
            },
            Term::AllBut(those) => {
                let mut left = result.map_or_else(|| postings.all(), Ok)?;
                left.andnot_inplace(&those);
                left
            }
        });
    }
    Ok(result)
}

/// The series that satisfy one matcher.
enum Term {
    These(Bitmap),
    AllBut(Bitmap),
}

fn term(postings: &impl Postings, matcher: &CompiledMatcher) -> Result<Term> {
    let label = &matcher.name;
    // The series whose label is there and accepted, before negation.
    let found = match matcher.test() {
        Test::Prefix { prefix, .. } if prefix.is_empty() => postings.present(label)?,
        Test::Values(values)
            if let [value] = &**values
                && !value.is_empty() =>
        {
            postings.exact(label, value)?
        }
        Test::Values(values) => {
            let mut union = Bitmap::new();
            for value in values.iter().filter(|value| !value.is_empty()) {
                union.or_inplace(&postings.exact(label, value)?);
            }
            union
        }
        Test::Prefix { prefix, more } => postings.any(label, prefix, &|value| value.len() >= prefix.len() + more)?,
        Test::Regex { regex, prefix } => postings.any(label, prefix, &|value| regex.is_match(value))?,
    };
    let others = |found: Bitmap| -> Result<Bitmap> {
        let mut others = postings.present(label)?;
        others.andnot_inplace(&found);
        Ok(others)
    };
    Ok(match (matcher.is_negated(), matcher.test().accepts("")) {
        (false, false) => Term::These(found),
        (false, true) => Term::AllBut(others(found)?),
        (true, false) => Term::AllBut(found),
        (true, true) => Term::These(others(found)?),
    })
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
