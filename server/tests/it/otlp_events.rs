//! OTLP logs and traces over HTTP and gRPC against the real binary.
use std::io::Write as _;

use foretell_proto::opentelemetry::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use foretell_proto::opentelemetry::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use foretell_proto::opentelemetry::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, Resource, any_value::Value as Any,
};
use foretell_proto::opentelemetry::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use foretell_proto::opentelemetry::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::grpc::{call, framed};
use crate::support::{Server, now_ms, run_example_of};

const LOGS: &str = "/v1/logs";
const TRACES: &str = "/v1/traces";
const LOGS_CALL: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const TRACES_CALL: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const TS: u64 = 1_700_000_000_000_000_000;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn any(value: Any) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text(value: &str) -> Option<AnyValue> {
    any(Any::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: Option<AnyValue>) -> KeyValue {
    KeyValue { key: key.to_owned(), value }
}

/// One attribute of each type.
fn every_type() -> Vec<KeyValue> {
    let list = ArrayValue { values: vec![text("a\"b").unwrap(), any(Any::DoubleValue(2.0)).unwrap()] };
    vec![
        attribute("text", text("hellö")),
        attribute("integer", any(Any::IntValue(-7))),
        attribute("double", any(Any::DoubleValue(1.5))),
        attribute("boolean", any(Any::BoolValue(true))),
        attribute("bytes", any(Any::BytesValue(vec![0, 255]))),
        attribute("list", any(Any::ArrayValue(list))),
        attribute("text", text("the first counts")),
    ]
}

/// What [`every_type`] is, in the order of [`TYPES`].
fn every_type_shown() -> Vec<Value> {
    vec!["hellö".into(), "-7".into(), "1.5".into(), "true".into(), "\"AP8=\"".into(), r#"["a\"b",2.0]"#.into()]
}

const TYPES: &str = "attributes['text'], attributes['integer'], attributes['double'], attributes['boolean'], \
                     attributes['bytes'], attributes['list']";

fn resource(service: &str) -> Option<Resource> {
    let attributes = vec![attribute("service.name", text(service)), attribute("pid", any(Any::IntValue(42)))];
    Some(Resource { attributes, ..Resource::default() })
}

fn scope() -> Option<InstrumentationScope> {
    let (name, version) = ("io.shop".to_owned(), "1.2".to_owned());
    let attributes = vec![attribute("a", text("b"))];
    Some(InstrumentationScope { name, version, attributes, ..InstrumentationScope::default() })
}

fn logs(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: resource("shop"), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }
}

fn spans(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: resource("shop"), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

fn record(n: u64) -> LogRecord {
    LogRecord { time_unix_nano: TS + n, body: text(&format!("line {n}")), ..LogRecord::default() }
}

fn trace_id() -> Vec<u8> {
    (0..16).map(|i| u8::from_str_radix(&TRACE[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn span_of(n: u64) -> Span {
    Span {
        trace_id: trace_id(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        name: format!("span {n}"),
        start_time_unix_nano: TS + n,
        end_time_unix_nano: TS + n + 1_000,
        ..Span::default()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A field with bytes, for messages that would be too large as structures.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// Sends a request of which everything is stored.
fn send_all(server: &Server, path: &str, message: &[u8]) {
    let answer = server.post(path, &[PROTOBUF], message);
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(answer.header("content-type"), "application/x-protobuf");
}

/// What of a request was refused: how many rows, and why. Answers of both signals have the same numbers of fields.
fn partial(server: &Server, path: &str, message: &[u8]) -> (i64, String) {
    let answer = server.post_for_bytes(path, &[PROTOBUF], message);
    assert_eq!(answer.status, 200);
    let partial = ExportLogsServiceResponse::decode(&*answer.bytes).unwrap().partial_success.unwrap();
    let spans = ExportTraceServiceResponse::decode(&*answer.bytes).unwrap().partial_success.unwrap();
    assert_eq!((spans.rejected_spans, &spans.error_message), (partial.rejected_log_records, &partial.error_message));
    (partial.rejected_log_records, partial.error_message)
}

#[test]
fn a_log_record_is_a_row_with_all_that_it_has_and_is_there_after_a_kill() {
    let server = Server::start();
    let whole = LogRecord {
        observed_time_unix_nano: TS + 9,
        severity_number: 18,
        severity_text: "Error2".to_owned(),
        attributes: every_type(),
        dropped_attributes_count: 3,
        trace_id: trace_id(),
        span_id: 5u64.to_be_bytes().to_vec(),
        event_name: "paid".to_owned(),
        ..record(0)
    };
    let observed = LogRecord {
        observed_time_unix_nano: TS + 1,
        body: any(Any::ArrayValue(ArrayValue { values: vec![any(Any::IntValue(1)).unwrap(), AnyValue::default()] })),
        severity_text: "WARN".to_owned(),
        trace_id: vec![0; 16],
        span_id: vec![1, 2],
        ..LogRecord::default()
    };
    let bare = LogRecord { body: None, ..record(2) };
    let message = logs(vec![whole, observed, bare]).encode_to_vec();
    send_all(&server, LOGS, &message);
    send_all(&server, LOGS, &message);
    let server = Server::start_in(server.kill(), &[]);
    let fixed = "ts, observed_ts, service, severity, severity_number, body, trace_id, span_id, scope, resource['pid']";
    let more = "attributes['otel.event.name'], attributes['otel.dropped_attributes_count'], \
                attributes['otel.scope.version'], attributes['otel.scope.a']";
    let rows = server.rows(&format!("SELECT {fixed}, {more} FROM logs ORDER BY ts"));
    assert_eq!(rows.len(), 3, "sending again changes nothing: {rows:?}");
    assert_eq!(
        Value::from(rows[0].clone()),
        json!([
            "2023-11-14T22:13:20.000000000Z",
            "2023-11-14T22:13:20.000000009Z",
            "shop",
            "Error2",
            18,
            "line 0",
            TRACE,
            "0000000000000005",
            "io.shop",
            "42",
            "paid",
            "3",
            "1.2",
            "b"
        ])
    );
    let null = Value::Null;
    let at = json!("2023-11-14T22:13:20.000000001Z");
    assert_eq!(
        rows[1][..8],
        [at.clone(), at, "shop".into(), "WARN".into(), 13.into(), "[1,null]".into(), null.clone(), null]
    );
    assert!(rows[2][3..8].iter().all(Value::is_null), "{:?}", rows[2]);
    let shown = server.rows(&format!("SELECT {TYPES} FROM logs WHERE severity_number = 18"));
    assert_eq!(shown, [every_type_shown()]);
    assert_eq!(server.rows("SELECT count(*) FROM logs WHERE match(body, 'line')")[0][0], 1);
    // More rows than one batch of records has.
    send_all(&server, LOGS, &logs((100..20_100).map(record).collect()).encode_to_vec());
    assert_eq!(server.rows("SELECT count(*) FROM logs WHERE body LIKE 'line 1%'")[0][0], 11_100);
}

#[test]
fn a_span_is_a_row_with_its_events_and_links_and_jaeger_shows_it() {
    let server = Server::start();
    let event = span::Event {
        time_unix_nano: TS + 5_000,
        name: "retry".to_owned(),
        attributes: vec![attribute("n", any(Any::IntValue(2)))],
        ..span::Event::default()
    };
    let link = span::Link {
        trace_id: vec![9; 16],
        span_id: vec![8; 8],
        trace_state: "x=y".to_owned(),
        ..span::Link::default()
    };
    let child = Span {
        parent_span_id: 1u64.to_be_bytes().to_vec(),
        trace_state: "a=b".to_owned(),
        kind: 3,
        attributes: every_type(),
        events: vec![event],
        links: vec![link, span::Link::default()],
        dropped_links_count: 4,
        status: Some(Status { code: 2, message: "refused".to_owned() }),
        ..span_of(1)
    };
    let root = Span { parent_span_id: vec![0; 8], kind: 99, ..span_of(0) };
    send_all(&server, TRACES, &spans(vec![root, child]).encode_to_vec());
    let fixed = "ts, duration, trace_id, span_id, parent_span_id, service, name, kind, status, status_message";
    let more = "attributes['w3c.tracestate'], attributes['otel.dropped_links_count'], attributes['otel.scope.name']";
    let rows = server.rows(&format!("SELECT {fixed}, {more} FROM spans ORDER BY ts"));
    assert_eq!(
        Value::from(rows[0].clone()),
        json!([
            "2023-11-14T22:13:20.000000000Z",
            1000,
            TRACE,
            "0000000000000001",
            null,
            "shop",
            "span 0",
            null,
            null,
            null,
            null,
            null,
            "io.shop"
        ])
    );
    assert_eq!(
        Value::from(rows[1][1..].to_vec()),
        json!([
            1000,
            TRACE,
            "0000000000000002",
            "0000000000000001",
            "shop",
            "span 1",
            "client",
            "error",
            "refused",
            "a=b",
            "4",
            "io.shop"
        ])
    );
    assert_eq!(server.rows(&format!("SELECT {TYPES} FROM spans WHERE kind = 'client'")), [every_type_shown()]);
    let shown = server.get(&format!("/api/traces/{TRACE}")).json();
    let all = shown["data"][0]["spans"].as_array().unwrap().clone();
    let child = all.iter().find(|span| span["operationName"] == "span 1").unwrap();
    let string = |key: &str, value: &str| json!({ "key": key, "type": "string", "value": value });
    assert_eq!(child["logs"][0]["fields"], json!([string("event", "retry"), string("n", "2")]));
    assert_eq!(child["references"][0]["spanID"], "0000000000000001");
    assert_eq!(child["references"][1]["traceID"], "09".repeat(16));
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.rows("SELECT count(*) FROM spans")[0][0], 2);
}

#[test]
fn json_has_hexadecimal_ids_and_is_answered_in_json_and_bodies_may_be_compressed() {
    let server = Server::start();
    let log = |name: &str, time: &str| {
        json!({"resourceLogs": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeLogs": [{"logRecords": [{name: time, "severityNumber": 9, "body": {"stringValue": "hi"},
                "traceId": TRACE.to_uppercase(), "spanId": "0000000000000005",
                "attributes": [{"key": "n", "value": {"intValue": "5"}}]}]}]}]})
        .to_string()
    };
    let time = TS.to_string();
    let answer = server.post(LOGS, &[JSON], log("timeUnixNano", &time).as_bytes());
    assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
    let body = log("time_unix_nano", &time);
    for (encoding, body) in [("gzip", gzip(body.as_bytes())), ("zstd", zstd::encode_all(body.as_bytes(), 3).unwrap())] {
        let answer = server.post(LOGS, &[JSON, ("Content-Encoding", encoding)], &body);
        assert_eq!((answer.status, answer.text.as_str()), (200, "{}"), "{encoding}");
    }
    let rows = server.rows("SELECT trace_id, span_id, severity_number, body, attributes['n'] FROM logs");
    assert_eq!(rows, [[json!(TRACE), "0000000000000005".into(), 9.into(), "hi".into(), "5".into()]]);
    let span = json!({"traceId": TRACE, "spanId": "0000000000000005", "name": "GET", "kind": "SPAN_KIND_SERVER",
        "startTimeUnixNano": time, "endTimeUnixNano": TS + 7, "status": {"code": 1}});
    let broken = json!({"traceId": TRACE, "spanId": "05", "startTimeUnixNano": 1, "endTimeUnixNano": 2});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span, broken]}]}]}).to_string();
    let answer = server.post(TRACES, &[JSON], body.as_bytes());
    assert_eq!((answer.status, &answer.json()["partialSuccess"]["rejectedSpans"]), (200, &json!("1")));
    let why = answer.json()["partialSuccess"]["errorMessage"].to_string();
    assert!(why.contains("span_id has 1 bytes") && why.contains("span 2 of the request"), "{why}");
    let rows = server.rows("SELECT name, kind, status, duration FROM spans");
    assert_eq!(rows, [[json!("GET"), "server".into(), "ok".into(), 7.into()]]);
    let url = format!("{}{LOGS}", server.otlp_url);
    let answer =
        ureq::post(&url).header("Content-Type", "application/json").send(log("timeUnixNano", &time).as_bytes());
    assert_eq!(answer.unwrap().status().as_u16(), 200, "the port of its own");
    let answer =
        server.post(LOGS, &[JSON], log("timeUnixNano", &time).replace(&TRACE[..2].to_uppercase(), "zz").as_bytes());
    assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(3)), "{}", answer.text);
}

