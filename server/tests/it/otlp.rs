//! OTLP metrics over HTTP and gRPC against the real binary.
use std::io::Write as _;

use foretell_proto::opentelemetry::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use foretell_proto::opentelemetry::common::v1::{AnyValue, ArrayValue, KeyValue, Resource, any_value};
use foretell_proto::opentelemetry::metrics::v1::exponential_histogram_data_point::Buckets;
use foretell_proto::opentelemetry::metrics::v1::summary_data_point::ValueAtQuantile;
use foretell_proto::opentelemetry::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, metric,
    number_data_point,
};
use prost::Message as _;
use serde_json::json;

use crate::support::http2::{END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame, hello, read_frame};
use crate::support::{Answer, Server, api, now_ms};

const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const DATA: u8 = 0;
const TS: u64 = 1_700_000_000_000_000_000;

fn text(value: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) })
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, value)| KeyValue { key: (*key).to_owned(), value: text(value) }).collect()
}

fn number(value: f64, pairs: &[(&str, &str)]) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: TS,
        value: Some(number_data_point::Value::AsDouble(value)),
        attributes: attributes(pairs),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, unit: &str, data: metric::Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

fn gauge(name: &str, points: Vec<NumberDataPoint>) -> Metric {
    metric(name, "", metric::Data::Gauge(Gauge { data_points: points }))
}

fn sum(name: &str, unit: &str, temporality: i32, points: Vec<NumberDataPoint>) -> Metric {
    let sum = Sum { data_points: points, aggregation_temporality: temporality, is_monotonic: true };
    metric(name, unit, metric::Data::Sum(sum))
}

