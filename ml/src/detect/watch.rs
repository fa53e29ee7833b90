//! One bit a sample at the least cost: what watches every series of a store beside its ingest.
//!
//! Judged as [`Ewma`](super::ewma) with a memory of 64 values and its own tail: a sample is anomalous when its score is above
//! 1.0. A series that rises only, but for resets, over its first rows is a counter and judged by its rate. Nine samples of ten
//! lie within two spreads and need neither a root nor a division. The state is one line of a core's cache.
use super::ewma::{self, Moments};
use super::outlook::Outlook;
use super::start::{self, is_reset};
use super::tail::Tail;
use crate::Result;
use crate::error::Error;
use crate::state::{Put, Reader};

/// Rows that say whether a series is a counter; none of them is judged.
const START: u16 = start::ROWS as u16;
/// From this value on each has the same share of mean and variance.
const STEADY: u16 = 32;
/// Deviations of which the square is below this many variances are usual, whatever the tail: no boundary is so near.
const USUAL: f64 = 4.0;
/// Squares of spreads below this share of the mean's square are rounding.
const ROUNDING_SQUARE: f64 = 1e-28;

const SECOND_NS: f64 = 1e9;

/// What a series is taken for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Starting,
    Gauge,
    Counter,
}

/// How one sample looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sight {
    /// Nothing is known against it: within the boundary, or too early to say.
    Usual,
    /// Beyond the boundary, with a score above 1.0.
    Anomalous(f64),
    /// Not newer than another one: not looked at.
    Late,
}

/// The state of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    last_ts: i64,
    last: f64,
    moments: Moments,
    tail: Tail,
    count: u16,
    kind: Kind,
    rises: u8,
    resets: u8,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            last_ts: i64::MIN,
            last: 0.0,
            moments: Moments::default(),
            tail: Tail::default(),
            count: 0,
            kind: Kind::Starting,
            rises: 0,
            resets: 0,
        }
    }
}

impl Watch {
    /// Of a series that is known to be a counter.
    pub fn of_counter() -> Self {
        Self { kind: Kind::Counter, last: f64::MAX, ..Self::default() }
    }

    /// Version of [`Watch::save`]: bytes of another one cannot be gone on with.
    pub const VERSION: u8 = 1;

    /// Looks at the sample of `ts` (ns), then learns it. NaN (stale markers among them) is usual and teaches nothing; an infinite
    /// value is anomalous, once the others are known, and teaches nothing.
    #[inline]
    pub fn look(&mut self, ts: i64, value: f64) -> Sight {
        if ts <= self.last_ts {
            return Sight::Late;
        }
        if !value.is_finite() {
            let known = !value.is_nan() && self.kind != Kind::Starting && self.count >= START;
            return if known { Sight::Anomalous(f64::INFINITY) } else { Sight::Usual };
        }
        let (since, before) = (ts.wrapping_sub(self.last_ts), self.last);
        self.last_ts = ts;
        match self.kind {
            Kind::Gauge => self.judge(value),
            Kind::Counter => {
                self.last = value;
                if value >= before {
                    // The wrapped difference is right up to 292 years as a number without sign.
                    let rate = (value - before) * (SECOND_NS / since.cast_unsigned() as f64);
                    self.judge(rate.min(f64::MAX))
                } else if is_reset(before, value) {
                    Sight::Usual
                } else {
                    self.become_a(Kind::Gauge);
                    self.judge(value)
                }
            }
            Kind::Starting => {
                self.last = value;
                self.begin(before, value);
                Sight::Usual
            }
        }
    }

    fn judge(&mut self, value: f64) -> Sight {
        let Moments { mean, variance } = self.moments;
        let deviation = value - mean;
        let square = deviation * deviation;
        let usual = square <= USUAL * variance && variance > ROUNDING_SQUARE * mean * mean || deviation == 0.0;
        if usual && self.count >= STEADY {
            self.count = self.count.saturating_add(1);
            self.tail.learn(0.0);
            self.moments.mean += ewma::SLOW * deviation;
            self.moments.variance += ewma::SLOW * (square - variance);
            return Sight::Usual;
        }
        self.judge_closely(value)
    }

    #[inline(never)]
    fn judge_closely(&mut self, value: f64) -> Sight {
        let judgement = self.moments.outlook(self.count, &self.tail).map(|outlook: Outlook| outlook.judge(value));
        ewma::learn((&mut self.moments, &mut self.count, &mut self.tail), ewma::SLOW, value, judgement);
        match judgement {
            Some(judgement) if judgement.z > judgement.outlook.limit => {
                Sight::Anomalous(judgement.z / judgement.outlook.limit)
            }
            _ => Sight::Usual,
        }
    }

    /// Learns one of the first rows, then decides.
    #[cold]
    fn begin(&mut self, before: f64, value: f64) {
        let first = self.count == 0;
        if !first && value > before {
            self.rises += 1;
        }
        if value < 0.0 || !first && value < before && !is_reset(before, value) {
            // No counter: more resets than one may have.
            self.resets = u8::MAX;
        } else if !first && value < before {
            self.resets = self.resets.saturating_add(1);
        }
        self.judge(value);
        // Squares near the end of the number line begin the count anew: then it goes on for longer.
        if self.count >= START {
            if self.resets <= 1 && 2 * u16::from(self.rises) >= START {
                self.become_a(Kind::Counter);
            } else {
                self.kind = Kind::Gauge;
            }
        }
    }

    fn become_a(&mut self, kind: Kind) {
        (self.kind, self.moments, self.tail, self.count) = (kind, Moments::default(), Tail::default(), 0);
    }

    /// Time of the newest sample, ns; the least there is before the first.
    pub fn last_ts(&self) -> i64 {
        self.last_ts
    }

    /// Appends the state.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_i64(self.last_ts);
        for v in [self.last, self.moments.mean, self.moments.variance] {
            out.put_f64(v);
        }
        out.put_u16(self.count);
        for v in [self.kind as u8, self.rises, self.resets] {
            out.put_u8(v);
        }
        self.tail.save(out);
    }

    /// Bytes of one saved state.
    pub const SAVED_BYTES: usize = 8 + 3 * 8 + 2 + 3 + 24;

    /// A state from the [`Watch::SAVED_BYTES`] that [`Watch::save`] wrote.
    ///
    /// # Errors
    /// `Invalid` for bytes that no state has.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        let mut from = Reader::new(bytes);
        let watch = Self {
            last_ts: from.i64()?,
            last: from.finite()?,
            moments: Moments { mean: from.finite()?, variance: from.positive()? },
            count: from.u16()?,
            kind: match from.u8()? {
                0 => Kind::Starting,
                1 => Kind::Gauge,
                2 => Kind::Counter,
                other => {
                    return Err(Error::Invalid(format!("a watched series is of kind {other}, which there is not")));
                }
            },
            rises: from.u8()?.min(START as u8),
            resets: from.u8()?,
            tail: Tail::load(&mut from)?,
        };
        from.end()?;
        Ok(watch)
    }
}
