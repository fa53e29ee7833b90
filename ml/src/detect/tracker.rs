//! A seasonal detector that has to find its season, and to let go of one that does not last.
//!
//! A search over a short past may take chance for a season, or a length that is a little off. So the past is searched
//! again as it grows, until it holds three weeks and ten seasons: a season that is no longer found is dropped, another
//! one takes its place. What goes by the day often goes by the week, too: both are kept then, and `auto` chooses.
use super::history::{Added, History};
use super::outlook::Judgement;
use super::seasonal::Seasonal;
use crate::Result;
use crate::state::{Put, Reader, malformed};

const DAY_NS: i64 = 86_400_000_000_000;
const WEEK_NS: i64 = 7 * DAY_NS;
/// Two lengths are one season when they differ by less than this share.
const SAME: f64 = 0.01;
/// The past is long enough when it holds three weeks and this many seasons.
const WEEKS_ENOUGH: i64 = 3;
const SEASONS_ENOUGH: i64 = 10;

/// What is known of the season.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tracker {
    /// The past while it is searched.
    history: Option<History>,
    found: Option<Seasonal>,
    /// Beside a season of a day.
    week: Option<Seasonal>,
}

/// What the seasonal detectors say of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) season: Option<Judgement>,
    pub(super) week: Option<Judgement>,
    /// From the next value on another season is judged by, or none.
    pub(super) changed: bool,
}

impl Tracker {
    /// For a series whose row at `ts` is `value` and whose usual step is `step` ns.
    pub(super) fn new(season: Option<i64>, step: i64, ts: i64, value: f64) -> Self {
        match season {
            Some(season) => Self { history: None, found: Some(Seasonal::new(season, step, ts)), week: None },
            None => Self { history: Some(History::new(ts, step, value)), found: None, week: None },
        }
    }

    /// Judges `value` at `ts` by the season, if one is known, then learns it.
    pub(super) fn observe(&mut self, ts: i64, value: f64) -> Said {
        let season = self.found.as_mut().and_then(|seasonal| seasonal.observe(ts, value));
        let week = self.week.as_mut().and_then(|seasonal| seasonal.observe(ts, value));
        let changed = match self.history.as_mut().map(|history| history.add(ts, value)) {
            None | Some(Added::Kept) => false,
            Some(Added::Search) => self.search(),
            Some(Added::Full) => {
                self.history = None;
                false
            }
        };
        Said { season, week, changed }
    }

    /// Looks for the season in the past and says whether it is another one than before.
    fn search(&mut self) -> bool {
        let Some(history) = &self.history else { return false };
        let known = self.found.as_ref().map(Seasonal::length);
        let season = history.season().map(|season| season.period_ns);
        let changed = match (season, known) {
            (Some(season), Some(known)) => is_another(season, known),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if changed {
            self.found = season.map(|length| seeded(length, history));
            self.week = season.filter(|&length| length == DAY_NS).map(|_| seeded(WEEK_NS, history));
        }
        let span = history.span();
        let is_enough = |length: i64| span / SEASONS_ENOUGH >= length && span / WEEK_NS >= WEEKS_ENOUGH;
        if self.found.as_ref().map(Seasonal::length).is_some_and(is_enough) {
            self.history = None;
        }
        changed
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let parts = [self.history.is_some(), self.found.is_some(), self.week.is_some()];
        out.put_u8(parts.iter().enumerate().map(|(bit, &is)| u8::from(is) << bit).sum());
        if let Some(history) = &self.history {
            history.save(out);
        }
        for seasonal in [&self.found, &self.week].into_iter().flatten() {
            seasonal.save(out);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let parts = from.u8()?;
        if parts > 7 {
            return Err(malformed("the season has more parts than there are"));
        }
        let history = if parts & 1 != 0 { Some(History::load(from)?) } else { None };
        let found = if parts & 2 != 0 { Some(Seasonal::load(from)?) } else { None };
        let week = if parts & 4 != 0 { Some(Seasonal::load(from)?) } else { None };
        Ok(Self { history, found, week })
    }
}

/// Whether a length is neither the other one nor a multiple nor a part of it.
fn is_another(a: i64, b: i64) -> bool {
    let ratio = a.max(b) as f64 / a.min(b).max(1) as f64;
    let whole = ratio.round();
    (ratio - whole).abs() > SAME * whole
}

/// A seasonal detector that has seen the history, bin by bin.
fn seeded(season_ns: i64, history: &History) -> Seasonal {
    let mut seasonal = None;
    let (mut bins, mut values) = (0.0, 0.0);
    for (ts, value, count) in history.points() {
        let seasonal = seasonal.get_or_insert_with(|| Seasonal::new(season_ns, history.width(), ts));
        seasonal.observe(ts, value);
        bins += 1.0;
        values += f64::from(count);
    }
    let mut seasonal = seasonal.unwrap_or_else(|| Seasonal::new(season_ns, history.width(), 0));
    if bins > 0.0 {
        seasonal.widen(values / bins);
    }
    seasonal
}
