//! Limits of queries.
use std::time::Duration;

use crate::promql::{self, Features};

/// Limits, all configurable but those that are there for tests.
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
    /// Memory of all detectors of continuous queries, bytes: beyond it they are read from storage when their series have rows.
    pub continuous_bytes_max: usize,
    /// Memory of the answers to PromQL queries that are kept, bytes; 0: none are.
    pub result_cache_bytes_max: usize,
    /// Rows an answer may have.
    pub rows_max: usize,
    /// Samples that a PromQL query may hold at once.
    pub samples_max: usize,
    /// Whether statements that read few rows are spread over all cores as others are: to test that nothing depends on it.
    #[doc(hidden)]
    pub spread_small: bool,
    /// What of PromQL is switched on.
    pub promql_features: Features,
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
            continuous_bytes_max: 256 << 20,
            result_cache_bytes_max: 64 << 20,
            rows_max: 10_000_000,
            samples_max: promql::Limits::default().samples_max,
            spread_small: false,
            promql_features: Features::default(),
        }
    }
}

impl QueryLimits {
    /// Those of a PromQL query.
    pub(crate) fn promql(&self) -> promql::Limits {
        promql::Limits {
            text_bytes_max: self.sql_bytes_max,
            samples_max: self.samples_max,
            features: self.promql_features,
            ..promql::Limits::default()
        }
    }
}
