//! Rows that come by other protocols, made into the columns of a [`DecodedRequest`]: the rest of the way is that of remote write.
//!
//! Each different string of a request is kept once, as a symbol; a series is a list of references to symbols, as in remote
//! write 2.0. A sample so costs its two columns, a key and two bytes a label, whatever the length of its labels.
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::ops::RangeInclusive;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::decode::DecodeError;
use super::exemplar::Exemplars;
use super::fault::Fault;
use super::labels::WireLabels;
use super::metadata::{Identity, Text};
use super::request::{DecodedRequest, LabelSection};
use super::symbols::SERIES_DOMAIN;
use crate::sender::encode::put_varint;

/// References to the symbols of a series: (name, value) of each label, packed.
pub(crate) type Refs = Vec<u8>;

/// Caps on what a request may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLimits {
    pub(super) samples_max: usize,
    pub(super) symbols_max: usize,
    /// Bytes of all strings, and of all references, each.
    pub(super) text_bytes_max: usize,
    /// Bytes of all exemplars.
    pub(super) exemplar_bytes_max: usize,
    /// Numbers of all native histograms.
    pub(super) histogram_weight_max: usize,
}

/// The columns of one request while they are filled.
pub(crate) struct Rows<'a> {
    request: &'a mut DecodedRequest,
    seed: u64,
    limits: RowLimits,
    accepted_ns: RangeInclusive<i64>,
    now_ns: i64,
    known: HashMap<u128, u32, BuildHasherDefault<Identity>>,
}

impl<'a> Rows<'a> {
    /// Rows for `request`, which is empty. `point` is what senders call the things they send: "line", "data point".
    pub(super) fn new(
        request: &'a mut DecodedRequest,
        seed: u64,
        limits: RowLimits,
        accepted_ns: RangeInclusive<i64>,
        now_ns: i64,
        point: &'static str,
    ) -> Self {
        request.by_reference = true;
        request.origins.word = point;
        // Symbols are appended to the body, so what an earlier request left there must go.
        request.body.clear();
        Self { request, seed, limits, accepted_ns, now_ns, known: HashMap::default() }
    }

    /// The time of this request, ns UTC: that of points which have none.
    pub(crate) fn now_ns(&self) -> i64 {
        self.now_ns
    }

    /// A number for a string.
    ///
    /// # Errors
    /// When the request has too many, or too many bytes of them.
    pub(crate) fn symbol(&mut self, text: &[u8]) -> Result<u32, DecodeError> {
        let hash = xxh3_128_with_seed(text, self.seed);
        if let Some(&known) = self.known.get(&hash) {
            return Ok(known);
        }
        let (request, limits) = (&mut *self.request, &self.limits);
        if request.symbols.len() >= limits.symbols_max {
            return Err(too_large(format!("more than {} different names and values", limits.symbols_max)));
        }
        let start = request.body.len();
        if start + text.len() > limits.text_bytes_max {
            return Err(too_large(format!("more than {} bytes of names and values", limits.text_bytes_max)));
        }
        request.body.extend_from_slice(text);
        let number = request.symbols.len() as u32;
        request.symbols.push(&request.body, start, start + text.len(), self.seed);
        self.known.insert(hash, number);
        Ok(number)
    }

    /// The string of a number.
    pub(crate) fn text(&self, symbol: u32) -> &[u8] {
        let span = self.request.symbols.span(u64::from(symbol)).unwrap_or_default();
        &self.request.body[span.0 as usize..span.1 as usize]
    }

    /// Adds a label to the references of a series.
    ///
    /// # Errors
    /// As [`Rows::symbol`].
    pub(crate) fn label(&mut self, refs: &mut Refs, name: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        for text in [name, value] {
            let symbol = self.symbol(text)?;
            put_varint(refs, u64::from(symbol));
        }
        Ok(())
    }

    /// Whether a point of this time can be kept.
    pub(crate) fn check_ts(&self, ts: i64) -> Result<(), Fault> {
        let ts_ms = ts.div_euclid(1_000_000);
        match ts {
            ts if self.accepted_ns.contains(&ts) => Ok(()),
            ts if ts < *self.accepted_ns.start() => Err(Fault::TimestampPastRetention { ts_ms }),
            _ => Err(Fault::TimestampInFuture { ts_ms }),
        }
    }

