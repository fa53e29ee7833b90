//! The shop's scrapes as requests of remote write.
use foretell_ml::twin::{MetricKind, Series};

use crate::sender::{Request, encode_labels};

/// Writes requests for a fixed set of series.
pub(super) struct Encoder {
    /// Per series, its encoded labels.
    labels: Vec<Vec<u8>>,
    /// All metric families and their types.
    families: Vec<(&'static str, u8)>,
    request: Request,
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
        Self { labels: series.iter().map(labels).collect(), families: families(series), request: Request::new() }
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
            self.request.series(labels, scrapes.timestamps_ms.iter().copied().zip(values.copied()));
        }
        if with_metadata {
            self.families.iter().for_each(|(name, kind)| self.request.metadata(*kind, name));
        }
        self.request.body()
    }
}

/// `__name__` is smaller than every lower-case name.
fn labels(series: &Series) -> Vec<u8> {
    let mut out = Vec::new();
    let name = [("__name__", series.metric)].into_iter();
    encode_labels(name.chain(series.labels.iter().map(|(name, value)| (*name, value.as_str()))), &mut out);
    out
}

fn families(series: &[Series]) -> Vec<(&'static str, u8)> {
    let mut families: Vec<_> = series.iter().map(family).collect();
    families.sort_unstable();
    families.dedup();
    families
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