fn request(resource: &[(&str, &str)], metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: attributes(resource), ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn send(server: &Server, request: &ExportMetricsServiceRequest) -> Answer {
    server.post("/v1/metrics", &[PROTOBUF], &request.encode_to_vec())
}

fn send_all(server: &Server, request: &ExportMetricsServiceRequest) {
    let answer = send(server, request);
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(answer.header("content-type"), "application/x-protobuf");
}

/// What of a request was refused: how many data points, and why.
fn partial(server: &Server, request: &ExportMetricsServiceRequest) -> (i64, String) {
    let answer = server.post_for_bytes("/v1/metrics", &[PROTOBUF], &request.encode_to_vec());
    assert_eq!(answer.status, 200);
    let partial = ExportMetricsServiceResponse::decode(&*answer.bytes).unwrap().partial_success.unwrap();
    (partial.rejected_data_points, partial.error_message)
}

#[test]
fn every_type_becomes_the_series_that_prometheus_would_have() {
    let server = Server::start();
    let exemplar = Exemplar {
        time_unix_nano: TS,
        value: Some(exemplar::Value::AsDouble(0.7)),
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        filtered_attributes: attributes(&[("user.id", "7")]),
    };
    let histogram = Histogram {
        aggregation_temporality: 2,
        data_points: vec![HistogramDataPoint {
            time_unix_nano: TS,
            count: 6,
            sum: Some(4.5),
            bucket_counts: vec![1, 2, 3],
            explicit_bounds: vec![0.5, 10.0],
            exemplars: vec![exemplar],
            ..HistogramDataPoint::default()
        }],
    };
    let exponential = ExponentialHistogram {
        aggregation_temporality: 2,
        data_points: vec![ExponentialHistogramDataPoint {
            start_time_unix_nano: TS - 5_000_000_000,
            time_unix_nano: TS,
            count: 5,
            sum: Some(9.0),
            scale: 0,
            zero_count: 1,
            positive: Some(Buckets { offset: 0, bucket_counts: vec![3, 1] }),
            ..ExponentialHistogramDataPoint::default()
        }],
    };
    let summary = Summary {
        data_points: vec![SummaryDataPoint {
            time_unix_nano: TS,
            count: 3,
            sum: 1.5,
            quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 0.75 }],
            ..SummaryDataPoint::default()
        }],
    };
    let resource = [
        ("service.name", "cart"),
        ("service.namespace", "shop"),
        ("service.instance.id", "i-1"),
        ("service.version", "1.2"),
        ("process.pid", "42"),
    ];
    let metrics = vec![
        gauge("room.temperature", vec![number(21.5, &[("room", "north"), ("a.b", "1"), ("a-b", "2")])]),
        sum("http.requests", "{request}", 2, vec![number(3.0, &[])]),
        metric("http.duration", "s", metric::Data::Histogram(histogram)),
        metric("rpc.duration", "ms", metric::Data::ExponentialHistogram(exponential)),
        metric("gc.pause", "s", metric::Data::Summary(summary)),
    ];
    send_all(&server, &request(&resource, metrics));

    let sql = "SELECT job, instance, service_version, room, a_b, value FROM metrics.\"room_temperature\"";
    assert_eq!(
        server.rows(sql),
        [[json!("shop/cart"), "i-1".into(), "1.2".into(), "north".into(), "2;1".into(), 21.5.into()]]
    );
    assert_eq!(server.rows("SELECT value FROM metrics.\"http_requests_total\"")[0][0], 3.0);
    let sql = "SELECT le, value FROM metrics.\"http_duration_seconds_bucket\" ORDER BY value";
    assert_eq!(server.rows(sql), [[json!("0.5"), 1.0.into()], [json!("10"), 3.0.into()], [json!("+Inf"), 6.0.into()]]);
    assert_eq!(server.rows("SELECT value FROM metrics.\"http_duration_seconds_sum\"")[0][0], 4.5);
    assert_eq!(server.rows("SELECT value FROM metrics.\"http_duration_seconds_count\"")[0][0], 6.0);
    assert_eq!(
        server.rows("SELECT quantile, value FROM metrics.\"gc_pause_seconds\"")[0],
        [json!("0.99"), 0.75.into()]
    );
    let sql = "SELECT process_pid, service_version, job, value FROM metrics.\"target_info\"";
    assert_eq!(server.rows(sql), [[json!("42"), "1.2".into(), "shop/cart".into(), 1.0.into()]]);

    let time = [("time", "1700000000")];
    let answer = api::get(&server, "query", &[("query", "histogram_count(rpc_duration_milliseconds)"), time[0]]);
    assert_eq!(api::data(&answer)["result"][0]["value"][1], "5");
    let answer =
        api::get(&server, "query", &[("query", "histogram_quantile(0.5, rpc_duration_milliseconds)"), time[0]]);
    let median: f64 = api::data(&answer)["result"][0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!(median > 1.0 && median <= 2.0, "{median}");
    let range = [("query", "http_duration_seconds_bucket"), ("start", "1699999999"), ("end", "1700000001")];
    let exemplars = api::data(&api::get(&server, "query_exemplars", &range));
    assert_eq!(exemplars[0]["seriesLabels"]["le"], "10");
    assert_eq!(exemplars[0]["exemplars"][0]["labels"]["trace_id"], "ab".repeat(16));
    assert_eq!(exemplars[0]["exemplars"][0]["labels"]["user_id"], "7");
    let metadata = api::data(&api::get(&server, "metadata", &[("metric", "http_requests_total")]));
    assert_eq!(metadata["http_requests_total"][0]["type"], "counter");
}

#[test]
fn json_is_answered_in_json_and_ids_are_hexadecimal() {
    let server = Server::start();
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "j", "gauge": {"dataPoints": [{"timeUnixNano": TS.to_string(), "asInt": "7",
            "attributes": [{"key": "n", "value": {"intValue": "5"}}]}]}},
        {"name": "k", "sum": {"aggregationTemporality": 1, "dataPoints": [{"timeUnixNano": TS.to_string(), "asDouble": 1}]}},
    ]}]}]});
    let answer = server.post("/v1/metrics", &[JSON], body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["partialSuccess"]["rejectedDataPoints"], "1");
    assert!(answer.json()["partialSuccess"]["errorMessage"].as_str().unwrap().contains("delta"), "{}", answer.text);
    assert_eq!(server.rows("SELECT n, value FROM metrics.\"j\""), [[json!("5"), 7.0.into()]]);
    let good = body.to_string().replace("\"aggregationTemporality\":1", "\"aggregationTemporality\":2");
    let answer = server.post("/v1/metrics", &[JSON], good.as_bytes());
    assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
    let answer = server.post("/v1/metrics", &[JSON], b"{\"resourceMetrics\": 7}");
    assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(3)), "{}", answer.text);
    let deep = format!("{{\"x\":{}", "[".repeat(200_000));
    assert_eq!(server.post("/v1/metrics", &[JSON], deep.as_bytes()).status, 400);
    let url = format!("{}/v1/metrics", server.otlp_url);
    let answer = ureq::post(&url).header("Content-Type", "application/json").send(good.as_bytes()).unwrap();
    assert_eq!(answer.status().as_u16(), 200, "the port of its own");
}

