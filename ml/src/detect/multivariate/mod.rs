//! Anomalies in rows of many columns: one row at a time, causal, memory bounded.
//!
//! Columns are brought to one scale by their own past (see `scale.rs`). A method says how far a row is from what the past
//! was like, and which columns the distance is made of; [`judge::Judge`] puts that distance on the scale of all detectors:
//! 1.0 is where, by the past, one row in 10,000 lies beyond.
//!
//! | method | distance | finds |
//! |---|---|---|
//! | `nearest` | from the nearest of up to 256 rows that cover the past | states never seen |
//! | `pca` | from the plane of the principal components | columns that do not move together as they did |
//! | `kmeans` | from the nearest of 10, 20 and 40 centres, averaged | rows far from where the past gathers |
//! | `auto` | `nearest` and `pca` together | both |
//!
//! The first fit is after 128 rows, the first score after 256; then a fit each time the past has grown by half, and
//! every 4,096 rows in the long run: never one a row.
//!
//! **Suspicion.** The score of a row within its boundary is what the last rows make of it: 1 - exp(-m), where m is the
//! running mean over 64 rows of the shares of the boundary. So the rows of an incident rank above those of calm times;
//! suspicion is always below 1.0 and never an alarm.
//!
//! Degenerate input has fixed answers. A missing cell (NaN) is left out of its row's distance; for what is learnt the
//! last value of its column stands in. A row without any value gets no score and changes nothing. An infinite cell scores
//! +Infinity and teaches nothing. A column that was constant counts two spreads when it leaves its value, whatever by how
//! much. Where all of the past was alike any other row scores +Infinity.
mod judge;
mod kmeans;
mod nearest;
mod parts;
mod past;
mod pca;
mod rows;
mod scale;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::state::{Put, Reader, malformed};
use judge::Judge;
use kmeans::KMeans;
use nearest::Nearest;
use parts::Residual;
use past::Past;
use pca::Pca;
use scale::Scale;

/// Most columns of a detector.
pub const COLUMNS_MAX: usize = 256;
/// Rows before the first fit.
const FIRST_FIT: u64 = 128;
/// Rows before the first score.
pub const WARM_UP: u64 = 256;
/// Most rows between two fits.
const PERIOD_MAX: u64 = 4096;
/// Weight of one row in suspicion, and the score that it counts for at most.
const SUSPICION_WEIGHT: f64 = 1.0 / 64.0;
const SUSPICION_CLIP: f64 = 10.0;

/// What a detector says of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// >= 0, 1.0 is the boundary; `None` while warming up or for a row without values.
    pub score: Option<f64>,
    /// What part of the distance comes from each column: not negative, sum 1 (equal where nothing is off). Empty without a
    /// score.
    pub shares: Vec<f64>,
}

impl Verdict {
    /// No opinion.
    pub const NONE: Self = Self { score: None, shares: Vec::new() };
}

/// Known methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `nearest` and `pca` together.
    Auto,
    /// Distance from the nearest row of the past.
    Nearest,
    /// Distance from the plane of the principal components.
    Pca,
    /// Distance from the nearest centre.
    KMeans,
}

impl Method {
    /// Every method, in the order of their bytes in a saved state.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Nearest, Self::Pca, Self::KMeans];

    /// The name users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Nearest => "nearest",
            Self::Pca => "pca",
            Self::KMeans => "kmeans",
        }
    }

    fn parts(self) -> Vec<Part> {
        let part = |kind| Part { kind, judge: Judge::default() };
        match self {
            Self::Auto => vec![part(Kind::Nearest(Nearest::default())), part(Kind::Pca(Pca::default()))],
            Self::Nearest => vec![part(Kind::Nearest(Nearest::default()))],
            Self::Pca => vec![part(Kind::Pca(Pca::default()))],
            Self::KMeans => vec![part(Kind::KMeans(KMeans::default()))],
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
        let known = Self::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(s));
        known.ok_or_else(|| {
            Error::unknown_method("anomaly", s, " for rows of several columns", Self::ALL.map(Self::name))
        })
    }
}

