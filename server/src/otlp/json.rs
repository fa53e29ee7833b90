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
        if self.out.len() > self.bytes_max {
            return Err(D::Error::custom("too large"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.expected())
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
            // 1.0 and 1e3 are whole. What is below all integers is the least of them here, rounded by the parser: neither is taken.
            _ if value.fract() == 0.0 && value > i64::MIN as f64 && value < 1e30 => self.integer(value as i128),
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
                let bytes = unbase64(text).map_err(|_| wrong(&self))?;
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
            Kind::Uint32 | Kind::Int64 | Kind::Uint64 | Kind::Sint32 | Kind::Fixed64 | Kind::Sfixed64 => {
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
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_proto::opentelemetry::collector::logs::v1::ExportLogsServiceRequest;
    use foretell_proto::opentelemetry::collector::metrics::v1::ExportMetricsServiceRequest;
    use foretell_proto::opentelemetry::collector::trace::v1::ExportTraceServiceRequest;
    use foretell_proto::opentelemetry::common::v1::any_value;
    use foretell_proto::opentelemetry::metrics::v1::{metric, number_data_point};
    use prost::Message as _;

    use super::super::schema::{LOGS_REQUEST, METRICS_REQUEST, TRACES_REQUEST};
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
    fn logs_and_traces_are_their_messages_too() {
        let json = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
            "scopeLogs":[{"scope":{"name":"s","version":"1"},"logRecords":[
              {"timeUnixNano":"7","observedTimeUnixNano":"9","severityNumber":"SEVERITY_NUMBER_WARN2","severityText":"warn",
               "body":{"kvlistValue":{"values":[{"key":"k","value":{"bytesValue":"AP8="}}]}},"droppedAttributesCount":3,
               "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","eventName":"paid","flags":1},
              {"severityNumber":9}]}]}]}"#;
        let bytes = transcode(json.as_bytes(), &LOGS_REQUEST, 1 << 20).unwrap();
        let read = ExportLogsServiceRequest::decode(&*bytes).unwrap();
        let scope = &read.resource_logs[0].scope_logs[0];
        let record = &scope.log_records[0];
        assert_eq!((record.time_unix_nano, record.observed_time_unix_nano, record.severity_number), (7, 9, 14));
        assert_eq!((record.trace_id[0], record.span_id.len(), record.dropped_attributes_count), (0x5b, 8, 3));
        assert_eq!((record.severity_text.as_str(), record.event_name.as_str()), ("warn", "paid"));
        let Some(any_value::Value::KvlistValue(map)) = record.body.clone().unwrap().value else { panic!() };
        let value = map.values[0].value.clone().unwrap().value;
        assert_eq!(value, Some(any_value::Value::BytesValue(vec![0, 255])));
        assert_eq!(scope.log_records[1].severity_number, 9);

        let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c",
            "spanId":"eee19b7ec3c1b174","parentSpanId":"","traceState":"a=b","name":"GET","kind":2,
            "startTimeUnixNano":"5","endTimeUnixNano":8,"attributes":[{"key":"n","value":{"intValue":"-3"}}],
            "events":[{"timeUnixNano":"6","name":"e","attributes":[{"key":"b","value":{"boolValue":true}}]}],
            "links":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000002","traceState":"x"}],
            "droppedAttributesCount":1,"droppedEventsCount":2,"droppedLinksCount":3,
            "status":{"code":"STATUS_CODE_ERROR","message":"no"}}]}]}]}"#;
        let bytes = transcode(json.as_bytes(), &TRACES_REQUEST, 1 << 20).unwrap();
        let read = ExportTraceServiceRequest::decode(&*bytes).unwrap();
        let span = &read.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((span.trace_id[0], span.parent_span_id.len(), span.kind), (0x5b, 0, 2));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano, span.name.as_str()), (5, 8, "GET"));
        assert_eq!(span.attributes[0].value.clone().unwrap().value, Some(any_value::Value::IntValue(-3)));
        assert_eq!((span.events[0].time_unix_nano, span.events[0].attributes.len()), (6, 1));
        assert_eq!((span.links[0].span_id[7], span.links[0].trace_state.as_str()), (2, "x"));
        let dropped = (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count);
        assert_eq!((dropped, span.status.clone().unwrap().code), ((1, 2, 3), 2));
    }

    #[test]
    fn whole_numbers_are_kept_to_the_ends_of_their_types_and_refused_beyond() {
        let of = |data: &str, point: &str| {
            let metric = format!(r#"{{"{data}":{{"dataPoints":[{{{point}}}]}}}}"#);
            format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}"#)
        };
        let (i64_min, i64_max, u64_max) = ("-9223372036854775808", "9223372036854775807", "18446744073709551615");
        let (below_i64, above_i64, above_u64) = ("-9223372036854775809", "9223372036854775808", "18446744073709551616");
        for (data, point, good, bad) in [
            ("sum", r#""asInt":?"#, i64_max, above_i64),
            ("sum", r#""asInt":?"#, i64_min, below_i64),
            ("sum", r#""attributes":[{"value":{"intValue":?}}]"#, i64_max, above_i64),
            ("sum", r#""attributes":[{"value":{"intValue":?}}]"#, i64_min, below_i64),
            ("sum", r#""timeUnixNano":?"#, u64_max, above_u64),
            ("sum", r#""flags":?"#, "4294967295", "4294967296"),
            ("histogram", r#""count":?"#, "0", "-1"),
            ("histogram", r#""bucketCounts":[?]"#, u64_max, "-1"),
            ("exponentialHistogram", r#""positive":{"bucketCounts":[?]}"#, u64_max, "-1"),
            ("exponentialHistogram", r#""scale":?"#, "-2147483648", "-2147483649"),
        ] {
            for quote in ["", "\""] {
                let with = |number: &str| of(data, &point.replace('?', &format!("{quote}{number}{quote}")));
                assert!(request(&with(good)).is_ok(), "{point} {good}");
                let Err(DecodeError::Body(why)) = request(&with(bad)) else { panic!("{point} {bad}") };
                assert!(why.contains("expected a whole number from"), "{why}");
            }
        }
        for (written, number) in [("1e3", 1000), ("-2.0", -2), (i64_min, i64::MIN), (i64_max, i64::MAX)] {
            let read = request(&of("sum", &format!(r#""asInt":{written}"#))).unwrap();
            let Some(metric::Data::Sum(sum)) = &read.resource_metrics[0].scope_metrics[0].metrics[0].data else {
                panic!("{written}")
            };
            assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(number)));
        }
        for written in ["1.5", "1e19", "1e300"] {
            assert!(request(&of("sum", &format!(r#""asInt":{written}"#))).is_err(), "{written}");
        }
    }

    #[test]
    fn bytes_are_read_in_both_alphabets_with_padding_and_without() {
        let body = |text: &str| {
            let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"bytesValue":"?"}}]}]}]}"#;
            let bytes = transcode(json.replace('?', text).as_bytes(), &LOGS_REQUEST, 1 << 20)?;
            let read = ExportLogsServiceRequest::decode(&*bytes).unwrap();
            Ok::<_, DecodeError>(read.resource_logs[0].scope_logs[0].log_records[0].body.clone().unwrap().value)
        };
        for (text, bytes) in [
            ("+/8=", &[0xfb, 0xff][..]),
            ("-_8=", &[0xfb, 0xff]),
            ("+/8", &[0xfb, 0xff]),
            ("-_8", &[0xfb, 0xff]),
            ("AA==", &[0]),
            ("AA", &[0]),
            // Bits that are left over count nothing.
            ("-_", &[0xfb]),
            ("", &[]),
        ] {
            assert_eq!(body(text).unwrap(), Some(any_value::Value::BytesValue(bytes.to_vec())), "{text}");
        }
        for text in ["+_8=", "A", "AA=A", "AAAAA===", "A A=", "ä"] {
            assert!(matches!(body(text), Err(DecodeError::Body(_))), "{text}");
        }
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