/// Lists in lists.
fn deep() -> Option<AnyValue> {
    let mut deep = AnyValue::default();
    for _ in 0..90 {
        deep = AnyValue { value: Some(Any::ArrayValue(ArrayValue { values: vec![deep] })) };
    }
    Some(deep)
}

fn many_attributes() -> Vec<KeyValue> {
    (0..100_000).map(|i| attribute(&format!("k{i}"), text("v"))).collect()
}

#[test]
fn bad_records_are_counted_with_the_first_reason_and_the_others_kept() {
    let server = Server::start();
    let late = (now_ms() as u64 + 2 * 86_400_000) * 1_000_000;
    for (bad, why) in [
        (LogRecord { time_unix_nano: late, ..record(1) }, "too far ahead"),
        (LogRecord { time_unix_nano: u64::MAX, ..record(1) }, "2262"),
        (LogRecord { attributes: many_attributes(), ..record(1) }, "more than 1024 attributes"),
        (LogRecord { attributes: vec![attribute("", text("v"))], ..record(1) }, "key of an attribute"),
        (LogRecord { attributes: vec![attribute("deep", deep())], ..record(1) }, "deep in one another"),
        (LogRecord { body: deep(), ..record(1) }, "deep in one another"),
        (LogRecord { body: text(&"x".repeat(300 << 10)), ..record(1) }, "it may have 262144"),
        (LogRecord { severity_text: "x".repeat(600 << 10), ..record(1) }, "a row of more than"),
    ] {
        let message = logs(vec![record(0), bad.clone(), record(2)]).encode_to_vec();
        let (rejected, message) = partial(&server, LOGS, &message);
        assert_eq!(rejected, 1, "{message}");
        assert!(message.contains(why) && message.contains("(log record 2 of the request)"), "{why}: {message}");
        assert_eq!(server.rows("SELECT count(*) FROM logs")[0][0], 2, "{why}");
        let answer = server.post(LOGS, &[JSON], b"{}");
        assert_eq!(answer.status, 200, "nothing to refuse");
        let answer = server.post(LOGS, &[PROTOBUF], &logs(vec![bad]).encode_to_vec());
        assert_eq!(answer.status, 400, "nothing stored: {why}");
    }
    // Invalid UTF-8, which no generated type would write.
    let mut message = logs(vec![record(0), LogRecord { body: text("QQQQ"), ..record(1) }]).encode_to_vec();
    let at = message.windows(4).position(|window| window == b"QQQQ").unwrap();
    message[at] = 0xff;
    let (rejected, why) = partial(&server, LOGS, &message);
    assert!(rejected == 1 && why.contains("not UTF-8"), "{why}");
    // A bad resource costs its own rows.
    let mut request = logs(vec![record(0), record(1)]);
    let value = text(&"x".repeat(5_000));
    request.resource_logs[0].resource.as_mut().unwrap().attributes.push(attribute("long", value));
    request.resource_logs.extend(logs(vec![record(2)]).resource_logs);
    let (rejected, why) = partial(&server, LOGS, &request.encode_to_vec());
    assert!(rejected == 2 && why.contains("limits.label_value_bytes_max"), "{why}");
    assert_eq!(server.rows("SELECT count(*) FROM logs")[0][0], 2);
    let refused = |reason: &str| {
        server.metric(&format!("foretell_ingest_points_refused_total{{protocol=\"otlp_logs\",reason=\"{reason}\"}}"))
    };
    assert_eq!((refused("timestamp_in_future"), refused("bad_resource")), (2.0, 2.0));
    assert!(server.metric("foretell_ingest_rows_total{protocol=\"otlp_logs\"}") >= 18.0);
}

