//! What was wrong with parts of a request, and the sentence that says so to the sender.
use std::fmt::Write as _;

use super::labels::LabelFault;

/// Why a sample or a series was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nanoseconds in an `i64` cannot express it.
    #[error("timestamp {ts_ms} ms is outside the years 1677 to 2262")]
    TimestampOutOfRange {
        /// As sent.
        ts_ms: i64,
    },
    /// Too far ahead of the clock.
    #[error(
        "timestamp {ts_ms} ms is too far ahead of this server's clock (limits.future_max); check the sender's clock"
    )]
    TimestampInFuture {
        /// As sent.
        ts_ms: i64,
    },
    /// Older than what is kept.
    #[error("timestamp {ts_ms} ms is past the retention of this server ([retention]), so it would not be kept")]
    TimestampPastRetention {
        /// As sent.
        ts_ms: i64,
    },
    /// A series without any label.
    #[error("series without labels")]
    NoLabels,
    /// Bad labels.
    #[error(transparent)]
    Labels(#[from] LabelFault),
    /// A native histogram that could not be read again.
    #[error("native histogram refused: {0}")]
    Histogram(&'static str),
    /// An exemplar with bad labels.
    #[error("exemplar refused: {0}")]
    Exemplar(&'static str),
    /// Whatever else is wrong with a point of another protocol.
    #[error("{0}")]
    Point(String),
    /// More than one request may bring.
    #[error(
        "the labels of this request's new series have more than {0} bytes together; send it again, or smaller requests"
    )]
    NewLabelBytes(usize),
    /// The engine takes no more new series.
    #[error("{0}")]
    SeriesLimit(String),
}

impl Fault {
    /// Stable label for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TimestampOutOfRange { .. } => "timestamp_out_of_range",
            Self::TimestampInFuture { .. } => "timestamp_in_future",
            Self::TimestampPastRetention { .. } => "timestamp_past_retention",
            Self::NoLabels => "no_labels",
            Self::Labels(_) => "bad_labels",
            Self::Histogram(_) => "bad_histogram",
            Self::Exemplar(_) => "bad_exemplar",
            Self::Point(_) => "bad_point",
            Self::NewLabelBytes(_) => "new_label_bytes",
            Self::SeriesLimit(_) => "series_limit",
        }
    }
}

/// The first fault of a request and how much was dropped for any.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Samples not stored.
    pub samples_dropped: u64,
    /// Native histograms not stored.
    pub histograms_dropped: u64,
    /// Exemplars not stored.
    pub exemplars_dropped: u64,
    first: Option<(Fault, String)>,
}

impl Faults {
    /// Remembers the first fault and where it was.
    pub(crate) fn note(&mut self, fault: Fault, place: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some((fault, place()));
        }
    }

    /// The first fault.
    pub fn first(&self) -> Option<&Fault> {
        self.first.as_ref().map(|(fault, _)| fault)
    }
}

/// What became of a well-formed request.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Samples in the batch.
    pub samples_stored: u64,
    /// Native histograms in the batch.
    pub histograms_stored: u64,
    /// Exemplars in the batch.
    pub exemplars_stored: u64,
    /// Descriptions of metrics in the batch: new or changed.
    pub metadata_stored: u64,
    /// Descriptions of metrics above a limit.
    pub metadata_ignored: u64,
    /// Points of the sender's of which something was dropped, for protocols that have such, and what they are called.
    pub points_dropped: u64,
    /// What the sender calls its points.
    pub point: &'static str,
    /// The rest.
    pub faults: Faults,
    /// Whether a limit (rather than the sender) is the cause of a drop, so that trying again later can help.
    pub limited: bool,
}

impl Report {
    /// Whether everything was stored.
    pub fn is_clean(&self) -> bool {
        self.faults.first.is_none()
    }

    /// The first fault with its series, and the counts.
    pub fn message(&self) -> String {
        let mut text = String::new();
        if let Some((fault, place)) = &self.faults.first {
            let _ = write!(text, "{fault}");
            if !place.is_empty() {
                let _ = write!(text, " ({place})");
            }
        }
        if self.points_dropped > 0 {
            let _ = write!(text, "; {} {}s refused, others kept", self.points_dropped, self.point);
        }
        let _ = write!(text, "; {} samples dropped", self.faults.samples_dropped);
        for (dropped, what) in
            [(self.faults.histograms_dropped, "native histograms"), (self.faults.exemplars_dropped, "exemplars")]
        {
            if dropped > 0 {
                let _ = write!(text, ", {dropped} {what} dropped");
            }
        }
        let _ = write!(text, ", {} samples stored", self.samples_stored);
        for (stored, what) in [(self.histograms_stored, "native histograms"), (self.exemplars_stored, "exemplars")] {
            if stored > 0 {
                let _ = write!(text, ", {stored} {what} stored");
            }
        }
        text
    }
}
