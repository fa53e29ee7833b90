//! From compressed bytes to a [`DecodedRequest`]: limits, and what the walks over the two protocols share.
//!
//! The walks are in [`v1`] and [`v2`]. Neither makes a struct per sample or per label: the bytes by which a series' labels came
//! are hashed with a seed, and this 128-bit key is what the engine knows the series by. Only a key it does not know has its
//! labels looked at.
mod v1;
mod v2;

use std::ops::RangeInclusive;

use super::fault::Fault;
use super::labels::WireLabels;
use super::request::{DecodedRequest, LabelSection};
use super::rows::{RowLimits, Rows};
use super::snappy;
use super::wire::{Cursor, FIXED64, LENGTH_DELIMITED, Malformed, VARINT};

/// Nanoseconds in a millisecond.
const NS_PER_MS: i64 = 1_000_000;
/// Earliest and latest millisecond that nanoseconds in an `i64` can express.
const TS_MS_MIN: i64 = i64::MIN / NS_PER_MS;
const TS_MS_MAX: i64 = i64::MAX / NS_PER_MS;

/// The two messages that a sender may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Protocol {
    /// As in metrics and messages.
    pub fn version(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V2 => "2.0",
        }
    }

    /// Full name of its message, as in `Content-Type: application/x-protobuf;proto=…`.
    pub fn message(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

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
    /// Symbols of a 2.0 request.
    pub symbols_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            wire_bytes_max: 8 << 20,
            decoded_bytes_max: 32 << 20,
            ratio_max: 100,
            samples_max: 2_000_000,
            symbols_max: 1_000_000,
        }
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
    /// Not what another protocol's route takes, with its compression: HTTP 400.
    #[error("{0}")]
    Body(String),
    /// Not the message that the content type names: HTTP 400.
    #[error("cannot decode the body as {}: {malformed}", protocol.message())]
    Malformed {
        /// What it should have been.
        protocol: Protocol,
        /// What is wrong, and where in the decompressed body.
        malformed: Malformed,
    },
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
    pub fn decode(&mut self, protocol: Protocol, snappy_body: &[u8]) -> Result<&mut DecodedRequest, DecodeError> {
        self.request.clear();
        self.request.by_reference = protocol == Protocol::V2;
        self.request.origins.word = "";
        let mut body = std::mem::take(&mut self.request.body);
        let walked = snappy::decompress(snappy_body, &self.limits, &mut body)
            .and_then(|len| self.walk(protocol, &body[..len]).map(|()| len));
        self.request.body = body;
        self.request.decoded_bytes = walked?;
        Ok(&mut self.request)
    }

    /// Rows to be filled by a walk over another protocol. See [`Rows`].
    pub(super) fn rows(&mut self, accepted_ns: RangeInclusive<i64>, now_ns: i64, point: &'static str) -> Rows<'_> {
        self.request.clear();
        let limits = RowLimits {
            samples_max: self.limits.samples_max,
            symbols_max: self.limits.symbols_max,
            text_bytes_max: self.limits.decoded_bytes_max,
            exemplar_bytes_max: EXEMPLAR_BYTES_MAX,
            histogram_weight_max: HISTOGRAM_WEIGHT_MAX,
        };
        Rows::new(&mut self.request, self.seed, limits, accepted_ns, now_ns, point)
    }

    /// What was decoded last.
    pub(super) fn request(&mut self) -> &mut DecodedRequest {
        &mut self.request
    }

    /// Gives back what an unusually large request has left behind.
    pub(crate) fn shrink(&mut self) {
        self.request.shrink();
    }

    fn walk(&mut self, protocol: Protocol, body: &[u8]) -> Result<(), DecodeError> {
        let mut walk = Walk {
            body,
            seed: self.seed,
            limits: &self.limits,
            accepted_ms: self.ts_ms_min..=self.ts_ms_max,
            request: &mut self.request,
        };
        let walked = match protocol {
            Protocol::V1 => v1::walk(&mut walk),
            Protocol::V2 => v2::walk(&mut walk),
        };
        walked.map_err(|stop| match stop {
            Stop::TooLarge(message) => DecodeError::TooLarge(message),
            Stop::Malformed(malformed) => DecodeError::Malformed { protocol, malformed },
        })
    }
}

