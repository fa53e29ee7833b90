//! Limits of queries.
use std::time::Duration;

/// Limits, all configurable.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    /// Longest SQL text, bytes.
    pub sql_bytes_max: usize,
    /// Most operands in one boolean or arithmetic chain, and most items of a list.
    pub terms_max: usize,
    /// Deepest nesting.
    pub depth_max: usize,
    /// Default and largest deadline.
    pub timeout: Duration,
    /// Queries running at once.
    pub concurrency: usize,
    /// Queries waiting for a place.
    pub queue_max: usize,
    /// Memory pool of all queries together, bytes.
    pub memory_bytes_max: usize,
    /// Rows an answer may have.
    pub rows_max: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            sql_bytes_max: 64 << 10,
            terms_max: 512,
            depth_max: 50,
            timeout: Duration::from_secs(30),
            concurrency: 2,
            queue_max: 64,
            memory_bytes_max: 1 << 30,
            rows_max: 10_000_000,
        }
    }
}

impl QueryLimits {
    /// Those of a PromQL query.
    pub(crate) fn promql(&self) -> crate::promql::Limits {
        let defaults = crate::promql::Limits::default();
        // A sample that is held takes 16 bytes, and a result is made beside what it is made of.
        let samples_max = defaults.samples_max.min(self.memory_bytes_max / 32);
        crate::promql::Limits { text_bytes_max: self.sql_bytes_max, samples_max, ..defaults }
    }
}
