//! A seasonal detector that first has to find its season.
use super::history::{Added, History};
use super::outlook::Judgement;
use super::seasonal::Seasonal;
use crate::Result;
use crate::state::{Put, Reader, malformed};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tracker {
    /// No season known yet.
    Seeking(History),
    /// A season was given or found.
    Found(Seasonal),
    /// The past is long and shows no season.
    GivenUp,
}

impl Tracker {
    /// For a series whose row at `ts` is `value` and whose usual step is `step` ns.
    pub(super) fn new(season: Option<i64>, step: i64, ts: i64, value: f64) -> Self {
        match season {
            Some(season) => Self::Found(Seasonal::new(season, step, ts)),
            None => Self::Seeking(History::new(ts, step, value)),
        }
    }

    /// Judges `value` at `ts` by the season, if one is known, then learns it.
    pub(super) fn observe(&mut self, ts: i64, value: f64) -> Option<Judgement> {
        match self {
            Self::Found(seasonal) => return seasonal.observe(ts, value),
            Self::Seeking(history) => match history.add(ts, value) {
                Added::Kept => {}
                Added::Search => {
                    if let Some(season) = history.season() {
                        *self = Self::Found(seeded(season.period_ns, history));
                    }
                }
                Added::Full => *self = Self::GivenUp,
            },
            Self::GivenUp => {}
        }
        None
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        match self {
            Self::Seeking(history) => {
                out.put_u8(0);
                history.save(out);
            }
            Self::Found(seasonal) => {
                out.put_u8(1);
                seasonal.save(out);
            }
            Self::GivenUp => out.put_u8(2),
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        match from.u8()? {
            0 => Ok(Self::Seeking(History::load(from)?)),
            1 => Ok(Self::Found(Seasonal::load(from)?)),
            2 => Ok(Self::GivenUp),
            _ => Err(malformed("the season is neither sought nor found")),
        }
    }
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
