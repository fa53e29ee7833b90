//! `holt_winters`: what additive Holt-Winters smoothing with a trend did not foresee: breaks of a trend, of a season or
//! of both together.
//!
//! Winters 1960, "Forecasting sales by exponentially weighted moving averages": level, trend and a term for each part of
//! the season. Made robust after Gelper, Fried and Croux 2010, "Robust forecasting with exponential and Holt-Winters
//! smoothing": what is beyond the boundary teaches no more than what is half way to it, until it lasts. The boundary of
//! the residuals comes from [`Tail`]. The season is given, or looked for in the past; until one is known there are level
//! and trend alone.
//!
//! Time counts, not rows: the trend goes by usual steps, of 64 at most in a gap, none when the clock stands or steps back,
//! and the part of the season by the timestamp. With a given season two of them pass before the first score: they say
//! where level, trend and terms begin (the growth from one to the next is the trend).
use super::ewma::clip;
use super::gain::gain;
use super::history::{Added, History};
use super::outlook::{Judgement, Outlook};
use super::phase::Phase;
use super::start::Start;
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader, malformed};

/// Weight of a value in the level, without a season and with one: a level that is quick takes the season for its own.
const LEVEL_PLAIN: f64 = 0.1;
const LEVEL_SEASONAL: f64 = 1.0 / 64.0;
/// Weight of a season in the term of one of its parts.
const TERM_WEIGHT: f64 = 0.15;
/// Weight of a value in the scatter of the residuals.
const SCATTER_WEIGHT: f64 = 1.0 / 128.0;
/// The mean distance of a Gaussian in standard deviations, inverted.
const SIGMA_PER_MEAN: f64 = 1.2533;
/// Share of the first distance off a constant past that is believed to be scatter.
const FIRST_DISTANCE: f64 = 1.0 / 16.0;
/// Steps by which a trend goes on in a gap.
const STEPS_MAX: f64 = 64.0;
/// Rows of the second season that say how much grows from one season to the next.
const PAIRS_MIN: u32 = 8;
/// Values before the first score without a season.
const WARM_UP: u16 = 12;
/// The boundary stands further out by this over the number of values.
const FEW: f64 = 4.0;

/// One part of the season.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Term {
    /// Usual distance from level and trend.
    usual: f64,
    /// Rows seen.
    visits: u16,
}

#[derive(Clone, Debug, PartialEq)]
struct Season {
    phase: Phase,
    terms: Vec<Term>,
    length: i64,
    /// Time of the first row.
    first: i64,
    /// Steps in a season.
    steps: f64,
    /// In the first two seasons: growth from one season to the next, and from how many rows.
    growth: f64,
    pairs: u32,
    is_open: bool,
}

/// Level, trend, season and how far they are usually wrong.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    step: i64,
    /// Time of the last row.
    ts: i64,
    level: f64,
    /// Growth in one step.
    trend: f64,
    scatter: f64,
    count: u16,
    tail: Tail,
    season: Option<Season>,
}

impl Model {
    fn new(season_ns: Option<i64>, step: i64, ts: i64, value: f64) -> Self {
        let season = season_ns.map(|length| {
            let phase = Phase::new(length, step, ts);
            let terms = vec![Term::default(); phase.parts()];
            let steps = length as f64 / step as f64;
            Season { phase, terms, length, first: ts, steps, growth: 0.0, pairs: 0, is_open: false }
        });
        Self { step, ts, level: value, trend: 0.0, scatter: 0.0, count: 0, tail: Tail::of_clusters(), season }
    }

    fn observe(&mut self, ts: i64, value: f64) -> Option<Judgement> {
        let steps = (ts.saturating_sub(self.ts) as f64 / self.step as f64).clamp(0.0, STEPS_MAX);
        self.ts = ts;
        let part = self.season.as_ref().map(|season| season.phase.part(ts));
        if let (Some(season), Some(part)) = (&self.season, part) {
            let seasons = ts.saturating_sub(season.first) as f64 / season.length as f64;
            if !season.is_open && (seasons < 2.0 || season.pairs < PAIRS_MIN.min(season.terms.len() as u32)) {
                self.begin(part, seasons, value);
                return None;
            }
            if !season.is_open {
                self.open(seasons);
            }
        }
        let level = self.level + self.trend * steps;
        let term = match (&self.season, part) {
            (Some(season), Some(part)) => season.terms[part],
            _ => Term { usual: 0.0, visits: self.count },
        };
        let is_warm = if part.is_some() { term.visits > 0 } else { self.count >= WARM_UP };
        let few = 1.0 + FEW / f64::from(self.count.max(1));
        let spread = SIGMA_PER_MEAN * self.scatter;
        let outlook = Outlook { centre: level + term.usual, spread, limit: self.tail.limit() * few };
        let judgement = is_warm.then(|| outlook.judge(value));
        self.learn(level, part, value - outlook.centre, judgement);
        judgement
    }

