//! Streaming anomaly detectors: one value at a time, O(1) work and state per point, causal.
//!
//! A detector first says what it expects (centre, spread, how far the boundary is), then sees the value, then learns
//! it; so a score depends on nothing later. **The score is the distance from the centre as a share of the distance to
//! the boundary**, and the boundary is where, by the series' own past, one value in 10,000 lies beyond (see
//! `tail.rs`): 1.0 means the same everywhere. `auto` adds what the last values say (see `context.rs`): it tells of an
//! incident once, counts false alarms by the day, finds bursts of unusual values, and ranks the rows of an incident above
//! calm ones.
//!
//! | method | centre and spread | warm-up | state |
//! |---|---|---|---|
//! | `mad` | median and MAD of the last 48 values | 10 values | < 512 B |
//! | `ewma` | exponentially weighted, memory of 64 values | 10 values | < 128 B |
//! | `seasonal` | usual value at this time of the season | two seasons; without a known season it answers as `mad` | < 16 KiB |
//! | `auto` | the one that predicted best so far, no narrower than its usual misses; counters as rates | 12 values (a counter: up to 14) | < 16 KiB |
//! | `cusum` | sums of deviations from a robust running mean, memory of 512 values | 32 values | < 128 B |
//! | `spot` | running mean, memory of 128 values; spread and tail of each side | 10 values | < 192 B |
//! | `holt_winters` | level, trend and season, smoothed | 12 values; with a given season two of them | < 6 KiB |
//! | `spectral_residual` | saliency in a window of 59 values, against its mean | 58 values | < 512 B |
//! | `half_space_trees` | rarity of the last two values together, in windows of 250 | 90 values | < 8 KiB |
//!
//! Degenerate input has fixed answers: NaN is skipped and gets no score; fewer values than the warm-up: no score; no
//! spread in the past: 0.0 on the centre, +Infinity off it. An infinite value scores +Infinity and teaches nothing.
mod auto;
mod burst;
mod context;
mod cusum;
mod ewma;
mod gain;
mod half_space_trees;
mod history;
mod holt_winters;
mod mad;
mod outlook;
mod past;
mod phase;
mod reference;
mod seasonal;
mod spectral_residual;
mod spot;
mod start;
mod tail;
#[cfg(test)]
mod tests;
mod tracker;
mod window;

use crate::error::{Error, Result};
use crate::state::{Put, Reader, malformed};
use auto::Auto;
use cusum::Cusum;
use ewma::Ewma;
use half_space_trees::HalfSpaceTrees;
use holt_winters::HoltWinters;
use mad::Mad;
use outlook::Judgement;
use spectral_residual::SpectralResidual;
use spot::Spot;
use start::Start;
use tracker::Tracker;

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

/// Known methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Chosen on the series' own past.
    Auto,
    /// Robust z-score.
    Mad,
    /// Exponentially weighted mean and variance.
    Ewma,
    /// Seasonal buckets.
    Seasonal,
    /// Cumulative sums.
    Cusum,
    /// Peaks over a threshold, a tail on each side.
    Spot,
    /// Residual of Holt-Winters smoothing.
    HoltWinters,
    /// Saliency after the spectral residual.
    SpectralResidual,
    /// Half-space trees on two successive values.
    HalfSpaceTrees,
}

impl Method {
    /// Every method, in the order of their bytes in a saved state.
    pub const ALL: [Self; 9] = [
        Self::Auto,
        Self::Mad,
        Self::Ewma,
        Self::Seasonal,
        Self::Cusum,
        Self::Spot,
        Self::HoltWinters,
        Self::SpectralResidual,
        Self::HalfSpaceTrees,
    ];

    /// The name users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mad => "mad",
            Self::Ewma => "ewma",
            Self::Seasonal => "seasonal",
            Self::Cusum => "cusum",
            Self::Spot => "spot",
            Self::HoltWinters => "holt_winters",
            Self::SpectralResidual => "spectral_residual",
            Self::HalfSpaceTrees => "half_space_trees",
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Method {
    type Err = Error;
    /// Case does not matter.
    ///
    /// # Errors
    /// `Invalid`, listing the known methods.
    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(s)).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|method| method.name()).collect();
            Error::Invalid(format!(
                "unknown anomaly method '{}', known methods are: {}",
                s.escape_default(),
                known.join(", ")
            ))
        })
    }
}

