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

use crate::support::grpc::{call, framed};
use crate::support::{Answer, Server, api, now_ms, run_example};

const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
const JSON: (&str, &str) = ("Content-Type", "application/json");
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
    let answer = server.post("/v1/metrics", &[JSON, ("Content-Encoding", "gzip")], &gzip(good.as_bytes()));
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
    assert_eq!(server.post("/v1/metrics", &[PROTOBUF, ("Content-Encoding", "gzip")], &gzip(&good)).status, 200);
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
    // Two bytes each on the wire.
    let mut flood = number(1.0, &[]);
    flood.attributes = vec![KeyValue::default(); 3 << 20];
    let mut sampled = number(1.0, &[]);
    sampled.exemplars = vec![Exemplar::default(); 3 << 20];
    let sampled = request(&[], vec![gauge("m", vec![sampled])]).encode_to_vec();
    let flood = request(&[], vec![gauge("f", vec![flood])]).encode_to_vec();
    for _ in 0..5 {
        assert_eq!(server.post("/v1/metrics", &[PROTOBUF], &flood).status, 400);
        assert_eq!(server.post("/v1/metrics", &[PROTOBUF], &sampled).status, 200);
        assert_eq!(server.post("/v1/metrics", &[PROTOBUF, ("Content-Encoding", "zstd")], &bomb).status, 413);
        assert_eq!(server.post("/v1/metrics", &[PROTOBUF], &nested).status, 400);
    }
    let after = server.metric("process_resident_memory_bytes");
    assert!(after - before < 150e6, "resident memory grew from {before} to {after}");
    assert!(server.is_alive());
}

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_call_over_grpc_is_durable_when_it_is_answered_compressed_or_not() {
    let server = Server::start();
    let message = |i: u64| {
        let mut point = number(i as f64, &[]);
        point.time_unix_nano = TS + i;
        request(&[("service.name", "s")], vec![gauge("g", vec![point])]).encode_to_vec()
    };
    let called = call(&server, EXPORT, &[], &framed(false, &message(1)));
    assert_eq!(called.answer(), b"", "an empty response");
    assert_eq!(called.head["content-type"], "application/grpc");
    assert_eq!(called.head["grpc-accept-encoding"], "identity,gzip,zstd");
    let called = call(&server, EXPORT, &[("grpc-encoding", "gzip")], &framed(true, &gzip(&message(2))));
    assert_eq!(called.answer(), b"");
    let zipped = zstd::encode_all(&message(3)[..], 3).unwrap();
    assert_eq!(call(&server, EXPORT, &[("grpc-encoding", "zstd")], &framed(true, &zipped)).answer(), b"");
    let called = call(&server, EXPORT, &[("grpc-encoding", "gzip")], &framed(false, &message(4)));
    assert_eq!(called.answer(), b"", "an encoding is announced, and this message has none");
    assert_eq!(call(&server, EXPORT, &[], &framed(false, b"")).answer(), b"", "a request without anything");
    assert_eq!(server.metric(&requests(0)), 5.0);

    let delta = request(&[], vec![gauge("g", vec![number(5.0, &[])]), sum("d", "", 1, vec![number(1.0, &[])])]);
    let called = call(&server, EXPORT, &[], &framed(false, &delta.encode_to_vec()));
    let partial = ExportMetricsServiceResponse::decode(called.answer()).unwrap().partial_success.unwrap();
    assert!(partial.rejected_data_points == 1 && partial.error_message.contains("delta"), "{partial:?}");

    let server = Server::start_in(server.kill(), &[]);
    let rows = server.rows("SELECT value FROM metrics.\"g\" WHERE job = 's' ORDER BY ts");
    assert_eq!(rows, [[1.0], [2.0], [3.0], [4.0]].map(|row| row.map(serde_json::Value::from)));
}

/// The counter of calls that ended with `code`.
fn requests(code: u8) -> String {
    format!("foretell_ingest_requests_total{{protocol=\"otlp\",transport=\"grpc\",status=\"{code}\"}}")
}

