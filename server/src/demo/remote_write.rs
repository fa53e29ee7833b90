//! The sending side of Prometheus remote write 1.0: protobuf written by hand, snappy block format.
//!
//! ```text
//! WriteRequest  1: TimeSeries*       3: MetricMetadata*
//! TimeSeries    1: Label*  2: Sample*
//! Label         1: name    2: value
//! Sample        1: double value      2: int64 timestamp (ms)
//! Metadata      1: type    2: metric_family_name
//! ```
//! The labels of a series are encoded once; a request then costs one copy of them and 11 to 18 bytes a sample.
use foretell_ml::twin::{MetricKind, Series};

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

/// Writes requests for a fixed set of series.
pub(super) struct Encoder {
    /// Per series, its `Label` fields.
    labels: Vec<Vec<u8>>,
    /// The `MetricMetadata` fields of all metrics.
    metadata: Vec<u8>,
    request: Vec<u8>,
    compressor: snap::raw::Encoder,
    compressed: Vec<u8>,
}

/// Scrapes of all series, column after column.
#[derive(Default)]
pub(super) struct Scrapes {
    /// One timestamp per scrape.
    pub(super) timestamps_ms: Vec<i64>,
    /// Scrape after scrape, a value for each series.
    pub(super) values: Vec<f64>,
}

impl Scrapes {
    /// Forgets everything but the memory.
    pub(super) fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.values.clear();
    }
}

impl Encoder {
    pub(super) fn new(series: &[Series]) -> Self {
        Self {
            labels: series.iter().map(encode_labels).collect(),
            metadata: encode_metadata(series),
            request: Vec::new(),
            compressor: snap::raw::Encoder::new(),
            compressed: Vec::new(),
        }
    }

    /// The body of a request with all samples of `scrapes`; with the metrics' metadata if asked.
    ///
    /// # Errors
    /// When the request is larger than snappy can hold.
    pub(super) fn encode(&mut self, scrapes: &Scrapes, with_metadata: bool) -> Result<&[u8], snap::Error> {
        let count = self.labels.len();
        self.request.clear();
        for (series, labels) in self.labels.iter().enumerate() {
            let values = scrapes.values.iter().skip(series).step_by(count);
            let samples = scrapes.timestamps_ms.iter().copied().zip(values.copied());
            let samples_len: usize = samples.clone().map(|(ts, _)| 2 + sample_len(ts)).sum();
            self.request.push(SERIES);
            put_varint(&mut self.request, (labels.len() + samples_len) as u64);
            self.request.extend_from_slice(labels);
            for (ts, value) in samples {
                self.request.extend_from_slice(&[SAMPLE, sample_len(ts) as u8, VALUE]);
                self.request.extend_from_slice(&value.to_le_bytes());
                self.request.push(TIMESTAMP);
                put_varint(&mut self.request, ts as u64);
            }
        }
        if with_metadata {
            self.request.extend_from_slice(&self.metadata);
        }
        self.compressed.resize(snap::raw::max_compress_len(self.request.len()), 0);
        let len = self.compressor.compress(&self.request, &mut self.compressed)?;
        Ok(&self.compressed[..len])
    }
}

/// Length of a `Sample` message: tag and double, tag and varint.
fn sample_len(ts: i64) -> usize {
    9 + 1 + varint_len(ts as u64)
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The labels in the order of their names, as the protocol demands; `__name__` is smaller than every lower-case name.
fn encode_labels(series: &Series) -> Vec<u8> {
    let mut out = Vec::new();
    let name = [("__name__", series.metric)];
    for (name, value) in name.into_iter().chain(series.labels.iter().map(|(name, value)| (*name, value.as_str()))) {
        let mut label = Vec::new();
        put_bytes(&mut label, TEXT_1, name.as_bytes());
        put_bytes(&mut label, TEXT_2, value.as_bytes());
        put_bytes(&mut out, LABEL, &label);
    }
    out
}

fn encode_metadata(series: &[Series]) -> Vec<u8> {
    let mut families: Vec<(&str, u8)> = series.iter().map(family).collect();
    families.sort_unstable();
    families.dedup();
    let mut out = Vec::new();
    for (name, kind) in families {
        let mut message = vec![KIND, kind];
        put_bytes(&mut message, TEXT_2, name.as_bytes());
        put_bytes(&mut out, METADATA, &message);
    }
    out
}

/// Name of a metric's family and its type as the protocol numbers it.
fn family(series: &Series) -> (&'static str, u8) {
    let histogram = || ["_bucket", "_sum", "_count"].iter().find_map(|suffix| series.metric.strip_suffix(suffix));
    match series.kind {
        MetricKind::Counter => (series.metric, 1),
        MetricKind::Gauge => (series.metric, 2),
        MetricKind::Histogram => (histogram().unwrap_or(series.metric), 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretell_proto::prometheus::v1::WriteRequest;
    use prost::Message as _;

    fn series(metric: &'static str, kind: MetricKind, code: &str) -> Series {
        Series { metric, kind, labels: vec![("code", code.to_owned()), ("service", "cart".to_owned())] }
    }

    fn decoded(series: &[Series], scrapes: &Scrapes, with_metadata: bool) -> WriteRequest {
        let mut encoder = Encoder::new(series);
        let body = encoder.encode(scrapes, with_metadata).unwrap();
        WriteRequest::decode(&*snap::raw::Decoder::new().decompress_vec(body).unwrap()).unwrap()
    }

    #[test]
    fn what_is_encoded_is_what_the_generated_types_read() {
        let table = [series("a_total", MetricKind::Counter, "200"), series("b", MetricKind::Gauge, &"x".repeat(300))];
        let nan = f64::from_bits(0x7ff0_0000_0000_0002);
        let scrapes = Scrapes {
            timestamps_ms: vec![-1, 0, 1_785_000_000_000],
            values: vec![1.0, nan, 2.0, -0.0, 3.0, f64::INFINITY],
        };
        let request = decoded(&table, &scrapes, false);
        assert!(request.metadata.is_empty());
        assert_eq!(request.timeseries.len(), 2);
        for (index, (got, wanted)) in request.timeseries.iter().zip(&table).enumerate() {
            let labels: Vec<(&str, &str)> = got.labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
            assert_eq!(labels[0], ("__name__", wanted.metric));
            assert_eq!(labels[1], ("code", wanted.labels[0].1.as_str()));
            assert_eq!(labels[2], ("service", "cart"));
            for (step, sample) in got.samples.iter().enumerate() {
                assert_eq!(sample.timestamp, scrapes.timestamps_ms[step]);
                assert_eq!(sample.value.to_bits(), scrapes.values[step * 2 + index].to_bits());
            }
            assert_eq!(got.samples.len(), 3);
        }
    }

    #[test]
    fn metadata_names_each_family_once() {
        let table = [
            series("h_seconds_bucket", MetricKind::Histogram, "1"),
            series("h_seconds_count", MetricKind::Histogram, "1"),
            series("g", MetricKind::Gauge, "1"),
            series("g", MetricKind::Gauge, "2"),
        ];
        let scrapes = Scrapes { timestamps_ms: vec![1], values: vec![0.0; 4] };
        let families = decoded(&table, &scrapes, true).metadata;
        let families: Vec<_> = families.iter().map(|m| (m.metric_family_name.as_str(), m.r#type)).collect();
        assert_eq!(families, [("g", 2), ("h_seconds", 3)]);
    }
}