/// Options of a detector; two equal options and equal input give equal bits.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct DetectorOptions {
    /// Season length in nanoseconds; found from the data when `None`. `mad` and `ewma` have no use for it.
    pub season_ns: Option<i64>,
}

/// A detector with its state, one per series.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    season_ns: Option<i64>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Auto(Auto),
    Mad(Box<Mad>),
    Ewma(Ewma),
    Seasonal(Box<SeasonalMethod>),
    Cusum(Box<Cusum>),
    Spot(Box<Spot>),
    HoltWinters(Box<HoltWinters>),
    SpectralResidual(Box<SpectralResidual>),
    HalfSpaceTrees(Box<HalfSpaceTrees>),
}

/// The seasonal method: the tracker once the step is known, `mad` where no season is.
#[derive(Clone, Debug, PartialEq)]
struct SeasonalMethod {
    start: Start,
    tracker: Option<Tracker>,
    mad: Mad,
}

/// First byte of a saved state.
const VERSION: u8 = 3;

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
        let kind = match method {
            Method::Auto => Kind::Auto(Auto::new()),
            Method::Mad => Kind::Mad(Box::default()),
            Method::Ewma => Kind::Ewma(Ewma::new(ewma::SLOW)),
            Method::Seasonal => {
                Kind::Seasonal(Box::new(SeasonalMethod { start: Start::default(), tracker: None, mad: Mad::default() }))
            }
            Method::Cusum => Kind::Cusum(Box::new(Cusum::new())),
            Method::Spot => Kind::Spot(Box::new(Spot::new())),
            Method::HoltWinters => Kind::HoltWinters(Box::new(HoltWinters::new())),
            Method::SpectralResidual => Kind::SpectralResidual(Box::new(SpectralResidual::new())),
            Method::HalfSpaceTrees => Kind::HalfSpaceTrees(Box::new(HalfSpaceTrees::new())),
        };
        Ok(Self { season_ns: options.season_ns, kind })
    }

    /// The method it was made with.
    pub fn method(&self) -> Method {
        match self.kind {
            Kind::Auto(_) => Method::Auto,
            Kind::Mad(_) => Method::Mad,
            Kind::Ewma(_) => Method::Ewma,
            Kind::Seasonal(_) => Method::Seasonal,
            Kind::Cusum(_) => Method::Cusum,
            Kind::Spot(_) => Method::Spot,
            Kind::HoltWinters(_) => Method::HoltWinters,
            Kind::SpectralResidual(_) => Method::SpectralResidual,
            Kind::HalfSpaceTrees(_) => Method::HalfSpaceTrees,
        }
    }

    /// Scores `value` at `ts` (ns) against what was seen before, then learns it. NaN is skipped: score `None`, state
    /// unchanged.
    pub fn update(&mut self, ts: i64, value: f64) -> Verdict {
        if value.is_nan() {
            return Verdict::NONE;
        }
        if value.is_infinite() {
            // nothing can be learnt from it: judge a finite value, on a copy
            let mut verdict = self.clone().update(ts, 0.0);
            verdict.score = verdict.score.map(|_| f64::INFINITY);
            return verdict;
        }
        let judgement = match &mut self.kind {
            Kind::Auto(auto) => return auto.update(self.season_ns, ts, value),
            Kind::Mad(mad) => mad.observe(value),
            Kind::Ewma(ewma) => ewma.observe(value),
            Kind::Seasonal(seasonal) => seasonal.observe(self.season_ns, ts, value),
            Kind::Cusum(cusum) => return cusum.observe(value),
            Kind::Spot(spot) => return spot.observe(value),
            Kind::HoltWinters(smoothing) => smoothing.observe(self.season_ns, ts, value),
            Kind::SpectralResidual(residual) => return residual.observe(value),
            Kind::HalfSpaceTrees(trees) => return trees.observe(value),
        };
        judgement.map_or(Verdict::NONE, Judgement::verdict)
    }

    /// Scores a whole series in order; same bits as repeated [`Detector::update`].
    pub fn update_many(&mut self, ts: &[i64], values: &[f64], out: &mut Vec<Verdict>) {
        out.extend(ts.iter().zip(values).map(|(&t, &v)| self.update(t, v)));
    }

    /// Appends the state, versioned.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_u8(self.method() as u8);
        out.put_i64(self.season_ns.unwrap_or(0));
        match &self.kind {
            Kind::Auto(auto) => auto.save(out),
            Kind::Mad(mad) => mad.save(out),
            Kind::Ewma(ewma) => ewma.save(out),
            Kind::Seasonal(seasonal) => seasonal.save(out),
            Kind::Cusum(cusum) => cusum.save(out),
            Kind::Spot(spot) => spot.save(out),
            Kind::HoltWinters(smoothing) => smoothing.save(out),
            Kind::SpectralResidual(residual) => residual.save(out),
            Kind::HalfSpaceTrees(trees) => trees.save(out),
        }
    }

    /// A detector from saved state: it goes on with the same bits.
    ///
    /// # Errors
    /// `Invalid` when the bytes are malformed or of an unknown version.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        let mut from = Reader::new(bytes);
        let version = from.u8()?;
        if version != VERSION {
            return Err(Error::Invalid(format!("detector state has version {version}, this build reads {VERSION}")));
        }
        let method = from.u8()?;
        let season_ns = match from.i64()? {
            0 => None,
            season if season > 0 => Some(season),
            _ => return Err(malformed("the season is negative")),
        };
        let from = &mut from;
        let kind = match Method::ALL.get(usize::from(method)) {
            Some(Method::Auto) => Kind::Auto(Auto::load(from)?),
            Some(Method::Mad) => Kind::Mad(Box::new(Mad::load(from)?)),
            Some(Method::Ewma) => Kind::Ewma(Ewma::load(from)?),
            Some(Method::Seasonal) => Kind::Seasonal(Box::new(SeasonalMethod::load(from)?)),
            Some(Method::Cusum) => Kind::Cusum(Box::new(Cusum::load(from)?)),
            Some(Method::Spot) => Kind::Spot(Box::new(Spot::load(from)?)),
            Some(Method::HoltWinters) => Kind::HoltWinters(Box::new(HoltWinters::load(from)?)),
            Some(Method::SpectralResidual) => Kind::SpectralResidual(Box::new(SpectralResidual::load(from)?)),
            Some(Method::HalfSpaceTrees) => Kind::HalfSpaceTrees(Box::new(HalfSpaceTrees::load(from)?)),
            None => return Err(malformed("its method is unknown")),
        };
        from.end()?;
        Ok(Self { season_ns, kind })
    }
}

impl SeasonalMethod {
    fn observe(&mut self, season_ns: Option<i64>, ts: i64, value: f64) -> Option<Judgement> {
        let Some(tracker) = &mut self.tracker else {
            let fallback = self.mad.observe(value);
            if self.start.push(ts, value) {
                let (first_ts, first) = self.start.rows()[0];
                let mut tracker = Tracker::new(season_ns, self.start.step(), first_ts, first);
                for &(ts, value) in self.start.rows() {
                    tracker.observe(ts, value);
                }
                self.tracker = Some(tracker);
                self.start = Start::default();
            }
            return fallback.filter(|_| season_ns.is_none());
        };
        let seasonal = tracker.observe(ts, value).season;
        if season_ns.is_some() {
            return seasonal;
        }
        let fallback = self.mad.observe(value);
        seasonal.or(fallback)
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.start.save(out);
        out.put_u8(u8::from(self.tracker.is_some()));
        if let Some(tracker) = &self.tracker {
            tracker.save(out);
        }
        self.mad.save(out);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self> {
        let start = Start::load(from)?;
        let tracker = if from.bool()? { Some(Tracker::load(from)?) } else { None };
        Ok(Self { start, tracker, mad: Mad::load(from)? })
    }
}