#[test]
fn bad_points_are_counted_and_the_others_kept() {
    let server = Server::start();
    let good = || gauge("kept", vec![number(1.0, &[])]);
    let mut late = number(1.0, &[]);
    late.time_unix_nano = (now_ms() as u64 + 2 * 86_400_000) * 1_000_000;
    let mut empty = number(1.0, &[]);
    empty.value = None;
    let many: Vec<(String, String)> = (0..100_000).map(|i| (format!("k{i}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let uneven = Histogram {
        aggregation_temporality: 2,
        data_points: vec![HistogramDataPoint {
            time_unix_nano: TS,
            bucket_counts: vec![1],
            explicit_bounds: vec![1.0, 2.0],
            ..HistogramDataPoint::default()
        }],
    };
    for (bad, points, why) in [
        (sum("delta", "", 1, vec![number(1.0, &[]), number(2.0, &[("a", "b")])]), 2, "delta temporality"),
        (sum("unsaid", "", 0, vec![number(1.0, &[])]), 1, "no aggregation temporality"),
        (gauge("late", vec![late]), 1, "too far ahead"),
        (gauge("empty", vec![empty]), 1, "without a value"),
        (gauge("", vec![number(1.0, &[])]), 1, "without a name"),
        (gauge("many", vec![number(1.0, &many)]), 1, "attributes"),
        (gauge("long", vec![number(1.0, &[("a", &"x".repeat(5_000))])]), 1, "the limit is 4096"),
        (metric("uneven", "", metric::Data::Histogram(uneven)), 1, "one more than its borders"),
    ] {
        let (rejected, message) = partial(&server, &request(&[], vec![good(), bad.clone(), good()]));
        assert_eq!(rejected, points, "{message}");
        assert!(message.contains(why), "{why}: {message}");
        assert_eq!(server.count("kept"), 1);
        let answer = send(&server, &request(&[], vec![bad]));
        assert_eq!(answer.status, 400, "nothing stored: {why}");
    }
    // Invalid UTF-8 in a value, which no generated type would write.
    let bytes = request(&[], vec![gauge("utf8", vec![number(1.0, &[("a", "QQQQ")])]), good()]).encode_to_vec();
    let at = bytes.windows(4).position(|window| window == b"QQQQ").unwrap();
    let mut broken = bytes.clone();
    broken[at] = 0xff;
    let answer = server.post_for_bytes("/v1/metrics", &[PROTOBUF], &broken);
    assert_eq!(answer.status, 200);
    let partial = ExportMetricsServiceResponse::decode(&*answer.bytes).unwrap().partial_success.unwrap();
    assert!(partial.rejected_data_points == 1 && partial.error_message.contains("UTF-8"), "{partial:?}");
}

#[test]
fn what_is_no_request_is_refused_with_the_right_status() {
    let mut server = Server::start();
    let good = request(&[], vec![gauge("m", vec![number(1.0, &[])])]).encode_to_vec();
    assert_eq!(server.post("/v1/metrics", &[PROTOBUF], &good[..good.len() - 3]).status, 400);
    assert_eq!(server.post("/v1/metrics", &[PROTOBUF], b"no protobuf").status, 400);
    assert_eq!(server.post("/v1/metrics", &[("Content-Type", "text/plain")], &good).status, 415);
    assert_eq!(server.post("/v1/metrics", &[PROTOBUF, ("Content-Encoding", "br")], &good).status, 415);
    assert_eq!(server.get("/v1/metrics").status, 405);
    assert_eq!(server.post("/v1/metrics", &[PROTOBUF], &vec![0; 20 << 20]).status, 413);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&good).unwrap();
    let zipped = encoder.finish().unwrap();
    assert_eq!(server.post("/v1/metrics", &[PROTOBUF, ("Content-Encoding", "gzip")], &zipped).status, 200);
    let zipped = zstd::encode_all(&good[..], 3).unwrap();
    assert_eq!(server.post("/v1/metrics", &[PROTOBUF, ("Content-Encoding", "zstd")], &zipped).status, 200);
    assert_eq!(server.rows("SELECT count(*) FROM samples")[0][0], 1);

    let before = server.metric("process_resident_memory_bytes");
    let bomb = zstd::encode_all(&vec![0; 512 << 20][..], 3).unwrap();
    let mut deep = AnyValue::default();
    for _ in 0..90 {
        deep = AnyValue { value: Some(any_value::Value::ArrayValue(ArrayValue { values: vec![deep] })) };
    }
    let mut nested = number(1.0, &[]);
    nested.attributes = vec![KeyValue { key: "deep".to_owned(), value: Some(deep) }];
    let nested = request(&[], vec![gauge("n", vec![nested])]).encode_to_vec();
    for _ in 0..5 {
        assert_eq!(server.post("/v1/metrics", &[PROTOBUF, ("Content-Encoding", "zstd")], &bomb).status, 413);
        assert_eq!(server.post("/v1/metrics", &[PROTOBUF], &nested).status, 400);
    }
    let after = server.metric("process_resident_memory_bytes");
    assert!(after - before < 150e6, "resident memory grew from {before} to {after}");
    assert!(server.is_alive());
}

/// Calls `path`, which is short, with a framed message; the frames of the answer, and the flags of the last.
fn call(server: &Server, path: &str, framed: &[u8]) -> (Vec<(u8, Vec<u8>)>, u8) {
    // :method POST, :scheme http, :path, :authority, content-type: literals that are not remembered.
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, 1, b'x', 0x0f, 0x10, 16]);
    block.extend_from_slice(b"application/grpc");
    let mut stream = server.connect_grpc();
    let sent = [
        hello(),
        frame(SETTINGS, 1, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &block),
        frame(DATA, END_STREAM, 1, framed),
    ];
    stream.write_all(&sent.concat()).unwrap();
    let mut frames = Vec::new();
    loop {
        // The flags lie in the head of a frame, which the reader keeps for itself: the stream ends with a frame of headers.
        let (kind, of, payload) = read_frame(&mut stream).unwrap();
        if of != 1 || !matches!(kind, DATA | HEADERS) {
            continue;
        }
        frames.push((kind, payload));
        let kinds: Vec<u8> = frames.iter().map(|frame| frame.0).collect();
        if kinds == [HEADERS, DATA, HEADERS] {
            return (frames, 0);
        }
        if kinds == [HEADERS] {
            // An error has nothing else; a success goes on.
            stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
            match read_frame(&mut stream) {
                Ok((kind, 1, payload)) if kind == DATA => frames.push((kind, payload)),
                _ => return (frames, END_STREAM),
            }
        }
    }
}