/// Options of a detector; two equal options and equal input give equal bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DetectorOptions {
    /// Where the centres of `kmeans` start; the other methods draw nothing.
    pub seed: u64,
}

/// A detector with its state, one per group of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    method: Method,
    seed: u64,
    /// The last value of each column, NaN before the first.
    last: Vec<f64>,
    /// Rows learnt, and at how many the next fit is.
    count: u64,
    fit_at: u64,
    past: Past,
    /// `None` before the first fit.
    scale: Option<Scale>,
    parts: Vec<Part>,
    suspicion: f64,
}

/// A way to tell how far a row is, and its past.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    kind: Kind,
    judge: Judge,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Nearest(Nearest),
    Pca(Pca),
    KMeans(KMeans),
}

/// First byte of a saved state.
const VERSION: u8 = 1;

impl Detector {
    /// A fresh detector of rows of `columns` values.
    ///
    /// # Errors
    /// `Invalid` for no columns or more than [`COLUMNS_MAX`].
    pub fn new(method: Method, columns: usize, options: DetectorOptions) -> Result<Self> {
        if columns == 0 || columns > COLUMNS_MAX {
            return Err(Error::Invalid(format!(
                "a detector takes 1 to {COLUMNS_MAX} columns, not {columns}: leave out those that say the same"
            )));
        }
        Ok(Self {
            method,
            seed: options.seed,
            last: vec![f64::NAN; columns],
            count: 0,
            fit_at: FIRST_FIT,
            past: Past::default(),
            scale: None,
            parts: method.parts(),
            suspicion: 0.0,
        })
    }

    /// The method it was made with.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Values in a row.
    pub fn columns(&self) -> usize {
        self.last.len()
    }

    /// Scores `row` against the rows before it, then learns it. NaN is a missing cell; a row of another length counts as
    /// one without values.
    pub fn update(&mut self, row: &[f64]) -> Verdict {
        if row.len() != self.columns() || row.iter().all(|value| value.is_nan()) {
            return Verdict::NONE;
        }
        if row.iter().any(|value| value.is_infinite()) {
            // nothing can be learnt from it
            return match self.count < WARM_UP {
                true => Verdict::NONE,
                false => Verdict {
                    score: Some(f64::INFINITY),
                    shares: shares(row.iter().map(|value| f64::from(u8::from(value.is_infinite()))).collect()),
                },
            };
        }
        for (last, &value) in self.last.iter_mut().zip(row).filter(|(_, value)| !value.is_nan()) {
            *last = value;
        }
        let verdict = self.judge(row);
        self.past.push(&self.last);
        self.count += 1;
        if self.count == self.fit_at {
            self.fit();
        }
        verdict
    }

    /// Scores rows in order, one after another in `rows`; same bits as repeated [`Detector::update`].
    pub fn update_many(&mut self, rows: &[f64], out: &mut Vec<Verdict>) {
        out.extend(rows.chunks(self.columns()).map(|row| self.update(row)));
    }

