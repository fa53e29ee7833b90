//! Decoding and checking the labels of a series that is new to us.
use std::fmt::Write as _;

use foretell_engine::LabelSet;

use super::symbols::{BEYOND, Symbols};
use super::wire::{Cursor, LENGTH_DELIMITED, Malformed};

/// About how long a rendered series may get, bytes.
const RENDERED_BYTES_MAX: usize = 256;

/// Caps on the labels of one series.
#[derive(Clone, Debug)]
pub struct LabelLimits {
    /// Labels of a series.
    pub labels_max: usize,
    /// Bytes of a name.
    pub name_bytes_max: usize,
    /// Bytes of a value.
    pub value_bytes_max: usize,
    /// Bytes of the labels of all new series of a request, put together: references are short, what they refer to need not be.
    pub new_bytes_max: usize,
}

impl Default for LabelLimits {
    fn default() -> Self {
        Self { labels_max: 64, name_bytes_max: 256, value_bytes_max: 4 << 10, new_bytes_max: 32 << 20 }
    }
}

impl LabelLimits {
    /// Whether a label that comes after `before` others of its series may be.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub(crate) fn admit(&self, before: usize, name: &[u8], value: &[u8]) -> Result<(), LabelFault> {
        if before >= self.labels_max {
            return Err(LabelFault::TooMany(self.labels_max));
        }
        if name.len() > self.name_bytes_max {
            return Err(LabelFault::NameTooLong { len: name.len(), max: self.name_bytes_max });
        }
        if value.len() > self.value_bytes_max {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(LabelFault::ValueTooLong { name, len: value.len(), max: self.value_bytes_max });
        }
        Ok(())
    }
}

/// What is wrong with a label set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelFault {
    /// Label messages that are not protobuf.
    #[error("malformed label: {0}")]
    Malformed(#[from] Malformed),
    /// Not UTF-8.
    #[error("label name or value is not UTF-8")]
    NotUtf8,
    /// A label without a name.
    #[error("label with an empty name")]
    EmptyName,
    /// The same name twice.
    #[error("duplicate label name {0:?}")]
    Duplicate(String),
    /// Too many.
    #[error("more than {0} labels")]
    TooMany(usize),
    /// Name too long.
    #[error("label name of {len} bytes exceeds the limit of {max}")]
    NameTooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Value too long.
    #[error("value of label {name:?} has {len} bytes, the limit is {max}")]
    ValueTooLong {
        /// Whose value.
        name: String,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Nothing left once empty values, which mean "absent", are dropped.
    #[error("series without labels")]
    None,
    /// The engine's own check.
    #[error("{0}")]
    Refused(String),
}

/// The labels of one series as they lie on the wire.
#[derive(Clone, Copy, Debug)]
pub struct WireLabels<'a>(Form<'a>);

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    /// Repeated `Label` fields.
    Fields(&'a [u8]),
    /// Packed references, in pairs.
    Refs { refs: &'a [u8], symbols: &'a Symbols, body: &'a [u8] },
}

impl<'a> WireLabels<'a> {
    /// Repeated `Label` fields, as in remote write 1.0.
    pub fn fields(bytes: &'a [u8]) -> Self {
        Self(Form::Fields(bytes))
    }

    /// Packed pairs of references to `symbols`, which lie in `body`, as in remote write 2.0.
    pub(crate) fn refs(refs: &'a [u8], symbols: &'a Symbols, body: &'a [u8]) -> Self {
        Self(Form::Refs { refs, symbols, body })
    }

    /// (name, value) of each, until an error.
    pub fn pairs(self) -> impl Iterator<Item = Result<(&'a [u8], &'a [u8]), Malformed>> {
        let (Form::Fields(bytes) | Form::Refs { refs: bytes, .. }) = self.0;
        let mut cursor = Cursor::new(bytes);
        std::iter::from_fn(move || {
            if cursor.is_at_end() {
                return None;
            }
            let pair = match self.0 {
                Form::Fields(_) => field(&mut cursor),
                Form::Refs { symbols, body, .. } => {
                    symbol(&mut cursor, symbols, body).and_then(|name| Ok((name, symbol(&mut cursor, symbols, body)?)))
                }
            };
            if pair.is_err() {
                cursor = Cursor::new(&[]);
            }
            Some(pair)
        })
    }
}

fn field<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    cursor.tag()?;
    label(cursor.delimited()?)
}

fn symbol<'a>(cursor: &mut Cursor<'_>, symbols: &Symbols, body: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let reference = cursor.varint()?;
    let span = symbols.span(reference);
    let (start, end) = span.ok_or_else(|| cursor.malformed(BEYOND))?;
    Ok(&body[start as usize..end as usize])
}

/// The canonical labels: sorted, empty values dropped.
///
/// # Errors
/// The first thing wrong with them.
pub fn decode(labels: WireLabels<'_>, limits: &LabelLimits) -> Result<LabelSet, LabelFault> {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(16);
    for pair in labels.pairs() {
        let (name, value) = pair?;
        limits.admit(pairs.len(), name, value)?;
        let name = std::str::from_utf8(name).map_err(|_| LabelFault::NotUtf8)?;
        if name.is_empty() {
            return Err(LabelFault::EmptyName);
        }
        pairs.push((name, std::str::from_utf8(value).map_err(|_| LabelFault::NotUtf8)?));
    }
    pairs.sort_unstable_by_key(|pair| pair.0);
    // Before empty values go: `{a="", a="x"}` is a mistake of the sender, not an absent label.
    if let Some(twice) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
        return Err(LabelFault::Duplicate(twice[0].0.to_owned()));
    }
    pairs.retain(|pair| !pair.1.is_empty());
    if pairs.is_empty() {
        return Err(LabelFault::None);
    }
    LabelSet::from_pairs(pairs).map_err(|error| LabelFault::Refused(error.to_string()))
}

