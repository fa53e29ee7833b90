//! What an answer says about itself: warnings, which mean that a result may be wrong, and infos.
//!
//! The texts are Prometheus's, without the position in the expression that it appends.
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::number::general;

/// Texts of one kind that are kept: the first in their order, whoever comes first.
const TEXTS_MAX: usize = 1000;

/// Warnings and infos, each text once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// A result may be wrong.
    pub warnings: BTreeSet<String>,
    /// Something may not be what was meant.
    pub infos: BTreeSet<String>,
}

/// Where an evaluation puts its annotations, from any of its threads: what is kept does not depend on who comes first.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Annotations>);

/// An annotation. Strings are names of metrics where nothing else is said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Note {
    /// A quantile outside of 0 to 1.
    InvalidQuantile(f64),
    /// A ratio outside of −1 to 1, and what is taken instead.
    InvalidRatio(f64, f64),
    /// Metric, and what its label `le` is.
    BadBucketLabel(String, String),
    /// Floats and histograms in one range.
    MixedInRange(String),
    /// Floats and histograms in one group.
    MixedInAggregation,
    /// Classic and native histograms with the same labels.
    MixedClassicAndNative(String),
    /// A rate of a gauge.
    NotCounter(String),
    /// A difference of a counter.
    NotGauge(String),
    /// Exponential and custom buckets.
    MixedSchemas(String),
    /// Different custom borders.
    OtherBorders(String),
    /// As the last two, for an operator.
    IncompatibleLayouts(&'static str),
    /// A name that no counter has.
    MaybeNotCounter(String),
    /// Counts of classic buckets fell.
    ForcedMonotonic(String),
    /// Types of the left side, operator, and of the right side.
    IncompatibleTypes(&'static str, &'static str, &'static str),
    /// An aggregation that left out histograms.
    IgnoredInAggregation(&'static str),
    /// A function that left out histograms of a range.
    IgnoredInRange(String),
    /// A quantile that is one of the observations that are not numbers.
    NanIsQuantile(String),
    /// A quantile that such observations made larger.
    NanSkewsQuantile(String),
    /// A fraction that leaves them out.
    NanOutsideFraction(String),
}

impl Notes {
    /// Adds `note`.
    pub(crate) fn add(&self, note: &Note) {
        let text = note.to_string();
        let mut annotations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = if note.is_info() { &mut annotations.infos } else { &mut annotations.warnings };
        texts.insert(text);
        if texts.len() > TEXTS_MAX {
            texts.pop_last();
        }
    }

    /// All of them.
    pub(crate) fn take(&self) -> Annotations {
        let mut annotations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *annotations)
    }
}

impl Note {
    fn is_info(&self) -> bool {
        matches!(
            self,
            Self::MaybeNotCounter(_)
                | Self::ForcedMonotonic(_)
                | Self::IncompatibleTypes(..)
                | Self::IgnoredInAggregation(_)
                | Self::IgnoredInRange(_)
                | Self::NanIsQuantile(_)
                | Self::NanSkewsQuantile(_)
                | Self::NanOutsideFraction(_)
        )
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_info() { "PromQL info: " } else { "PromQL warning: " })?;
        match self {
            Self::InvalidQuantile(q) => write!(f, "quantile value should be between 0 and 1, got {}", general(*q)),
            Self::InvalidRatio(ratio, to) => write!(
                f,
                "ratio value should be between -1 and 1, got {}, capping to {}",
                general(*ratio),
                general(*to)
            ),
            Self::BadBucketLabel(metric, label) => write!(
                f,
                "bucket label \"le\" is missing or has a malformed value of {label:?} for metric name {metric:?}"
            ),
            Self::MixedInRange(metric) => {
                write!(f, "encountered a mix of histograms and floats for metric name {metric:?}")
            }
            Self::MixedInAggregation => write!(f, "encountered a mix of histograms and floats for aggregation"),
            Self::MixedClassicAndNative(metric) => {
                write!(f, "vector contains a mix of classic and native histograms for metric name {metric:?}")
            }
            Self::NotCounter(metric) => write!(f, "this native histogram metric is not a counter: {metric:?}"),
            Self::NotGauge(metric) => write!(f, "this native histogram metric is not a gauge: {metric:?}"),
            Self::MixedSchemas(metric) => write!(
                f,
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {metric:?}"
            ),
            Self::OtherBorders(metric) => {
                write!(f, "vector contains histograms with incompatible custom buckets for metric name {metric:?}")
            }
            Self::IncompatibleLayouts(op) => {
                write!(f, "incompatible bucket layout encountered for binary operator {op}")
            }
            Self::MaybeNotCounter(metric) => {
                write!(f, "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}")
            }
            Self::ForcedMonotonic(metric) => write!(
                f,
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \
                 {metric:?}"
            ),
            Self::IncompatibleTypes(lhs, op, rhs) => {
                write!(f, "incompatible sample types encountered for binary operator {op:?}: {lhs} {op} {rhs}")
            }
            Self::IgnoredInAggregation(op) => write!(f, "ignored histogram in {op} aggregation"),
            Self::IgnoredInRange(metric) => write!(
                f,
                "ignored histograms in a range containing both floats and histograms for metric name {metric:?}"
            ),
            Self::NanIsQuantile(metric) => {
                write!(f, "input to histogram_quantile has NaN observations, result is NaN for metric name {metric:?}")
            }
            Self::NanSkewsQuantile(metric) => write!(
                f,
                "input to histogram_quantile has NaN observations, result is skewed higher for metric name {metric:?}"
            ),
            Self::NanOutsideFraction(metric) => write!(
                f,
                "input to histogram_fraction has NaN observations, which are excluded from all fractions for metric \
                 name {metric:?}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_in_its_kind() {
        let notes = Notes::default();
        for _ in 0..2 {
            notes.add(&Note::InvalidQuantile(1.5));
            notes.add(&Note::MaybeNotCounter("up".into()));
        }
        let found = notes.take();
        let warnings: Vec<&str> = found.warnings.iter().map(String::as_str).collect();
        assert_eq!(warnings, ["PromQL warning: quantile value should be between 0 and 1, got 1.5"]);
        assert_eq!(found.infos.len(), 1);
    }
    #[test]
    fn what_is_kept_of_too_many_does_not_depend_on_their_order() {
        let forwards: Vec<usize> = (0..TEXTS_MAX + 100).collect();
        let backwards: Vec<usize> = forwards.iter().rev().copied().collect();
        let kept = [forwards, backwards].map(|order| {
            let notes = Notes::default();
            order.iter().for_each(|i| notes.add(&Note::NotGauge(format!("m{i}"))));
            notes.take()
        });
        assert_eq!(kept[0], kept[1]);
        assert_eq!(kept[0].warnings.len(), TEXTS_MAX);
    }
}
