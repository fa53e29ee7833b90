//! `auto`: the candidate that has predicted this series best so far, after turning counters into rates.
//!
//! Candidates are [`Mad`], a slow and a fast [`Ewma`] and, once a season is found or given, the seasonal buckets: beside
//! those of a day that was found also those of a week.
//! Each keeps a running mean of its own absolute one-step error (prequential, Dawid 1984: errors are taken before
//! learning), clipped so that an incident does not decide. The least wins, with hysteresis. A longer [`Past`] keeps its
//! reach from closing in a lull, and [`Context`] turns its judgement into the answer.
//!
//! The first twelve rows decide once whether the series is a counter (see [`Start::is_counter`]). A counter's rows
//! are scored as rates per second; a reset carries no rate and scores 0; a fall that is no reset makes it a gauge for
//! ever, with a new warm-up.
use super::Verdict;
use super::context::Context;
use super::ewma::{self, Ewma};
use super::gain::gain;
use super::mad::Mad;
use super::past::Past;
use super::start::{Start, is_reset};
use super::tracker::Tracker;
use crate::Result;
use crate::state::{Put, Reader, malformed};

const CANDIDATES: usize = 5;
/// Places of the seasonal ones.
const SEASON: usize = 3;
const WEEK: usize = 4;
/// Least weight of a value in the running errors.
const LOSS_WEIGHT: f64 = 1.0 / 512.0;
/// An error counts at most this multiple of the running error.
const LOSS_CLIP: f32 = 5.0;
/// What the errors of each candidate are multiplied with. One that clings to the last values predicts the next one
/// well even in the middle of an incident, so it must be better by half; the seasonal one knows what should have
/// been.
const HANDICAPS: [f32; CANDIDATES] = [1.0, 1.0, 1.5, 0.6, 0.6];
/// A challenger must be better by this share.
const HYSTERESIS: f32 = 0.95;

/// Nanoseconds in a second.
const SECOND_NS: f64 = 1e9;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Auto {
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Starting(Start),
    Running { panel: Box<Panel>, counter: Option<Counter> },
}

/// The last raw row of a counter.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counter {
    ts: i64,
    value: f64,
    /// Last time between two rows, ns, > 0.
    step: i64,
}

/// What a counter's next row says.
enum Reading {
    Rate(f64),
    Reset,
    NotACounter,
}

impl Counter {
    fn seconds(&self, ts: i64) -> f64 {
        let step = ts.saturating_sub(self.ts);
        (if step > 0 { step } else { self.step }) as f64 / SECOND_NS
    }

    fn read(&self, ts: i64, value: f64) -> Reading {
        if value >= self.value {
            Reading::Rate((value - self.value) / self.seconds(ts))
        } else if is_reset(self.value, value) {
            Reading::Reset
        } else {
            Reading::NotACounter
        }
    }

    fn advance(&mut self, ts: i64, value: f64) {
        let step = ts.saturating_sub(self.ts);
        if step > 0 {
            self.step = step;
        }
        (self.ts, self.value) = (ts, value);
    }
}

impl Auto {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Starting(Start::default()) }
    }

    pub(super) fn update(&mut self, season: Option<i64>, ts: i64, value: f64) -> Verdict {
        match &mut self.phase {
            Phase::Starting(start) => {
                if start.push(ts, value) {
                    self.phase = Phase::begin(start, season);
                }
                Verdict::NONE
            }
            Phase::Running { panel, counter: None } => panel.update(ts, value),
            Phase::Running { panel, counter: Some(counter) } => match counter.read(ts, value) {
                Reading::Rate(rate) => {
                    let (before, seconds) = (counter.value, counter.seconds(ts));
                    counter.advance(ts, value);
                    let raw = |rate: f64| before + rate * seconds;
                    let verdict = panel.update(ts, rate);
                    Verdict {
                        expected: verdict.expected.map(raw),
                        lo: verdict.lo.map(raw),
                        hi: verdict.hi.map(raw),
                        ..verdict
                    }
                }
                Reading::Reset => {
                    counter.advance(ts, value);
                    match panel.mad.is_warm() {
                        true => Verdict { score: Some(0.0), ..Verdict::NONE },
                        false => Verdict::NONE,
                    }
                }
                Reading::NotACounter => {
                    let step = counter.step;
                    let mut panel = Box::new(Panel::new(season, step, ts, value));
                    let verdict = panel.update(ts, value);
                    self.phase = Phase::Running { panel, counter: None };
                    verdict
                }
            },
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        match &self.phase {
            Phase::Starting(start) => {
                out.put_u8(0);
                start.save(out);
            }
            Phase::Running { panel, counter } => {
                out.put_u8(1);
                out.put_u8(u8::from(counter.is_some()));
                if let Some(counter) = counter {
                    out.put_i64(counter.ts);
                    out.put_f64(counter.value);
                    out.put_i64(counter.step);
                }
                panel.save(out);
            }
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let phase = match from.u8()? {
            0 => Phase::Starting(Start::load(from)?),
            1 => {
                let counter = match from.bool()? {
                    false => None,
                    true => Some(Counter { ts: from.i64()?, value: from.positive()?, step: from.i64()?.max(1) }),
                };
                Phase::Running { panel: Box::new(Panel::load(from)?), counter }
            }
            _ => return Err(malformed("the series is neither starting nor running")),
        };
        Ok(Self { phase })
    }
}

impl Phase {
    /// Candidates that have seen the first rows.
    fn begin(start: &Start, season: Option<i64>) -> Self {
        let (rows, step) = (start.rows(), start.step());
        let (first_ts, first) = rows[0];
        if !start.is_counter() {
            let mut panel = Box::new(Panel::new(season, step, first_ts, first));
            for &(ts, value) in rows {
                panel.update(ts, value);
            }
            return Self::Running { panel, counter: None };
        }
        let mut counter = Counter { ts: first_ts, value: first, step };
        let mut panel: Option<Box<Panel>> = None;
        for &(ts, value) in &rows[1..] {
            if let Reading::Rate(rate) = counter.read(ts, value) {
                panel.get_or_insert_with(|| Box::new(Panel::new(season, step, ts, rate))).update(ts, rate);
            }
            counter.advance(ts, value);
        }
        let panel = panel.unwrap_or_else(|| Box::new(Panel::new(season, step, first_ts, 0.0)));
        Self::Running { panel, counter: Some(counter) }
    }
}

/// The candidates and their past errors.
#[derive(Clone, Debug, PartialEq)]
struct Panel {
    mad: Mad,
    slow: Ewma,
    fast: Ewma,
    tracker: Tracker,
    losses: [Loss; CANDIDATES],
    chosen: u8,
    past: Past,
    context: Context,
}

/// Running mean of clipped absolute errors; single precision is enough to compare them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Loss {
    mean: f32,
    count: u16,
}

