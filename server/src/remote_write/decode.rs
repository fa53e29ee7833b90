//! The walk over a `WriteRequest` into columns, without a struct per sample or per label.
//!
//! Wire shape (`prometheus.WriteRequest` 1.0):
//! ```text
//!  1 timeseries { 1 label { 1 name, 2 value }*  2 sample { 1 double value, 2 int64 ms }*  3 exemplar*  4 histogram* }*
//!  3 metadata*
//! ```
//! The bytes of a series' label fields, taken together, are its name on the wire: their seeded 128-bit hash is the key by
//! which the engine knows the series. Only a key it does not know has its labels looked at.
use foretell_engine::WriteBatch;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::fault::{Fault, Faults};
use super::snappy;
use super::wire::{Cursor, LENGTH_DELIMITED, Malformed};

/// Nanoseconds in a millisecond.
const NS_PER_MS: i64 = 1_000_000;
/// Earliest and latest millisecond that nanoseconds in an `i64` can express.
const TS_MS_MIN: i64 = i64::MIN / NS_PER_MS;
const TS_MS_MAX: i64 = i64::MAX / NS_PER_MS;
/// Buffers above this size are given back rather than kept for the next request.
const RETAINED_BYTES_MAX: usize = 4 << 20;

/// Caps on one request.
#[derive(Clone, Debug)]
pub struct DecodeLimits {
    /// Compressed bytes.
    pub wire_bytes_max: usize,
    /// Decompressed bytes.
    pub decoded_bytes_max: usize,
    /// Decompressed bytes per compressed byte.
    pub ratio_max: usize,
    /// Samples, and series with samples: what a request of tiny messages may blow up to.
    pub samples_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { wire_bytes_max: 8 << 20, decoded_bytes_max: 32 << 20, ratio_max: 100, samples_max: 2_000_000 }
    }
}

/// Why a request as a whole is refused; nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Above a cap: HTTP 413.
    #[error("{0}")]
    TooLarge(String),
    /// Not a snappy block: HTTP 400.
    #[error("cannot decompress the body as a snappy block: {0}")]
    Snappy(String),
    /// Not a `WriteRequest`: HTTP 400.
    #[error("cannot decode the body as prometheus.WriteRequest: {0}")]
    Malformed(#[from] Malformed),
}

/// Where a series' label fields lie.
#[derive(Clone, Copy, Debug)]
enum LabelSection {
    /// In the decompressed body.
    Body { start: u32, end: u32 },
    /// Gathered, because other fields stood between them.
    Gathered { start: u32, end: u32 },
}

/// One decoded request: per series a key and a run length, per sample a row of two columns.
#[derive(Debug, Default)]
pub struct DecodedRequest {
    /// Seeded hash of each series' label bytes.
    pub keys: Vec<u128>,
    /// Samples of each series: the next `runs[i]` rows are of series `i`. Never 0.
    pub runs: Vec<u32>,
    /// Nanoseconds UTC of each row.
    pub ts: Vec<i64>,
    /// Value of each row, exact bits.
    pub values: Vec<f64>,
    /// Exemplars seen (and ignored).
    pub exemplars: u64,
    /// Native histograms seen (and not stored).
    pub histograms: u64,
    /// Metadata entries seen (and ignored).
    pub metadata: u64,
    /// Decompressed size, bytes.
    pub decoded_bytes: usize,
    /// What was dropped during the walk.
    pub faults: Faults,
    sections: Vec<LabelSection>,
    body: Vec<u8>,
    gathered: Vec<u8>,
}

impl DecodedRequest {
    /// The encoded label fields of series `i`.
    pub fn label_bytes(&self, i: usize) -> &[u8] {
        match self.sections[i] {
            LabelSection::Body { start, end } => &self.body[start as usize..end as usize],
            LabelSection::Gathered { start, end } => &self.gathered[start as usize..end as usize],
        }
    }

    /// Moves the sample columns out; the next request starts with fresh ones of the same capacity.
    pub(crate) fn take_columns(&mut self) -> WriteBatch {
        let rows = self.ts.len();
        WriteBatch {
            ts: std::mem::replace(&mut self.ts, Vec::with_capacity(rows)),
            values: std::mem::replace(&mut self.values, Vec::with_capacity(rows)),
            ..WriteBatch::default()
        }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.runs.clear();
        self.ts.clear();
        self.values.clear();
        self.sections.clear();
        self.gathered.clear();
        self.exemplars = 0;
        self.histograms = 0;
        self.metadata = 0;
        self.decoded_bytes = 0;
        self.faults = Faults::default();
    }
}