    /// Adds a sample of a checked time; `origin` is the number of its point, which never falls.
    ///
    /// # Errors
    /// When the request has too many.
    pub(crate) fn sample(&mut self, refs: &[u8], ts: i64, value: f64, origin: u32) -> Result<(), DecodeError> {
        if self.request.ts.len() >= self.limits.samples_max {
            return Err(too_large(format!("more than {} samples", self.limits.samples_max)));
        }
        self.series(refs, origin)?;
        let request = &mut *self.request;
        if let Some(run) = request.runs.last_mut() {
            *run += 1;
        }
        request.ts.push(ts);
        request.values.push(value);
        Ok(())
    }

    /// Adds a native histogram, given as the message that remote write has for it, or says why not.
    ///
    /// # Errors
    /// When the request has too many.
    pub(crate) fn histogram(
        &mut self,
        refs: &[u8],
        ts: i64,
        message: &[u8],
        origin: u32,
    ) -> Result<Result<(), Fault>, DecodeError> {
        let histograms = &mut self.request.histograms;
        let read = histograms.read(message).map_err(|_| "it cannot be read");
        let head = match read.and_then(|head| histograms.check(&head).map(|()| head)) {
            Ok(head) => head,
            Err(why) => {
                histograms.discard();
                return Ok(Err(Fault::Histogram(why)));
            }
        };
        let of = self.request.keys.len() as u32;
        self.request.histograms.keep(&head, of, ts);
        self.series(refs, origin)?;
        if self.request.histograms.weight() > self.limits.histogram_weight_max {
            return Err(too_large("too many native histograms".to_owned()));
        }
        Ok(Ok(()))
    }

    /// Adds an exemplar to the series that was added last. `labels` are `Label` fields.
    ///
    /// # Errors
    /// When the request has too many.
    pub(crate) fn exemplar(&mut self, ts: i64, value: f64, labels: &[u8]) -> Result<(), DecodeError> {
        let Some(of) = (self.request.keys.len() as u32).checked_sub(1) else { return Ok(()) };
        let exemplars: &mut Exemplars = &mut self.request.exemplars;
        if exemplars.push(of, ts, value, WireLabels::fields(labels)).is_err() {
            self.request.faults.exemplars_dropped += 1;
        } else if exemplars.weight() > self.limits.exemplar_bytes_max {
            return Err(too_large("too many exemplars".to_owned()));
        }
        Ok(())
    }

    /// Notes that exemplars cannot be kept.
    pub(crate) fn drop_exemplars(&mut self, count: u64) {
        self.request.faults.exemplars_dropped += count;
    }

    /// Notes that a point cannot be kept; `samples` is how many it had, as far as that is known.
    pub(crate) fn refuse(&mut self, fault: Fault, origin: u32, samples: u64, place: impl FnOnce() -> String) {
        self.request.faults.samples_dropped += samples;
        self.request.origins.dropped += 1;
        let word = self.request.origins.word;
        self.request.faults.note(fault, || match place() {
            place if place.is_empty() => format!("{word} {origin}"),
            place => format!("{word} {origin}, {place}"),
        });
    }

    /// Says what a metric is.
    ///
    /// # Errors
    /// As [`Rows::symbol`].
    pub(crate) fn describe(&mut self, name: &[u8], kind: u64, help: &[u8], unit: &[u8]) -> Result<(), DecodeError> {
        let mut text = |bytes: &[u8]| -> Result<Text, DecodeError> {
            let symbol = self.symbol(bytes)?;
            Ok(self.request.symbols.text(u64::from(symbol)).unwrap_or_default())
        };
        let (name, help, unit) = (text(name)?, text(help)?, text(unit)?);
        self.request.descriptions.push(name, kind, help, unit, self.seed);
        Ok(())
    }

    /// Opens the series of these labels.
    fn series(&mut self, refs: &[u8], origin: u32) -> Result<(), DecodeError> {
        let request = &mut *self.request;
        // References are made here, in pairs.
        let key = request.symbols.key(refs, self.seed ^ SERIES_DOMAIN).unwrap_or_default();
        let start = request.gathered.len();
        if start + refs.len() > self.limits.text_bytes_max {
            return Err(too_large(format!("more than {} bytes of references to labels", self.limits.text_bytes_max)));
        }
        request.gathered.extend_from_slice(refs);
        let end = request.gathered.len() as u32;
        request.sections.push(LabelSection::Gathered { start: start as u32, end });
        request.keys.push(key);
        request.runs.push(0);
        request.origins.of.push(origin);
        Ok(())
    }
}

fn too_large(what: String) -> DecodeError {
    DecodeError::TooLarge(format!("request of {what}; send smaller requests"))
}
