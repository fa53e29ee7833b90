//! Values of attributes and bodies with their types: texts, numbers and booleans as they are, lists, maps and bytes as JSON.
use std::fmt::Write as _;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foretell_query::event::Value;

use super::fault::{Budget, Stop};
use super::wire::{DEPTH_MAX, Field, fields, key_value, quote};

/// Attributes of a record, a span, an event, a link or a scope.
const ATTRIBUTES_MAX: usize = 1024;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Bytes of a value as it is stored; of a line's body, too.
pub(super) const VALUE_BYTES_MAX: usize = 256 << 10;

/// Doubles that have few digits as a text; of others all zeros are written.
const SHORT: Range<f64> = 1e-5..1e17;
const LONG_DOUBLE_BYTES: usize = 340;

/// A value that is read: what is no JSON lies in the message, JSON in an arena beside it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Held<'a> {
    /// No alternative is set, which is what null is.
    Nothing,
    Text(&'a str),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    Json(Range<usize>),
}

impl<'a> Held<'a> {
    /// With the arena that it was read with.
    pub(super) fn value<'s>(&self, arena: &'s str) -> Value<'s>
    where
        'a: 's,
    {
        match self {
            Self::Nothing => Value::Json("null"),
            Self::Text(text) => Value::Text(text),
            Self::Integer(number) => Value::Integer(*number),
            Self::Double(number) => Value::Double(*number),
            Self::Boolean(bit) => Value::Boolean(*bit),
            Self::Json(range) => Value::Json(&arena[range.clone()]),
        }
    }

    /// Bytes of its text, if it has one, and of what it becomes as a text among others, if that is long.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Json(range) => range.len(),
            Self::Double(number) if *number != 0.0 && !SHORT.contains(&number.abs()) => LONG_DOUBLE_BYTES,
            _ => 0,
        }
    }
}

/// Attributes with their keys, in the order in which they were sent.
pub(super) type Attributes<'a> = Vec<(&'a str, Held<'a>)>;

/// Reads a field that is a `KeyValue` to `attributes`.
pub(super) fn attribute<'a>(
    field: Field<'a>,
    attributes: &mut Attributes<'a>,
    arena: &mut String,
    budget: &mut Budget,
) -> Result<(), Stop> {
    let (key, value) = key_value(field.bytes()?)?;
    if attributes.len() >= ATTRIBUTES_MAX {
        return Err(Stop::row(format!("more than {ATTRIBUTES_MAX} attributes")));
    }
    let key = utf8(key, "the key of an attribute")?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let len = key.len();
        return Err(Stop::row(format!("a key of an attribute has {len} bytes; it may have 1 to {KEY_BYTES_MAX}")));
    }
    let value = held(value, arena)?;
    budget.item(key.len() + value.text_bytes())?;
    attributes.push((key, value));
    Ok(())
}

/// Reads an encoded `AnyValue`.
pub(super) fn held<'a>(message: &'a [u8], arena: &mut String) -> Result<Held<'a>, Stop> {
    let (start, mut held) = (arena.len(), Held::Nothing);
    fields(message, |number, field| {
        if !(1..=7).contains(&number) {
            return Ok(());
        }
        // The last alternative counts.
        arena.truncate(start);
        held = match number {
            1 => Held::Text(utf8(field.bytes()?, "a value")?),
            2 => Held::Boolean(field.varint()? != 0),
            3 => Held::Integer(field.varint()? as i64),
            4 => Held::Double(field.double()?),
            _ => {
                json(number, field, arena, start + VALUE_BYTES_MAX, 0)?;
                Held::Json(start..arena.len())
            }
        };
        Ok::<_, Stop>(())
    })?;
    if held.text_bytes() > VALUE_BYTES_MAX {
        return Err(Stop::row(format!("a value of {} bytes; it may have {VALUE_BYTES_MAX}", held.text_bytes())));
    }
    Ok(held)
}

/// Bytes that must be a text.
pub(super) fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, Stop> {
    std::str::from_utf8(bytes).map_err(|error| Stop::row(format!("{what} is not UTF-8: {error}")))
}

/// One alternative of an `AnyValue` as JSON, `out` not longer than about `end_max`.
fn json(number: u32, field: Field<'_>, out: &mut String, end_max: usize, depth: usize) -> Result<(), Stop> {
    if depth > DEPTH_MAX {
        return Err(Stop::row(format!("lists and maps more than {DEPTH_MAX} deep in one another")));
    }
    match number {
        1 => quote(utf8(field.bytes()?, "a value")?, out),
        2 => out.push_str(if field.varint()? != 0 { "true" } else { "false" }),
        3 => drop(write!(out, "{}", field.varint()? as i64)),
        4 => match field.double()? {
            value if value.is_finite() => drop(write!(out, "{value:?}")),
            value if value.is_nan() => out.push_str("\"NaN\""),
            value => out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
        },
        5 => list(field.bytes()?, out, end_max, depth)?,
        6 => map(field.bytes()?, out, end_max, depth)?,
        7 => {
            out.push('"');
            STANDARD.encode_string(field.bytes()?, out);
            out.push('"');
        }
        _ => {}
    }
    if out.len() > end_max {
        return Err(Stop::row(format!("a list, a map or bytes of more than {VALUE_BYTES_MAX} bytes as JSON")));
    }
    Ok(())
}

fn list(message: &[u8], out: &mut String, end_max: usize, depth: usize) -> Result<(), Stop> {
    out.push('[');
    let mut first = true;
    fields(message, |number, field| {
        if number == 1 {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            nested(field.bytes()?, out, end_max, depth)?;
        }
        Ok::<_, Stop>(())
    })?;
    out.push(']');
    Ok(())
}