    fn judge(&mut self, row: &[f64]) -> Verdict {
        let Some(scale) = &self.scale else { return Verdict::NONE };
        let scaled = scale.apply(row);
        let warm = self.count >= WARM_UP;
        let mut scores = Vec::with_capacity(self.parts.len());
        for part in &mut self.parts {
            let Residual { distance, blame } = part.kind.residual(&scaled);
            if let Kind::Nearest(nearest) = &mut part.kind {
                nearest.learn(&self.last, distance);
            }
            match warm {
                true => scores.push((part.judge.score(distance), blame)),
                false => part.judge.learn(distance),
            }
        }
        let together = together(scores.iter().map(|(score, _)| *score));
        let worst = scores.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a });
        let Some((_, blame)) = worst else { return Verdict::NONE };
        self.suspicion += SUSPICION_WEIGHT * (together.min(SUSPICION_CLIP) - self.suspicion);
        let score = if together > 1.0 { together } else { -(-self.suspicion).exp_m1() };
        Verdict { score: Some(score), shares: shares(blame) }
    }

    fn fit(&mut self) {
        self.fit_at = (self.count + self.count / 2).min(self.count + PERIOD_MAX);
        let (columns, seed) = (self.columns(), self.seed);
        let past = self.past.rows();
        let scale = Scale::of(past, columns);
        let scaled: Vec<Vec<f64>> = past.iter().map(|row| scale.apply(row)).collect();
        for part in &mut self.parts {
            match &mut part.kind {
                Kind::Nearest(nearest) => nearest.fit(past, &scale),
                Kind::Pca(pca) => *pca = Pca::fit(&scaled, columns),
                Kind::KMeans(kmeans) => *kmeans = KMeans::fit(&scaled, columns, seed),
            }
        }
        self.scale = Some(scale);
    }

    /// Appends the state, versioned.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_u8(self.method as u8);
        out.put_u16(self.columns() as u16);
        out.put_u64(self.seed);
        self.last.iter().for_each(|value| out.put_f64(*value));
        out.put_u64(self.count);
        out.put_u64(self.fit_at);
        self.past.save(out);
        out.put_f64(self.suspicion);
        out.put_u8(u8::from(self.scale.is_some()));
        let Some(scale) = &self.scale else { return };
        scale.save(out);
        for part in &self.parts {
            match &part.kind {
                Kind::Nearest(nearest) => nearest.save(out),
                Kind::Pca(pca) => pca.save(out),
                Kind::KMeans(kmeans) => kmeans.save(out),
            }
            part.judge.save(out);
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
        let method = *Method::ALL.get(usize::from(from.u8()?)).ok_or_else(|| malformed("its method is unknown"))?;
        let columns = usize::from(from.u16()?);
        let from = &mut from;
        let mut detector = Self::new(method, columns, DetectorOptions { seed: from.u64()? })?;
        for last in &mut detector.last {
            *last = from.finite_or_nan()?;
        }
        (detector.count, detector.fit_at) = (from.u64()?, from.u64()?);
        detector.past = Past::load(from, columns)?;
        detector.suspicion = from.positive()?;
        let fitted = from.bool()?;
        if detector.count >= detector.fit_at
            || detector.fit_at > u64::MAX / 2
            || fitted != (detector.count >= FIRST_FIT)
        {
            return Err(malformed("its next fit is in the past"));
        }
        if fitted {
            let scale = Scale::load(from, columns)?;
            for part in &mut detector.parts {
                match &mut part.kind {
                    Kind::Nearest(nearest) => *nearest = Nearest::load(from, columns, &scale)?,
                    Kind::Pca(pca) => *pca = Pca::load(from, columns)?,
                    Kind::KMeans(kmeans) => *kmeans = KMeans::load(from, columns)?,
                }
                part.judge = Judge::load(from)?;
            }
            detector.scale = Some(scale);
        }
        from.end()?;
        Ok(detector)
    }
}

impl Kind {
    fn residual(&self, row: &[f64]) -> Residual {
        match self {
            Self::Nearest(nearest) => nearest.residual(row),
            Self::Pca(pca) => pca.residual(row),
            Self::KMeans(kmeans) => kmeans.residual(row),
        }
    }
}

/// One score of several: their mean of square roots, squared. What both find stands out, what only one finds must be
/// four times as far.
fn together(scores: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = scores.len().max(1) as f64;
    let roots: f64 = scores.map(f64::sqrt).sum();
    (roots / n).powi(2)
}

/// `blame` as shares of its sum, equal ones where nothing is to blame.
fn shares(mut blame: Vec<f64>) -> Vec<f64> {
    let total: f64 = blame.iter().sum();
    let equal = 1.0 / blame.len().max(1) as f64;
    blame.iter_mut().for_each(|blame| *blame = if total > 0.0 { *blame / total } else { equal });
    blame
}
