//! Native histograms from remote write to the answers of the Prometheus query API.
use foretell_proto::prometheus::v1::histogram::{Count, ZeroCount};
use foretell_proto::prometheus::v1::{BucketSpan, Histogram, Label, TimeSeries, WriteRequest};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{Server, compress};

fn with_histograms() -> Server {
    let server = Server::start();
    write_histograms(&server);
    server
}

/// `latency` at one minute after the other: (1, 2] grows by three a minute, the zero bucket by one.
pub(crate) fn write_histograms(server: &Server) {
    let histogram = |i: u64| Histogram {
        count: Some(Count::CountInt(4 * i)),
        sum: 5.0 * i as f64,
        zero_threshold: 0.5,
        zero_count: Some(ZeroCount::ZeroCountInt(i)),
        positive_spans: vec![BucketSpan { offset: 1, length: 1 }],
        positive_deltas: vec![3 * i as i64],
        timestamp: i as i64 * 60_000,
        ..Histogram::default()
    };
    let labels = [("__name__", "latency"), ("job", "api")];
    let series = TimeSeries {
        labels: labels.map(|(name, value)| Label { name: name.into(), value: value.into() }).to_vec(),
        histograms: (1..=10).map(histogram).collect(),
        ..TimeSeries::default()
    };
    let request = WriteRequest { timeseries: vec![series], ..WriteRequest::default() };
    let headers = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ];
    assert_eq!(server.post("/api/v1/write", &headers, &compress(&request.encode_to_vec())).status, 204);
}

fn query(server: &Server, route: &str, expr: &str, times: &str) -> Value {
    let byte = |b: u8| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") };
    let expr: String = expr.bytes().map(byte).collect();
    let answer = server.get(&format!("/api/v1/{route}?query={expr}&{times}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[test]
fn histograms_are_answered_with_their_buckets() {
    let server = with_histograms();
    let of = |at: u64, count: &str, sum: &str, zero: &str, above: &str| json!([at, {"count": count, "sum": sum, "buckets": [[3, "-0.5", "0.5", zero], [0, "1", "2", above]]}]);
    let metric = json!({"__name__": "latency", "job": "api"});
    let instant = query(&server, "query", "latency", "time=120");
    assert_eq!(instant["data"]["result"], json!([{"metric": metric, "histogram": of(120, "8", "10", "2", "6")}]));
    let range = query(&server, "query_range", "latency", "start=60&end=120&step=60");
    let both = [of(60, "4", "5", "1", "3"), of(120, "8", "10", "2", "6")];
    assert_eq!(range["data"]["result"], json!([{"metric": metric, "histograms": both}]));
    let increase = query(&server, "query", "increase(latency[5m])", "time=600");
    let expected = json!([{"metric": {"job": "api"}, "histogram": of(600, "20", "25", "5", "15")}]);
    assert_eq!(increase["data"]["result"], expected);
    assert!(increase.get("warnings").is_none() && increase.get("infos").is_none(), "{increase}");
}

#[test]
fn answers_carry_warnings_and_infos() {
    let server = with_histograms();
    let sum = query(&server, "query", "latency + 1", "time=120");
    assert_eq!(sum["data"]["result"], json!([]));
    let text = "PromQL info: incompatible sample types encountered for binary operator \"+\": histogram + float";
    assert_eq!(sum["infos"], json!([text]));
    let quantile = query(&server, "query", "histogram_quantile(1.5, latency)", "time=120");
    assert_eq!(quantile["data"]["result"][0]["value"], json!([120, "+Inf"]));
    assert_eq!(quantile["warnings"], json!(["PromQL warning: quantile value should be between 0 and 1, got 1.5"]));
}