#[test]
fn bad_spans_are_counted_with_the_first_reason_and_the_others_kept() {
    let server = Server::start();
    for (bad, why) in [
        (Span { trace_id: vec![0; 16], ..span_of(1) }, "trace_id has 16 bytes; it must have 16, and not all"),
        (Span { span_id: vec![1; 7], ..span_of(1) }, "span_id has 7 bytes"),
        (Span { parent_span_id: vec![1; 16], ..span_of(1) }, "parent_span_id has 16 bytes"),
        (Span { start_time_unix_nano: 0, ..span_of(1) }, "without a start"),
        (Span { end_time_unix_nano: 5, ..span_of(1) }, "ends before it starts"),
        (Span { attributes: many_attributes(), ..span_of(1) }, "more than 1024 attributes"),
        (Span { events: vec![span::Event::default(); 2_000], ..span_of(1) }, "more than 1024 events"),
        (Span { links: vec![span::Link::default(); 2_000], ..span_of(1) }, "more than 1024 links"),
        (
            Span { links: vec![span::Link { trace_id: vec![1], ..span::Link::default() }], ..span_of(1) },
            "trace_id of a link has 1 bytes",
        ),
    ] {
        let message = spans(vec![span_of(0), bad.clone(), span_of(2)]).encode_to_vec();
        let (rejected, message) = partial(&server, TRACES, &message);
        assert_eq!(rejected, 1, "{message}");
        assert!(message.contains(why) && message.contains("(span 2 of the request)"), "{why}: {message}");
        assert_eq!(server.rows("SELECT count(*) FROM spans")[0][0], 2, "{why}");
        assert_eq!(server.post(TRACES, &[PROTOBUF], &spans(vec![bad]).encode_to_vec()).status, 400, "{why}");
    }
}

