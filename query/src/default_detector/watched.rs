//! The states of all series that are watched, found by their ids in two steps, without a lock or a hash.
//!
//! ```text
//!  id = (metric, number) ──> pages of the metric: place of each number ──> states, in the order in which series appeared
//! ```
//! Senders repeat their series in one order, so the states of a body lie one after the other, too.
use foretell_engine::{Commit, Matcher, Series, SeriesId, Snapshot};
use foretell_ml::detect::{Sight, Watch};
use hashbrown::HashMap;

use super::bits::Found;
use crate::codec::{Decoder, Encoder};
use crate::continuous::output::DerivedTable;
use crate::error::{Error, Result};
use crate::metadata::MetricMetadata;

/// Most series watched.
const SERIES_MAX: usize = 2 << 20;
/// Numbers on a page.
const PAGE: usize = 256;
/// The place of a series of which nothing is known.
const UNKNOWN: u32 = u32::MAX;
/// The place of one that is not watched.
const UNWATCHED: u32 = u32::MAX - 1;
/// Metrics that are made of what is watched, besides tables of continuous queries and detectors.
const OWN: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];
/// Endings of the names of counters, as far as they follow the rules.
const COUNTERS: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];
const VERSION: u8 = 1;

/// What is known of a metric.
#[derive(Debug, Default)]
struct Metric {
    /// Whether the rest is known.
    known: bool,
    watched: bool,
    counter: bool,
    /// The place of each series by its number. A page of which none is known is empty.
    pages: Vec<Box<[u32]>>,
}

impl Metric {
    #[inline]
    fn place(&self, number: u32) -> u32 {
        let number = number as usize;
        self.pages.get(number / PAGE).and_then(|page| page.get(number % PAGE)).copied().unwrap_or(UNKNOWN)
    }

    fn set(&mut self, number: u32, place: u32) {
        let number = number as usize;
        if self.pages.len() <= number / PAGE {
            self.pages.resize_with(number / PAGE + 1, Box::default);
        }
        let page = &mut self.pages[number / PAGE];
        if page.is_empty() {
            *page = vec![UNKNOWN; PAGE].into();
        }
        page[number % PAGE] = place;
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// By ordinal.
    metrics: Vec<Metric>,
    states: Vec<Watch>,
    /// Whose state it is, by place.
    ids: Vec<SeriesId>,
    /// Time of the newest sample when idle series were looked for last, by place.
    marks: Vec<i64>,
    free: Vec<u32>,
    /// Samples looked at, and those of them that came late.
    pub(super) looked: u64,
    pub(super) late: u64,
    /// Series that are too many.
    pub(super) refused: u64,
}

impl Watched {
    /// Series watched.
    pub(super) fn len(&self) -> usize {
        self.states.len() - self.free.len()
    }

    /// Memory it holds, about.
    pub(super) fn bytes(&self) -> usize {
        let places: usize = self.metrics.iter().flat_map(|metric| &metric.pages).map(|page| page.len() * 4 + 16).sum();
        self.states.capacity() * size_of::<Watch>() + self.ids.capacity() * 16 + self.free.capacity() * 4 + places
    }

    /// Looks at the samples of `commit`; anomalous ones go to `found`. `snapshot` makes one that sees the commit.
    ///
    /// # Errors
    /// When the labels of new series cannot be read: then nothing was looked at.
    pub(super) fn look(
        &mut self,
        commit: &Commit,
        matchers: &[Matcher],
        snapshot: &mut impl FnMut() -> Snapshot,
        found: &mut Found,
    ) -> Result<()> {
        let batch = &commit.batch;
        let mut row = 0;
        // Only the first time that a series is seen there is more than one round.
        while row < batch.len() {
            let rows = batch.series[row..].iter().zip(&batch.ts[row..]).zip(&batch.values[row..]);
            let (mut seen, mut looked, mut late) = (0, 0, 0);
            let mut unknown = false;
            for ((&id, &ts), &value) in rows {
                let place = self.metrics.get(id.metric() as usize).map_or(UNKNOWN, |metric| metric.place(id.number()));
                let Some(state) = self.states.get_mut(place as usize) else {
                    if place == UNKNOWN {
                        unknown = true;
                        break;
                    }
                    seen += 1;
                    continue;
                };
                seen += 1;
                looked += 1;
                match state.look(ts, value) {
                    Sight::Usual => {}
                    Sight::Anomalous(score) => found.push(id, ts, score),
                    Sight::Late => late += 1,
                }
            }
            self.looked += looked;
            self.late += late;
            row += seen;
            if unknown {
                self.meet(&batch.series[row..], matchers, &snapshot())?;
            }
        }
        Ok(())
    }

