//! Decoding and checking the labels of a series that is new to us.
use std::fmt::Write as _;

use foretell_engine::LabelSet;

use super::wire::{Cursor, LENGTH_DELIMITED, Malformed};

/// Caps on the labels of one series.
#[derive(Clone, Debug)]
pub struct LabelLimits {
    /// Labels of a series.
    pub labels_max: usize,
    /// Bytes of a name.
    pub name_bytes_max: usize,
    /// Bytes of a value.
    pub value_bytes_max: usize,
}

impl Default for LabelLimits {
    fn default() -> Self {
        Self { labels_max: 64, name_bytes_max: 256, value_bytes_max: 4 << 10 }
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

/// The canonical labels in `label_bytes` (repeated `Label` fields): sorted, empty values dropped.
///
/// # Errors
/// The first thing wrong with them.
pub fn decode(label_bytes: &[u8], limits: &LabelLimits) -> Result<LabelSet, LabelFault> {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(16);
    let mut cursor = Cursor::new(label_bytes);
    while !cursor.is_at_end() {
        cursor.tag()?;
        let (name, value) = label(cursor.delimited()?)?;
        if pairs.len() >= limits.labels_max {
            return Err(LabelFault::TooMany(limits.labels_max));
        }
        if name.len() > limits.name_bytes_max {
            return Err(LabelFault::NameTooLong { len: name.len(), max: limits.name_bytes_max });
        }
        let name = std::str::from_utf8(name).map_err(|_| LabelFault::NotUtf8)?;
        if name.is_empty() {
            return Err(LabelFault::EmptyName);
        }
        if value.len() > limits.value_bytes_max {
            return Err(LabelFault::ValueTooLong {
                name: name.to_owned(),
                len: value.len(),
                max: limits.value_bytes_max,
            });
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

/// `{name="value", ...}` for people, at most about `bytes_max` long; shows what it can of bad labels.
pub fn render(label_bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::new();
    let mut cursor = Cursor::new(label_bytes);
    while !cursor.is_at_end() {
        let Ok((name, value)) = cursor.tag().and_then(|_| cursor.delimited()).and_then(label) else { break };
        let separator = if text.is_empty() { "{" } else { ", " };
        let _ = write!(text, "{separator}{}={:?}", lossy(name), lossy(value));
        if text.len() > bytes_max {
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
        decode(&encode(pairs), &LabelLimits::default()).unwrap_err()
    }

    #[test]
    fn unsorted_labels_are_sorted_and_empty_values_dropped() {
        let labels =
            decode(&encode(&[(b"z", b"1"), (b"b", b""), (b"__name__", b"up")]), &LabelLimits::default()).unwrap();
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
        let long = vec![b'v'; 1 << 20];
        let many: Vec<(&[u8], &[u8])> = (0..1000).map(|_| (&b"name"[..], long.as_slice())).collect();
        assert!(render(&encode(&many), 256).len() < 500);
        assert_eq!(render(&encode(&[(b"a", b"x\"y")]), 256), r#"{a="x\"y"}"#);
        assert_eq!(render(b"\x0a\xff", 256), "");
    }
}
