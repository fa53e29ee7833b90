//! Streaming anomaly detectors: one value at a time, O(1) work and state per point, causal.
use crate::error::Result;

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
}

impl std::str::FromStr for Method {
    type Err = crate::Error;
    /// # Errors
    /// `Invalid`, listing the known methods.
    fn from_str(_s: &str) -> Result<Self> {
        todo!()
    }
}

/// Options of a detector; two equal options and equal input give equal bits.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct DetectorOptions {
    /// Season length in nanoseconds; found from the data when `None`.
    pub season_ns: Option<i64>,
}

/// A detector with its state, one per series.
#[derive(Clone, Debug)]
pub struct Detector {}

impl Detector {
    /// A fresh detector.
    ///
    /// # Errors
    /// `Invalid` for options the method cannot take.
    pub fn new(_method: Method, _options: DetectorOptions) -> Result<Self> {
        todo!()
    }
    /// Scores `value` at `ts` (ns) against what was seen before, then learns it. NaN is skipped: score `None`, state unchanged.
    pub fn update(&mut self, _ts: i64, _value: f64) -> Verdict {
        todo!()
    }
    /// Scores a whole series in order; same bits as repeated [`Detector::update`].
    pub fn update_many(&mut self, ts: &[i64], values: &[f64], out: &mut Vec<Verdict>) {
        out.extend(ts.iter().zip(values).map(|(&t, &v)| self.update(t, v)));
    }
    /// Appends the state, versioned.
    pub fn save(&self, _out: &mut Vec<u8>) {
        todo!()
    }
    /// A detector from saved state.
    ///
    /// # Errors
    /// `Invalid` when the bytes are malformed or of an unknown version.
    pub fn load(_bytes: &[u8]) -> Result<Self> {
        todo!()
    }
}
