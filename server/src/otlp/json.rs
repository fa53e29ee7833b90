//! JSON to the protobuf that it stands for, in one pass and by a table: one walk then serves both.
//!
//! The mapping is protobuf's own, with the protocol's differences: ids are hexadecimal, enumerations are numbers (names are taken
//! too), unknown fields are stepped over. The parser limits how deep JSON may be nested; the output has a cap.
use std::fmt;

use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError as Base64Error, Engine as _};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::remote_write::DecodeError;
use crate::sender::encode::put_varint;

/// The fields of a message: name in JSON, number, kind.
pub(super) struct Schema(pub(super) &'static [(&'static str, u32, Kind)]);

/// What a field has.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Bytes that JSON has in hexadecimal: the ids of traces and spans.
    Hex,
    /// Other bytes.
    Base64,
    Bool,
    Uint32,
    Int64,
    Uint64,
    Sint32,
    Fixed64,
    Sfixed64,
    Double,
    /// Names of the numbers from 0.
    Enum(&'static [&'static str]),
    Message(&'static Schema),
    List(&'static Kind),
}

impl Kind {
    /// What must stand there, for messages.
    fn expected(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Hex => "an id in hexadecimal",
            Self::Base64 => "bytes in base 64",
            Self::Bool => "true or false",
            Self::Uint32 => "a whole number from 0 to 2^32-1",
            Self::Int64 | Self::Sfixed64 => "a whole number from -2^63 to 2^63-1",
            Self::Uint64 | Self::Fixed64 => "a whole number from 0 to 2^64-1",
            Self::Sint32 => "a whole number from -2^31 to 2^31-1",
            Self::Double => "a number",
            Self::Enum(_) => "one of the names of an enumeration, or its number",
            Self::Message(_) => "an object",
            Self::List(_) => "an array",
        }
    }
}

/// Bytes of a length, always: it is known only after what it is the length of.
const LENGTH_BYTES: usize = 5;

/// The protobuf bytes of the message that `json` is, at most `bytes_max`.
///
/// # Errors
/// What is wrong and where, or too large.
pub(super) fn transcode(json: &[u8], schema: &'static Schema, bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Out { bytes: Vec::new(), bytes_max, over: false };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let whole = Value { kind: Kind::Message(schema), number: 0, null: false, out: &mut out };
    let read = whole.deserialize(&mut deserializer);
    match read.and_then(|()| deserializer.end()) {
        Ok(()) => Ok(out.bytes),
        Err(_) if out.over => Err(DecodeError::TooLarge(format!(
            "body of {} bytes of JSON has more than {bytes_max} as a message; send smaller requests",
            json.len()
        ))),
        Err(error) => Err(DecodeError::Body(format!("cannot decode the body as OTLP's JSON: {error}"))),
    }
}

/// The message so far.
struct Out {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Whether it would have had more than that.
    over: bool,
}

impl Out {
    /// Refuses `more` bytes that would be too many.
    fn has_room<E: Error>(&mut self, more: usize) -> Result<(), E> {
        self.over |= self.bytes.len().saturating_add(more) > self.bytes_max;
        if self.over { Err(E::custom("too large")) } else { Ok(()) }
    }
}

/// Reads one value and appends it as field `number`; 0 is the outermost message, which has no tag.
struct Value<'o> {
    kind: Kind,
    number: u32,
    /// Whether it may be null, which is a field that is not there; in a list and outside of all nothing can be.
    null: bool,
    out: &'o mut Out,
}

