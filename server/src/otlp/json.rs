//! JSON to the protobuf that it stands for, in one pass and by a table: one walk then serves both.
//!
//! The mapping is protobuf's own, with the protocol's differences: ids are hexadecimal, enumerations are numbers (names are taken
//! too), unknown fields are stepped over. The parser limits how deep JSON may be nested; the output has a cap.
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    /// `int32`, `uint32`, `int64`, `uint64`.
    Varint,
    Sint32,
    /// `fixed64`.
    Fixed64,
    /// `sfixed64`.
    Any64,
    Double,
    /// Names of the numbers from 0.
    Enum(&'static [&'static str]),
    Message(&'static Schema),
    List(&'static Kind),
}

/// Bytes of a length, always: it is known only after what it is the length of.
const LENGTH_BYTES: usize = 5;

/// The protobuf bytes of the message that `json` is, at most `bytes_max`.
///
/// # Errors
/// What is wrong and where, or too large.
pub(super) fn transcode(json: &[u8], schema: &'static Schema, bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read =
        Value { kind: Kind::Message(schema), number: 0, out: &mut out, bytes_max }.deserialize(&mut deserializer);
    match read.and_then(|()| deserializer.end()) {
        Ok(()) => Ok(out),
        Err(_) if out.len() > bytes_max => Err(DecodeError::TooLarge(format!(
            "body of {} bytes of JSON has more than {bytes_max} as a message; send smaller requests",
            json.len()
        ))),
        Err(error) => Err(DecodeError::Body(format!("cannot decode the body as OTLP's JSON: {error}"))),
    }
}

/// Reads one value and appends it as field `number`; 0 is the outermost message, which has no tag.
struct Value<'o> {
    kind: Kind,
    number: u32,
    out: &'o mut Vec<u8>,
    bytes_max: usize,
}

