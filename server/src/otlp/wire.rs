//! Fields of a message one after another, and attribute values as text.
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::remote_write::DecodeError;
use crate::remote_write::wire::{Cursor, FIXED64, LENGTH_DELIMITED, Malformed, VARINT};

/// How deep lists and maps of an attribute may lie in each other.
const DEPTH_MAX: usize = 16;
/// Bytes of a list or map as text; the limit of label values refuses what is longer than that.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// What a field has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Other,
}

const WRONG: Malformed = Malformed { what: "wrong wire type of a field", offset: 0 };

impl<'a> Field<'a> {
    pub(super) fn varint(self) -> Result<u64, Malformed> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(WRONG) }
    }
    pub(super) fn fixed64(self) -> Result<u64, Malformed> {
        if let Self::Fixed64(value) = self { Ok(value) } else { Err(WRONG) }
    }
    pub(super) fn double(self) -> Result<f64, Malformed> {
        self.fixed64().map(f64::from_bits)
    }
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(WRONG) }
    }
}

/// Calls `each` with number and content of every field.
///
/// # Errors
/// The first of `each`, or what is no protobuf.
pub(super) fn fields<'a, E: From<Malformed>>(
    message: &'a [u8],
    mut each: impl FnMut(u32, Field<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        let (number, wire_type) = cursor.tag()?;
        let field = match wire_type {
            VARINT => Field::Varint(cursor.varint()?),
            FIXED64 => Field::Fixed64(cursor.fixed64()?),
            LENGTH_DELIMITED => Field::Bytes(cursor.delimited()?),
            other => {
                cursor.skip(other)?;
                Field::Other
            }
        };
        each(number, field)?;
    }
    Ok(())
}

/// The values of a repeated 64-bit field, packed or one of several.
pub(super) fn fixed64s(field: Field<'_>, mut take: impl FnMut(u64)) -> Result<(), Malformed> {
    let packed = match field {
        Field::Fixed64(value) => {
            take(value);
            return Ok(());
        }
        field => field.bytes()?,
    };
    let mut cursor = Cursor::new(packed);
    while !cursor.is_at_end() {
        take(cursor.fixed64()?);
    }
    Ok(())
}

/// The values of a repeated varint, packed or one of several.
pub(super) fn varints(field: Field<'_>, mut take: impl FnMut(u64)) -> Result<(), Malformed> {
    let packed = match field {
        Field::Varint(value) => {
            take(value);
            return Ok(());
        }
        field => field.bytes()?,
    };
    let mut cursor = Cursor::new(packed);
    while !cursor.is_at_end() {
        take(cursor.varint()?);
    }
    Ok(())
}

/// (key, encoded `AnyValue`) of an encoded `KeyValue`.
pub(super) fn key_value(message: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    fields(message, |number, field| {
        match number {
            1 => key = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
        Ok::<_, Malformed>(())
    })?;
    Ok((key, value))
}

/// An encoded `AnyValue` as the value of a label: texts as they are, numbers as JSON writes them, lists and maps as JSON.
///
/// # Errors
/// When it is no protobuf, or is nested too deeply.
pub(super) fn value_text(value: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut text = String::new();
    let mut raw: Option<&[u8]> = None;
    fields(value, |number, field| {
        if number == 1 {
            raw = Some(field.bytes()?);
            text.clear();
            return Ok(());
        }
        raw = None;
        text.clear();
        one(number, field, &mut text, 0, false)
    })?;
    // Bytes of a text stay what they are: whether they are UTF-8 is checked with all labels.
    out.extend_from_slice(raw.unwrap_or(text.as_bytes()));
    Ok(())
}

/// One alternative of an `AnyValue` as JSON; `quoted` puts texts in quotes.
fn one(number: u32, field: Field<'_>, out: &mut String, depth: usize, quoted: bool) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed { what: "attribute nested too deeply", offset: 0 });
    }
    if out.len() > TEXT_BYTES_MAX {
        return Ok(());
    }
    match number {
        1 => quote(&String::from_utf8_lossy(field.bytes()?), out),
        2 => out.push_str(if field.varint()? != 0 { "true" } else { "false" }),
        3 => drop(write!(out, "{}", field.varint()? as i64)),
        4 => drop(write!(out, "{}", field.double()?)),
        5 => list(field.bytes()?, out, depth)?,
        6 => map(field.bytes()?, out, depth)?,
        7 => {
            let text = STANDARD.encode(field.bytes()?);
            if quoted { quote(&text, out) } else { out.push_str(&text) }
        }
        _ => {}
    }
    Ok(())
}

fn list(message: &[u8], out: &mut String, depth: usize) -> Result<(), Malformed> {
    out.push('[');
    let mut first = true;
    fields(message, |number, field| {
        if number == 1 && out.len() <= TEXT_BYTES_MAX {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            nested(field.bytes()?, out, depth)?;
        }
        Ok::<_, Malformed>(())
    })?;
    out.push(']');
    Ok(())
}

fn map(message: &[u8], out: &mut String, depth: usize) -> Result<(), Malformed> {
    out.push('{');
    let mut first = true;
    fields(message, |number, field| {
        if number == 1 && out.len() <= TEXT_BYTES_MAX {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            let (key, value) = key_value(field.bytes()?)?;
            quote(&String::from_utf8_lossy(key), out);
            out.push(':');
            nested(value, out, depth)?;
        }
        Ok::<_, Malformed>(())
    })?;
    out.push('}');
    Ok(())
}

fn nested(value: &[u8], out: &mut String, depth: usize) -> Result<(), Malformed> {
    let start = out.len();
    fields(value, |number, field| {
        out.truncate(start);
        one(number, field, out, depth + 1, true)
    })?;
    if out.len() == start {
        out.push_str("null");
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// The refusal of a whole request.
pub(super) fn refusal(malformed: Malformed) -> DecodeError {
    DecodeError::Body(format!("cannot decode the body as an OTLP request: {}", malformed.what))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_and_lists_are_json() {
        let text = |value: &[u8]| {
            let mut out = Vec::new();
            value_text(value, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        assert_eq!(text(b"\x0a\x02hi").unwrap(), "hi");
        assert_eq!(text(b"\x10\x01").unwrap(), "true");
        assert_eq!(text(b"\x18\x2a").unwrap(), "42");
        assert_eq!(text(&[&b"\x21"[..], &1.5f64.to_le_bytes()].concat()).unwrap(), "1.5");
        assert_eq!(text(b"\x3a\x04\x00\xffab").unwrap(), "AP9hYg==");
        assert_eq!(text(b"\x2a\x0a\x0a\x04\x0a\x02a\"\x0a\x02\x18\x05").unwrap(), r#"["a\"",5]"#);
        assert_eq!(text(b"\x32\x0b\x0a\x09\x0a\x01k\x12\x04\x0a\x02vv").unwrap(), r#"{"k":"vv"}"#);
        assert_eq!(text(b"").unwrap(), "");
        let mut deep = Vec::new();
        for _ in 0..30 {
            let inner = [&[0x0a, deep.len() as u8][..], &deep].concat();
            deep = [&[0x2a, inner.len() as u8][..], &inner].concat();
        }
        assert!(text(&deep).is_err());
    }
}