    /// Gets to know those of `ids` that are unknown, in their order.
    fn meet(&mut self, ids: &[SeriesId], matchers: &[Matcher], snapshot: &Snapshot) -> Result<()> {
        let place = |metrics: &[Metric], id: SeriesId| {
            metrics.get(id.metric() as usize).map_or(UNKNOWN, |metric| metric.place(id.number()))
        };
        let mut unknown: Vec<SeriesId> =
            ids.iter().copied().filter(|&id| place(&self.metrics, id) == UNKNOWN).collect();
        // The first place of each counts: bodies hold a series once, or a few times together.
        unknown.dedup();
        self.know_metrics(&unknown, snapshot)?;
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            unknown.into_iter().partition(|id| self.metrics[id.metric() as usize].watched);
        for id in unwanted {
            self.metrics[id.metric() as usize].set(id.number(), UNWATCHED);
        }
        let matching = snapshot.matching(wanted.clone(), matchers).map_err(|error| Error::from_engine(&error))?;
        for &id in &wanted {
            self.metrics[id.metric() as usize].set(id.number(), UNWATCHED);
        }
        for Series { id, .. } in matching {
            let metric = &self.metrics[id.metric() as usize];
            // One that stands there twice was placed the first time.
            if metric.place(id.number()) == UNWATCHED {
                let state = if metric.counter { Watch::of_counter() } else { Watch::default() };
                self.place(id, state);
            }
        }
        Ok(())
    }

    /// Gets to know the metrics of `ids`.
    fn know_metrics(&mut self, ids: &[SeriesId], snapshot: &Snapshot) -> Result<()> {
        let ordinals = ids.iter().map(|id| id.metric() as usize);
        let len = ordinals.clone().max().map_or(0, |ordinal| ordinal + 1);
        if self.metrics.len() < len {
            self.metrics.resize_with(len, Metric::default);
        }
        if ordinals.clone().all(|ordinal| self.metrics[ordinal].known) {
            return Ok(());
        }
        let names: HashMap<u32, _> =
            snapshot.metrics().into_iter().map(|metric| (metric.ordinal, metric.name)).collect();
        for ordinal in ordinals {
            let metric = &mut self.metrics[ordinal];
            if metric.known {
                continue;
            }
            // Events have no samples; a metric without a name here is one of them.
            let name = names.get(&(ordinal as u32)).map(|name| &**name);
            metric.watched = match name {
                Some(name) => !OWN.contains(&name) && !snapshot.has_state(&DerivedTable::key(name)),
                None => false,
            };
            metric.counter = name.is_some_and(|name| is_counter(name, snapshot));
            metric.known = true;
        }
        Ok(())
    }

    fn place(&mut self, id: SeriesId, state: Watch) {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.states.len() >= SERIES_MAX => {
                self.refused += 1;
                return;
            }
            None => {
                self.states.push(Watch::default());
                self.ids.push(id);
                self.marks.push(i64::MIN);
                self.states.len() as u32 - 1
            }
        };
        let at = place as usize;
        (self.states[at], self.ids[at], self.marks[at]) = (state, id, i64::MIN);
        let ordinal = id.metric() as usize;
        if self.metrics.len() <= ordinal {
            self.metrics.resize_with(ordinal + 1, Metric::default);
        }
        self.metrics[ordinal].set(id.number(), place);
    }

    /// Forgets series without a newer sample than at the last call.
    pub(super) fn forget_idle(&mut self) {
        for place in 0..self.states.len() as u32 {
            let at = place as usize;
            let (id, newest) = (self.ids[at], self.states[at].last_ts());
            if self.metrics[id.metric() as usize].place(id.number()) != place {
                continue;
            }
            if self.marks[at] == newest {
                self.metrics[id.metric() as usize].set(id.number(), UNKNOWN);
                self.free.push(place);
            }
            self.marks[at] = newest;
        }
        for metric in &mut self.metrics {
            for page in metric.pages.iter_mut().filter(|page| page.iter().all(|&place| place >= UNWATCHED)) {
                *page = Box::default();
            }
        }
    }