#[test]
fn columns_that_one_batch_of_a_request_adds_count_for_the_next() {
    // Two batches of 8,192 records: each has as many keys as a table may have columns, and each key in one record of 128.
    let server = Server::start();
    let keyed = |n: u64| {
        let first = n / 8_192 * 512 + n % 128 * 4;
        let attributes = (first..first + 4).map(|key| attribute(&format!("k{key}"), text("v"))).collect();
        LogRecord { attributes, ..record(n) }
    };
    send_all(&server, LOGS, &logs((0..16_384).map(keyed).collect()).encode_to_vec());
    let counts = ["k0", "k511", "k512", "k1023"].map(|key| format!("count(attributes['{key}'])")).join(", ");
    let rows = server.rows(&format!("SELECT count(*), {counts} FROM logs"));
    assert_eq!(rows[0], [16_384, 64, 64, 64, 64]);
}

#[test]
fn what_is_no_request_stores_nothing_and_bombs_take_no_memory() {
    let mut server = Server::start();
    let good = logs(vec![record(0)]).encode_to_vec();
    for path in [LOGS, TRACES] {
        for (what, headers, body, status) in [
            ("cut off", vec![PROTOBUF], good[..good.len() - 3].to_vec(), 400),
            ("no protobuf", vec![PROTOBUF], b"no protobuf".to_vec(), 400),
            ("another type", vec![("Content-Type", "text/plain")], good.clone(), 415),
            ("another encoding", vec![PROTOBUF, ("Content-Encoding", "br")], good.clone(), 415),
            ("no gzip", vec![PROTOBUF, ("Content-Encoding", "gzip")], good.clone(), 400),
            ("deep JSON", vec![JSON], format!("{{\"x\":{}", "[".repeat(200_000)).into_bytes(), 400),
            ("too long", vec![PROTOBUF], vec![0; 20 << 20], 413),
        ] {
            let answer = server.post_for_bytes(path, &headers, &body);
            assert_eq!(answer.status, status, "{path}: {what}");
        }
        assert_eq!(server.get(path).status, 405);
    }
    let before = server.metric("process_resident_memory_bytes");
    let bomb = zstd::encode_all(&vec![0; 512 << 20][..], 3).unwrap();
    // Two bytes each on the wire: attributes of a record, records of a scope.
    let flood = field(1, &field(2, &field(2, &[0x32u8, 0].repeat(3 << 20))));
    let many = field(1, &field(2, &[0x12u8, 0].repeat(3 << 20)));
    // What the scope says is said of each row.
    let mut wide = logs(vec![LogRecord::default(); 100_000]);
    wide.resource_logs[0].scope_logs[0].scope.as_mut().unwrap().name = "x".repeat(200 << 10);
    let wide = wide.encode_to_vec();
    for _ in 0..5 {
        assert_eq!(server.post(LOGS, &[PROTOBUF], &flood).status, 400);
        assert_eq!(server.post_for_bytes(LOGS, &[PROTOBUF], &many).status, 413);
        assert_eq!(server.post_for_bytes(LOGS, &[PROTOBUF], &wide).status, 413);
        assert_eq!(server.post_for_bytes(LOGS, &[PROTOBUF, ("Content-Encoding", "zstd")], &bomb).status, 413);
    }
    let after = server.metric("process_resident_memory_bytes");
    assert!(after - before < 250e6, "resident memory grew from {before} to {after}");
    assert_eq!(server.rows("SELECT count(*) FROM logs")[0][0], 0);
    assert!(server.is_alive());
}

