#![allow(clippy::unwrap_used)]
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
    assert!(request(&deep).is_ok(), "a field that nobody knows is passed over, however deep it is");
    let many = format!(r#"{{"resourceMetrics":[{}{{}}]}}"#, "{},".repeat(300_000));
    assert!(matches!(request(&many), Err(DecodeError::TooLarge(_))));
}

#[test]
fn one_long_text_is_not_written_beyond_the_cap() {
    let json = format!(r#"{{"resourceMetrics":[{{"schemaUrl":"{}"}}]}}"#, "x".repeat(2 << 20));
    assert!(matches!(request(&json), Err(DecodeError::TooLarge(_))));
    let mut out = Out { bytes: Vec::new(), bytes_max: 10, over: false };
    let mut value = Value { kind: Kind::Text, number: 1, null: true, out: &mut out };
    let written: Result<(), serde_json::Error> = value.bytes(&[0; 11]);
    assert!(written.is_err() && out.bytes.is_empty() && out.over);
}

#[test]
fn a_null_is_a_field_that_is_not_there_and_nothing_else() {
    assert!(request(r#"{"resourceMetrics":null}"#).is_ok());
    for json in [
        "null",
        r#"{"resourceMetrics":[null]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[1,null]}]}}]}]}]}"#,
    ] {
        let Err(DecodeError::Body(why)) = request(json) else { panic!("{json}") };
        assert!(why.contains("null, expected"), "{why}");
    }
}

#[test]
fn a_double_as_a_text_is_a_number_or_one_of_three_words() {
    let of = |text: &str| {
        let point = format!(r#"{{"asDouble":"{text}"}}"#);
        request(&format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
        ))
    };
    for text in ["1.5", "-1e3", "NaN", "Infinity", "-Infinity"] {
        assert!(of(text).is_ok(), "{text}");
    }
    for text in ["inf", "nan", "+infinity", "1e400", "", "x"] {
        assert!(matches!(of(text), Err(DecodeError::Body(_))), "{text}");
    }
}
