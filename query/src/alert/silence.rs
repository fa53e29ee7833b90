//! Silences: when nobody is told of which alerts. Once, each day, or on days of the week; all times are UTC.
//!
//! A silence holds back the notice that an alert fires. What has not ended with the silence is told then; what has is never told.
//! Whoever was told before that an alert fires is told of its end, silence or not. The alerts themselves, their state and the samples of
//! `ALERTS` are as ever.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::temporal_conversions::timestamp_ns_to_datetime;
use foretell_engine::clock::{Clock, SystemClock};
use foretell_engine::{LabelSet, Snapshot};
use parking_lot::RwLock;

use crate::codec::{Decoder, Encoder};
use crate::duration;
use crate::error::{Error, Result};
use crate::promql::{LabelFilter, Limits};
use crate::statement::Properties;
use crate::table::sys::{batch, texts};

/// Prefix of every silence.
const SILENCES: &[u8] = b"alert/silence/";
/// Most silences.
pub(super) const SILENCES_MAX: usize = 1_024;
const MINUTE_NS: i64 = 60_000_000_000;
const DAY_NS: i64 = 24 * 60 * MINUTE_NS;
const WEEK_NS: i64 = 7 * DAY_NS;
/// 1970 began on a Thursday; weeks begin on Monday.
const FIRST_DAY: i64 = 3;
/// Days as statements write them.
pub(super) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When it is quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// From an instant to before another, ns.
    Once { from: i64, until: i64 },
    /// On days of the week, a bit each from Monday on: how long after midnight it begins, and for how long, ns.
    Weekly { days: u8, from: i64, length: i64 },
}

impl When {
    /// All days.
    pub(super) const DAILY: u8 = 0x7f;

    fn is_at(self, at: i64) -> bool {
        match self {
            Self::Once { from, until } => (from..until).contains(&at),
            Self::Weekly { days, from, length } => {
                let since =
                    |day: i64| (at.rem_euclid(WEEK_NS) + FIRST_DAY * DAY_NS - day * DAY_NS - from).rem_euclid(WEEK_NS);
                (0..7).any(|day| days >> day & 1 == 1 && since(day) < length)
            }
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = |ns: i64| timestamp_ns_to_datetime(ns).map_or_else(|| ns.to_string(), |at| format!("{at}Z"));
        match *self {
            Self::Once { from, until } => write!(f, "from {} until {}", instant(from), instant(until)),
            Self::Weekly { days, from, length } => {
                let names: Vec<&str> =
                    DAYS.iter().enumerate().filter(|(day, _)| days >> day & 1 == 1).map(|(_, name)| *name).collect();
                let days = if days == Self::DAILY { "daily".to_owned() } else { format!("on {}", names.join(", ")) };
                let minutes = from / MINUTE_NS;
                write!(f, "{days} from {:02}:{:02} for {}", minutes / 60, minutes % 60, duration::format(length))
            }
        }
    }
}

/// A silence as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    pub(crate) name: String,
    /// A selector over the labels of alerts.
    pub(crate) matcher: String,
    pub(crate) when: When,
    pub(crate) comment: String,
}

impl Silence {
    const VERSION: u8 = 1;

    pub(super) fn key(name: &str) -> Vec<u8> {
        [SILENCES, name.as_bytes()].concat()
    }

    /// What makes it another one than one of the same name.
    pub(super) fn properties(&self) -> Properties {
        vec![("on", self.matcher.clone()), ("when", self.when.to_string()), ("comment", self.comment.clone())]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.text(&self.name).text(&self.matcher).text(&self.comment);
        match self.when {
            When::Once { from, until } => out.unsigned(0).signed(from).signed(until),
            When::Weekly { days, from, length } => out.unsigned(u64::from(days)).signed(from).signed(length),
        };
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("silence", bytes, Self::VERSION)?;
        let (name, matcher, comment) = (from.text()?.to_owned(), from.text()?.to_owned(), from.text()?.to_owned());
        let (days, first, second) = (from.unsigned()?, from.signed()?, from.signed()?);
        from.end()?;
        let when = match (days as u8) & When::DAILY {
            0 => When::Once { from: first, until: second },
            days => When::Weekly { days, from: first, length: second },
        };
        Ok(Self { name, matcher, when, comment })
    }
}

/// One with its selector ready to be asked.
struct Kept {
    silence: Silence,
    filter: LabelFilter,
}

/// All silences of a store.
#[derive(Default)]
pub(super) struct Silences(RwLock<BTreeMap<String, Arc<Kept>>>);

