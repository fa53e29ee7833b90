//! Remote write 1.0 and remote read.
use foretell_proto::prometheus::STALE_NAN_BITS;
use foretell_proto::prometheus::v1::*;
use prost::Message;

fn label(name: &str, value: &str) -> Label {
    Label { name: name.into(), value: value.into() }
}

#[test]
fn a_write_request_has_the_published_bytes() {
    let request = WriteRequest {
        timeseries: vec![TimeSeries {
            labels: vec![label("a", "b")],
            samples: vec![Sample { value: 1.0, timestamp: 300 }],
            ..TimeSeries::default()
        }],
        ..WriteRequest::default()
    };
    let expected: &[u8] = &[
        0x0a, 0x16, // timeseries = 1, 22 bytes
        0x0a, 0x06, 0x0a, 1, b'a', 0x12, 1, b'b', // labels = 1: name = 1, value = 2
        0x12, 0x0c, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xac, 0x02, // samples = 2: value = 1, timestamp = 2
    ];
    assert_eq!(request.encode_to_vec(), expected);
    assert_eq!(WriteRequest::decode(expected).unwrap(), request);
}

#[test]
fn nan_bits_survive() {
    for bits in [STALE_NAN_BITS, 0x7ff8_0000_0000_0001, 0xfff8_dead_beef_0001, (-0.0_f64).to_bits(), 1] {
        let sample = Sample { value: f64::from_bits(bits), timestamp: -1 };
        let back = Sample::decode(&*sample.encode_to_vec()).unwrap();
        // proto3 leaves out what equals the default, and -0.0 == 0.0: the one value whose bits prost's encoder loses
        let expected = if bits == (-0.0_f64).to_bits() { 0 } else { bits };
        assert_eq!((back.value.to_bits(), back.timestamp), (expected, -1));
    }
}

#[test]
fn every_part_of_a_write_request_survives() {
    let request = WriteRequest {
        timeseries: vec![TimeSeries {
            labels: vec![label("__name__", "rpc_seconds"), label("job", "api")],
            samples: vec![Sample { value: -2.5, timestamp: i64::MIN }, Sample { value: 0.0, timestamp: i64::MAX }],
            exemplars: vec![Exemplar { labels: vec![label("trace_id", "abc")], value: 0.25, timestamp: 7 }],
            histograms: vec![Histogram {
                count: Some(histogram::Count::CountInt(12)),
                sum: 3.5,
                schema: -53,
                zero_threshold: 1e-128,
                zero_count: Some(histogram::ZeroCount::ZeroCountFloat(0.5)),
                negative_spans: vec![BucketSpan { offset: -3, length: 2 }],
                negative_deltas: vec![-4, 9],
                negative_counts: vec![1.5],
                positive_spans: vec![BucketSpan { offset: 4, length: 1 }],
                positive_deltas: vec![i64::MAX],
                positive_counts: vec![2.5],
                reset_hint: histogram::ResetHint::Gauge.into(),
                timestamp: 8,
                custom_values: vec![0.1, 1.0],
            }],
        }],
        metadata: vec![MetricMetadata {
            r#type: metric_metadata::MetricType::Stateset.into(),
            metric_family_name: "rpc_seconds".into(),
            help: "time of calls".into(),
            unit: "seconds".into(),
        }],
    };
    assert_eq!(WriteRequest::decode(&*request.encode_to_vec()).unwrap(), request);
}

#[test]
fn a_remote_read_survives() {
    let request = ReadRequest {
        queries: vec![Query {
            start_timestamp_ms: 1,
            end_timestamp_ms: 2,
            matchers: vec![LabelMatcher {
                r#type: label_matcher::Type::Re.into(),
                name: "__name__".into(),
                value: ".+".into(),
            }],
            hints: Some(ReadHints { step_ms: 1, func: "rate".into(), by: true, range_ms: 5, ..ReadHints::default() }),
        }],
        accepted_response_types: vec![read_request::ResponseType::StreamedXorChunks.into()],
    };
    assert_eq!(ReadRequest::decode(&*request.encode_to_vec()).unwrap(), request);
    let response = ReadResponse { results: vec![QueryResult { timeseries: vec![TimeSeries::default()] }] };
    assert_eq!(ReadResponse::decode(&*response.encode_to_vec()).unwrap(), response);
}

#[test]
fn fields_of_later_versions_are_skipped() {
    let mut bytes = vec![0x12, 0x01, 0x00, 0xa0, 0x1f, 0x05]; // field 2 (reserved) and field 500
    bytes.extend(WriteRequest { timeseries: vec![TimeSeries::default()], ..WriteRequest::default() }.encode_to_vec());
    assert_eq!(WriteRequest::decode(&*bytes).unwrap().timeseries.len(), 1);
}

#[test]
fn truncated_bytes_are_an_error() {
    let request = WriteRequest {
        timeseries: vec![TimeSeries { labels: vec![label("a", "b")], ..TimeSeries::default() }],
        ..WriteRequest::default()
    };
    let bytes = request.encode_to_vec();
    for end in 1..bytes.len() {
        assert!(WriteRequest::decode(&bytes[..end]).is_err(), "{end} bytes");
    }
}
