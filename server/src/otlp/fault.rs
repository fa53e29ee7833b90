//! What is wrong with log records and spans, how much they may take, and what became of a request.
use foretell_engine::Error as EngineError;

use crate::remote_write::DecodeError;
use crate::remote_write::wire::Malformed;

/// Bytes of one row: texts, lists and maps as JSON, and [`ITEM_BYTES`] for each attribute, event and link.
pub(super) const ROW_BYTES_MAX: usize = 512 << 10;
/// What an attribute, event or link takes besides its texts.
const ITEM_BYTES: usize = 32;
/// What a row takes besides its texts.
const FIXED_BYTES: usize = 64;
/// Bytes of all rows of a request, within what one commit may have.
const BYTES_MAX: usize = 48 << 20;
/// The same of a small request: what a scope says is in each of its rows, and a value may be longer as JSON than on the wire.
const BYTES_MIN: usize = 4 << 20;
/// Bytes of rows for each byte of a request.
const GROWTH_MAX: usize = 16;

/// Why a log record or a span was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Too far ahead of the clock.
    #[error("timestamp {0} ns is too far ahead of this server's clock (limits.future_max); check the sender's clock")]
    TimestampInFuture(i64),
    /// Older than what is kept.
    #[error("timestamp {0} ns is past the retention of this server ([retention]), so it would not be kept")]
    TimestampPastRetention(i64),
    /// Whatever else is wrong with it.
    #[error("{0}")]
    Row(String),
    /// Bad attributes of a resource: none of its rows is stored.
    #[error("{0}")]
    Resource(String),
    /// The engine takes no more new streams.
    #[error("{0}")]
    StreamLimit(String),
}

impl Fault {
    /// Stable label for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::TimestampInFuture(_) => "timestamp_in_future",
            Self::TimestampPastRetention(_) => "timestamp_past_retention",
            Self::Row(_) => "bad_row",
            Self::Resource(_) => "bad_resource",
            Self::StreamLimit(_) => "stream_limit",
        }
    }
}

/// Why a walk ends before the end: of a row, or of the request.
#[derive(Debug)]
pub(super) enum Stop {
    Row(Fault),
    Malformed(Malformed),
    Refused(DecodeError),
    Engine(EngineError),
}

impl Stop {
    /// Of a row, because of `why`.
    pub(super) fn row(why: impl Into<String>) -> Self {
        Self::Row(Fault::Row(why.into()))
    }
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// What the rows of a request may still take: a few bytes on the wire may stand for many in memory.
#[derive(Debug)]
pub(super) struct Budget {
    items: usize,
    items_max: usize,
    bytes: usize,
    bytes_max: usize,
    row: usize,
}

impl Budget {
    /// For a request of `request_bytes` that may have `items_max` rows, attributes, events and links together.
    pub(super) fn new(request_bytes: usize, items_max: usize) -> Self {
        let bytes_max = request_bytes.saturating_mul(GROWTH_MAX).clamp(BYTES_MIN, BYTES_MAX);
        Self { items: items_max, items_max, bytes: bytes_max, bytes_max, row: ROW_BYTES_MAX }
    }

    /// Bytes that were taken so far.
    pub(super) fn taken(&self) -> usize {
        self.bytes_max - self.bytes
    }

    /// Begins a row.
    pub(super) fn begin_row(&mut self) -> Result<(), Stop> {
        self.row = ROW_BYTES_MAX;
        self.count()?;
        self.whole(FIXED_BYTES)
    }

    /// Takes an attribute, event or link with texts of `bytes`.
    pub(super) fn item(&mut self, bytes: usize) -> Result<(), Stop> {
        self.count()?;
        self.text(bytes.saturating_add(ITEM_BYTES))
    }

    /// Takes `bytes` for the row.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), Stop> {
        self.row = self
            .row
            .checked_sub(bytes)
            .ok_or_else(|| Stop::row(format!("a row of more than {ROW_BYTES_MAX} bytes")))?;
        self.whole(bytes)
    }

    fn whole(&mut self, bytes: usize) -> Result<(), Stop> {
        let max = self.bytes_max;
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| {
            Stop::Refused(DecodeError::TooLarge(format!(
                "the rows of this request have more than {max} bytes together; send smaller requests"
            )))
        })?;
        Ok(())
    }

    fn count(&mut self) -> Result<(), Stop> {
        let max = self.items_max;
        self.items = self.items.checked_sub(1).ok_or_else(|| {
            Stop::Refused(DecodeError::TooLarge(format!(
                "the request has more than {max} rows, attributes, events and links (limits.samples_per_request_max); send \
                 smaller requests"
            )))
        })?;
        Ok(())
    }
}

/// What became of a well-formed request.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// What the sender calls its rows.
    pub(super) row: &'static str,
    /// Rows in the batch.
    pub(super) stored: u64,
    /// The others.
    pub(super) rejected: u64,
    /// The first fault, and the number of its row.
    pub(super) first: Option<(Fault, u64)>,
    /// Whether a limit (rather than the sender) is the cause of a refusal, so that trying again later can help.
    pub(super) limited: bool,
}

impl Report {
    /// Row number `number` is not stored.
    pub(super) fn refuse(&mut self, fault: Fault, number: u64) {
        self.limited |= matches!(fault, Fault::StreamLimit(_));
        self.rejected += 1;
        self.first.get_or_insert((fault, number));
    }

    /// The first fault, and the counts; `None` when everything is stored.
    pub(super) fn message(&self) -> Option<String> {
        let (fault, number) = self.first.as_ref()?;
        let Self { row, stored, rejected, .. } = self;
        Some(format!("{fault} ({row} {number} of the request); {rejected} {row}s refused, {stored} stored"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_may_take_ends_and_each_row_begins_anew() {
        let mut budget = Budget::new(0, 4);
        assert!(budget.begin_row().is_ok() && budget.item(10).is_ok());
        assert_eq!(budget.taken(), FIXED_BYTES + ITEM_BYTES + 10);
        assert!(matches!(budget.text(ROW_BYTES_MAX), Err(Stop::Row(_))));
        assert!(budget.begin_row().is_ok() && budget.text(ROW_BYTES_MAX).is_ok(), "a row of its own");
        assert!(budget.begin_row().is_ok());
        assert!(matches!(budget.begin_row(), Err(Stop::Refused(DecodeError::TooLarge(_)))), "the fifth item");
        let mut budget = Budget::new(1, 1_000);
        let rows = std::iter::repeat_with(|| budget.begin_row().and_then(|()| budget.text(ROW_BYTES_MAX)));
        let fits = rows.take(100).take_while(Result::is_ok).count();
        assert_eq!(fits, BYTES_MIN / (ROW_BYTES_MAX + FIXED_BYTES));
    }

    #[test]
    fn the_first_fault_is_told_with_the_counts() {
        let mut report = Report { row: "span", stored: 3, ..Report::default() };
        assert_eq!(report.message(), None);
        report.refuse(Fault::Row("no start".to_owned()), 2);
        report.refuse(Fault::StreamLimit("full".to_owned()), 4);
        assert_eq!(report.message().as_deref(), Some("no start (span 2 of the request); 2 spans refused, 3 stored"));
        assert!(report.limited);
    }
}