fn label(message: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (1, LENGTH_DELIMITED) => name = cursor.delimited()?,
            (2, LENGTH_DELIMITED) => value = cursor.delimited()?,
            (1 | 2, _) => return Err(cursor.malformed("wrong wire type of a Label field")),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok((name, value))
}

/// `{name="value", ...}` for people, of bounded length; shows what it can of bad labels.
pub fn render(labels: WireLabels<'_>) -> String {
    let mut text = String::new();
    for (name, value) in labels.pairs().map_while(Result::ok) {
        let separator = if text.is_empty() { "{" } else { ", " };
        let _ = write!(text, "{separator}{}={:?}", lossy(name), lossy(value));
        if text.len() > RENDERED_BYTES_MAX {
            text.push_str(", …");
            break;
        }
    }
    if !text.is_empty() {
        text.push('}');
    }
    text
}

fn lossy(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_MAX)]);
    if bytes.len() > SHOWN_MAX { format!("{shown}…") } else { shown.into_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn encode(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in pairs {
            let mut label = Vec::new();
            for (tag, bytes) in [(0x0au8, name), (0x12, value)] {
                label.push(tag);
                length(bytes.len(), &mut label);
                label.extend_from_slice(bytes);
            }
            out.push(0x0a);
            length(label.len(), &mut out);
            out.extend_from_slice(&label);
        }
        out
    }

    fn length(mut len: usize, out: &mut Vec<u8>) {
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
    }

    fn fault(pairs: &[(&[u8], &[u8])]) -> LabelFault {
        decode(WireLabels::fields(&encode(pairs)), &LabelLimits::default()).unwrap_err()
    }

    #[test]
    fn unsorted_labels_are_sorted_and_empty_values_dropped() {
        let encoded = encode(&[(b"z", b"1"), (b"b", b""), (b"__name__", b"up")]);
        let labels = decode(WireLabels::fields(&encoded), &LabelLimits::default()).unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("__name__", "up"), ("z", "1")]);
    }

    #[test]
    fn bad_labels_are_named() {
        assert_eq!(fault(&[(b"", b"x")]), LabelFault::EmptyName);
        assert_eq!(fault(&[(b"a", b"x"), (b"b", b"x"), (b"a", b"")]), LabelFault::Duplicate("a".to_owned()));
        assert_eq!(fault(&[(b"a", b"")]), LabelFault::None);
        assert_eq!(fault(&[(b"a", b"\xff")]), LabelFault::NotUtf8);
        assert_eq!(fault(&[(b"\xc3\x28", b"x")]), LabelFault::NotUtf8);
        assert_eq!(fault(&[(&[b'n'; 257], b"x")]), LabelFault::NameTooLong { len: 257, max: 256 });
        let long = vec![b'v'; 1 << 20];
        assert_eq!(fault(&[(b"a", &long)]), LabelFault::ValueTooLong { name: "a".to_owned(), len: 1 << 20, max: 4096 });
        let many: Vec<Vec<u8>> = (0..65).map(|i| format!("l{i}").into_bytes()).collect();
        let many: Vec<(&[u8], &[u8])> = many.iter().map(|name| (name.as_slice(), &b"x"[..])).collect();
        assert_eq!(fault(&many), LabelFault::TooMany(64));
    }

    #[test]
    fn rendering_is_bounded() {
        let rendered = |bytes: &[u8]| render(WireLabels::fields(bytes));
        let long = vec![b'v'; 1 << 20];
        let many: Vec<(&[u8], &[u8])> = (0..1000).map(|_| (&b"name"[..], long.as_slice())).collect();
        assert!(rendered(&encode(&many)).len() < 500);
        assert_eq!(rendered(&encode(&[(b"a", b"x\"y")])), r#"{a="x\"y"}"#);
        assert_eq!(rendered(b"\x0a\xff"), "");
    }

    #[test]
    fn references_name_the_labels_that_fields_would() {
        let body = b"__name__upajob";
        let mut symbols = Symbols::default();
        for (start, end) in [(0, 0), (0, 8), (8, 10), (10, 11), (11, 14)] {
            symbols.push(body, start, end, 1);
        }
        let refs = |refs: &'static [u8]| WireLabels::refs(refs, &symbols, body);
        let labels = decode(refs(&[4, 3, 1, 2]), &LabelLimits::default()).unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("__name__", "up"), ("job", "a")]);
        assert_eq!(render(refs(&[1, 2, 4, 3])), r#"{__name__="up", job="a"}"#);
        let fault = |bytes| decode(refs(bytes), &LabelLimits::default()).unwrap_err();
        assert_eq!(fault(&[0, 3]), LabelFault::EmptyName);
        assert_eq!(fault(&[4, 3, 4, 0]), LabelFault::Duplicate("job".to_owned()));
        assert!(matches!(fault(&[4, 5]), LabelFault::Malformed(_)));
        assert!(matches!(fault(&[4]), LabelFault::Malformed(_)));
    }
}
