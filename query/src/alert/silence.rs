//! Silences: when nobody is told of which alerts. Once, each day, or on days of the week; all times are UTC.
//!
//! A silence holds back the notice that an alert fires. What has not ended with the silence is told then; what has is never told.
//! Whoever was told before that an alert fires is told of its end, silence or not. The alerts themselves, their state and the samples of
//! `ALERTS` are as ever.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::temporal_conversions::timestamp_ns_to_datetime;
use foretell_engine::clock::{Clock, SystemClock};
use foretell_engine::{LabelSet, Snapshot, WriteBatch};
use hashbrown::HashMap;
use parking_lot::RwLock;

use super::Alerts;
use super::definition::{Notice, Target};
use crate::codec::{Decoder, Encoder};
use crate::continuous::status::answer;
use crate::duration;
use crate::error::{Error, ErrorKind, Result};
use crate::promql::{LabelFilter, Limits};
use crate::statement::{Existing, Properties};
use crate::table::sys::{batch, texts};

/// Prefix of every silence.
const SILENCES: &[u8] = b"alert/silence/";
/// Most silences.
const SILENCES_MAX: usize = 1_024;
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

    /// When it became quiet, if it is at `at`.
    fn since(self, at: i64) -> Option<i64> {
        match self {
            Self::Once { from, until } => (from..until).contains(&at).then_some(from),
            Self::Weekly { days, from, length } => {
                let day_of = |day: i64| at.rem_euclid(WEEK_NS) + (FIRST_DAY - day) * DAY_NS - from;
                let passed = (0..7).filter(|day| days >> day & 1 == 1).map(|day| day_of(day).rem_euclid(WEEK_NS));
                // Where two days overlap it has been quiet since the earlier of them.
                passed.filter(|&passed| passed < length).max().map(|passed| at.saturating_sub(passed))
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

    fn key(name: &str) -> Vec<u8> {
        [SILENCES, name.as_bytes()].concat()
    }

    /// What makes it another one than one of the same name.
    pub(super) fn properties(&self) -> Properties {
        vec![("on", self.matcher.clone()), ("when", self.when.to_string()), ("comment", self.comment.clone())]
    }

    fn encode(&self) -> Vec<u8> {
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
        for (_, bytes) in snapshot.state_prefix(SILENCES)? {
            let silence = Silence::decode(&bytes)?;
            silences.insert(filter(&silence)?, silence);
        }
        Ok(silences)
    }

    pub(super) fn get(&self, name: &str) -> Option<Silence> {
        self.0.read().get(name).map(|kept| kept.silence.clone())
    }

    fn len(&self) -> usize {
        self.0.read().len()
    }

    fn insert(&self, filter: LabelFilter, silence: Silence) {
        self.0.write().insert(silence.name.clone(), Arc::new(Kept { silence, filter }));
    }

    fn remove(&self, name: &str) {
        self.0.write().remove(name);
    }

    /// The silences of instant `at`, to be asked about many alerts.
    pub(super) fn at(&self, at: i64) -> Quiet {
        let all = self.0.read();
        Quiet(all.values().filter_map(|kept| Some((kept.silence.when.since(at)?, Arc::clone(kept)))).collect())
    }

    /// `sys.silences`
    pub(super) fn rows(&self) -> Result<RecordBatch> {
        let all: Vec<Arc<Kept>> = self.0.read().values().cloned().collect();
        let now = SystemClock.now_ns();
        let of = |get: fn(&Silence) -> String| texts(all.iter().map(|kept| Some(get(&kept.silence))));
        let active = BooleanArray::from_iter(all.iter().map(|kept| Some(kept.silence.when.since(now).is_some())));
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

/// The silences of one instant, each with when it began.
pub(super) struct Quiet(Vec<(i64, Arc<Kept>)>);

impl Quiet {
    /// The name of one that holds back a notice: that of something which fires, made since it is quiet. What was made before may have
    /// been told, even if nobody knows.
    pub(super) fn about(&self, notice: &Notice) -> Option<&str> {
        if self.0.is_empty() || !notice.firing {
            return None;
        }
        let pairs = notice.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels = LabelSet::from_pairs(pairs).ok()?;
        let holds = |(since, kept): &&(i64, Arc<Kept>)| *since <= notice.made_at && kept.filter.matches(&labels);
        self.0.iter().find(holds).map(|(_, kept)| kept.silence.name.as_str())
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Alerts {
    /// Runs `CREATE SILENCE`.
    ///
    /// # Errors
    /// `Invalid`, or as the engine.
    pub(super) async fn silence(self: &Arc<Self>, silence: Silence, existing: Existing) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let (name, is) = (silence.name.clone(), self.silences.get(&silence.name));
        if let Some(is) = &is {
            if let Some(said) = existing.settled("silence", &name, is.properties() == silence.properties())? {
                return answer(said);
            }
        } else if self.silences.len() >= SILENCES_MAX {
            let what = format!("there are {SILENCES_MAX} silences already: drop one first");
            return Err(Error::new(ErrorKind::Execution, what));
        }
        let filter = filter(&silence)?;
        let state = vec![(Silence::key(&name), Some(silence.encode()))];
        self.write(WriteBatch { state, ..WriteBatch::default() }).await?;
        self.silences.insert(filter, silence);
        answer(format!("silence {name} {}", if is.is_some() { "replaced" } else { "created" }))
    }

    /// Runs `DROP SILENCE`.
    ///
    /// # Errors
    /// `NotFound`, or as the engine.
    pub(super) async fn drop_silence(self: &Arc<Self>, name: &str, if_exists: bool) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        if self.silences.get(name).is_none() {
            return match if_exists {
                true => answer(format!("there is no silence {name}")),
                false => {
                    let what = format!("there is no silence {name}: SHOW SILENCES lists all");
                    Err(Error::new(ErrorKind::NotFound, what))
                }
            };
        }
        let state = vec![(Silence::key(name), None)];
        self.write(WriteBatch { state, ..WriteBatch::default() }).await?;
        self.silences.remove(name);
        answer(format!("silence {name} dropped; what it held back is told now, unless it has ended"))
    }

    /// Forgets notices of what fired and ended while it was silenced: nobody is told.
    ///
    /// # Errors
    /// As the engine: then it is tried again.
    pub(super) async fn settle_silenced(&self) -> Result<()> {
        let quiet = self.silences.at(SystemClock.now_ns());
        if quiet.is_empty() {
            return Ok(());
        }
        let mut never = Vec::new();
        {
            let outbox = self.outbox.lock();
            let mut held: HashMap<(&Target, &str, &LabelSet), &Notice> = HashMap::new();
            for notice in outbox.values() {
                let of = (&notice.target, notice.alert.as_str(), &notice.of);
                if quiet.about(notice).is_some() {
                    held.insert(of, notice);
                } else if !notice.firing
                    && let Some(fired) = held.remove(&of).filter(|fired| fired.starts_at == notice.starts_at)
                {
                    never.extend([fired.seq, notice.seq]);
                }
            }
        }
        if never.is_empty() {
            return Ok(());
        }
        self.counts.silenced.fetch_add(never.len() as u64, Ordering::Relaxed);
        self.taken(&never).await
    }

    /// The silence that holds back a notice now.
    pub(super) fn held_by(&self, notices: &[Arc<Notice>]) -> Vec<Option<String>> {
        let quiet = self.silences.at(SystemClock.now_ns());
        let by = |notice: &Arc<Notice>| quiet.about(notice).filter(|_| notice.error.is_none());
        notices.iter().map(|notice| by(notice).map(str::to_owned)).collect()
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
        assert_eq!([4, 5, 7, 8].map(|at| once.since(at)), [None, Some(5), Some(5), None]);
        let nightly = When::Weekly { days: When::DAILY, from: 23 * HOUR_NS, length: 2 * HOUR_NS };
        for day in 0..14 {
            let midnight = THURSDAY + day * DAY_NS;
            let hours = [22, 23, 24, 25].map(|hour| nightly.since(midnight + hour * HOUR_NS));
            let begun = Some(midnight + 23 * HOUR_NS);
            assert_eq!(hours, [None, begun, begun, None], "day {day}");
        }
        let sundays = When::Weekly { days: 1 << 6, from: 22 * HOUR_NS, length: 8 * HOUR_NS };
        for hour in -200i64..200 {
            // Sunday the 4th of January, and each seventh day before and after it.
            let since = (hour - (3 * 24 + 22)).rem_euclid(7 * 24);
            let begun = (since < 8).then(|| THURSDAY + (hour - since) * HOUR_NS);
            assert_eq!(sundays.since(THURSDAY + hour * HOUR_NS), begun, "hour {hour}");
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