    /// The first two seasons: what is usual in the first, and how far above it the second lies.
    fn begin(&mut self, part: usize, seasons: f64, value: f64) {
        let Some(season) = &mut self.season else { return };
        let term = &mut season.terms[part];
        let deviation = value - self.level - term.usual;
        if seasons < 1.0 || term.visits == 0 {
            term.visits = term.visits.saturating_add(1);
            term.usual += deviation / f64::from(term.visits);
        } else {
            season.pairs = season.pairs.saturating_add(1);
            let off = deviation / seasons.floor() - season.growth;
            season.growth += off / f64::from(season.pairs);
            self.count = self.count.saturating_add(1);
            self.scatter += gain(self.count, SCATTER_WEIGHT) * (off.abs() - self.scatter);
        }
        self.keep_finite(value);
    }

    /// The third season begins: growth within the first, which the terms hold, becomes trend.
    fn open(&mut self, seasons: f64) {
        let Some(season) = &mut self.season else { return };
        let parts = season.terms.len() as f64;
        for (i, term) in season.terms.iter_mut().enumerate() {
            term.usual -= season.growth * i as f64 / parts;
        }
        season.is_open = true;
        self.trend = season.growth / season.steps.max(1.0);
        // the step to this row is still to come
        self.level += season.growth * seasons - self.trend;
        self.keep_finite(0.0);
    }

    /// Learns what a value was off by.
    fn learn(&mut self, level: f64, part: Option<usize>, mut deviation: f64, judgement: Option<Judgement>) {
        self.level = level;
        self.count = self.count.saturating_add(1);
        if let Some(Judgement { outlook, z }) = judgement {
            self.tail.learn(z);
            if z == f64::INFINITY {
                // off a constant: leave the level, believe a little in scatter
                self.scatter = self.scatter.max(FIRST_DISTANCE * deviation.abs().min(f64::MAX));
                return;
            }
            if self.tail.run() > 0 {
                let furthest = clip(self.tail.run()) * self.tail.limit() * outlook.spread;
                deviation = deviation.clamp(-furthest, furthest);
            }
        }
        let weight = if part.is_some() { LEVEL_SEASONAL } else { LEVEL_PLAIN };
        let step = if part.is_some() { weight } else { gain(self.count, weight) };
        self.level += step * deviation;
        // critically damped: neither swings nor lags
        self.trend += 0.25 * weight * weight * deviation;
        self.scatter += gain(self.count, SCATTER_WEIGHT) * ((1.0 - step) * deviation.abs() - self.scatter);
        if let (Some(season), Some(part)) = (&mut self.season, part) {
            // rows that share a part share its weight
            let rows = (season.steps / season.terms.len() as f64).max(1.0);
            let term = &mut season.terms[part];
            term.visits = term.visits.saturating_add(1);
            let usual = term.usual + gain(term.visits, TERM_WEIGHT / rows) * (1.0 - step) * deviation;
            term.usual = if usual.is_finite() { usual } else { term.usual };
        }
        self.keep_finite(deviation);
    }

    /// Values near the end of the number line: start again from level 0 and no trend.
    fn keep_finite(&mut self, value: f64) {
        let growth = self.season.as_ref().map_or(0.0, |season| season.growth);
        if [self.level, self.trend, self.scatter, growth].iter().all(|v| v.is_finite()) {
            return;
        }
        let value = if value.is_finite() { value } else { 0.0 };
        (self.level, self.trend, self.scatter, self.count, self.tail) = (value, 0.0, 0.0, 0, self.tail.fresh());
        if let Some(season) = &mut self.season {
            (season.growth, season.pairs, season.is_open) = (0.0, 0, false);
            season.terms.fill(Term::default());
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.put_i64(self.step);
        out.put_i64(self.ts);
        for v in [self.level, self.trend, self.scatter] {
            out.put_f64(v);
        }
        out.put_u16(self.count);
        self.tail.save(out);
        out.put_u8(u8::from(self.season.is_some()));
        if let Some(season) = &self.season {
            season.save(out);
        }
    }

    fn load(from: &mut Reader<'_>) -> Result<Self> {
        let (step, ts) = (from.i64()?, from.i64()?);
        if step < 1 {
            return Err(malformed("the step has no length"));
        }
        let (level, trend, scatter) = (from.finite()?, from.finite()?, from.positive()?);
        let (count, tail) = (from.u16()?, Tail::load(from)?);
        let season = if from.bool()? { Some(Season::load(from)?) } else { None };
        Ok(Self { step, ts, level, trend, scatter, count, tail, season })
    }
}

impl Season {
    fn save(&self, out: &mut Vec<u8>) {
        self.phase.save(out);
        out.put_i64(self.length);
        out.put_i64(self.first);
        out.put_f64(self.steps);
        out.put_f64(self.growth);
        out.put_u32(self.pairs);
        out.put_u8(u8::from(self.is_open));
        out.put_u32(self.terms.len() as u32);
        for term in &self.terms {
            out.put_f64(term.usual);
            out.put_u16(term.visits);
        }
    }

