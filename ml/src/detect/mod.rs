//! Streaming anomaly detectors: one value at a time, O(1) work and state per point, causal.
//!
//! A detector first says what it expects (centre, spread, how far the boundary is), then sees the value, then learns
//! it; so a score depends on nothing later. **The score is the distance from the centre as a share of the distance to
//! the boundary**, and the boundary is where, by the series' own past, one value in 10,000 lies beyond (see
//! `tail.rs`): 1.0 means the same everywhere. `auto` adds what the last values say (see `context.rs`): it tells of an
//! incident once, counts false alarms by the day, finds bursts of unusual values, and ranks the rows of an incident above
//! calm ones.
//!
//! | method | tier | centre and spread, or measure | warm-up | saved | kept for merging |
//! |---|---|---|---|---|---|
//! | `mad` | 0 | median and MAD of the last 48 values | 10 values | < 512 B | 47 values |
//! | `ewma` | 0 | exponentially weighted, memory of 64 values | 10 values | < 128 B | 16 rows |
//! | `seasonal` | 0 | usual value at this time of the season | two seasons; without a known season it answers as `mad` | < 16 KiB | 256 rows |
//! | `auto` | 0 | the one that predicted best so far, no narrower than its usual misses; counters as rates | 12 values (a counter: up to 14) | < 16 KiB | 256 rows |
//! | `cusum` | 0 | sums of deviations from a robust running mean, memory of 512 values | 32 values | < 128 B | 16 rows |
//! | `spot` | 0 | running mean, memory of 128 values; spread and tail of each side | 10 values | < 192 B | 16 rows |
//! | `holt_winters` | 0 | level, trend and season, smoothed | 12 values; with a given season two of them | < 16 KiB | 256 rows |
//! | `spectral_residual` | 1 | saliency in a window of 59 values, against its mean | 58 values | 512 B | 57 values |
//! | `half_space_trees` | 1 | rarity of the last two values together, in windows of 250 | 90 values | < 8 KiB | 256 rows |
//! | `rcf` | 1 | displacement of the last values in trees of the last 512 | 97 values | < 8 KiB, in memory < 64 KiB | 256 rows |
//! | `subspace` | 1 | distance of the last 32 values from the components of the last 512 | 154 values | < 8 KiB | 256 rows |
//! | `matrix_profile` | 1 | distance of the last 32 values to the nearest window of the last 1,024 | 153 values | < 8 KiB | 256 rows |
//! | `patches` | 2 | distance of the last 32 values from those of the last 512, as a trained encoder sees them; feature `patches` | 282 values | < 8 KiB, in memory < 64 KiB | 256 rows |
//!
//! **Tiers.** 0: streaming statistics, < 200 ns a value. 1: windows and forests, microseconds a value, with a novelty
//! (or, for `spectral_residual`, a mean) that says what is usual; without `expected`, `lo` and `hi`. 2: what is trained. A value stays in a window for as many rows, so of `rcf`,
//! `subspace`, `matrix_profile` and `patches` it is one run of rows in 10,000 that lies beyond the boundary.
//!
//! **Escalation.** With [`Escalation`] a method of a higher tier is asked only about rows that the tier below doubts; see `escalation.rs`.
//!
//! **Merging.** What a row teaches depends on what was expected of it, and so on all rows before: no method here has a sum
//! of two states that is a function of the two. What has seen few rows still has them, and they are learnt once more:
//! exact, for every method. Beyond as many rows as the table says [`Detector::merge`] is an error, unless the earlier state
//! is a fresh one. Kept rows come on top of the state, 16 B each, until they are too many.
//!
//! [`Watch`] is `ewma` for every series of a store: a bit a sample, counters by their rates, some ten nanoseconds.
//!
//! Degenerate input has fixed answers: NaN is skipped and gets no score; fewer values than the warm-up: no score; no
//! spread in the past: 0.0 on the centre, +Infinity off it. An infinite value scores +Infinity and teaches nothing.
mod auto;
mod burst;
mod context;
mod cusum;
mod dice;
mod escalation;
mod ewma;
mod gain;
mod half_space_trees;
mod history;
mod holt_winters;
mod log;
mod mad;
mod matrix_profile;
mod method;
mod model;
pub mod multivariate;
mod novelty;
mod outlook;
mod past;
#[cfg(any(test, feature = "patches"))]
mod patches;
mod phase;
mod principal;
mod rcf;
mod recent;
mod reference;
mod seasonal;
mod seasonal_method;
mod spectral_residual;
mod spot;
mod start;
mod subspace;
mod tail;
#[cfg(test)]
mod tests;
mod tracker;
mod watch;
mod window;

use crate::error::{Error, Result};
use crate::state::{Put, Reader, malformed};
use escalation::Levels;
pub use escalation::{Escalation, Step};
use log::Log;
pub use method::Method;
use model::Model;
pub use watch::{Sight, Watch};

/// What a detector says of one point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// >= 0, 1.0 is the boundary, +Infinity off a zero-spread centre; `None` while warming up or for a NULL/NaN value.
    pub score: Option<f64>,
    /// Centre before this point was seen.
    pub expected: Option<f64>,
    /// Lower edge: values below score above 1.
    pub lo: Option<f64>,
    /// Upper edge.
    pub hi: Option<f64>,
    /// Which tier decided (0: streaming statistics).
    pub tier: u8,
}

impl Verdict {
    /// No opinion.
    pub const NONE: Self = Self { score: None, expected: None, lo: None, hi: None, tier: 0 };
}

/// Options of a detector; two equal options and equal input give equal bits.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct DetectorOptions {
    /// Season length in nanoseconds; found from the data when `None`. `mad` and `ewma` have no use for it.
    pub season_ns: Option<i64>,
    /// Methods of higher tiers that judge what the detector's own doubts.
    pub escalation: Escalation,
}

