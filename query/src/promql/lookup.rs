//! Questions that the index answers: which label names, which values, which series.
use std::collections::BTreeSet;
use std::fmt;

use foretell_engine::{LabelSet, Selector, Snapshot, TimeRange};

use super::Limits;
use super::parse::parse_selector;
use crate::error::{Error, Result};

const NS_PER_MS: i64 = 1_000_000;

/// A question about series that may have samples in a range of time, which has none if it ends before it starts.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Only series of this metric: what asks for those that are seen by who names them.
    pub metric: Option<String>,
    /// What of the series is wanted.
    pub what: What,
    /// Series selectors of which one must hold; none: all series.
    pub selectors: Vec<String>,
    /// First instant, milliseconds UTC.
    pub start_ms: i64,
    /// Last instant, milliseconds UTC.
    pub end_ms: i64,
    /// Answers at most this many; 0: all.
    pub limit: usize,
}

/// What of the series is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Names of labels.
    Names,
    /// Values of one label.
    Values(String),
    /// Label sets.
    Series,
}

/// The answer to a [`Lookup`], sorted.
#[derive(Clone, Debug)]
pub enum Found {
    /// Names or values.
    Texts(Vec<String>),
    /// Label sets.
    Series(Vec<LabelSet>),
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}", self.what, self.selectors.join(" or "))
    }
}

impl Lookup {
    /// # Errors
    /// `Invalid` for a bad selector.
    pub(crate) fn ask(&self, snapshot: &Snapshot, limits: &Limits) -> Result<Found> {
        let selectors = self.selectors(limits)?;
        let engine = |error| Error::from_engine(&error);
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut texts: BTreeSet<String> = BTreeSet::new();
        let mut series = Vec::new();
        for selector in &selectors {
            match &self.what {
                What::Names => texts.extend(snapshot.label_names(selector).map_err(engine)?),
                What::Values(name) => texts.extend(snapshot.label_values(name, selector, limit).map_err(engine)?),
                What::Series => series.extend(snapshot.select(selector).map_err(engine)?.into_iter().map(|s| s.labels)),
            }
        }
        if self.what == What::Series {
            series.sort_unstable_by(LabelSet::compare);
            series.dedup();
            series.truncate(limit);
            return Ok(Found::Series(series));
        }
        Ok(Found::Texts(texts.into_iter().take(limit).collect()))
    }

    /// The selectors as the engine takes them.
    ///
    /// # Errors
    /// `Invalid` for a bad one.
    pub(crate) fn selectors(&self, limits: &Limits) -> Result<Vec<Selector>> {
        let range = TimeRange {
            start: self.start_ms.saturating_mul(NS_PER_MS),
            end: self.end_ms.saturating_mul(NS_PER_MS).saturating_add(NS_PER_MS - 1),
        };
        let all = Selector { metric: self.metric.clone(), matchers: Vec::new(), range };
        if self.selectors.is_empty() {
            return Ok(vec![all]);
        }
        let mut selectors = Vec::new();
        for text in &self.selectors {
            let sets = parse_selector(text, limits)?.0;
            selectors.extend(sets.into_iter().map(|matchers| Selector { matchers, ..all.clone() }));
        }
        Ok(selectors)
    }
}
