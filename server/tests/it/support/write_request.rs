//! A tiny encoder of `prometheus.WriteRequest` that can also write what no honest sender would.

/// A series to encode.
#[derive(Clone, Debug, Default)]
pub struct Series {
    labels: Vec<(Vec<u8>, Vec<u8>)>,
    samples: Vec<(i64, f64)>,
    histograms: usize,
    exemplars: usize,
}

impl Series {
    /// With labels in the given order.
    pub fn new<N: AsRef<[u8]>, V: AsRef<[u8]>>(labels: &[(N, V)]) -> Self {
        let labels = labels.iter().map(|(name, value)| (name.as_ref().to_vec(), value.as_ref().to_vec())).collect();
        Self { labels, ..Self::default() }
    }
    /// Of metric `name` with a `job`.
    pub fn of(name: &str, job: &str) -> Self {
        Self::new(&[("__name__", name), ("job", job)])
    }
    pub fn sample(mut self, ts_ms: i64, value: f64) -> Self {
        self.samples.push((ts_ms, value));
        self
    }
    pub fn histogram(mut self) -> Self {
        self.histograms += 1;
        self
    }
    pub fn exemplar(mut self) -> Self {
        self.exemplars += 1;
        self
    }
}

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

/// The protobuf bytes.
pub fn encode(series: &[Series]) -> Vec<u8> {
    let mut request = Vec::new();
    for one in series {
        let mut message = Vec::new();
        for (name, value) in &one.labels {
            let mut label = Vec::new();
            delimited(0x0a, name, &mut label);
            delimited(0x12, value, &mut label);
            delimited(0x0a, &label, &mut message);
        }
        for (ts_ms, value) in &one.samples {
            let mut sample = vec![0x09];
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(0x10);
            varint(*ts_ms as u64, &mut sample);
            delimited(0x12, &sample, &mut message);
        }
        for _ in 0..one.exemplars {
            delimited(0x1a, &[0x18, 0x01], &mut message);
        }
        for _ in 0..one.histograms {
            delimited(0x22, &[0x78, 0x01], &mut message);
        }
        delimited(0x0a, &message, &mut request);
    }
    request
}

pub fn compress(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

/// What goes over the wire.
pub fn body(series: &[Series]) -> Vec<u8> {
    compress(&encode(series))
}