#[test]
fn a_call_that_is_refused_has_the_code_that_keeps_senders_from_useless_retries() {
    let mut server = Server::start();
    let good = request(&[], vec![gauge("g", vec![number(4.0, &[])])]).encode_to_vec();
    let before = server.metric("process_resident_memory_bytes");
    let bombs = [gzip(&vec![0; 256 << 20]), zstd::encode_all(&vec![0; 256 << 20][..], 3).unwrap()];
    let noise: Vec<u8> = (0..9u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cut = &framed(false, &good)[..good.len()];
    let twice = [framed(false, &good), framed(false, &good)].concat();
    let delta = request(&[], vec![sum("d", "", 1, vec![number(1.0, &[])])]).encode_to_vec();
    let none: &[(&str, &str)] = &[];
    for (headers, body, code, why) in [
        (none, cut, 3, "the length that its frame says"),
        (none, &twice, 3, "one message"),
        (none, b"", 3, "without a message"),
        (none, &framed(false, b"no protobuf"), 3, "cannot decode"),
        (none, &framed(false, &delta), 3, "delta"),
        (none, &framed(true, &good), 13, "no grpc-encoding"),
        (&[("grpc-encoding", "gzip")], &framed(true, &good), 3, "cannot decompress"),
        (&[("grpc-encoding", "snappy")], &framed(true, &good), 12, "gzip, zstd"),
        (&[("grpc-encoding", "gzip")], &framed(true, &bombs[0]), 8, "limits.decoded_bytes_max"),
        (&[("grpc-encoding", "zstd")], &framed(true, &bombs[1]), 8, "limits.decoded_bytes_max"),
        (none, &framed(false, &noise), 8, "exceeds the limit"),
    ] {
        let counted = server.metric(&requests(code));
        let called = call(&server, EXPORT, headers, body);
        assert_eq!((called.status, called.code()), (200, code), "{why}: {called:?}");
        assert!(called.message().contains(why), "{why}: {called:?}");
        assert_eq!(called.details(), "", "no retry helps: {why}");
        assert_eq!(server.metric(&requests(code)), counted + 1.0);
    }
    assert_eq!(call(&server, "/foo.Bar/Baz", &[], &framed(false, &good)).code(), 12);
    let called = call(&server, EXPORT, &[("content-type", "application/json")], b"{}");
    assert_eq!(called.status, 415, "{called:?}");
    assert_eq!(server.rows("SELECT count(*) FROM samples")[0][0], 0, "nothing is stored of what was refused");
    let after = server.metric("process_resident_memory_bytes");
    assert!(after - before < 150e6, "resident memory grew from {before} to {after}");
    assert!(server.is_alive());
}

#[test]
fn at_the_limit_of_active_series_a_retry_is_asked_for_and_known_series_go_on() {
    let server = Server::start_with_file("[limits]\nactive_series_max = 1\n");
    let known = || gauge("known", vec![number(1.0, &[])]);
    let fresh = || request(&[], vec![gauge("fresh", vec![number(1.0, &[])])]);
    send_all(&server, &request(&[], vec![known()]));
    let answer = send(&server, &fresh());
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), "60");
    let called = call(&server, EXPORT, &[], &framed(false, &fresh().encode_to_vec()));
    assert_eq!(called.code(), 14, "{called:?}");
    assert!(!called.details().is_empty(), "a RetryInfo: {called:?}");
    let (rejected, message) = partial(&server, &request(&[], vec![known(), gauge("new", vec![number(1.0, &[])])]));
    assert_eq!(rejected, 1, "{message}");
    assert_eq!(server.count("known"), 1);
}

#[test]
fn the_example_of_the_documentation_runs() {
    let server = Server::start();
    let said = run_example(&server, "otlp.md");
    assert!(said.contains("2023-11-14") && said.contains("shop") && said.contains('5'), "{said}");
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