#[test]
fn calls_over_grpc_are_durable_when_they_are_answered_and_refused_with_the_codes_of_metrics() {
    let server = Server::start();
    let none: &[(&str, &str)] = &[];
    for n in 0..3 {
        let (log, trace) = (logs(vec![record(n)]).encode_to_vec(), spans(vec![span_of(n)]).encode_to_vec());
        let (headers, log, trace) = match n {
            0 => (none, framed(false, &log), framed(false, &trace)),
            1 => (&[("grpc-encoding", "gzip")][..], framed(true, &gzip(&log)), framed(true, &gzip(&trace))),
            _ => {
                let [log, trace] = [log, trace].map(|bytes| zstd::encode_all(&bytes[..], 3).unwrap());
                (&[("grpc-encoding", "zstd")][..], framed(true, &log), framed(true, &trace))
            }
        };
        assert_eq!(call(&server, LOGS_CALL, headers, &log).answer(), b"", "an empty response");
        assert_eq!(call(&server, TRACES_CALL, headers, &trace).answer(), b"", "an empty response");
    }
    let bad = Span { span_id: Vec::new(), ..span_of(7) };
    let message = framed(false, &spans(vec![bad.clone(), span_of(3)]).encode_to_vec());
    let called = call(&server, TRACES_CALL, none, &message);
    let partial = ExportTraceServiceResponse::decode(called.answer()).unwrap().partial_success.unwrap();
    assert!(partial.rejected_spans == 1 && partial.error_message.contains("span_id"), "{partial:?}");
    let bomb = zstd::encode_all(&vec![0; 256 << 20][..], 3).unwrap();
    for (headers, body, code, why) in [
        (none, framed(false, b"no protobuf"), 3, "cannot decode"),
        (none, framed(false, &spans(vec![bad]).encode_to_vec()), 3, "span_id"),
        (&[("grpc-encoding", "snappy")][..], framed(true, b"x"), 12, "gzip, zstd"),
        (&[("grpc-encoding", "zstd")][..], framed(true, &bomb), 8, "limits.decoded_bytes_max"),
    ] {
        let called = call(&server, TRACES_CALL, headers, &body);
        assert_eq!((called.status, called.code()), (200, code), "{why}: {called:?}");
        assert!(called.message().contains(why), "{why}: {called:?}");
        assert_eq!(called.details(), "", "no retry helps: {why}");
    }
    let counted = |protocol: &str, code: u8| {
        let labels = format!("protocol=\"{protocol}\",transport=\"grpc\",status=\"{code}\"");
        server.metric(&format!("foretell_ingest_requests_total{{{labels}}}"))
    };
    assert_eq!((counted("otlp_logs", 0), counted("otlp_traces", 0), counted("otlp_traces", 3)), (3.0, 4.0, 2.0));
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.rows("SELECT count(*) FROM logs")[0][0], 3);
    assert_eq!(server.rows("SELECT count(*), count(DISTINCT span_id) FROM spans")[0], [4, 4]);
}

