//! `logproto.PushRequest`, walked over the decompressed bytes.
//!
//! ```text
//! PushRequest   1 stream*      StreamAdapter  1 labels  2 entry*
//! EntryAdapter  1 timestamp { 1 seconds  2 nanos }  2 line  3 metadata* { 1 name  2 value }
//! ```
//! Bytes that are no such message refuse the request; a text that is not UTF-8 its line, labels that cannot be read their stream.
use std::borrow::Cow;

use super::labels;
use super::push::{Budget, Entry, PushError, Stream};
use crate::remote_write::wire::{Cursor, LENGTH_DELIMITED, Malformed, VARINT};

/// The streams of `bytes`.
///
/// # Errors
/// `Malformed` or `TooLarge`.
pub fn decode<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Vec<Stream<'a>>, PushError> {
    let mut streams = Vec::new();
    fields(bytes, |field, value| {
        if let (1, Field::Bytes(stream)) = (field, value) {
            budget.take()?;
            streams.push(decode_stream(stream, budget)?);
        }
        Ok(())
    })?;
    Ok(streams)
}

fn decode_stream<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Stream<'a>, PushError> {
    let mut stream = Stream::default();
    fields(bytes, |field, value| {
        match (field, value) {
            (1, Field::Bytes(text)) => match labels::parse_bytes(text, budget) {
                Ok(labels) => (stream.labels, stream.unreadable) = (labels, None),
                Err(PushError::Malformed(_)) => stream.unreadable = Some(text),
                Err(error) => return Err(error),
            },
            (2, Field::Bytes(entry)) => {
                budget.take()?;
                stream.entries.push(decode_entry(entry, budget)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(stream)
}

fn decode_entry<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Entry<'a>, PushError> {
    let mut entry = Entry { ts: Some(0), ..Entry::default() };
    fields(bytes, |field, value| {
        match (field, value) {
            (1, Field::Bytes(timestamp)) => entry.ts = decode_timestamp(timestamp)?,
            (2, Field::Bytes(line)) => entry.line = utf8(line, "a line", &mut entry.not_utf8),
            (3, Field::Bytes(pair)) => {
                budget.take()?;
                entry.metadata.push(decode_pair(pair, &mut entry.not_utf8)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(entry)
}

fn decode_timestamp(bytes: &[u8]) -> Result<Option<i64>, PushError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    fields(bytes, |field, value| {
        match (field, value) {
            (1, Field::Varint(value)) => seconds = value as i64,
            (2, Field::Varint(value)) => nanos = value as i64,
            _ => {}
        }
        Ok(())
    })?;
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(PushError::Malformed(format!("a timestamp has {nanos} nanoseconds beside its seconds")));
    }
    // In 128 bits: the earliest instants are a negative number of seconds and a positive rest.
    let ns = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Ok(i64::try_from(ns).ok())
}

fn decode_pair<'a>(
    bytes: &'a [u8],
    not_utf8: &mut Option<&'static str>,
) -> Result<(Cow<'a, str>, Cow<'a, str>), PushError> {
    let mut pair = (Cow::Borrowed(""), Cow::Borrowed(""));
    fields(bytes, |field, value| {
        match (field, value) {
            (1, Field::Bytes(name)) => pair.0 = utf8(name, "a name of metadata", not_utf8),
            (2, Field::Bytes(value)) => pair.1 = utf8(value, "a value of metadata", not_utf8),
            _ => {}
        }
        Ok(())
    })?;
    Ok(pair)
}

enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// Calls `f` with each field that is a number or bytes.
fn fields<'a>(bytes: &'a [u8], mut f: impl FnMut(u32, Field<'a>) -> Result<(), PushError>) -> Result<(), PushError> {
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_at_end() {
        let (field, wire_type) = cursor.tag().map_err(malformed)?;
        match wire_type {
            VARINT => f(field, Field::Varint(cursor.varint().map_err(malformed)?))?,
            LENGTH_DELIMITED => f(field, Field::Bytes(cursor.delimited().map_err(malformed)?))?,
            other => cursor.skip(other).map_err(malformed)?,
        }
    }
    Ok(())
}

fn malformed(error: Malformed) -> PushError {
    PushError::Malformed(format!("cannot decode the body as logproto.PushRequest: {error} of a message"))
}

/// `bytes` as text; if they are none, `not_utf8` says `what` it was unless it says something already.
fn utf8<'a>(bytes: &'a [u8], what: &'static str, not_utf8: &mut Option<&'static str>) -> Cow<'a, str> {
    std::str::from_utf8(bytes).map_or_else(
        |_| {
            not_utf8.get_or_insert(what);
            Cow::default()
        },
        Cow::Borrowed,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(field: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![(field << 3) | 2, u8::try_from(bytes.len()).unwrap()];
        assert!(bytes.len() < 128);
        out.extend_from_slice(bytes);
        out
    }

    fn request() -> Vec<u8> {
        let pair = [message(1, b"trace"), message(2, b"abc")].concat();
        let entry = [message(1, &[0x08, 5, 0x10, 7]), message(2, "hellö".as_bytes()), message(3, &pair)].concat();
        let stream = [message(1, b"{app=\"shop\"}"), message(2, &entry), message(2, &[]), vec![0x18, 9]].concat();
        message(1, &stream)
    }

    #[test]
    fn a_request_is_read() {
        let bytes = request();
        let streams = decode(&bytes, &mut Budget::new(5)).unwrap();
        let metadata = vec![("trace".into(), "abc".into())];
        let first = Entry { ts: Some(5_000_000_007), line: "hellö".into(), metadata, ..Entry::default() };
        let entries = vec![first, Entry { ts: Some(0), ..Entry::default() }];
        let labels = vec![("app".into(), "shop".into())];
        assert_eq!(streams, [Stream { labels, entries, ..Stream::default() }]);
        assert!(matches!(decode(&bytes, &mut Budget::new(4)), Err(PushError::TooLarge(_))));
    }

    #[test]
    fn a_text_that_is_not_utf_8_marks_its_line_and_unreadable_labels_their_stream() {
        let bad = [message(2, b"\xff"), message(3, &message(2, b"\xff"))].concat();
        let bad_value = message(3, &[message(1, b"user"), message(2, b"\xc3")].concat());
        let entries = [bad, message(2, b"good"), bad_value].map(|entry| message(2, &entry)).concat();
        let stream = [message(1, b"{app=\"shop\"}"), entries].concat();
        let unreadable = [message(1, b"{app=\xff}"), message(2, &message(2, b"line"))].concat();
        let bytes = [message(1, &stream), message(1, &unreadable), message(1, &message(1, b"app"))].concat();
        let streams = decode(&bytes, &mut Budget::new(100)).unwrap();
        let marks: Vec<_> = streams[0].entries.iter().map(|entry| (entry.not_utf8, &*entry.line)).collect();
        assert_eq!(marks, [(Some("a line"), ""), (None, "good"), (Some("a value of metadata"), "")]);
        let labels: Vec<_> = streams.iter().map(|stream| stream.unreadable).collect();
        assert_eq!(labels, [None, Some(&b"{app=\xff}"[..]), Some(&b"app"[..])]);
        assert_eq!(streams[1].entries.len(), 1, "to be counted");
    }

    #[test]
    fn no_bytes_panic_and_cut_ones_are_errors_or_less() {
        let bytes = request();
        for cut in 0..bytes.len() {
            if let Ok(streams) = decode(&bytes[..cut], &mut Budget::new(100)) {
                assert!(streams.is_empty() && cut == 0, "{cut}");
            }
        }
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let _ = decode(&damaged, &mut Budget::new(100));
            }
        }
    }

    #[test]
    fn times_beyond_nanoseconds_are_none_and_odd_nanoseconds_an_error() {
        let far = |seconds: i64| {
            let mut bytes = vec![0x08];
            let mut rest = seconds as u64;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            decode_timestamp(&bytes)
        };
        assert_eq!(far(i64::MAX), Ok(None));
        assert_eq!(far(-1), Ok(Some(-1_000_000_000)));
        assert!(decode_timestamp(&[0x10, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}