/// Decodes requests one after another into the same buffers.
#[derive(Debug)]
pub struct Decoder {
    seed: u64,
    limits: DecodeLimits,
    ts_ms_min: i64,
    ts_ms_max: i64,
    request: DecodedRequest,
}

impl Decoder {
    /// A decoder whose keys are hashed with `seed`. Keys of different seeds must not meet in one engine.
    pub fn new(seed: u64, limits: DecodeLimits) -> Self {
        Self { seed, limits, ts_ms_min: TS_MS_MIN, ts_ms_max: TS_MS_MAX, request: DecodedRequest::default() }
    }

    /// Refuses samples earlier than this from now on.
    pub fn accept_from_ms(&mut self, ts_ms_min: i64) {
        self.ts_ms_min = ts_ms_min.max(TS_MS_MIN);
    }

    /// Refuses samples later than this from now on.
    pub fn accept_until_ms(&mut self, ts_ms_max: i64) {
        self.ts_ms_max = ts_ms_max.min(TS_MS_MAX);
    }

    /// Decodes one compressed request; the answer is valid until the next call.
    ///
    /// # Errors
    /// See [`DecodeError`]: the request is refused as a whole.
    pub fn decode(&mut self, snappy_body: &[u8]) -> Result<&mut DecodedRequest, DecodeError> {
        self.request.clear();
        let mut body = std::mem::take(&mut self.request.body);
        let walked = snappy::decompress(snappy_body, &self.limits, &mut body)
            .and_then(|len| self.walk(&body[..len]).map(|()| len));
        self.request.body = body;
        self.request.decoded_bytes = walked?;
        Ok(&mut self.request)
    }

    /// Gives back what an unusually large request has left behind.
    pub(crate) fn shrink(&mut self) {
        let request = &mut self.request;
        if request.body.capacity() > RETAINED_BYTES_MAX {
            request.body = Vec::new();
        }
        if request.ts.capacity() * size_of::<i64>() > RETAINED_BYTES_MAX {
            request.ts = Vec::new();
            request.values = Vec::new();
        }
        if request.keys.capacity() * size_of::<u128>() > RETAINED_BYTES_MAX {
            request.keys = Vec::new();
            request.runs = Vec::new();
            request.sections = Vec::new();
        }
        request.gathered = Vec::new();
    }

