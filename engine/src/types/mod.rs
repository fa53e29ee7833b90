//! The words of the engine as types.
use std::fmt;
use std::sync::Arc;

use crate::error::Result;

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
}

/// A canonical label set: sorted by name, names unique and non-empty, values non-empty, `__name__` included.
/// Cheap to clone. Encoded as repeated `varint(len) name varint(len) value`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSet(Arc<[u8]>);

/// The label that carries a metric's name.
pub const METRIC_NAME: &str = "__name__";

impl LabelSet {
    /// Sorts, drops labels with an empty value (they mean "absent"), and refuses duplicate or empty names.
    ///
    /// # Errors
    /// `Invalid` with the offending name.
    pub fn from_pairs<'a>(_pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        todo!()
    }
    /// The pairs in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        std::iter::empty()
    }
    /// The value of `name`.
    pub fn get(&self, _name: &str) -> Option<&str> {
        todo!()
    }
    /// The value of `__name__`, or "" without one.
    pub fn metric_name(&self) -> &str {
        todo!()
    }
    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// From canonical bytes, checked.
    ///
    /// # Errors
    /// `Corruption` when the bytes are not a canonical label set.
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self> {
        todo!()
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// How a [`Matcher`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
    /// one of a set of values (the value holds them separated by `\0`): what SQL's `IN` becomes
    OneOf,
}

/// A condition on one label; an absent label counts as the empty string, as in Prometheus.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Label name.
    pub name: String,
    /// Comparison.
    pub op: MatchOp,
    /// Right-hand side.
    pub value: String,
}