/// A detector with its state, one per series.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    season_ns: Option<i64>,
    model: Model,
    log: Log,
    levels: Option<Box<Levels>>,
}

/// First byte of a saved state, and of one with methods of higher tiers.
const VERSION: u8 = 4;
const VERSION_WITH_LEVELS: u8 = 5;

impl Detector {
    /// A fresh detector.
    ///
    /// # Errors
    /// `Invalid` for options the method cannot take.
    pub fn new(method: Method, options: DetectorOptions) -> Result<Self> {
        if let Some(season) = options.season_ns.filter(|&season| season <= 0) {
            return Err(Error::Invalid(format!(
                "a season of {season} ns is not possible, give one above 0 or none to have it found"
            )));
        }
        let levels = Levels::new(options.escalation);
        Ok(Self { season_ns: options.season_ns, model: Model::new(method), log: Log::new(method), levels })
    }

    /// The same with methods of higher tiers, which have seen nothing.
    pub fn escalated(self, escalation: Escalation) -> Self {
        Self { levels: Levels::new(escalation), ..self }
    }

    /// The method it was made with.
    pub fn method(&self) -> Method {
        self.model.method()
    }

    /// Scores `value` at `ts` (ns) against what was seen before, then learns it. NaN is skipped: score `None`, state
    /// unchanged.
    pub fn update(&mut self, ts: i64, value: f64) -> Verdict {
        if value.is_nan() {
            return Verdict::NONE;
        }
        if value.is_infinite() {
            // nothing can be learnt from it: judge a finite value, on a copy
            let mut verdict = self.model.clone().observe(self.season_ns, ts, 0.0);
            verdict.score = verdict.score.map(|_| f64::INFINITY);
            return verdict;
        }
        self.log.push(self.model.method(), ts, value);
        let verdict = self.model.observe(self.season_ns, ts, value);
        match &mut self.levels {
            Some(levels) => levels.judge(self.season_ns, ts, value, verdict),
            None => verdict,
        }
    }

    /// Scores a whole series in order; same bits as repeated [`Detector::update`].
    pub fn update_many(&mut self, ts: &[i64], values: &[f64], out: &mut Vec<Verdict>) {
        out.extend(ts.iter().zip(values).map(|(&t, &v)| self.update(t, v)));
    }

    /// Takes in what `later`, fresh before it, has seen after the rows of this one: the state is that of one detector that saw
    /// all of them.
    ///
    /// What a row teaches depends on the rows before it, so two states alone do not say what their sum is. But while
    /// `later` still has all of its rows (see the table above) they are learnt once more.
    ///
    /// # Errors
    /// `Invalid` when the methods or the seasons differ, or when both have seen rows and `later` more than it keeps.
    pub fn merge(&mut self, later: &Self) -> Result<()> {
        let escalation = |detector: &Self| detector.levels.as_ref().map(|levels| levels.escalation());
        if (self.method(), self.season_ns, escalation(self)) != (later.method(), later.season_ns, escalation(later)) {
            return Err(Error::Invalid(format!(
                "states of {} and {} with unlike options have no sum, merge those of one method and one season",
                self.method(),
                later.method()
            )));
        }
        if self.rows().is_some_and(|rows| rows.is_empty()) {
            self.clone_from(later);
            return Ok(());
        }
        let rows = later.rows().ok_or_else(|| {
            Error::Invalid(format!(
                "the later state of {} has seen more rows than it keeps, give these rows to the earlier one instead",
                later.method()
            ))
        })?;
        for (ts, value) in rows {
            self.update(ts, value);
        }
        Ok(())
    }

    /// All rows so far that were learnt, while they are kept. Without times where the method does not look at them.
    fn rows(&self) -> Option<Vec<(i64, f64)>> {
        match self.model.values() {
            Some(values) => Some(values.into_iter().map(|value| (0, value)).collect()),
            None => self.log.rows().map(<[_]>::to_vec),
        }
    }

    /// Appends the state, versioned, with a checksum.
    pub fn save(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.put_u8(if self.levels.is_some() { VERSION_WITH_LEVELS } else { VERSION });
        out.put_u8(self.method() as u8);
        out.put_i64(self.season_ns.unwrap_or(0));
        self.log.save(out);
        self.model.save(out);
        if let Some(levels) = &self.levels {
            levels.save(out);
        }
        out.put_u32(checksum(&out[begin..]));
    }

    /// A detector from saved state: it goes on with the same bits.
    ///
    /// # Errors
    /// `Invalid` when the bytes are malformed or of an unknown version.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        let version = Reader::new(bytes).u8()?;
        if ![VERSION, VERSION_WITH_LEVELS].contains(&version) {
            return Err(Error::Invalid(format!("detector state has version {version}, this build reads {VERSION}")));
        }
        let (body, sum) = bytes.split_last_chunk().ok_or_else(|| malformed("it ends too early"))?;
        if checksum(body) != u32::from_le_bytes(*sum) {
            return Err(malformed("its checksum does not fit"));
        }
        let mut from = Reader::new(&body[1..]);
        let method = Method::ALL.get(usize::from(from.u8()?)).ok_or_else(|| malformed("its method is unknown"))?;
        let season_ns = match from.i64()? {
            0 => None,
            season if season > 0 => Some(season),
            _ => return Err(malformed("the season is negative")),
        };
        let log = Log::load(*method, &mut from)?;
        let model = Model::load(*method, &mut from)?;
        let levels = if version == VERSION_WITH_LEVELS { Some(Levels::load(&mut from)?) } else { None };
        from.end()?;
        Ok(Self { season_ns, model, log, levels })
    }
}

/// FNV-1a, 32 bit: tells any change of one byte.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