    fn walk(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(body);
        while !cursor.is_at_end() {
            match cursor.tag()? {
                (1, LENGTH_DELIMITED) => {
                    let series = cursor.delimited()?;
                    self.series(series, cursor.position() - series.len())?;
                }
                (3, LENGTH_DELIMITED) => {
                    cursor.skip(LENGTH_DELIMITED)?;
                    self.request.metadata += 1;
                }
                (1 | 3, _) => return Err(cursor.malformed("wrong wire type of a WriteRequest field").into()),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
        }
        Ok(())
    }

    /// One series; `base` is its offset in the body.
    fn series(&mut self, series: &[u8], base: usize) -> Result<(), DecodeError> {
        let at_offset = |malformed: Malformed| Malformed { offset: malformed.offset + base, ..malformed };
        let first_row = self.request.ts.len();
        let mut dropped = 0u64;
        let mut labels: Option<(usize, usize)> = None;
        let mut scattered = false;
        let mut cursor = Cursor::new(series);
        while let Some(tag) = cursor.peek() {
            let field_start = cursor.position();
            match tag {
                0x0a => {
                    cursor.advance_one();
                    cursor.delimited().map_err(at_offset)?;
                    labels = match labels {
                        None => Some((field_start, cursor.position())),
                        Some((start, end)) if end == field_start => Some((start, cursor.position())),
                        Some(other) => {
                            scattered = true;
                            Some(other)
                        }
                    };
                }
                0x12 => {
                    cursor.advance_one();
                    let message = cursor.delimited().map_err(at_offset)?;
                    let (ts_ms, value) = sample(message).map_err(at_offset)?;
                    if ts_ms < self.ts_ms_min || ts_ms > self.ts_ms_max {
                        dropped += 1;
                        let fault = match ts_ms {
                            ..TS_MS_MIN => Fault::TimestampOutOfRange { ts_ms },
                            _ if ts_ms < self.ts_ms_min => Fault::TimestampPastRetention { ts_ms },
                            ..=TS_MS_MAX => Fault::TimestampInFuture { ts_ms },
                            _ => Fault::TimestampOutOfRange { ts_ms },
                        };
                        self.request.faults.note(fault, || label_fields(series));
                        continue;
                    }
                    if self.request.ts.len() >= self.limits.samples_max {
                        return Err(DecodeError::TooLarge(format!(
                            "request of more than {} samples; send smaller requests",
                            self.limits.samples_max
                        )));
                    }
                    self.request.ts.push(ts_ms.wrapping_mul(NS_PER_MS));
                    self.request.values.push(value);
                }
                0x1a => {
                    cursor.advance_one();
                    cursor.skip(LENGTH_DELIMITED).map_err(at_offset)?;
                    self.request.exemplars += 1;
                }
                0x22 => {
                    cursor.advance_one();
                    cursor.skip(LENGTH_DELIMITED).map_err(at_offset)?;
                    self.request.histograms += 1;
                    self.request.faults.note(Fault::NativeHistogram, || label_fields(series));
                }
                _ => {
                    let (number, wire_type) = cursor.tag().map_err(at_offset)?;
                    if (1..=4).contains(&number) {
                        return Err(at_offset(cursor.malformed("wrong wire type of a TimeSeries field")).into());
                    }
                    cursor.skip(wire_type).map_err(at_offset)?;
                }
            }
        }
        self.request.faults.samples_dropped += dropped;
        let rows = self.request.ts.len() - first_row;
        if rows == 0 {
            return Ok(());
        }
        let Some((start, end)) = labels else {
            self.request.ts.truncate(first_row);
            self.request.values.truncate(first_row);
            self.request.faults.note(Fault::NoLabels, Vec::new);
            self.request.faults.samples_dropped += rows as u64;
            return Ok(());
        };
        let section = if scattered {
            let start = self.request.gathered.len();
            self.request.gathered.extend_from_slice(&label_fields(series));
            LabelSection::Gathered { start: start as u32, end: self.request.gathered.len() as u32 }
        } else {
            LabelSection::Body { start: (base + start) as u32, end: (base + end) as u32 }
        };
        let key = match section {
            LabelSection::Body { .. } => xxh3_128_with_seed(&series[start..end], self.seed),
            LabelSection::Gathered { start, .. } => {
                xxh3_128_with_seed(&self.request.gathered[start as usize..], self.seed)
            }
        };
        self.request.keys.push(key);
        self.request.runs.push(rows as u32);
        self.request.sections.push(section);
        Ok(())
    }
}

/// (timestamp in ms, value) of an encoded `Sample`; absent fields are 0, as protobuf says.
#[inline]
fn sample(message: &[u8]) -> Result<(i64, f64), Malformed> {
    // What every sender writes: value, then a timestamp.
    if let Some((&[0x09, v0, v1, v2, v3, v4, v5, v6, v7, 0x10], rest)) = message.split_first_chunk::<10>() {
        let mut cursor = Cursor::new(rest);
        let ts = cursor.varint()?;
        if cursor.is_at_end() {
            return Ok((ts as i64, f64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7])));
        }
    }
    sample_any_order(message)
}

fn sample_any_order(message: &[u8]) -> Result<(i64, f64), Malformed> {
    let (mut ts_ms, mut value) = (0i64, 0f64);
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (1, super::wire::FIXED64) => value = f64::from_bits(cursor.fixed64()?),
            (2, super::wire::VARINT) => ts_ms = cursor.varint()? as i64,
            (1 | 2, _) => return Err(cursor.malformed("wrong wire type of a Sample field")),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok((ts_ms, value))
}

/// Copies the label fields of a series together. For scattered labels and for messages about faults; broken input ends it early.
fn label_fields(series: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut cursor = Cursor::new(series);
    while !cursor.is_at_end() {
        let start = cursor.position();
        let Ok((number, wire_type)) = cursor.tag() else { break };
        if cursor.skip(wire_type).is_err() {
            break;
        }
        if number == 1 {
            fields.extend_from_slice(&series[start..cursor.position()]);
        }
    }
    fields
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