impl Value<'_> {
    fn tag(&mut self, wire_type: u64) {
        put_varint(&mut self.out.bytes, u64::from(self.number) << 3 | wire_type);
    }

    fn varint(&mut self, value: u64) {
        self.tag(0);
        put_varint(&mut self.out.bytes, value);
    }

    fn fixed64(&mut self, bits: u64) {
        self.tag(1);
        self.out.bytes.extend_from_slice(&bits.to_le_bytes());
    }

    fn bytes<E: Error>(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.out.has_room::<E>(bytes.len())?;
        self.tag(2);
        put_varint(&mut self.out.bytes, bytes.len() as u64);
        self.out.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// A whole number of a field; one that the field's type does not have is refused, for nothing may wrap.
    fn integer<E: Error>(&mut self, value: i128) -> Result<(), E> {
        let expected = self.kind.expected();
        let beyond = || E::custom(format_args!("{value} is out of range, expected {expected}"));
        match self.kind {
            Kind::Uint32 => self.varint(u64::from(u32::try_from(value).map_err(|_| beyond())?)),
            Kind::Int64 => self.varint(i64::try_from(value).map_err(|_| beyond())? as u64),
            Kind::Uint64 => self.varint(u64::try_from(value).map_err(|_| beyond())?),
            Kind::Enum(_) => self.varint(i64::from(i32::try_from(value).map_err(|_| beyond())?) as u64),
            Kind::Fixed64 => self.fixed64(u64::try_from(value).map_err(|_| beyond())?),
            Kind::Sfixed64 => self.fixed64(i64::try_from(value).map_err(|_| beyond())? as u64),
            Kind::Sint32 => {
                let value = i32::try_from(value).map_err(|_| beyond())?;
                self.varint(u64::from(((value << 1) ^ (value >> 31)) as u32));
            }
            Kind::Double => self.fixed64((value as f64).to_bits()),
            _ => return Err(E::custom("a number where none may be")),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.out.has_room::<D::Error>(0)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.expected())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.null { Ok(()) } else { Err(E::invalid_type(serde::de::Unexpected::Unit, &self)) }
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        match self.kind {
            Kind::Bool => {
                self.varint(u64::from(value));
                Ok(())
            }
            _ => Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        match self.kind {
            Kind::Double => {
                self.fixed64(value.to_bits());
                Ok(())
            }
            // 1.0 and 1e3 are whole. What is below all integers comes as the least of them, rounded by the parser, so that neither
            // is taken.
            _ if value.fract() == 0.0 && value > i64::MIN as f64 && value < 1e30 => self.integer(value as i128),
            _ => Err(E::invalid_type(serde::de::Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        let wrong = |this: &Self| E::invalid_value(serde::de::Unexpected::Str(text), this);
        match self.kind {
            Kind::Text => self.bytes::<E>(text.as_bytes())?,
            Kind::Hex => {
                let bytes = unhex(text).ok_or_else(|| wrong(&self))?;
                self.bytes::<E>(&bytes)?;
            }
            Kind::Base64 => {
                let bytes = unbase64(text).map_err(|_| wrong(&self))?;
                self.bytes::<E>(&bytes)?;
            }
            Kind::Double => {
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    // Other words for these are none, and what is beyond all doubles is not infinite.
                    text => text.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| wrong(&self))?,
                };
                self.fixed64(value.to_bits());
            }
            Kind::Enum(names) if names.contains(&text) => {
                let number = names.iter().position(|name| *name == text).unwrap_or_default();
                self.varint(number as u64);
            }
            Kind::Uint32 | Kind::Int64 | Kind::Uint64 | Kind::Sint32 | Kind::Fixed64 | Kind::Sfixed64 => {
                let value = text.parse::<i128>().map_err(|_| wrong(&self))?;
                self.integer::<E>(value)?;
            }
            _ => return Err(wrong(&self)),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Kind::List(kind) = self.kind else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        };
        let number = self.number;
        while items.next_element_seed(Value { kind: *kind, number, null: false, out: &mut *self.out })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let Kind::Message(schema) = self.kind else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        let content = (self.number > 0).then(|| {
            self.tag(2);
            self.out.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
            self.out.bytes.len()
        });
        while let Some(field) = entries.next_key_seed(Name(schema))? {
            match field {
                Some((number, kind)) => {
                    let value = Value { kind, number, null: true, out: &mut *self.out };
                    entries.next_value_seed(value)?;
                }
                None => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        if let Some(content) = content {
            let mut length = self.out.bytes.len() - content;
            let last = LENGTH_BYTES - 1;
            for (i, byte) in self.out.bytes[content - LENGTH_BYTES..content].iter_mut().enumerate() {
                *byte = (length & 0x7f) as u8 | if i < last { 0x80 } else { 0 };
                length >>= 7;
            }
        }
        Ok(())
    }
}

/// Finds a field by its name, in either spelling of protobuf's JSON.
struct Name(&'static Schema);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<(u32, Kind)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<(u32, Kind)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.0.iter().find(|field| is_spelled(field.0, name)).map(|field| (field.1, field.2)))
    }
}

/// Whether `given` is `camel`, or the same in lower case with underscores.
fn is_spelled(camel: &str, given: &str) -> bool {
    let snake = camel.bytes().flat_map(|byte| {
        let parts =
            if byte.is_ascii_uppercase() { [Some(b'_'), Some(byte.to_ascii_lowercase())] } else { [None, Some(byte)] };
        parts.into_iter().flatten()
    });
    camel == given || snake.eq(given.bytes())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Bytes in base 64: in the usual alphabet or that of URLs, with padding or without, as protobuf's mapping allows.
fn unbase64(text: &str) -> Result<Vec<u8>, Base64Error> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    static USUAL: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    static OF_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
    if text.contains(['-', '_']) { OF_URLS.decode(text) } else { USUAL.decode(text) }
}

#[cfg(test)]
mod tests;
