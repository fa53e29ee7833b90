//! Remote read, as Prometheus and others ask.
use foretell_proto::prometheus::v1::histogram::{Count, ZeroCount};
use foretell_proto::prometheus::v1::{
    BucketSpan, ChunkedReadResponse, Histogram, Label, LabelMatcher, Query, ReadRequest, ReadResponse, TimeSeries,
    WriteRequest,
};
use prost::Message as _;

use crate::support::{BytesAnswer, Series, Server, compress};

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
const SAMPLES: i32 = 0;
const CHUNKS: i32 = 1;

fn matcher(r#type: i32, name: &str, value: &str) -> LabelMatcher {
    LabelMatcher { r#type, name: name.to_owned(), value: value.to_owned() }
}

fn query(start: i64, end: i64, matchers: &[(i32, &str, &str)]) -> Query {
    let matchers = matchers.iter().map(|&(kind, name, value)| matcher(kind, name, value)).collect();
    Query { start_timestamp_ms: start, end_timestamp_ms: end, matchers, hints: None }
}

fn ask(server: &Server, queries: Vec<Query>, accepted: &[i32]) -> BytesAnswer {
    let request = ReadRequest { queries, accepted_response_types: accepted.to_vec() };
    send(server, &compress(&request.encode_to_vec()))
}

fn send(server: &Server, body: &[u8]) -> BytesAnswer {
    let headers = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Read-Version", "0.1.0"),
        ("User-Agent", "Prometheus/3.5.0"),
    ];
    server.post_for_bytes("/api/v1/read", &headers, body)
}

fn samples(answer: &BytesAnswer) -> ReadResponse {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    assert_eq!(answer.headers["content-type"], "application/x-protobuf");
    assert_eq!(answer.headers["content-encoding"], "snappy");
    ReadResponse::decode(&*snap::raw::Decoder::new().decompress_vec(&answer.bytes).unwrap()).unwrap()
}

/// The frames of a stream.
fn frames(answer: &BytesAnswer) -> Vec<ChunkedReadResponse> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    let content_type = answer.headers["content-type"].to_str().unwrap();
    assert_eq!(content_type, "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    let mut rest = answer.bytes.as_slice();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        // Four bytes of checksum, which unit tests compare.
        let message = &rest[4..4 + len];
        frames.push(ChunkedReadResponse::decode(message).unwrap());
        rest = &rest[4 + len..];
    }
    frames
}

fn with_data() -> Server {
    let server = Server::start();
    // Written in another order than that of their labels.
    let series = [
        Series::of("t_read", "b").sample(1_000, 1.5).sample(2_000, STALE).sample(3_000, -0.0),
        Series::of("t_read", "a").sample(-5_000, 7.0).sample(2_000, 8.0),
        Series::of("t_other", "a").sample(2_000, 9.0),
    ];
    assert_eq!(server.write(&series).status, 204);
    server
}

#[test]
fn samples_come_raw_and_sorted_with_both_ends_of_the_range() {
    let server = with_data();
    let queries = vec![
        query(1_000, 2_000, &[(0, "__name__", "t_read")]),
        query(-5_000, 3_000, &[(2, "__name__", "t_.*"), (1, "job", "b")]),
        query(0, 9_000, &[(0, "__name__", "nothing")]),
        query(9_000, 0, &[(0, "__name__", "t_read")]),
    ];
    let read = samples(&ask(&server, queries, &[]));
    type Shown = (String, String, Vec<(i64, u64)>);
    let shown: Vec<Vec<Shown>> = read
        .results
        .iter()
        .map(|result| {
            let series = |series: &TimeSeries| {
                let samples = series.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
                (series.labels[0].value.clone(), series.labels[1].value.clone(), samples)
            };
            result.timeseries.iter().map(series).collect()
        })
        .collect();
    let series = |name: &str, job: &str, samples: &[(i64, f64)]| {
        let samples = samples.iter().map(|(ts, value)| (*ts, value.to_bits())).collect::<Vec<(i64, u64)>>();
        (name.to_owned(), job.to_owned(), samples)
    };
    let expected = vec![
        vec![series("t_read", "a", &[(2_000, 8.0)]), series("t_read", "b", &[(1_000, 1.5), (2_000, STALE)])],
        vec![series("t_other", "a", &[(2_000, 9.0)]), series("t_read", "a", &[(-5_000, 7.0), (2_000, 8.0)])],
        vec![],
        vec![],
    ];
    assert_eq!(shown, expected);
    assert_eq!(server.metric("foretell_queries_total{outcome=\"ok\"}"), 1.0);
}