    fn load(from: &mut Reader<'_>) -> Result<Self> {
        let phase = Phase::load(from)?;
        let (length, first) = (from.i64()?, from.i64()?);
        if length < 1 {
            return Err(malformed("the season has no length"));
        }
        let (steps, growth, pairs, is_open) = (from.positive()?, from.finite()?, from.u32()?, from.bool()?);
        let n = from.u32()?;
        let phase = phase.of_parts(n)?;
        let terms = (0..n).map(|_| Ok(Term { usual: from.finite()?, visits: from.u16()? })).collect::<Result<_>>()?;
        Ok(Self { phase, terms, length, first, steps, growth, pairs, is_open })
    }
}

/// What is known of the series.
#[derive(Clone, Debug, PartialEq)]
enum Progress {
    /// Not even its step.
    Starting(Start),
    /// `history` while a season is looked for.
    Running { model: Model, history: Option<History> },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct HoltWinters {
    progress: Progress,
}

impl HoltWinters {
    pub(super) fn new() -> Self {
        Self { progress: Progress::Starting(Start::default()) }
    }

    /// Judges `value` at `ts`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, season_ns: Option<i64>, ts: i64, value: f64) -> Option<Judgement> {
        match &mut self.progress {
            Progress::Starting(start) => {
                if start.push(ts, value) {
                    self.progress = Progress::begin(start, season_ns);
                }
                None
            }
            Progress::Running { model, history } => {
                let judgement = model.observe(ts, value);
                match history.as_mut().map(|history| history.add(ts, value)) {
                    None | Some(Added::Kept) => {}
                    Some(Added::Full) => *history = None,
                    Some(Added::Search) => {
                        let found = history.as_ref().and_then(|history| seeded(history, model.step));
                        if let Some(found) = found {
                            (*model, *history) = (found, None);
                        }
                    }
                }
                judgement
            }
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        match &self.progress {
            Progress::Starting(start) => {
                out.put_u8(0);
                start.save(out);
            }
            Progress::Running { model, history } => {
                out.put_u8(1 + u8::from(history.is_some()));
                model.save(out);
                if let Some(history) = history {
                    history.save(out);
                }
            }
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let progress = match from.u8()? {
            0 => Progress::Starting(Start::load(from)?),
            1 => Progress::Running { model: Model::load(from)?, history: None },
            2 => Progress::Running { model: Model::load(from)?, history: Some(History::load(from)?) },
            _ => return Err(malformed("the series is neither starting nor running")),
        };
        Ok(Self { progress })
    }
}

impl Progress {
    /// A model that has seen the first rows.
    fn begin(start: &Start, season_ns: Option<i64>) -> Self {
        let (rows, step) = (start.rows(), start.step());
        let (first_ts, first) = rows[0];
        let mut model = Model::new(season_ns, step, first_ts, first);
        let mut history = season_ns.is_none().then(|| History::new(first_ts, step, first));
        for &(ts, value) in rows {
            model.observe(ts, value);
            if let Some(history) = &mut history {
                history.add(ts, value);
            }
        }
        Self::Running { model, history }
    }
}

/// A model with the season of the history, if there is one, that has seen the history bin by bin; `step` is that of the
/// rows to come.
fn seeded(history: &History, step: i64) -> Option<Model> {
    let length = history.season()?.period_ns;
    let mut model: Option<Model> = None;
    let (mut bins, mut values) = (0.0, 0.0);
    for (ts, value, count) in history.points() {
        model.get_or_insert_with(|| Model::new(Some(length), history.width(), ts, value)).observe(ts, value);
        bins += 1.0;
        values += f64::from(count);
    }
    let mut model = model?;
    // single values scatter more than the means of bins do, and a step is shorter
    let scatter = model.scatter * f64::sqrt(values / bins);
    model.scatter = if scatter.is_finite() { scatter } else { model.scatter };
    model.trend *= step as f64 / model.step as f64;
    if let Some(season) = &mut model.season {
        season.steps = length as f64 / step as f64;
    }
    model.step = step;
    Some(model)
}
