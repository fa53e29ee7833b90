//! The answer as a stream: frames that each hold chunks of one series.
//!
//! ```text
//!  varint length of the message | CRC32C of the message, big endian | prometheus.ChunkedReadResponse
//! ```
use foretell_query::promql::RawSeries;

use super::xor;
use crate::sender::encode::{encode_labels, put_bytes, put_varint};

/// Samples of a chunk, as in Prometheus's storage.
const SAMPLES_PER_CHUNK: usize = 120;
/// A frame is closed at this size; readers refuse much larger ones.
const FRAME_BYTES: usize = 1 << 20;
/// Field 1 of a `ChunkedReadResponse`.
const SERIES: u8 = 1 << 3 | 2;
const QUERY_INDEX: u8 = 2 << 3;
/// Field 2 of a `ChunkedSeries`.
const CHUNK: u8 = 2 << 3 | 2;
const MIN_TIME: u8 = 1 << 3;
const MAX_TIME: u8 = 2 << 3;
const TYPE: u8 = 3 << 3;
const DATA: u8 = 4 << 3 | 2;
const XOR: u8 = 1;

/// Appends the frames of the samples of `series`, which answers query number `query`.
pub(super) fn encode(query: usize, series: &RawSeries, out: &mut Vec<u8>) {
    let mut labels = Vec::new();
    encode_labels(series.labels.iter(), &mut labels);
    let (mut message, mut chunk, mut data) = (labels.clone(), Vec::new(), Vec::new());
    for (ts_ms, values) in series.ts_ms.chunks(SAMPLES_PER_CHUNK).zip(series.values.chunks(SAMPLES_PER_CHUNK)) {
        data.clear();
        xor::encode(ts_ms, values, &mut data);
        chunk.clear();
        for (tag, value) in [(MIN_TIME, ts_ms[0] as u64), (MAX_TIME, ts_ms[ts_ms.len() - 1] as u64)] {
            chunk.push(tag);
            put_varint(&mut chunk, value);
        }
        chunk.extend_from_slice(&[TYPE, XOR]);
        put_bytes(&mut chunk, DATA, &data);
        put_bytes(&mut message, CHUNK, &chunk);
        if message.len() >= FRAME_BYTES {
            put_frame(query, &message, out);
            message.clone_from(&labels);
        }
    }
    if message.len() > labels.len() {
        put_frame(query, &message, out);
    }
}

fn put_frame(query: usize, series: &[u8], out: &mut Vec<u8>) {
    let mut message = Vec::with_capacity(series.len() + 16);
    put_bytes(&mut message, SERIES, series);
    message.push(QUERY_INDEX);
    put_varint(&mut message, query as u64);
    put_varint(out, message.len() as u64);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_proto::prometheus::v1::ChunkedReadResponse;
    use prost::Message as _;

    use super::super::{samples, xor};
    use super::*;
    use crate::remote_write::wire::Cursor;

    /// Index of the query and chunks of each frame.
    fn frames(bytes: &[u8]) -> Vec<ChunkedReadResponse> {
        let mut cursor = Cursor::new(bytes);
        let mut frames = Vec::new();
        while !cursor.is_at_end() {
            let len = cursor.varint().unwrap() as usize;
            let sum = cursor.take(4).unwrap();
            let message = cursor.take(len).unwrap();
            assert_eq!(sum, crc32c::crc32c(message).to_be_bytes());
            frames.push(ChunkedReadResponse::decode(message).unwrap());
        }
        frames
    }

    #[test]
    fn frames_hold_every_sample_once() {
        let mut out = Vec::new();
        encode(0, &samples::tests::series("a", 121), &mut out);
        encode(3, &samples::tests::series("b", 1), &mut out);
        let frames = frames(&out);
        assert_eq!(frames.iter().map(|frame| frame.query_index).collect::<Vec<_>>(), [0, 3]);
        let series = &frames[0].chunked_series[0];
        assert_eq!(series.labels[0].value, "a");
        let [first, second] = series.chunks.as_slice() else { panic!("{series:?}") };
        assert_eq!((first.min_time_ms, first.max_time_ms, first.r#type), (-30_000, 119 * 15_000 - 30_000, 1));
        let decoded = [xor::tests::decode(&first.data), xor::tests::decode(&second.data)].concat();
        let expected: Vec<(i64, u64)> =
            (0..121i64).map(|i| (i * 15_000 - 30_000, (i as f64 * 0.5).to_bits())).collect();
        assert_eq!(decoded, expected);
    }

    #[test]
    fn a_long_series_is_cut_into_frames_of_a_bounded_size() {
        let mut series = samples::tests::series("a", 300_000);
        series.values.iter_mut().enumerate().for_each(|(i, value)| *value = (i as f64).sin());
        let mut out = Vec::new();
        encode(0, &series, &mut out);
        let frames = frames(&out);
        assert!(frames.len() > 1);
        assert!(frames.iter().all(|frame| frame.encoded_len() < FRAME_BYTES + 8192));
        assert!(frames.iter().all(|frame| frame.chunked_series[0].labels.len() == 2));
        let chunks = frames.iter().flat_map(|frame| &frame.chunked_series[0].chunks);
        assert_eq!(chunks.map(|chunk| xor::tests::decode(&chunk.data).len()).sum::<usize>(), 300_000);
    }
}