    /// The states in the order of their places, in pieces of at most `series_max` series.
    pub(super) fn pieces(&self, series_max: usize) -> impl Iterator<Item = Vec<u8>> {
        let kept = (0..self.states.len() as u32).filter(|&place| {
            let id = self.ids[place as usize];
            self.metrics[id.metric() as usize].place(id.number()) == place
        });
        let kept: Vec<u32> = kept.collect();
        let pieces = kept.len().div_ceil(series_max);
        (0..pieces).map(move |piece| {
            let places = &kept[piece * series_max..kept.len().min((piece + 1) * series_max)];
            let mut out = Encoder::new(VERSION);
            out.unsigned(u64::from(Watch::VERSION)).unsigned(places.len() as u64);
            let mut state = Vec::with_capacity(Watch::SAVED_BYTES);
            for &place in places {
                state.clear();
                self.states[place as usize].save(&mut state);
                out.unsigned(self.ids[place as usize].0).bytes(&state);
            }
            out.finish()
        })
    }

    /// Takes the series of a piece; `false` for one of another build, whose states this one cannot go on with.
    ///
    /// # Errors
    /// `Internal` when it is damaged.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<bool> {
        let mut from = Decoder::new("states of the default detector", piece, VERSION)?;
        if from.unsigned()? != u64::from(Watch::VERSION) {
            return Ok(false);
        }
        for _ in 0..from.count()? {
            let id = SeriesId(from.unsigned()?);
            let state = Watch::load(from.bytes()?).map_err(|error| {
                Error::internal(format!("a stored state of the default detector is damaged: {error}"))
            })?;
            self.place(id, state);
        }
        from.end()?;
        Ok(true)
    }
}

/// Whether a metric is a counter by its name or by what its sender says.
fn is_counter(name: &str, snapshot: &Snapshot) -> bool {
    let said = |family: &str| {
        let stored = snapshot.state(&MetricMetadata::key(family)).ok()??;
        Some(MetricMetadata::decode(&stored).ok()?.kind.name())
    };
    match said(name) {
        Some("counter") => true,
        Some("unknown") | None => COUNTERS.iter().any(|ending| name.ends_with(ending)),
        Some(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with_series(numbers: std::ops::Range<u32>) -> Watched {
        let mut watched = Watched::default();
        for number in numbers {
            let mut state = Watch::default();
            state.look(i64::from(number), 1.0);
            watched.place(SeriesId::new(number % 3, number), state);
        }
        watched
    }

    /// Every series with its state.
    fn all(watched: &Watched) -> Vec<(SeriesId, Watch)> {
        let place = |id: SeriesId| watched.metrics[id.metric() as usize].place(id.number());
        let kept = watched.ids.iter().enumerate().filter(|(at, id)| place(**id) == *at as u32);
        kept.map(|(at, &id)| (id, watched.states[at].clone())).collect()
    }

    #[test]
    fn idle_series_are_forgotten_at_the_second_look_and_their_places_used_again() {
        let mut watched = with_series(0..1000);
        watched.forget_idle();
        assert_eq!(watched.len(), 1000);
        for number in 0..300u32 {
            let place = watched.metrics[number as usize % 3].place(number) as usize;
            watched.states[place].look(5_000, 1.0);
        }
        watched.forget_idle();
        assert_eq!(watched.len(), 300);
        let pages = watched.metrics.iter().flat_map(|metric| &metric.pages);
        assert_eq!(pages.filter(|page| !page.is_empty()).count(), 3 * 2, "300 numbers lie on the first two pages");
        for number in 2000..2700 {
            watched.place(SeriesId::new(0, number), Watch::default());
        }
        assert_eq!((watched.len(), watched.states.len()), (1000, 1000));
    }

    #[test]
    fn pieces_give_back_every_series_in_order_and_damage_is_an_error() {
        let mut watched = with_series(0..1000);
        watched.forget_idle();
        watched.states[7].look(5_000, 1.0);
        watched.states[500].look(5_000, 1.0);
        watched.forget_idle();
        let pieces: Vec<Vec<u8>> = with_series(0..1000).pieces(300).chain(watched.pieces(300)).collect();
        assert_eq!(pieces.len(), 4 + 1);
        let mut back = Watched::default();
        for piece in &pieces[..4] {
            assert!(back.take(piece).unwrap());
        }
        assert_eq!(all(&back), all(&with_series(0..1000)));
        let mut back = Watched::default();
        assert!(back.take(&pieces[4]).unwrap());
        assert_eq!(all(&back), all(&watched));
        let piece = &pieces[4];
        assert!((0..piece.len()).all(|length| Watched::default().take(&piece[..length]).is_err()));
        let mut other = piece.clone();
        other[1] += 1;
        assert!(!Watched::default().take(&other).unwrap(), "states of another version are left");
    }
}