/// Bytes of one native histogram; a longer one is refused before it is read.
const HISTOGRAM_BYTES_MAX: usize = 512 << 10;
/// Numbers of all native histograms of a request.
const HISTOGRAM_WEIGHT_MAX: usize = 4 << 20;
/// Bytes of all exemplars of a request.
const EXEMPLAR_BYTES_MAX: usize = 32 << 20;

/// What a request holds when a series begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    samples: usize,
    histograms: usize,
    exemplars: usize,
}

/// Why a walk ends before the end of the body.
enum Stop {
    TooLarge(String),
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// What a walk over one body needs and fills.
struct Walk<'a> {
    body: &'a [u8],
    seed: u64,
    limits: &'a DecodeLimits,
    /// Timestamps that are kept, ms.
    accepted_ms: RangeInclusive<i64>,
    request: &'a mut DecodedRequest,
}

impl Walk<'_> {
    /// Why a timestamp cannot be kept.
    #[inline]
    fn check_ts(&self, ts_ms: i64) -> Result<(), Fault> {
        match ts_ms {
            ts_ms if self.accepted_ms.contains(&ts_ms) => Ok(()),
            ts_ms if ts_ms < TS_MS_MIN => Err(Fault::TimestampOutOfRange { ts_ms }),
            ts_ms if ts_ms < *self.accepted_ms.start() => Err(Fault::TimestampPastRetention { ts_ms }),
            ..=TS_MS_MAX => Err(Fault::TimestampInFuture { ts_ms }),
            _ => Err(Fault::TimestampOutOfRange { ts_ms }),
        }
    }

    /// Adds a row, or notes why not. `series` renders the labels.
    #[inline]
    fn sample(&mut self, ts_ms: i64, value: f64, series: impl FnOnce(&Self) -> String) -> Result<(), Stop> {
        if let Err(fault) = self.check_ts(ts_ms) {
            self.request.faults.samples_dropped += 1;
            self.note(fault, series);
            return Ok(());
        }
        if self.request.ts.len() >= self.limits.samples_max {
            return Err(Stop::TooLarge(format!(
                "request of more than {} samples; send smaller requests",
                self.limits.samples_max
            )));
        }
        self.request.ts.push(ts_ms.wrapping_mul(NS_PER_MS));
        self.request.values.push(value);
        Ok(())
    }

    /// Remembers a fault if it is the first of the request.
    #[cold]
    fn note(&mut self, fault: Fault, series: impl FnOnce(&Self) -> String) {
        if self.request.faults.first().is_none() {
            let series = series(self);
            let place = if series.is_empty() { series } else { format!("series {series}") };
            self.request.faults.note(fault, || place);
        }
    }

    /// Adds the native histogram at offset `base` of the body, or notes why not. `series` renders the labels.
    fn histogram(&mut self, message: &[u8], base: usize, series: impl FnOnce(&Self) -> String) -> Result<(), Stop> {
        let read = if message.len() > HISTOGRAM_BYTES_MAX {
            Err(Fault::Histogram("it has more than 512 KiB"))
        } else {
            let histograms = &mut self.request.histograms;
            let head = histograms.read(message).map_err(|malformed| malformed.inside(base))?;
            let checked = histograms.check(&head).map_err(Fault::Histogram);
            checked.and_then(|()| self.check_ts(head.ts_ms)).map(|()| head)
        };
        let histograms = &mut self.request.histograms;
        match read {
            Ok(head) => {
                let of = self.request.keys.len() as u32;
                histograms.keep(&head, of, head.ts_ms.wrapping_mul(NS_PER_MS));
                if histograms.weight() > HISTOGRAM_WEIGHT_MAX {
                    return Err(Stop::TooLarge("request of too many native histograms; send smaller requests".into()));
                }
            }
            Err(fault) => {
                histograms.discard();
                self.request.faults.histograms_dropped += 1;
                self.note(fault, series);
            }
        }
        Ok(())
    }

    /// Adds an exemplar, or notes why not. `labels` are its label bytes, of the kind that the protocol has.
    fn exemplar(
        &mut self,
        ts_ms: i64,
        value: f64,
        labels: &[u8],
        series: impl FnOnce(&Self) -> String,
    ) -> Result<(), Stop> {
        let checked = self.check_ts(ts_ms);
        let request = &mut *self.request;
        let labels = if request.by_reference {
            WireLabels::refs(labels, &request.symbols, self.body)
        } else {
            WireLabels::fields(labels)
        };
        let of = request.keys.len() as u32;
        let pushed = checked.and_then(|()| {
            let ts = ts_ms.wrapping_mul(NS_PER_MS);
            request.exemplars.push(of, ts, value, labels).map_err(Fault::Exemplar)
        });
        if let Err(fault) = pushed {
            request.faults.exemplars_dropped += 1;
            self.note(fault, series);
        } else if request.exemplars.weight() > EXEMPLAR_BYTES_MAX {
            return Err(Stop::TooLarge("request of too many exemplars; send smaller requests".into()));
        }
        Ok(())
    }

    /// Where the next series begins.
    fn mark(&self) -> Mark {
        let request = &self.request;
        Mark { samples: request.ts.len(), histograms: request.histograms.len(), exemplars: request.exemplars.len() }
    }

    /// Whether a series has brought nothing that is kept.
    fn is_empty_since(&self, mark: Mark) -> bool {
        self.mark() == mark
    }

    /// Takes back what a series without labels has brought.
    fn drop_unlabelled(&mut self, mark: Mark) {
        let end = self.mark();
        let request = &mut *self.request;
        request.ts.truncate(mark.samples);
        request.values.truncate(mark.samples);
        request.histograms.truncate(mark.histograms);
        request.exemplars.truncate(mark.exemplars);
        request.faults.samples_dropped += (end.samples - mark.samples) as u64;
        request.faults.histograms_dropped += (end.histograms - mark.histograms) as u64;
        request.faults.exemplars_dropped += (end.exemplars - mark.exemplars) as u64;
        self.note(Fault::NoLabels, |_| String::new());
    }

    /// Ends a series that began at `mark`.
    fn end_series(&mut self, key: u128, section: LabelSection, mark: Mark) {
        self.request.keys.push(key);
        self.request.runs.push((self.request.ts.len() - mark.samples) as u32);
        self.request.sections.push(section);
    }

    /// Keeps a copy of label bytes that do not lie together.
    fn gather(&mut self, bytes: &[u8]) -> LabelSection {
        let start = self.request.gathered.len();
        self.request.gathered.extend_from_slice(bytes);
        LabelSection::Gathered { start: start as u32, end: self.request.gathered.len() as u32 }
    }
}

