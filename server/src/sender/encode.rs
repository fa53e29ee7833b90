//! Requests of remote write 1.0: protobuf written by hand, snappy block format.
//!
//! ```text
//! WriteRequest  1: TimeSeries*       3: MetricMetadata*
//! TimeSeries    1: Label*  2: Sample*
//! Label         1: name    2: value
//! Sample        1: double value      2: int64 timestamp (ms)
//! Metadata      1: type    2: metric_family_name
//! ```
//! The labels of a series are encoded once; a request then costs one copy of them and 11 to 22 bytes a sample.

/// Tags: field number and wire type.
const SERIES: u8 = 1 << 3 | 2;
const METADATA: u8 = 3 << 3 | 2;
const LABEL: u8 = 1 << 3 | 2;
const SAMPLE: u8 = 2 << 3 | 2;
const TEXT_1: u8 = 1 << 3 | 2;
const TEXT_2: u8 = 2 << 3 | 2;
const VALUE: u8 = 1 << 3 | 1;
const TIMESTAMP: u8 = 2 << 3;
const KIND: u8 = 1 << 3;

/// A request being written.
pub(crate) struct Request {
    bytes: Vec<u8>,
    compressor: snap::raw::Encoder,
    compressed: Vec<u8>,
}

impl Request {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), compressor: snap::raw::Encoder::new(), compressed: Vec::new() }
    }

    /// Forgets everything but the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a series with labels from [`encode_labels`] and samples (ms since 1970, value).
    pub(crate) fn series(&mut self, labels: &[u8], samples: impl Iterator<Item = (i64, f64)> + Clone) {
        put_series(&mut self.bytes, labels, samples, &[]);
    }

    /// Adds what a metric family is, as the protocol numbers its type.
    pub(crate) fn metadata(&mut self, kind: u8, family: &str) {
        let mut message = vec![KIND, kind];
        put_bytes(&mut message, TEXT_2, family.as_bytes());
        put_bytes(&mut self.bytes, METADATA, &message);
    }

    /// The body to send.
    ///
    /// # Errors
    /// When the request is larger than snappy can hold.
    pub(crate) fn body(&mut self) -> Result<&[u8], snap::Error> {
        self.compressed.resize(snap::raw::max_compress_len(self.bytes.len()), 0);
        let len = self.compressor.compress(&self.bytes, &mut self.compressed)?;
        Ok(&self.compressed[..len])
    }
}

/// A series as field 1 of the message that holds it: labels from [`encode_labels`], samples (ms since 1970, value), and
/// further fields.
pub(crate) fn put_series(
    out: &mut Vec<u8>,
    labels: &[u8],
    samples: impl Iterator<Item = (i64, f64)> + Clone,
    rest: &[u8],
) {
    let samples_len: usize = samples.clone().map(|(ts, _)| 2 + sample_len(ts)).sum();
    out.push(SERIES);
    put_varint(out, (labels.len() + samples_len + rest.len()) as u64);
    out.extend_from_slice(labels);
    for (ts, value) in samples {
        out.extend_from_slice(&[SAMPLE, sample_len(ts) as u8, VALUE]);
        out.extend_from_slice(&value.to_le_bytes());
        out.push(TIMESTAMP);
        put_varint(out, ts as u64);
    }
    out.extend_from_slice(rest);
}

/// The labels of a series, in the order of their names as the protocol demands, as the fields of a request.
pub(crate) fn encode_labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    for (name, value) in labels {
        let len = text_len(name) + text_len(value);
        out.push(LABEL);
        put_varint(out, len as u64);
        put_bytes(out, TEXT_1, name.as_bytes());
        put_bytes(out, TEXT_2, value.as_bytes());
    }
}

/// Length of a text field.
fn text_len(text: &str) -> usize {
    1 + varint_len(text.len() as u64) + text.len()
}

/// Length of a `Sample` message: tag and double, tag and varint.
fn sample_len(ts: i64) -> usize {
    9 + 1 + varint_len(ts as u64)
}

/// Bytes of a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use foretell_proto::prometheus::v1::WriteRequest;
    use prost::Message as _;

    #[test]
    fn what_is_encoded_is_what_the_generated_types_read() {
        let long = "x".repeat(300);
        let sets = [vec![("__name__", "a_total"), ("code", "200")], vec![("__name__", "b"), ("code", long.as_str())]];
        let values = [1.0, f64::from_bits(0x7ff0_0000_0000_0002), -0.0, f64::INFINITY];
        let samples = [i64::MIN, -1, 0, 1_785_000_000_000].into_iter().zip(values);
        let mut request = Request::new();
        request.series(b"", [(7, 7.0)].into_iter());
        request.clear();
        for set in &sets {
            let mut labels = Vec::new();
            encode_labels(set.iter().copied(), &mut labels);
            request.series(&labels, samples.clone());
        }
        request.metadata(1, "a");
        let body = snap::raw::Decoder::new().decompress_vec(request.body().unwrap()).unwrap();
        let decoded = WriteRequest::decode(&*body).unwrap();
        assert_eq!(decoded.timeseries.len(), 2);
        for (got, wanted) in decoded.timeseries.iter().zip(&sets) {
            let labels: Vec<_> = got.labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
            assert_eq!(labels, *wanted);
            let got: Vec<_> = got.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect();
            assert_eq!(got, samples.clone().map(|(ts, value)| (ts, value.to_bits())).collect::<Vec<_>>());
        }
        assert_eq!((decoded.metadata[0].metric_family_name.as_str(), decoded.metadata[0].r#type), ("a", 1));
    }
}