#[test]
fn a_call_over_grpc_is_stored_and_its_errors_have_codes() {
    let server = Server::start();
    let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let message = request(&[], vec![gauge("g", vec![number(4.0, &[])])]).encode_to_vec();
    let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let (frames, _) = call(&server, path, &framed);
    assert_eq!(frames.len(), 3, "head, message, trailers");
    assert_eq!(frames[1].1, [0; 5], "an empty response");
    assert_eq!(server.rows("SELECT value FROM metrics.\"g\"")[0][0], 4.0);
    let code = |code: u8| {
        let name = format!("foretell_ingest_requests_total{{protocol=\"otlp\",transport=\"grpc\",status=\"{code}\"}}");
        server.metric(&name)
    };
    assert_eq!(code(0), 1.0);
    let (frames, _) = call(&server, path, &framed[..framed.len() - 1]);
    assert_eq!((frames.len(), code(3)), (1, 1.0), "a frame that is cut off");
    let delta = request(&[], vec![gauge("g", vec![number(5.0, &[])]), sum("d", "", 1, vec![number(1.0, &[])])]);
    let message = delta.encode_to_vec();
    let (frames, _) = call(&server, path, &[&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat());
    let partial = ExportMetricsServiceResponse::decode(&frames[1].1[5..]).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 1);
    let (frames, _) = call(&server, "/foo.Bar/Baz", &framed);
    assert_eq!(frames.len(), 1);
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let server = Server::start();
    for i in 0..20u64 {
        let mut point = number(i as f64, &[]);
        point.time_unix_nano = TS + i;
        send_all(&server, &request(&[("service.name", "s")], vec![gauge("acked", vec![point])]));
    }
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.count("acked"), 20);
}