/// (timestamp in ms, value) of an encoded `Sample`; absent fields are 0, as protobuf says. 2.0 adds a start timestamp.
#[inline]
fn sample(message: &[u8], protocol: Protocol) -> Result<(i64, f64), Malformed> {
    usual_sample(message).map_or_else(|| sample_any_order(message, protocol), Ok)
}

fn sample_any_order(message: &[u8], protocol: Protocol) -> Result<(i64, f64), Malformed> {
    let (mut ts_ms, mut value) = (0i64, 0f64);
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (1, FIXED64) => value = f64::from_bits(cursor.fixed64()?),
            (2, VARINT) => ts_ms = cursor.varint()? as i64,
            (3, wire_type) if protocol == Protocol::V1 || wire_type == VARINT => cursor.skip(wire_type)?,
            (1..=3, _) => return Err(cursor.malformed("wrong wire type of a Sample field")),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok((ts_ms, value))
}

/// (timestamp in ms, value) of an encoded `Sample` as every sender writes it: value, then timestamp, nothing else.
#[inline]
fn usual_sample(message: &[u8]) -> Option<(i64, f64)> {
    let (&[0x09, v0, v1, v2, v3, v4, v5, v6, v7, 0x10], rest) = message.split_first_chunk::<10>()? else {
        return None;
    };
    let mut cursor = Cursor::new(rest);
    let ts = cursor.varint().ok()?;
    cursor.is_at_end().then(|| (ts as i64, f64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7])))
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
