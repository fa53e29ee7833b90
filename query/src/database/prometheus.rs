//! What the Prometheus HTTP API asks besides queries: exemplars, metadata, raw rows, deletes by selector.
use std::sync::Arc;
use std::time::Duration;

use foretell_engine::DeleteSummary;
use tokio::time::Instant;

use super::Database;
use crate::error::{Error, Result};
use crate::execute;
use crate::metadata::MetricMetadata;
use crate::planner;
use crate::promql::{ExemplarQuery, Lookup, RawReader, SeriesExemplars, What};

impl Database {
    /// Exemplars of the series that an expression selects; `None` when it selects none whatever there is. Dropping the
    /// future cancels it.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub async fn exemplars(
        self: &Arc<Self>,
        query: ExemplarQuery,
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<SeriesExemplars>>> {
        let limits = self.limits.promql();
        let text = format!("exemplars of {}", query.text);
        self.on_snapshot(&text, timeout, move |snapshot, cancelled| query.ask(snapshot, &limits, cancelled)).await
    }

    /// What is known about metric families, by name: of the one called `family`, or of all.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub async fn metadata(self: &Arc<Self>, family: Option<String>) -> Result<Vec<(String, MetricMetadata)>> {
        self.on_snapshot("metadata", None, move |snapshot, _| {
            let Some(family) = family else { return MetricMetadata::all(snapshot) };
            let Some(stored) = snapshot.state(&MetricMetadata::key(&family))? else { return Ok(Vec::new()) };
            Ok(vec![(family, MetricMetadata::decode(&stored)?)])
        })
        .await
    }

    /// Runs `work`, which reads raw rows, as a query that is listed under `text`. Dropping the future, or the deadline,
    /// cancels it at its next series.
    ///
    /// # Errors
    /// What `work` answers; else as [`Database::promql`].
    pub async fn read_raw<T: Send + 'static>(
        self: &Arc<Self>,
        text: String,
        timeout: Option<Duration>,
        work: impl FnOnce(&RawReader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let samples_max = self.limits.promql().samples_max;
        let (memory, running) = (self.sessions.reservation("a read of rows"), Arc::clone(&self.running));
        self.on_snapshot(&text, timeout, move |snapshot, cancelled| {
            let reserve = |bytes| memory.try_resize(bytes).map_err(|error| execute::no_memory(error, &running));
            work(&RawReader::new(snapshot, samples_max, cancelled, &reserve))
        })
        .await
    }

    /// Deletes what `DELETE` would: the rows, from `start_ms` to `end_ms`, of every series that one of `selectors` matches,
    /// one selector after the other. A range that ends before it starts deletes nothing.
    ///
    /// # Durability
    /// On stable storage when this returns. After an error, some of the selectors may be done.
    ///
    /// # Errors
    /// `Invalid` for a bad selector, and then nothing is deleted; else as [`Database::query`] for a `DELETE`.
    pub async fn delete_series(
        self: &Arc<Self>,
        selectors: Vec<String>,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<DeleteSummary> {
        let lookup = Lookup { metric: None, what: What::Series, selectors, start_ms, end_ms, limit: 0 };
        if lookup.selectors.is_empty() {
            return Err(Error::invalid("a delete must say of which series"));
        }
        let limits = self.limits.promql();
        let selectors = planner::with_large_stack(|| lookup.selectors(&limits))?;
        if end_ms < start_ms {
            return Ok(DeleteSummary::default());
        }
        let place = self.gate.enter(Instant::now() + self.limits.timeout).await?;
        let listed = self.running.begin(&format!("delete of {}", lookup.selectors.join(" or ")))?;
        self.carry_out(selectors, (listed, place)).await
    }
}