impl Silences {
    /// Those that are stored.
    ///
    /// # Errors
    /// When they are damaged.
    pub(super) fn open(snapshot: &Snapshot) -> Result<Self> {
        let silences = Self::default();
        for (_, bytes) in snapshot.state_prefix(SILENCES) {
            let silence = Silence::decode(&bytes)?;
            silences.insert(filter(&silence)?, silence);
        }
        Ok(silences)
    }

    pub(super) fn get(&self, name: &str) -> Option<Silence> {
        self.0.read().get(name).map(|kept| kept.silence.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().len()
    }

    pub(super) fn insert(&self, filter: LabelFilter, silence: Silence) {
        self.0.write().insert(silence.name.clone(), Arc::new(Kept { silence, filter }));
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.write().remove(name);
    }

    /// The silences of instant `at`, to be asked about many alerts.
    pub(super) fn at(&self, at: i64) -> Quiet {
        Quiet(self.0.read().values().filter(|kept| kept.silence.when.is_at(at)).cloned().collect())
    }

    /// `sys.silences`
    pub(super) fn rows(&self) -> Result<RecordBatch> {
        let all: Vec<Arc<Kept>> = self.0.read().values().cloned().collect();
        let now = SystemClock.now_ns();
        let of = |get: fn(&Silence) -> String| texts(all.iter().map(|kept| Some(get(&kept.silence))));
        let active = BooleanArray::from_iter(all.iter().map(|kept| Some(kept.silence.when.is_at(now))));
        let rows = batch(vec![
            ("name", of(|silence| silence.name.clone())),
            ("matches", of(|silence| silence.matcher.clone())),
            ("when", of(|silence| silence.when.to_string())),
            ("active", Arc::new(active) as ArrayRef),
            ("comment", of(|silence| silence.comment.clone())),
        ]);
        rows.map_err(Error::from_datafusion)
    }
}

/// The selector of a silence, ready to be asked.
///
/// # Errors
/// `Invalid` when it is none.
pub(super) fn filter(silence: &Silence) -> Result<LabelFilter> {
    LabelFilter::parse(&silence.matcher, &Limits::default())
        .map_err(|error| Error::invalid(format!("{:?} is no selector of alerts: {}", silence.matcher, error.message)))
}

/// The silences of one instant.
pub(super) struct Quiet(Vec<Arc<Kept>>);

impl Quiet {
    /// The name of one that holds back who has these labels.
    pub(super) fn about(&self, labels: &[(String, String)]) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let labels = LabelSet::from_pairs(labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))).ok()?;
        self.0.iter().find(|kept| kept.filter.matches(&labels)).map(|kept| kept.silence.name.as_str())
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR_NS: i64 = 60 * MINUTE_NS;
    /// Thursday, 2026-01-01T00:00:00Z
    const THURSDAY: i64 = 1_767_225_600_000_000_000;

    #[test]
    fn days_and_times_are_those_of_the_calendar() {
        let once = When::Once { from: 5, until: 8 };
        assert_eq!([4, 5, 7, 8].map(|at| once.is_at(at)), [false, true, true, false]);
        let nightly = When::Weekly { days: When::DAILY, from: 23 * HOUR_NS, length: 2 * HOUR_NS };
        for day in 0..14 {
            let hours = [22, 23, 24, 25].map(|hour| nightly.is_at(THURSDAY + day * DAY_NS + hour * HOUR_NS));
            assert_eq!(hours, [false, true, true, false], "day {day}");
        }
        let sundays = When::Weekly { days: 1 << 6, from: 22 * HOUR_NS, length: 8 * HOUR_NS };
        for hour in -200..200 {
            // Sunday the 4th of January, and each seventh day before and after it.
            let since = (hour - (3 * 24 + 22)).rem_euclid(7 * 24);
            assert_eq!(sundays.is_at(THURSDAY + hour * HOUR_NS), since < 8, "hour {hour}");
        }
        assert_eq!(sundays.to_string(), "on sun from 22:00 for 8h");
        assert_eq!(nightly.to_string(), "daily from 23:00 for 2h");
        let once = When::Once { from: THURSDAY, until: THURSDAY + HOUR_NS };
        assert_eq!(once.to_string(), "from 2026-01-01 00:00:00Z until 2026-01-01 01:00:00Z");
    }

    #[test]
    fn what_is_stored_reads_back_and_no_prefix_does() {
        for when in [When::Once { from: -1, until: 9 }, When::Weekly { days: 0x41, from: 2 * HOUR_NS, length: HOUR_NS }]
        {
            let silence = Silence { name: "n".into(), matcher: "{a=\"b\"}".into(), when, comment: "why".into() };
            let bytes = silence.encode();
            assert_eq!(Silence::decode(&bytes).unwrap(), silence);
            assert!((0..bytes.len()).all(|length| Silence::decode(&bytes[..length]).is_err()));
        }
    }
}
