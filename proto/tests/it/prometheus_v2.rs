//! Remote write 2.0.
use foretell_proto::prometheus::v2::*;
use prost::Message;

#[test]
fn a_request_has_the_published_bytes() {
    let request = Request {
        symbols: vec![String::new(), "a".into(), "b".into()],
        timeseries: vec![TimeSeries {
            labels_refs: vec![1, 2],
            samples: vec![Sample { value: 1.0, timestamp: 300, start_timestamp: 2 }],
            metadata: Some(Metadata { r#type: metadata::MetricType::Counter.into(), help_ref: 1, unit_ref: 2 }),
            ..TimeSeries::default()
        }],
    };
    let expected: &[u8] = &[
        0x22, 0, 0x22, 1, b'a', 0x22, 1, b'b', // symbols = 4
        0x2a, 0x1c, // timeseries = 5, 28 bytes
        0x0a, 2, 1, 2, // labels_refs = 1, packed
        0x12, 0x0e, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xac, 0x02, 0x18, 2, // samples = 2
        0x2a, 6, 0x08, 1, 0x18, 1, 0x20, 2, // metadata = 5: type = 1, help_ref = 3, unit_ref = 4
    ];
    assert_eq!(request.encode_to_vec(), expected);
    assert_eq!(Request::decode(expected).unwrap(), request);
}

#[test]
fn every_part_of_a_request_survives() {
    let request = Request {
        symbols: vec![String::new(), "trace_id".into(), "abc".into()],
        timeseries: vec![TimeSeries {
            histograms: vec![Histogram {
                count: Some(histogram::Count::CountFloat(1.5)),
                zero_count: Some(histogram::ZeroCount::ZeroCountInt(0)),
                schema: 3,
                positive_spans: vec![BucketSpan { offset: -1, length: 3 }],
                positive_deltas: vec![1, -1, 0],
                custom_values: vec![0.5],
                reset_hint: histogram::ResetHint::No.into(),
                timestamp: -9,
                start_timestamp: 4,
                ..Histogram::default()
            }],
            exemplars: vec![Exemplar { labels_refs: vec![1, 2], value: 0.5, timestamp: 3 }],
            created_timestamp: 11,
            ..TimeSeries::default()
        }],
    };
    assert_eq!(Request::decode(&*request.encode_to_vec()).unwrap(), request);
}

#[test]
fn a_request_of_version_1_holds_nothing_for_version_2() {
    use foretell_proto::prometheus::v1;
    let old = v1::WriteRequest { timeseries: vec![v1::TimeSeries::default()], ..v1::WriteRequest::default() };
    assert_eq!(Request::decode(&*old.encode_to_vec()).unwrap(), Request::default());
}