impl Value<'_> {
    fn tag(&mut self, wire_type: u64) {
        put_varint(self.out, u64::from(self.number) << 3 | wire_type);
    }

    fn varint(&mut self, value: u64) {
        self.tag(0);
        put_varint(self.out, value);
    }

    fn fixed64(&mut self, bits: u64) {
        self.tag(1);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.tag(2);
        put_varint(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn integer<E: Error>(&mut self, value: i128) -> Result<(), E> {
        let beyond = || E::custom(format_args!("{value} is out of range"));
        match self.kind {
            Kind::Varint | Kind::Fixed64 | Kind::Any64 | Kind::Enum(_) => {
                let bits = u64::try_from(value).or_else(|_| i64::try_from(value).map(|value| value as u64));
                let bits = bits.map_err(|_| beyond())?;
                if matches!(self.kind, Kind::Fixed64 | Kind::Any64) { self.fixed64(bits) } else { self.varint(bits) }
            }
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
        if self.out.len() > self.bytes_max {
            return Err(D::Error::custom("too large"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.kind {
            Kind::Text => "a text",
            Kind::Hex => "an id in hexadecimal",
            Kind::Base64 => "bytes in base 64",
            Kind::Bool => "true or false",
            Kind::Message(_) => "an object",
            Kind::List(_) => "an array",
            _ => "a number",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
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
            // 1.0 and 1e3 are whole.
            _ if value.fract() == 0.0 && value.abs() < 9e18 => self.integer(value as i128),
            _ => Err(E::invalid_type(serde::de::Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        let wrong = |this: &Self| E::invalid_value(serde::de::Unexpected::Str(text), this);
        match self.kind {
            Kind::Text => self.bytes(text.as_bytes()),
            Kind::Hex => {
                let bytes = unhex(text).ok_or_else(|| wrong(&self))?;
                self.bytes(&bytes);
            }
            Kind::Base64 => {
                let bytes = STANDARD.decode(text).map_err(|_| wrong(&self))?;
                self.bytes(&bytes);
            }
            Kind::Double => {
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    text => text.parse().map_err(|_| wrong(&self))?,
                };
                self.fixed64(value.to_bits());
            }
            Kind::Enum(names) if names.contains(&text) => {
                let number = names.iter().position(|name| *name == text).unwrap_or_default();
                self.varint(number as u64);
            }
            Kind::Varint | Kind::Sint32 | Kind::Fixed64 | Kind::Any64 => {
                let value = text.parse::<i128>().map_err(|_| wrong(&self))?;
                self.integer(value)?;
            }
            _ => return Err(wrong(&self)),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Kind::List(kind) = self.kind else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        };
        let (number, bytes_max) = (self.number, self.bytes_max);
        while items.next_element_seed(Value { kind: *kind, number, out: &mut *self.out, bytes_max })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let Kind::Message(schema) = self.kind else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        let content = (self.number > 0).then(|| {
            self.tag(2);
            self.out.extend_from_slice(&[0; LENGTH_BYTES]);
            self.out.len()
        });
        while let Some(field) = entries.next_key_seed(Name(schema))? {
            match field {
                Some((number, kind)) => {
                    let value = Value { kind, number, out: &mut *self.out, bytes_max: self.bytes_max };
                    entries.next_value_seed(value)?;
                }
                None => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        if let Some(content) = content {
            let mut length = self.out.len() - content;
            let last = LENGTH_BYTES - 1;
            for (i, byte) in self.out[content - LENGTH_BYTES..content].iter_mut().enumerate() {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_proto::opentelemetry::collector::metrics::v1::ExportMetricsServiceRequest;
    use foretell_proto::opentelemetry::metrics::v1::{metric, number_data_point};
    use prost::Message as _;

    use super::super::schema::METRICS_REQUEST;
    use super::*;

    fn request(json: &str) -> Result<ExportMetricsServiceRequest, DecodeError> {
        let bytes = transcode(json.as_bytes(), &METRICS_REQUEST, 1 << 20)?;
        Ok(ExportMetricsServiceRequest::decode(&*bytes).unwrap())
    }

    #[test]
    fn json_is_the_message_that_the_generated_types_read() {
        let read = request(
            r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
            "scopeMetrics":[{"scope":{"name":"s"},"unknown":[{"x":[1]}],"metrics":[
              {"name":"a","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true,"dataPoints":[
                {"timeUnixNano":"1700000000000000001","asInt":"-7","exemplars":[
                  {"timeUnixNano":5,"asDouble":1.5,"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174"}]}]}},
              {"name":"b","gauge":{"data_points":[{"time_unix_nano":9,"as_double":"NaN","attributes":null}]}},
              {"name":"c","exponential_histogram":{"aggregation_temporality":2,"dataPoints":[
                {"count":"3","scale":-2,"positive":{"offset":-1,"bucketCounts":["1",2]}}]}},
              {"name":"d","histogram":{"aggregationTemporality":1,"dataPoints":[
                {"count":3,"bucketCounts":["1","2"],"explicitBounds":[0.5]}]}}]}]}]}"#,
        )
        .unwrap();
        let metrics = &read.resource_metrics[0].scope_metrics[0].metrics;
        let data = |i: usize| metrics[i].data.clone().unwrap();
        let metric::Data::Sum(sum) = data(0) else { panic!() };
        assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (2, true));
        let point = &sum.data_points[0];
        assert_eq!(point.time_unix_nano, 1_700_000_000_000_000_001);
        assert_eq!(point.value, Some(number_data_point::Value::AsInt(-7)));
        assert_eq!(point.exemplars[0].trace_id[..3], [0x5b, 0x8e, 0xff]);
        assert_eq!(point.exemplars[0].span_id.len(), 8);
        let metric::Data::Gauge(gauge) = data(1) else { panic!() };
        assert_eq!(gauge.data_points[0].time_unix_nano, 9);
        let metric::Data::ExponentialHistogram(histogram) = data(2) else { panic!() };
        let point = &histogram.data_points[0];
        let positive = point.positive.clone().unwrap();
        assert_eq!((point.scale, positive.offset, positive.bucket_counts), (-2, -1, vec![1, 2]));
        let metric::Data::Histogram(histogram) = data(3) else { panic!() };
        let point = &histogram.data_points[0];
        assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 2][..], &[0.5][..]));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for json in [
            "",
            "[]",
            r#"{"resourceMetrics":{}}"#,
            r#"{"resourceMetrics":[{"resource":7}]}"#,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":7}]}]}]}"#,
            r#"{} {}"#,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"exemplars":[{"traceId":"xyz"}]}]}}]}]}]}"#,
        ] {
            assert!(matches!(request(json), Err(DecodeError::Body(_))), "{json}");
        }
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(request(&deep), Err(DecodeError::Body(_))));
        let many = format!(r#"{{"resourceMetrics":[{}{{}}]}}"#, "{},".repeat(300_000));
        assert!(matches!(request(&many), Err(DecodeError::TooLarge(_))));
    }
}