impl Loss {
    fn learn(&mut self, error: f64) {
        let error = error as f32;
        self.count = self.count.saturating_add(1);
        let clipped = if self.count > 16 { error.min(LOSS_CLIP * self.mean + f32::MIN_POSITIVE) } else { error };
        let mean = self.mean + (clipped - self.mean) * gain(self.count, LOSS_WEIGHT) as f32;
        if mean.is_finite() {
            self.mean = mean;
        }
    }
}

impl Panel {
    fn new(season: Option<i64>, step: i64, ts: i64, value: f64) -> Self {
        Self {
            mad: Mad::of_clusters(),
            slow: Ewma::of_clusters(ewma::SLOW),
            fast: Ewma::of_clusters(ewma::FAST),
            tracker: Tracker::new(season, step, ts, value),
            losses: [Loss::default(); CANDIDATES],
            chosen: 0,
            past: Past::default(),
            context: Context::new(step),
        }
    }

    fn update(&mut self, ts: i64, value: f64) -> Verdict {
        // the season's memory is the furthest away: it is on its way while the others work
        let said = self.tracker.observe(ts, value);
        let judgements =
            [self.mad.observe(value), self.slow.observe(value), self.fast.observe(value), said.season, said.week];
        // the seasonal candidate may be silent at this time of its season
        let voice = judgements[usize::from(self.chosen)].or(judgements[0]);
        for (loss, judgement) in self.losses.iter_mut().zip(&judgements) {
            if let Some(judgement) = judgement {
                loss.learn((value - judgement.outlook.centre).abs());
            }
        }
        if said.changed {
            self.losses[SEASON] = Loss::default();
            self.losses[WEEK] = Loss::default();
            if usize::from(self.chosen) >= SEASON {
                self.chosen = 0;
            }
        }
        self.choose();
        let verdict = voice.map_or(Verdict::NONE, |judgement| self.context.judge(judgement, &self.past, value));
        self.past.learn(value, voice.map(|judgement| (value - judgement.outlook.centre).abs()));
        verdict
    }

    fn choose(&mut self) {
        let mut best = usize::from(self.chosen);
        let handicapped = |i: usize| self.losses[i].mean * HANDICAPS[i];
        for (i, loss) in self.losses.iter().enumerate() {
            if loss.count >= 16 && handicapped(i) < HYSTERESIS * handicapped(best) {
                best = i;
            }
        }
        self.chosen = best as u8;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.mad.save(out);
        self.slow.save(out);
        self.fast.save(out);
        self.tracker.save(out);
        for loss in &self.losses {
            out.put_f32(loss.mean);
            out.put_u16(loss.count);
        }
        out.put_u8(self.chosen);
        self.past.save(out);
        self.context.save(out);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self> {
        let (mad, slow, fast, tracker) = (Mad::load(from)?, Ewma::load(from)?, Ewma::load(from)?, Tracker::load(from)?);
        let mut losses = [Loss::default(); CANDIDATES];
        for loss in &mut losses {
            *loss = Loss { mean: from.positive_f32()?, count: from.u16()? };
        }
        let chosen = from.u8()?;
        if usize::from(chosen) >= CANDIDATES {
            return Err(malformed("the chosen candidate does not exist"));
        }
        let (past, context) = (Past::load(from)?, Context::load(from)?);
        Ok(Self { mad, slow, fast, tracker, losses, chosen, past, context })
    }
}
