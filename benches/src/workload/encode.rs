//! Remote write 1.0 bodies, written by hand into reused buffers: a label set is encoded once and copied for each sample.
use anyhow::Result;

/// Appends `n` as a protobuf varint.
fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn varint_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_text(out: &mut Vec<u8>, tag: u8, text: &str) {
    if !text.is_empty() {
        put_field(out, tag, text.as_bytes());
    }
}

fn put_field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The `labels` fields of a `TimeSeries`. The pairs must be sorted by name.
pub fn encode_labels<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Box<[u8]> {
    let (mut out, mut label) = (Vec::new(), Vec::new());
    for (name, value) in pairs {
        label.clear();
        put_text(&mut label, 0x0a, name.as_ref());
        put_text(&mut label, 0x12, value.as_ref());
        put_field(&mut out, 0x0a, &label);
    }
    out.into_boxed_slice()
}

/// The pairs behind [`encode_labels`].
///
/// # Errors
/// When the bytes are not such fields.
pub fn decode_labels(labels: &[u8]) -> Result<Vec<(String, String)>> {
    use prost::Message as _;
    let series = foretell_proto::prometheus::v1::TimeSeries::decode(labels)?;
    Ok(series.labels.into_iter().map(|label| (label.name, label.value)).collect())
}

/// Bytes of the fields of a sample. proto3 leaves out what equals the default; prost counts -0.0 among that and loses its
/// sign, here it keeps its bits.
fn sample_len(ts_ms: i64, value: f64) -> usize {
    let value_len = if value.to_bits() == 0 { 0 } else { 9 };
    value_len + if ts_ms == 0 { 0 } else { 1 + varint_len(ts_ms as u64) }
}

fn put_sample(out: &mut Vec<u8>, ts_ms: i64, value: f64) {
    out.push(0x12);
    put_varint(out, sample_len(ts_ms, value) as u64);
    if value.to_bits() != 0 {
        out.push(0x09);
        out.extend_from_slice(&value.to_le_bytes());
    }
    if ts_ms != 0 {
        out.push(0x10);
        put_varint(out, ts_ms as u64);
    }
}

/// Builds one request body after another.
pub struct BodyEncoder {
    raw: Vec<u8>,
    /// Samples of the series that is being added.
    run: Vec<u8>,
    compressed: Vec<u8>,
    snappy: snap::raw::Encoder,
    samples: usize,
}

impl Default for BodyEncoder {
    fn default() -> Self {
        Self { raw: Vec::new(), run: Vec::new(), compressed: Vec::new(), snappy: snap::raw::Encoder::new(), samples: 0 }
    }
}

impl BodyEncoder {
    /// Adds a series with one sample.
    pub fn push(&mut self, labels: &[u8], ts_ms: i64, value: f64) {
        let sample_len = sample_len(ts_ms, value);
        let series_len = labels.len() + 1 + varint_len(sample_len as u64) + sample_len;
        self.raw.push(0x0a);
        put_varint(&mut self.raw, series_len as u64);
        self.raw.extend_from_slice(labels);
        put_sample(&mut self.raw, ts_ms, value);
        self.samples += 1;
    }

    /// Adds a series with a sample for each time (ms) and value.
    pub fn push_run(&mut self, labels: &[u8], samples: impl IntoIterator<Item = (i64, f64)>) {
        self.run.clear();
        for (ts_ms, value) in samples {
            put_sample(&mut self.run, ts_ms, value);
            self.samples += 1;
        }
        self.raw.push(0x0a);
        put_varint(&mut self.raw, (labels.len() + self.run.len()) as u64);
        self.raw.extend_from_slice(labels);
        self.raw.extend_from_slice(&self.run);
    }

    /// Adds a series with one native histogram, which is an encoded message.
    pub fn push_histogram(&mut self, labels: &[u8], histogram: &[u8]) {
        let series_len = labels.len() + 1 + varint_len(histogram.len() as u64) + histogram.len();
        self.raw.push(0x0a);
        put_varint(&mut self.raw, series_len as u64);
        self.raw.extend_from_slice(labels);
        put_field(&mut self.raw, 0x22, histogram);
        self.samples += 1;
    }

    /// Samples in the body so far.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The body so far, before compression.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Ends the body: its snappy bytes. The next [`BodyEncoder::push`] begins another.
    ///
    /// # Errors
    /// When a body exceeds snappy's 4 GiB.
    pub fn finish(&mut self) -> Result<&[u8]> {
        self.compressed.resize(snap::raw::max_compress_len(self.raw.len()), 0);
        let len = self.snappy.compress(&self.raw, &mut self.compressed)?;
        self.raw.clear();
        self.samples = 0;
        Ok(&self.compressed[..len])
    }
}
