//! What functions over ranges make of windows with native histograms.
use std::sync::Arc;

use super::super::annotation::{Note, Notes};
use super::super::histogram::{Histogram, Incompatible, ResetHint};
use super::super::value::Sample;
use super::super::window::{Found, Mixed, Window};
use super::rate::extrapolation;

/// What a function does with histograms in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Native {
    /// It looks at floats only.
    Ignored,
    Rate,
    Increase,
    Delta,
    /// The rate between the last two samples.
    InstantRate,
    /// Their difference.
    InstantDelta,
    Sum,
    Average,
    Count,
    Present,
    First,
    Last,
    TimeOfFirst,
    TimeOfLast,
    Changes,
    Resets,
}

/// Names of counters end with one of these.
const COUNTER_ENDINGS: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

impl Native {
    /// Whether a float series called `name` should be told that it does not look like a counter.
    pub(crate) fn needs_counter(self, name: &str) -> bool {
        let is_of_counters = matches!(self, Self::Rate | Self::Increase);
        is_of_counters && !name.is_empty() && !COUNTER_ENDINGS.iter().any(|ending| name.ends_with(ending))
    }

    /// The function of a window of series `name`; `floats` is what it makes of floats.
    pub(crate) fn answer(
        self,
        window: &Mixed<'_>,
        name: &str,
        notes: &Notes,
        floats: &dyn Fn(&Window<'_>) -> Option<f64>,
    ) -> Option<Found> {
        if window.histograms.is_empty() {
            return floats(&window.floats).map(Found::Value);
        }
        let has_floats = window.floats.len() > 0;
        let seconds = |ts_ms: i64| Some(Found::Value(ts_ms as f64 / 1000.0));
        match self {
            Self::Ignored => {
                if has_floats {
                    notes.add(&Note::IgnoredInRange(name.to_owned()));
                    return floats(&window.floats).map(Found::Value);
                }
                None
            }
            Self::Count => Some(Found::Value((window.floats.len() + window.histograms.len()) as f64)),
            Self::Present => Some(Found::Value(1.0)),
            Self::First => window.in_order().first().map(|(_, sample)| found(*sample)),
            Self::Last => window.newest().map(|(_, sample)| found(sample)),
            Self::TimeOfFirst => seconds(window.in_order().first()?.0),
            Self::TimeOfLast => seconds(window.newest()?.0),
            Self::Changes => Some(Found::Value(pairs(&window.in_order(), has_changed))),
            Self::Resets => Some(Found::Value(pairs(&window.in_order(), has_reset))),
            Self::InstantRate | Self::InstantDelta => self.newest_two(&window.in_order(), name, notes),
            Self::Sum | Self::Average | Self::Rate | Self::Increase | Self::Delta if has_floats => {
                notes.add(&Note::MixedInRange(name.to_owned()));
                None
            }
            Self::Sum => combined(window.histograms, name, notes, |sum, next, _| sum.add(next)),
            Self::Average => combined(window.histograms, name, notes, Histogram::average_in),
            Self::Rate | Self::Increase | Self::Delta => self.over_window(window, name, notes),
        }
    }

    fn over_window(self, window: &Mixed<'_>, name: &str, notes: &Notes) -> Option<Found> {
        let ((first_ms, _), (last_ms, _)) = (window.histograms.first()?, window.histograms.last()?);
        let is_counter = self != Self::Delta;
        let mut difference = match difference(window.histograms, is_counter) {
            Ok(found) => {
                if found.misfits {
                    let name = name.to_owned();
                    notes.add(&if is_counter { Note::NotCounter(name) } else { Note::NotGauge(name) });
                }
                found.histogram?
            }
            Err(incompatible) => {
                notes.add(&note(incompatible, name));
                return None;
            }
        };
        let extent = (*first_ms, *last_ms, window.histograms.len() - 1);
        // That a counter began at zero is not asked of histograms.
        let mut factor = extrapolation(&window.floats, extent, None);
        if self == Self::Rate {
            factor /= window.floats.range_ms as f64 / 1000.0;
        }
        difference.scale(factor);
        Some(Found::Histogram(Arc::new(difference)))
    }

    fn newest_two(self, in_order: &[(i64, Sample<'_>)], name: &str, notes: &Notes) -> Option<Found> {
        let [.., (old_ms, old), (new_ms, new)] = in_order else { return None };
        if new_ms == old_ms {
            return None;
        }
        let seconds = (new_ms - old_ms) as f64 / 1000.0;
        let is_rate = self == Self::InstantRate;
        match (old, new) {
            (Sample::Value(old), Sample::Value(new)) => {
                let difference = if is_rate && new < old { *new } else { new - old };
                Some(Found::Value(if is_rate { difference / seconds } else { difference }))
            }
            (Sample::Histogram(old), Sample::Histogram(new)) => {
                let gauges = [old, new].into_iter().filter(|one| one.reset_hint == ResetHint::Gauge).count();
                if is_rate && gauges > 0 {
                    notes.add(&Note::NotCounter(name.to_owned()));
                }
                if !is_rate && gauges < 2 {
                    notes.add(&Note::NotGauge(name.to_owned()));
                }
                let mut difference = Histogram::clone(new);
                if (!is_rate || !new.is_reset_after(old))
                    && let Err(incompatible) = difference.subtract(old)
                {
                    notes.add(&note(incompatible, name));
                    return None;
                }
                difference.reset_hint = ResetHint::Gauge;
                difference.compact();
                if is_rate {
                    difference.divide(seconds);
                }
                Some(Found::Histogram(Arc::new(difference)))
            }
            _ => {
                notes.add(&Note::MixedInRange(name.to_owned()));
                None
            }
        }
    }
}

/// The difference between the last and the first of several histograms.
struct Difference {
    /// None if there is only one, or the last does not go with the first.
    histogram: Option<Histogram>,
    /// Whether they are gauges where counters are meant, or the other way round.
    misfits: bool,
}

/// What a counter had before it started again is added; resolution is that of the coarsest.
fn difference(samples: &[(i64, Arc<Histogram>)], is_counter: bool) -> Result<Difference, Incompatible> {
    let [(_, first), between @ .., (_, last)] = samples else {
        return Ok(Difference { histogram: None, misfits: false });
    };
    let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    let misfits = if is_counter {
        samples.iter().any(|(_, histogram)| is_gauge(histogram))
    } else {
        !is_gauge(first) || !is_gauge(last)
    };
    let second = &samples[1].1;
    // A first one that the counter has left behind counts for nothing, not even its layout.
    let nothing = Histogram { schema: second.schema, custom: Arc::clone(&second.custom), ..Histogram::default() };
    let mut before = if is_counter && second.is_reset_after(first) { &nothing } else { &**first };
    let mut schema = before.schema.min(last.schema);
    if is_counter {
        if between.iter().any(|(_, histogram)| histogram.is_custom() != before.is_custom()) {
            return Err(Incompatible::Schemas);
        }
        schema = between.iter().map(|(_, histogram)| histogram.schema).fold(schema, i32::min);
    }
    if last.is_custom() != before.is_custom() {
        return Err(Incompatible::Schemas);
    }
    let mut difference = Histogram::clone(last);
    difference.reduce_to(schema);
    difference.subtract(before)?;
    if is_counter {
        for (_, histogram) in &samples[1..] {
            if histogram.is_reset_after(before) {
                difference.add(before)?;
            }
            before = histogram;
        }
    }
    difference.reset_hint = ResetHint::Gauge;
    difference.compact();
    Ok(Difference { histogram: Some(difference), misfits })
}

/// All histograms put together one after the other; `with` is given the number of those so far.
fn combined(
    samples: &[(i64, Arc<Histogram>)],
    name: &str,
    notes: &Notes,
    with: impl Fn(&mut Histogram, &Histogram, f64) -> Result<(), Incompatible>,
) -> Option<Found> {
    let [(_, first), rest @ ..] = samples else { return None };
    let mut all = Histogram::clone(first);
    for (i, (_, next)) in rest.iter().enumerate() {
        if let Err(incompatible) = with(&mut all, next, (i + 2) as f64) {
            notes.add(&note(incompatible, name));
            return None;
        }
    }
    Some(Found::Histogram(Arc::new(all)))
}

/// What is told of histograms that cannot be put together.
pub(crate) fn note(incompatible: Incompatible, name: &str) -> Note {
    match incompatible {
        Incompatible::Schemas => Note::MixedSchemas(name.to_owned()),
        Incompatible::Borders => Note::OtherBorders(name.to_owned()),
    }
}

fn found(sample: Sample<'_>) -> Found {
    match sample {
        Sample::Value(value) => Found::Value(value),
        Sample::Histogram(histogram) => Found::Histogram(Arc::clone(histogram)),
    }
}

fn pairs(in_order: &[(i64, Sample<'_>)], which: impl Fn(Sample<'_>, Sample<'_>) -> bool) -> f64 {
    in_order.windows(2).filter(|pair| which(pair[0].1, pair[1].1)).count() as f64
}

fn has_changed(old: Sample<'_>, new: Sample<'_>) -> bool {
    match (old, new) {
        (Sample::Value(old), Sample::Value(new)) => new != old && !(new.is_nan() && old.is_nan()),
        (Sample::Histogram(old), Sample::Histogram(new)) => !new.equals(old),
        _ => true,
    }
}

fn has_reset(old: Sample<'_>, new: Sample<'_>) -> bool {
    match (old, new) {
        (Sample::Value(old), Sample::Value(new)) => new < old,
        (Sample::Histogram(old), Sample::Histogram(new)) => new.is_reset_after(old),
        _ => true,
    }
}
