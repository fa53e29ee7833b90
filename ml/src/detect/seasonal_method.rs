//! `seasonal` as a method: the tracker once the step is known, `mad` where no season is.
use super::mad::Mad;
use super::outlook::Judgement;
use super::start::Start;
use super::tracker::Tracker;
use crate::Result;
use crate::state::{Put, Reader};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SeasonalMethod {
    start: Start,
    tracker: Option<Tracker>,
    mad: Mad,
}

impl SeasonalMethod {
    /// Judges `value` at `ts`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, season_ns: Option<i64>, ts: i64, value: f64) -> Option<Judgement> {
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

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.start.save(out);
        out.put_u8(u8::from(self.tracker.is_some()));
        if let Some(tracker) = &self.tracker {
            tracker.save(out);
        }
        self.mad.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let start = Start::load(from)?;
        let tracker = if from.bool()? { Some(Tracker::load(from)?) } else { None };
        Ok(Self { start, tracker, mad: Mad::load(from)? })
    }
}