#[test]
fn a_client_that_reads_streams_gets_frames_in_order() {
    let server = with_data();
    let queries = vec![
        query(1_000, 3_000, &[(0, "__name__", "t_read")]),
        query(0, 9_000, &[(0, "__name__", "nothing")]),
        query(0, 9_000, &[(0, "__name__", "t_other")]),
    ];
    let frames = frames(&ask(&server, queries, &[CHUNKS, SAMPLES]));
    let shown: Vec<(i64, &str, i64, i64)> = frames
        .iter()
        .map(|frame| {
            let [series] = frame.chunked_series.as_slice() else { panic!("{frame:?}") };
            let [chunk] = series.chunks.as_slice() else { panic!("{series:?}") };
            assert_eq!(chunk.r#type, 1);
            (frame.query_index, series.labels[1].value.as_str(), chunk.min_time_ms, chunk.max_time_ms)
        })
        .collect();
    assert_eq!(shown, [(0, "a", 2_000, 2_000), (0, "b", 1_000, 3_000), (2, "a", 2_000, 2_000)]);
    assert_eq!(
        u16::from_be_bytes([
            frames[1].chunked_series[0].chunks[0].data[0],
            frames[1].chunked_series[0].chunks[0].data[1]
        ]),
        3
    );
    let none = ask(&server, vec![query(0, 9_000, &[(0, "__name__", "nothing")])], &[CHUNKS]);
    assert_eq!((none.status, none.bytes.len()), (200, 0));
}

#[test]
fn native_histograms_are_read_as_they_were_written() {
    let server = with_data();
    let histogram = Histogram {
        count: Some(Count::CountInt(6)),
        sum: 4.5,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: Some(ZeroCount::ZeroCountInt(1)),
        positive_spans: vec![BucketSpan { offset: -2, length: 2 }],
        positive_deltas: vec![2, 1],
        reset_hint: 2,
        timestamp: 2_500,
        ..Histogram::default()
    };
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let series = TimeSeries {
        labels: vec![label("__name__", "t_native"), label("job", "a")],
        histograms: vec![histogram.clone()],
        ..TimeSeries::default()
    };
    let request = WriteRequest { timeseries: vec![series], ..WriteRequest::default() };
    assert_eq!(server.write_bytes(&compress(&request.encode_to_vec())).status, 204);
    let all = || vec![query(0, 9_000, &[(2, "__name__", "t_.*")])];
    for accepted in [&[][..], &[SAMPLES], &[CHUNKS, SAMPLES]] {
        let read = samples(&ask(&server, all(), accepted));
        let [native, other, ..] = read.results[0].timeseries.as_slice() else { panic!("{read:?}") };
        assert_eq!((other.samples.len(), native.samples.len()), (1, 0));
        assert_eq!(native.histograms, std::slice::from_ref(&histogram), "{accepted:?}");
    }
    let refused = ask(&server, all(), &[CHUNKS]);
    assert_eq!(refused.status, 400, "{}", String::from_utf8_lossy(&refused.bytes));
    let before = ask(&server, vec![query(0, 2_000, &[(2, "__name__", "t_.*")])], &[CHUNKS]);
    assert_eq!(frames(&before).len(), 3, "no histogram is that old");
}

#[test]
fn many_series_and_long_ones_come_whole() {
    let server = Server::start();
    let many: Vec<Series> = (0..300).map(|i| Series::of("t_many", &format!("{i:03}")).sample(i, 1.0)).collect();
    let long = (0..5_000).fold(Series::of("t_many", "zzz"), |series, i| series.sample(i * 1_000, (i as f64).sin()));
    assert_eq!(server.write(&many).status, 204);
    assert_eq!(server.write(&[long]).status, 204);
    let all = || vec![query(0, i64::MAX, &[(0, "__name__", "t_many")])];
    let read = samples(&ask(&server, all(), &[SAMPLES]));
    let series = &read.results[0].timeseries;
    assert_eq!((series.len(), series[300].samples.len()), (301, 5_000));
    assert!(series.is_sorted_by(|a, b| a.labels[1].value < b.labels[1].value));
    let frames = frames(&ask(&server, all(), &[CHUNKS, SAMPLES]));
    let chunks = frames.iter().flat_map(|frame| &frame.chunked_series).flat_map(|series| &series.chunks);
    let samples: usize = chunks.map(|chunk| usize::from(u16::from_be_bytes([chunk.data[0], chunk.data[1]]))).sum();
    assert_eq!((frames.len(), samples), (301, 5_300));
}

#[test]
fn requests_that_cannot_be_answered_say_why() {
    let mut server = with_data();
    let error = |answer: BytesAnswer, status: u16, says: &str| {
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert_eq!(answer.status, status, "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(json["error"].as_str().unwrap().contains(says), "{says}: {text}");
    };
    error(send(&server, b""), 400, "snappy");
    error(send(&server, b"xx"), 400, "snappy");
    error(send(&server, &compress(&[0x0a, 9])), 400, "prometheus.ReadRequest");
    error(send(&server, &compress(&vec![0; 8 << 20])), 413, "bytes");
    error(send(&server, &compress(&[0x0a, 0].repeat(65))), 400, "64 queries");
    error(ask(&server, vec![query(0, 1, &[(2, "job", "(")])], &[CHUNKS, SAMPLES]), 400, "regular expression");
    error(ask(&server, vec![query(0, 1, &[(9, "job", "a")])], &[]), 400, "matcher type");
    error(ask(&server, vec![query(0, 1, &[(0, "job", "a")])], &[7]), 400, "response types");
    assert!(server.is_alive());
    assert_eq!(ask(&server, Vec::new(), &[]).status, 200);
}
