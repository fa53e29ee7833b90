#![allow(clippy::unwrap_used)]
use super::*;

/// Appends a varint.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn delimited(tag: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

fn label(name: &str, value: &str) -> Vec<u8> {
    let (mut label, mut field) = (Vec::new(), Vec::new());
    delimited(0x0a, name.as_bytes(), &mut label);
    delimited(0x12, value.as_bytes(), &mut label);
    delimited(0x0a, &label, &mut field);
    field
}

fn sample_field(ts_ms: i64, value: f64) -> Vec<u8> {
    let mut body = vec![0x09];
    body.extend_from_slice(&value.to_le_bytes());
    body.push(0x10);
    varint(ts_ms as u64, &mut body);
    let mut field = Vec::new();
    delimited(0x12, &body, &mut field);
    field
}

fn request(series: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut body = Vec::new();
    for fields in series {
        delimited(0x0a, &fields.concat(), &mut body);
    }
    body
}

fn compress(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

fn decoder() -> Decoder {
    Decoder::new(42, DecodeLimits::default())
}

/// The labels of the first series, encoded again.
fn label_bytes(request: &DecodedRequest) -> Vec<u8> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    let pairs = request.labels(0).pairs().map(Result::unwrap);
    pairs.map(|(name, value)| label(text(name), text(value))).collect::<Vec<_>>().concat()
}

#[test]
fn series_become_keys_runs_and_columns() {
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let body = request(&[
        vec![label("__name__", "up"), label("job", "a"), sample_field(1_000, 1.0), sample_field(-5, stale)],
        vec![label("__name__", "up"), label("job", "b")],
        vec![label("__name__", "up"), label("job", "a"), sample_field(3_000, -0.0)],
    ]);
    let mut decoder = decoder();
    let request = decoder.decode(Protocol::V1, &compress(&body)).unwrap();
    assert_eq!(request.runs, [2, 1], "a series without samples is not looked up");
    assert_eq!(request.keys[0], request.keys[1], "the same bytes are the same series");
    assert_eq!(request.ts, [1_000_000_000, -5_000_000, 3_000_000_000]);
    let bits: Vec<u64> = request.values.iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, [1f64.to_bits(), stale.to_bits(), (-0.0f64).to_bits()]);
    assert_eq!(label_bytes(request), [label("__name__", "up"), label("job", "a")].concat());
    assert!(request.faults.first().is_none());
}

#[test]
fn labels_that_other_fields_stand_between_name_the_same_series() {
    let together = request(&[vec![label("a", "1"), label("b", "2"), sample_field(1, 1.0)]]);
    let scattered = request(&[vec![label("a", "1"), sample_field(1, 1.0), label("b", "2"), sample_field(2, 2.0)]]);
    let mut decoder = decoder();
    let key = decoder.decode(Protocol::V1, &compress(&together)).unwrap().keys[0];
    let request = decoder.decode(Protocol::V1, &compress(&scattered)).unwrap();
    assert_eq!(request.keys, [key]);
    assert_eq!(request.runs, [2]);
    assert_eq!(label_bytes(request), [label("a", "1"), label("b", "2")].concat());
}