#[test]
fn at_the_limit_of_active_series_new_resources_are_asked_to_come_back() {
    let server = Server::start_with_file("[limits]\nactive_series_max = 1\n");
    send_all(&server, LOGS, &logs(vec![record(0)]).encode_to_vec());
    let mut fresh = logs(vec![record(1)]);
    fresh.resource_logs[0].resource = resource("another");
    let answer = server.post(LOGS, &[PROTOBUF], &fresh.encode_to_vec());
    assert_eq!((answer.status, answer.header("retry-after")), (429, "60"));
    let called = call(&server, LOGS_CALL, &[], &framed(false, &fresh.encode_to_vec()));
    assert_eq!(called.code(), 14, "{called:?}");
    assert!(!called.details().is_empty(), "a RetryInfo: {called:?}");
    fresh.resource_logs.extend(logs(vec![record(2)]).resource_logs);
    assert_eq!(partial(&server, LOGS, &fresh.encode_to_vec()).0, 1, "known resources go on");
    assert_eq!(server.rows("SELECT count(*) FROM logs")[0][0], 2);
}

#[test]
fn counts_of_what_was_dropped_have_32_bits_and_are_never_negative() {
    let server = Server::start();
    // What generated types never write: the field again, with 2^63 + 5.
    let with = |number: u8, mut row: Vec<u8>| {
        row.push(number << 3);
        prost::encoding::encode_varint((1 << 63) + 5, &mut row);
        field(1, &field(2, &field(2, &row)))
    };
    send_all(&server, LOGS, &with(7, record(0).encode_to_vec()));
    send_all(&server, TRACES, &with(10, span_of(0).encode_to_vec()));
    for table in ["logs", "spans"] {
        let sql = format!("SELECT attributes['otel.dropped_attributes_count'] FROM {table}");
        assert_eq!(server.rows(&sql), [[json!("5")]], "{table}");
    }
}

#[test]
fn rows_past_the_retention_are_refused() {
    let server = Server::start_with_file("[retention]\nspans = \"1d\"\n");
    send_all(&server, LOGS, &logs(vec![record(0)]).encode_to_vec());
    let answer = server.post_for_bytes(TRACES, &[PROTOBUF], &spans(vec![span_of(0)]).encode_to_vec());
    assert_eq!(answer.status, 400);
    assert!(String::from_utf8_lossy(&answer.bytes).contains("past the retention"));
}

#[test]
fn the_examples_of_logs_and_traces_in_the_documentation_run() {
    let server = Server::start();
    let said = run_example_of(&server, "otlp.md", 2);
    assert!(said.contains("payment refused") && said.contains("shop") && said.contains(TRACE), "{said}");
    let said = run_example_of(&server, "otlp.md", 3);
    assert!(said.contains("GET /cart") && said.contains("server") && said.contains("200"), "{said}");
}
