//! The words of the engine as types.
mod label_set;
mod matcher;
mod pattern;
mod series_set;

pub(crate) use label_set::same_bytes;
pub use label_set::{LabelSet, METRIC_NAME};
pub(crate) use matcher::{CompiledMatcher, Test};
pub use matcher::{MatchOp, Matcher};
pub use pattern::PlainPattern;
pub use series_set::SeriesSet;

/// Metric names of series that have events and no samples: `__logs__` and `__spans__`. They are series like any other, but not
/// of the metrics: who does not name one does not see it.
pub const EVENTS: [&str; 2] = ["__logs__", "__spans__"];

/// Identifies a series for the life of a store: the metric's ordinal in the high 32 bits, the series' number inside
/// its metric in the low 32. Sorting by id therefore keeps one metric's series together, in the order they appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u64);

impl SeriesId {
    /// The id of series number `number` of metric number `metric`.
    pub fn new(metric: u32, number: u32) -> Self {
        Self((u64::from(metric) << 32) | u64::from(number))
    }
    /// Ordinal of the metric.
    pub fn metric(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// Number of the series inside its metric.
    pub fn number(self) -> u32 {
        self.0 as u32
    }
}

/// Log sequence number: the position of a commit in the history of the store. The first commit is 1; 0 is "before all".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lsn(pub u64);

/// A closed interval of time, nanoseconds UTC, both ends inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First instant inside.
    pub start: i64,
    /// Last instant inside.
    pub end: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// Whether no instant is inside.
    pub fn is_empty(self) -> bool {
        self.start > self.end
    }
    /// Whether `ts` is inside.
    pub fn contains(self, ts: i64) -> bool {
        self.start <= ts && ts <= self.end
    }
    /// Whether the two share an instant.
    pub fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}
