//! Canonical label sets.
use std::cmp::Ordering;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{self, Reader};

#[cfg(test)]
#[path = "label_set_tests.rs"]
mod tests;

/// A canonical label set: sorted by name, names unique and non-empty, values non-empty, `__name__` included.
/// Cheap to clone. Encoded as repeated `varint(len) name varint(len) value`.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSet(Arc<[u8]>);

/// The label that carries a metric's name.
pub const METRIC_NAME: &str = "__name__";

impl LabelSet {
    /// Sorts, drops labels with an empty value (they mean "absent"), and refuses duplicate or empty names.
    ///
    /// # Errors
    /// `Invalid` with the offending name.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
        pairs.sort_unstable();
        let mut bytes = Vec::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
        let mut previous = "";
        for (name, value) in pairs {
            if name.is_empty() || name.contains('\0') {
                return Err(Error::Invalid(format!("label name {name:?} must not be empty or contain a zero byte")));
            }
            if name == previous {
                return Err(Error::Invalid(format!("label name {name:?} occurs twice")));
            }
            previous = name;
            if !value.is_empty() {
                format::put_bytes(&mut bytes, name.as_bytes());
                format::put_bytes(&mut bytes, value.as_bytes());
            }
        }
        Ok(Self(bytes.into()))
    }
    /// The pairs in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        Pairs(&self.0)
    }
    /// As [`LabelSet::iter`], the bytes of the texts: for whoever writes them out as they are.
    pub fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut pairs = Pairs(&self.0);
        std::iter::from_fn(move || Some((pairs.bytes()?, pairs.bytes()?)))
    }
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        // In the order of names: behind its place it cannot come.
        let mut pairs = self.iter_bytes().skip_while(|pair| pair.0 < name.as_bytes());
        let (_, value) = pairs.next().filter(|pair| pair.0 == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }
    /// The value of `__name__`, or "" without one.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }
    /// Memory that goes with this copy, if no other shares it; 0 otherwise.
    pub fn own_bytes(&self) -> usize {
        // Two counters stand before the bytes.
        if Arc::strong_count(&self.0) == 1 { self.0.len() + 2 * size_of::<usize>() } else { 0 }
    }
    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The labels whose name `keep` accepts.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let mut bytes = Vec::new();
        self.filtered_into(&mut keep, &mut bytes);
        if bytes.len() == self.0.len() { self.clone() } else { Self(bytes.into()) }
    }
    /// All labels but `name`.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut pairs = Pairs(&self.0);
        loop {
            let from = self.0.len() - pairs.0.len();
            let (own, _) = (pairs.bytes(), pairs.bytes());
            match own.map(|own| own.cmp(name.as_bytes())) {
                Some(Ordering::Less) => {}
                Some(Ordering::Equal) if from == 0 => return Self(pairs.0.into()),
                Some(Ordering::Equal) => return Self([&self.0[..from], pairs.0].concat().into()),
                // In the order of names: it does not come any more.
                Some(Ordering::Greater) | None => return self.clone(),
            }
        }
    }
    /// Replaces `bytes` with the canonical bytes of [`LabelSet::filtered`].
    pub fn filtered_into(&self, mut keep: impl FnMut(&str) -> bool, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.reserve(self.0.len());
        let mut pairs = Pairs(&self.0);
        let mut from = pairs.0;
        while let (Some(name), Some(_)) = (pairs.string(), pairs.bytes()) {
            if keep(name) {
                bytes.extend_from_slice(&from[..from.len() - pairs.0.len()]);
            }
            from = pairs.0;
        }
    }
    /// Order by names, then values, label by label: the order that people see. (`Ord` is that of the bytes.)
    pub fn compare(&self, other: &Self) -> Ordering {
        let (a, b) = (&*self.0, &*other.0);
        // Only the first string that differs decides, and what comes before it need not be taken apart twice.
        let differs = same_bytes(a, b);
        if differs == a.len().min(b.len()) {
            return a.len().cmp(&b.len());
        }
        let (mut mine, mut others) = (Pairs(a), Pairs(b));
        loop {
            let (mine_next, others_next) = (mine.bytes(), others.bytes());
            if mine_next.is_none() || a.len() - mine.0.len() > differs {
                return mine_next.cmp(&others_next);
            }
        }
    }
    /// The hash that Prometheus 3 gives this label set (xxHash64 of its own encoding: lengths of one byte, or 255 and three).
    pub fn prometheus_hash(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.0.len());
        for text in self.iter().flat_map(|(name, value)| [name, value]) {
            match u8::try_from(text.len()) {
                Ok(len) if len < u8::MAX => bytes.push(len),
                _ => {
                    bytes.push(u8::MAX);
                    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
                }
            }
            bytes.extend_from_slice(text.as_bytes());
        }
        xxhash_rust::xxh64::xxh64(&bytes, 0)
    }
    /// As people write it: `{a="1",b="2"}`.
    pub fn to_promql(&self) -> String {
        let pairs: Vec<String> = self.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{{{}}}", pairs.join(","))
    }
    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// From canonical bytes, checked.
    ///
    /// # Errors
    /// `Corruption` when the bytes are not a canonical label set.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_stored(bytes, Path::new("label set"), 0)
    }

    /// As [`LabelSet::from_bytes`], for bytes at `offset` of the file `path`.
    pub(crate) fn from_stored(bytes: &[u8], path: &Path, offset: u64) -> Result<Self> {
        let mut reader = Reader::new(bytes, path, offset);
        let mut previous = "";
        while reader.remaining() > 0 {
            let at = reader.clone();
            let name = reader.string()?;
            let value = reader.string()?;
            if name <= previous || value.is_empty() || name.contains('\0') {
                return Err(at.corrupt("a label in name order with a value", format!("{name:?} after {previous:?}")));
            }
            previous = name;
        }
        Ok(Self(bytes.into()))
    }
}

/// Walks canonical bytes, which the constructors have proved well formed.
struct Pairs<'a>(&'a [u8]);

impl<'a> Pairs<'a> {
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let mut at = 0;
        let len = usize::try_from(format::take_varint(self.0, &mut at)?).ok()?;
        let (string, rest) = self.0.get(at..)?.split_at_checked(len)?;
        self.0 = rest;
        Some(string)
    }

    fn string(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// How many bytes `a` and `b` have in common at their beginning.
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> usize {
    let (a_words, b_words) = (a.as_chunks::<16>().0, b.as_chunks::<16>().0);
    let from = 16 * a_words.iter().zip(b_words).take_while(|(a, b)| a == b).count();
    from + a[from..].iter().zip(&b[from..]).take_while(|(a, b)| a == b).count()
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.string()?, self.string()?))
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