#[test]
fn zero_fields_that_encoders_omit_are_zero() {
    let mut series = label("a", "1");
    series.extend_from_slice(&[0x12, 0x00]);
    series.extend_from_slice(&[0x12, 0x02, 0x10, 0x07]);
    // Timestamp first, an unknown field between.
    series.extend_from_slice(&[0x12, 0x0d, 0x10, 0x08, 0x18, 0x01, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    let mut decoder = decoder();
    let request = decoder.decode(Protocol::V1, &compress(&request(&[vec![series]]))).unwrap();
    assert_eq!(request.ts, [0, 7_000_000, 8_000_000]);
    assert_eq!(request.values, [0.0, 0.0, 1.0]);
}

#[test]
fn timestamps_that_cannot_be_kept_are_dropped_and_named() {
    let body = request(&[vec![
        label("a", "1"),
        sample_field(i64::MAX, 1.0),
        sample_field(i64::MIN, 2.0),
        sample_field(10, 3.0),
        sample_field(11, 4.0),
    ]]);
    let mut decoder = decoder();
    decoder.accept_until_ms(10);
    let request = decoder.decode(Protocol::V1, &compress(&body)).unwrap();
    assert_eq!(request.values, [3.0]);
    assert_eq!(request.faults.samples_dropped, 3);
    assert_eq!(request.faults.first(), Some(&Fault::TimestampOutOfRange { ts_ms: i64::MAX }));
}

#[test]
fn timestamps_past_the_retention_are_dropped_and_named() {
    let series = vec![label("a", "1"), sample_field(9, 1.0), sample_field(10, 2.0), sample_field(11, 3.0)];
    let body = compress(&request(&[series]));
    let mut decoder = decoder();
    decoder.accept_from_ms(10);
    let request = decoder.decode(Protocol::V1, &body).unwrap();
    assert_eq!((&request.values[..], request.faults.samples_dropped), (&[2.0, 3.0][..], 1));
    assert_eq!(request.faults.first(), Some(&Fault::TimestampPastRetention { ts_ms: 9 }));
    decoder.accept_from_ms(i64::MIN);
    assert_eq!(decoder.decode(Protocol::V1, &body).unwrap().values.len(), 3);
}

#[test]
fn histograms_and_exemplars_belong_to_their_series() {
    let message = |tag, bytes: &[u8]| {
        let mut field = Vec::new();
        delimited(tag, bytes, &mut field);
        field
    };
    let exemplar = [label("trace_id", "x"), vec![0x11, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x18, 7]].concat();
    let body = request(&[
        vec![label("a", "0"), sample_field(1, 1.0)],
        vec![label("a", "1"), message(0x22, b"\x08\x05\x78\x02"), message(0x1a, &exemplar), message(0x22, b"\x78\x03")],
        vec![label("a", "2"), message(0x22, b"\x08\x05\x52\x08aaaaaaaa")],
    ]);
    let mut decoder = decoder();
    let request = decoder.decode(Protocol::V1, &compress(&body)).unwrap();
    assert_eq!(request.runs, [1, 0], "the last series has nothing that is kept");
    assert_eq!((request.histograms.series.as_slice(), request.exemplars.series.as_slice()), (&[1, 1][..], &[1][..]));
    assert_eq!(
        (request.histograms.ts.as_slice(), request.histograms.count.as_slice()),
        (&[2_000_000, 3_000_000][..], &[5, 0][..])
    );
    assert_eq!((request.exemplars.ts[0], request.exemplars.values[0]), (7_000_000, 1.5));
    assert_eq!(request.exemplars.labels_of(0).collect::<Vec<_>>(), [("trace_id", "x")]);
    assert!(matches!(request.faults.first(), Some(Fault::Histogram(_))));
    assert_eq!(request.faults.histograms_dropped, 1);
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_request() {
    let body = request(&[
        vec![label("__name__", "up"), label("job", "a"), sample_field(1_000, 1.0)],
        vec![label("__name__", "up"), label("job", "b"), sample_field(1_000, 1.0)],
    ]);
    let first = body.len() / 2;
    let mut decoder = decoder();
    for len in 0..body.len() {
        let decoded = decoder.decode(Protocol::V1, &compress(&body[..len]));
        assert_eq!(decoded.is_ok(), len == 0 || len == first, "{len} of {}", body.len());
    }
    let compressed = compress(&body);
    for len in 0..compressed.len() {
        assert!(decoder.decode(Protocol::V1, &compressed[..len]).is_err(), "{len} of {}", compressed.len());
    }
    assert_eq!(decoder.decode(Protocol::V1, &compressed).unwrap().values.len(), 2, "usable after errors");
}

#[test]
fn random_damage_never_panics() {
    use rand::{Rng as _, SeedableRng as _};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let body = request(&[
        vec![label("__name__", "up"), label("job", "a"), sample_field(1_000, 1.0), label("z", "late")],
        vec![label("__name__", "up"), sample_field(i64::MAX, f64::NAN)],
    ]);
    let mut decoder = decoder();
    for _ in 0..20_000 {
        let mut damaged = body.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..damaged.len());
            damaged[at] = random.random();
        }
        if let Ok(request) = decoder.decode(Protocol::V1, &compress(&damaged)) {
            assert_eq!(request.ts.len(), request.values.len());
            assert_eq!(request.runs.iter().map(|&run| run as usize).sum::<usize>(), request.ts.len());
            for i in 0..request.keys.len() {
                let _ = super::super::labels::decode(request.labels(i), &Default::default()).map(|_| ());
                super::super::labels::render(request.labels(i));
            }
        }
        let mut compressed = compress(&body);
        let at = random.random_range(0..compressed.len());
        compressed[at] = random.random();
        let _ = decoder.decode(Protocol::V1, &compressed).map(|_| ());
    }
}

#[test]
fn caps_hold_before_anything_is_allocated() {
    let mut decoder = decoder();
    // Headers of 4 GiB - 1 and of 33 MiB; then a ratio that no real data has.
    assert!(matches!(decoder.decode(Protocol::V1, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), Err(DecodeError::TooLarge(_))));
    assert!(matches!(decoder.decode(Protocol::V1, &[0xff, 0xff, 0xff, 0xff, 0x1f, 0]), Err(DecodeError::Snappy(_))));
    let mut header = Vec::new();
    varint(33 << 20, &mut header);
    header.resize(1 << 20, 0);
    assert!(matches!(decoder.decode(Protocol::V1, &header), Err(DecodeError::TooLarge(_))));
    let mut header = Vec::new();
    varint(1 << 20, &mut header);
    assert!(matches!(decoder.decode(Protocol::V1, &header), Err(DecodeError::TooLarge(_))));
    assert!(decoder.request.body.capacity() < 1 << 16);
    let mut small =
        Decoder::new(1, DecodeLimits { samples_max: 3, wire_bytes_max: 1 << 10, ..DecodeLimits::default() });
    let body = request(&[vec![label("a", "1"), sample_field(1, 1.0).repeat(4)]]);
    assert!(matches!(small.decode(Protocol::V1, &compress(&body)), Err(DecodeError::TooLarge(_))));
    assert!(matches!(small.decode(Protocol::V1, &[0; 2 << 10]), Err(DecodeError::TooLarge(_))));
}

#[test]
fn wrong_wire_types_of_known_fields_are_malformed() {
    for body in
        [&[0x08, 0x01][..], &[0x0a, 0x02, 0x08, 0x01], &[0x0a, 0x04, 0x12, 0x02, 0x08, 0x01], &[0x0b], &[0x00, 0x01]]
    {
        assert!(
            matches!(decoder().decode(Protocol::V1, &compress(body)), Err(DecodeError::Malformed { .. })),
            "{body:?}"
        );
    }
    assert!(decoder().decode(Protocol::V1, &compress(&[0x7a, 0x01, 0x00])).is_ok(), "unknown fields are stepped over");
}

#[test]
fn seeds_change_keys() {
    let body = compress(&request(&[vec![label("a", "1"), sample_field(1, 1.0)]]));
    let key = decoder().decode(Protocol::V1, &body).unwrap().keys[0];
    assert_ne!(key, Decoder::new(43, DecodeLimits::default()).decode(Protocol::V1, &body).unwrap().keys[0]);
}