fn map(message: &[u8], out: &mut String, end_max: usize, depth: usize) -> Result<(), Stop> {
    out.push('{');
    let mut first = true;
    fields(message, |number, field| {
        if number == 1 {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            let (key, value) = key_value(field.bytes()?)?;
            quote(utf8(key, "the key of a map")?, out);
            out.push(':');
            nested(value, out, end_max, depth)?;
        }
        Ok::<_, Stop>(())
    })?;
    out.push('}');
    Ok(())
}

fn nested(value: &[u8], out: &mut String, end_max: usize, depth: usize) -> Result<(), Stop> {
    let start = out.len();
    fields(value, |number, field| {
        out.truncate(start);
        json(number, field, out, end_max, depth + 1)
    })?;
    if out.len() == start {
        out.push_str("null");
    }
    // Nulls are nothing on the wire, so that many of them must end here.
    if out.len() > end_max {
        return Err(Stop::row(format!("a list or a map of more than {VALUE_BYTES_MAX} bytes as JSON")));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_proto::opentelemetry::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value};
    use prost::Message as _;

    use super::*;

    fn any(value: any_value::Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn list_of(values: Vec<AnyValue>) -> AnyValue {
        any(any_value::Value::ArrayValue(ArrayValue { values }))
    }

    fn shown(value: &AnyValue) -> Result<String, Stop> {
        let (bytes, mut arena) = (value.encode_to_vec(), "before".to_owned());
        let held = held(&bytes, &mut arena)?;
        Ok(format!("{:?}", held.value(&arena)))
    }

    #[test]
    fn types_are_kept_and_what_has_none_is_json() {
        use any_value::Value as Any;
        assert_eq!(shown(&any(Any::StringValue("hi".to_owned()))).unwrap(), "Text(\"hi\")");
        assert_eq!(shown(&any(Any::IntValue(-7))).unwrap(), "Integer(-7)");
        assert_eq!(shown(&any(Any::DoubleValue(1.0))).unwrap(), "Double(1.0)");
        assert_eq!(shown(&any(Any::BoolValue(false))).unwrap(), "Boolean(false)");
        assert_eq!(shown(&any(Any::BytesValue(vec![0, 255]))).unwrap(), r#"Json("\"AP8=\"")"#);
        assert_eq!(shown(&AnyValue::default()).unwrap(), "Json(\"null\")");
        let pair = KeyValue { key: "a".to_owned(), value: Some(any(Any::DoubleValue(2.0))) };
        let map = any(Any::KvlistValue(KeyValueList { values: vec![pair, KeyValue::default()] }));
        let all = list_of(vec![map, any(Any::DoubleValue(f64::NAN)), any(Any::IntValue(1)), AnyValue::default()]);
        let Held::Json(range) = held(&all.encode_to_vec(), &mut String::new()).unwrap() else { panic!() };
        let mut arena = String::new();
        held(&all.encode_to_vec(), &mut arena).unwrap();
        assert_eq!(&arena[range], r#"[{"a":2.0,"":null},"NaN",1,null]"#);
    }

    #[test]
    fn deep_long_and_broken_values_are_faults_of_their_row() {
        let mut deep = AnyValue::default();
        for _ in 0..90 {
            deep = list_of(vec![deep]);
        }
        let long = any(any_value::Value::StringValue("x".repeat(VALUE_BYTES_MAX + 1)));
        let bytes = any(any_value::Value::BytesValue(vec![0; VALUE_BYTES_MAX]));
        let nulls = list_of(vec![AnyValue::default(); VALUE_BYTES_MAX / 4]);
        for (value, why) in [(deep, "deep"), (long, "a value of"), (bytes, "as JSON"), (nulls, "as JSON")] {
            let Err(Stop::Row(fault)) = shown(&value) else { panic!("{why}") };
            assert!(fault.to_string().contains(why), "{fault}");
        }
        assert!(matches!(held(b"\x0a\x01\xff", &mut String::new()), Err(Stop::Row(_))), "not UTF-8");
        assert!(matches!(held(b"\x2a\x05\x0a\x03\x0a\x01\xff", &mut String::new()), Err(Stop::Row(_))), "inside");
        assert!(matches!(held(b"\x0a\x05x", &mut String::new()), Err(Stop::Malformed(_))));
    }

    #[test]
    fn attributes_are_counted_before_they_are_collected() {
        let bytes = KeyValue { key: "k".to_owned(), value: None }.encode_to_vec();
        let (mut attributes, mut arena, mut budget) = (Vec::new(), String::new(), Budget::new(0, 1 << 20));
        for _ in 0..ATTRIBUTES_MAX {
            attribute(Field::Bytes(&bytes), &mut attributes, &mut arena, &mut budget).unwrap();
        }
        let more = attribute(Field::Bytes(&bytes), &mut attributes, &mut arena, &mut budget);
        assert!(matches!(more, Err(Stop::Row(_))) && attributes.len() == ATTRIBUTES_MAX);
        for (number, bytes) in
            [(0.5, 0), (0.0, 0), (f64::MAX, LONG_DOUBLE_BYTES), (-f64::MIN_POSITIVE, LONG_DOUBLE_BYTES)]
        {
            assert_eq!(Held::Double(number).text_bytes(), bytes, "{number}");
            assert!(number.to_string().len() <= bytes.max(32), "{number}");
        }
        let nameless = KeyValue::default().encode_to_vec();
        let nameless = attribute(Field::Bytes(&nameless), &mut Vec::new(), &mut arena, &mut budget);
        assert!(matches!(nameless, Err(Stop::Row(_))));
    }
}
