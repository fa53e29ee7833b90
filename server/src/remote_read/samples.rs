//! The answer in one piece: a `prometheus.ReadResponse` with raw samples and histograms.
use foretell_query::promql::RawSeries;
use foretell_query::{Error, Result};

use super::histogram;
use crate::sender::encode::{encode_labels, put_series, put_varint, varint_len};

/// Field 1 of a `ReadResponse`.
const RESULT: u8 = 1 << 3 | 2;
/// Bytes kept free for the head of a result: its tag and its length.
const HEAD_BYTES: usize = 11;

/// A `ReadResponse` being written.
pub(super) struct Samples {
    bytes: Vec<u8>,
    bytes_max: usize,
    labels: Vec<u8>,
    histograms: Vec<u8>,
}

impl Samples {
    /// Of at most about `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, labels: Vec::new(), histograms: Vec::new() }
    }

    /// Adds the result that `write` makes by adding series.
    ///
    /// # Errors
    /// What `write` answers.
    pub(super) fn result(&mut self, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let start = self.bytes.len();
        // Its length is known when it is there: then it moves to where its head ends.
        self.bytes.resize(start + HEAD_BYTES, 0);
        write(self)?;
        let len = self.bytes.len() - start - HEAD_BYTES;
        let mut head = vec![RESULT];
        put_varint(&mut head, len as u64);
        debug_assert_eq!(head.len(), 1 + varint_len(len as u64));
        self.bytes[start..start + head.len()].copy_from_slice(&head);
        self.bytes.copy_within(start + HEAD_BYTES.., start + head.len());
        self.bytes.truncate(start + head.len() + len);
        Ok(())
    }

    /// Adds a series to the result.
    ///
    /// # Errors
    /// `Invalid` when the answer becomes too large.
    pub(super) fn series(&mut self, series: &RawSeries) -> Result<()> {
        self.labels.clear();
        encode_labels(series.labels.iter(), &mut self.labels);
        self.histograms.clear();
        series.histograms.iter().try_for_each(|rows| histogram::encode(rows, &mut self.histograms))?;
        let samples = series.ts_ms.iter().copied().zip(series.values.iter().copied());
        put_series(&mut self.bytes, &self.labels, samples, &self.histograms);
        if self.bytes.len() > self.bytes_max {
            return Err(Error::invalid(format!(
                "exceeded sample limit: the answer has more than {} bytes (an eighth of query.memory_bytes_max); \
                 ask for less time or fewer series, or accept STREAMED_XOR_CHUNKS",
                self.bytes_max
            )));
        }
        Ok(())
    }

    /// The body: a snappy block.
    ///
    /// # Errors
    /// `Internal` when snappy refuses it.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        let compressed = snap::raw::Encoder::new().compress_vec(&self.bytes);
        compressed.map_err(|error| Error::internal(format!("cannot compress the answer: {error}")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use foretell_engine::LabelSet;
    use foretell_proto::prometheus::v1::ReadResponse;
    use prost::Message as _;

    use super::*;

    pub(in super::super) fn series(name: &str, samples: usize) -> RawSeries {
        RawSeries {
            labels: LabelSet::from_pairs([("__name__", name), ("job", "a")]).unwrap(),
            ts_ms: (0..samples).map(|i| i as i64 * 15_000 - 30_000).collect(),
            values: (0..samples).map(|i| i as f64 * 0.5).collect(),
            histograms: Vec::new(),
        }
    }

    #[test]
    fn the_generated_types_read_what_is_written() {
        let mut samples = Samples::new(1 << 20);
        samples.result(|samples| ["a", "b"].iter().try_for_each(|name| samples.series(&series(name, 300)))).unwrap();
        samples.result(|_| Ok(())).unwrap();
        samples.result(|samples| samples.series(&series("c", 1))).unwrap();
        let body = snap::raw::Decoder::new().decompress_vec(&samples.finish().unwrap()).unwrap();
        let read = ReadResponse::decode(&*body).unwrap();
        let counts: Vec<Vec<usize>> = read
            .results
            .iter()
            .map(|result| result.timeseries.iter().map(|series| series.samples.len()).collect())
            .collect();
        assert_eq!(counts, [vec![300, 300], vec![], vec![1]]);
        let last = &read.results[0].timeseries[1];
        assert_eq!((last.labels[0].value.as_str(), last.labels[1].name.as_str()), ("b", "job"));
        assert_eq!((last.samples[3].timestamp, last.samples[3].value), (15_000, 1.5));
    }

    #[test]
    fn an_answer_is_bounded() {
        let mut samples = Samples::new(1000);
        let error = samples.result(|samples| samples.series(&series("a", 100))).unwrap_err();
        assert!(error.message.starts_with("exceeded sample limit"), "{}", error.message);
    }
}
