//! What a store must answer, worked out by brute force: each series is a vector of rows, sorted when it is asked.
//!
//! Rows are 16 bytes, because a year has tens of millions of them. It can be told to be wrong ([`Flaw`]), which is how
//! the comparisons are proven to see what they must see.
use std::collections::HashMap;

use foretell_engine::{LabelSet, MatchOp, Matcher, Selector, TimeRange};
use regex::Regex;

/// Time and bits of the value.
pub(crate) type Row = (i64, u64);

/// How a model is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Not at all.
    None,
    /// Of two values at one instant the older one stays.
    OlderWins,
    /// The first delete that deletes something is not carried out.
    ForgottenDelete,
    /// A late row, one that is older than the newest of its series, is not taken.
    LostLateRow,
}

/// One series.
pub(crate) struct Track {
    pub(crate) labels: LabelSet,
    /// Sorted and unique up to what was pushed since the last [`Track::settle`].
    pub(crate) rows: Vec<Row>,
    settled: bool,
}

impl Track {
    /// Sorts, and keeps of each instant what came last.
    fn settle(&mut self, older_wins: bool) {
        if self.settled {
            return;
        }
        // Stable: rows of one instant stay in the order of their arrival.
        self.rows.sort_by_key(|row| row.0);
        self.rows.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same && !older_wins {
                *kept = *later;
            }
            same
        });
        self.settled = true;
    }

    /// Rows in `range` of a settled track.
    pub(crate) fn in_range(&self, range: TimeRange) -> &[Row] {
        assert!(self.settled, "a track is settled before it is asked");
        if range.is_empty() {
            return &[];
        }
        let from = self.rows.partition_point(|row| row.0 < range.start);
        let to = self.rows.partition_point(|row| row.0 <= range.end);
        &self.rows[from..to]
    }
}

/// Every series that was ever written.
pub(crate) struct Model {
    pub(crate) tracks: Vec<Track>,
    by_labels: HashMap<LabelSet, usize>,
    flaw: Flaw,
    /// Rows that writes brought and deletes took, for the figures.
    pub(crate) pushed: u64,
    pub(crate) deleted: u64,
}

impl Model {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self { tracks: Vec::new(), by_labels: HashMap::new(), flaw, pushed: 0, deleted: 0 }
    }

    /// A new series; its number.
    pub(crate) fn add(&mut self, labels: LabelSet) -> usize {
        let number = self.tracks.len();
        assert!(self.by_labels.insert(labels.clone(), number).is_none(), "{labels:?} is new");
        self.tracks.push(Track { labels, rows: Vec::new(), settled: true });
        number
    }

    pub(crate) fn find(&self, labels: &LabelSet) -> Option<usize> {
        self.by_labels.get(labels).copied()
    }

    pub(crate) fn push(&mut self, track: usize, ts: i64, bits: u64) {
        let track = &mut self.tracks[track];
        let late = || track.rows.last().is_some_and(|last| ts < last.0) && track.rows.iter().all(|row| row.0 != ts);
        if self.flaw == Flaw::LostLateRow && late() {
            self.flaw = Flaw::None;
            return;
        }
        self.pushed += 1;
        track.rows.push((ts, bits));
        track.settled = false;
    }

    /// What a delete of `selector` does.
    pub(crate) fn delete(&mut self, selector: &Selector) {
        let (conditions, older_wins) = (Conditions::of(selector), self.flaw == Flaw::OlderWins);
        for track in self.tracks.iter_mut().filter(|track| conditions.hold(&track.labels)) {
            track.settle(older_wins);
            let gone = track.in_range(selector.range).len() as u64;
            if gone > 0 && self.flaw == Flaw::ForgottenDelete {
                self.flaw = Flaw::None;
                return;
            }
            self.deleted += gone;
            track.rows.retain(|row| !selector.range.contains(row.0));
        }
    }

    /// Makes every track ready to be asked.
    pub(crate) fn settle(&mut self) {
        let older_wins = self.flaw == Flaw::OlderWins;
        self.tracks.iter_mut().for_each(|track| track.settle(older_wins));
    }

    /// Rows in all, when settled.
    pub(crate) fn rows(&self) -> u64 {
        self.tracks.iter().map(|track| track.rows.len() as u64).sum()
    }
}

/// The matchers of a selector, compiled; the model's own understanding of them.
pub(crate) struct Conditions(Vec<(Matcher, Option<Regex>)>);

impl Conditions {
    pub(crate) fn of(selector: &Selector) -> Self {
        let metric = selector.metric.iter();
        let metric = metric.map(|name| Matcher { name: "__name__".into(), op: MatchOp::Equal, value: name.clone() });
        let compiled = metric.chain(selector.matchers.iter().cloned()).map(|matcher| {
            let regex = matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex)
                .then(|| Regex::new(&format!("^(?:{})$", matcher.value)).unwrap());
            (matcher, regex)
        });
        Self(compiled.collect())
    }

    pub(crate) fn hold(&self, labels: &LabelSet) -> bool {
        self.0.iter().all(|(matcher, regex)| {
            let value = labels.get(&matcher.name).unwrap_or("");
            let found = || regex.as_ref().unwrap().is_match(value);
            match matcher.op {
                MatchOp::Equal => value == matcher.value,
                MatchOp::NotEqual => value != matcher.value,
                MatchOp::OneOf => matcher.value.split('\0').any(|one| one == value),
                MatchOp::Regex => found(),
                MatchOp::NotRegex => !found(),
            }
        })
    }
}
