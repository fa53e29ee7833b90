//! `logproto.PushRequest`, walked over the decompressed bytes.
//!
//! ```text
//! PushRequest   1 stream*      StreamAdapter  1 labels  2 entry*
//! EntryAdapter  1 timestamp { 1 seconds  2 nanos }  2 line  3 metadata* { 1 name  2 value }
//! ```
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
            (1, Field::Bytes(text)) => stream.labels = labels::parse(utf8(text, "labels")?, budget)?,
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
            (2, Field::Bytes(line)) => entry.line = Cow::Borrowed(utf8(line, "a line")?),
            (3, Field::Bytes(pair)) => {
                budget.take()?;
                entry.metadata.push(decode_pair(pair)?);
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

fn decode_pair(bytes: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), PushError> {
    let mut pair = (Cow::Borrowed(""), Cow::Borrowed(""));
    fields(bytes, |field, value| {
        match (field, value) {
            (1, Field::Bytes(name)) => pair.0 = Cow::Borrowed(utf8(name, "a name of metadata")?),
            (2, Field::Bytes(value)) => pair.1 = Cow::Borrowed(utf8(value, "a value of metadata")?),
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

fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, PushError> {
    std::str::from_utf8(bytes).map_err(|error| PushError::Malformed(format!("{what} is not UTF-8: {error}")))
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
        let first =
            Entry { ts: Some(5_000_000_007), line: "hellö".into(), metadata: vec![("trace".into(), "abc".into())] };
        let entries = vec![first, Entry { ts: Some(0), ..Entry::default() }];
        assert_eq!(streams, [Stream { labels: vec![("app".into(), "shop".into())], entries }]);
        assert!(matches!(decode(&bytes, &mut Budget::new(4)), Err(PushError::TooLarge(_))));
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
