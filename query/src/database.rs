//! The façade: one `Database` over one engine.
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use foretell_engine::Engine;

use crate::error::Result;
use crate::limits::QueryLimits;

/// SQL over one engine. Shared by all protocols.
pub struct Database {}

/// One statement to run.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// SQL text: one statement.
    pub sql: String,
    /// Values of `$1`, `$2`, … as JSON-like scalars already turned into SQL literals' values.
    pub params: Vec<datafusion::scalar::ScalarValue>,
    /// Deadline; the configured one when `None`, never more than it.
    pub timeout: Option<Duration>,
}

/// A running answer. Dropping it cancels the query.
pub struct QueryResponse {
    /// Id in `sys.queries`.
    pub id: u64,
    /// Columns.
    pub schema: SchemaRef,
    /// Rows; errors are [`crate::Error`] wrapped as `DataFusionError::External` where the kind matters
    /// (use [`crate::Error::from_datafusion`]).
    pub stream: SendableRecordBatchStream,
}

/// A row of `sys.queries`.
#[derive(Clone, Debug)]
pub struct QueryInfo {
    /// Id.
    pub id: u64,
    /// Text.
    pub sql: String,
    /// Start.
    pub started: SystemTime,
    /// Rows delivered so far.
    pub rows: u64,
}

impl Database {
    /// Over `engine`; restores continuous queries and starts their runner on the current tokio runtime.
    ///
    /// # Errors
    /// When stored definitions cannot be read.
    pub fn open(_engine: Engine, _limits: QueryLimits) -> Result<Arc<Self>> {
        todo!()
    }
    /// Admits, plans and starts one statement. Objects (`CREATE CONTINUOUS QUERY`, `SHOW`, `DROP`) answer with a small table.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`].
    pub async fn query(self: &Arc<Self>, _request: QueryRequest) -> Result<QueryResponse> {
        todo!()
    }
    /// Running queries.
    pub fn queries(&self) -> Vec<QueryInfo> {
        todo!()
    }
    /// Cancels a query; `false` when there is none.
    pub fn cancel(&self, _id: u64) -> bool {
        todo!()
    }
    /// Names for completion: tables and functions.
    pub fn names(&self) -> Vec<String> {
        todo!()
    }
    /// Waits until every continuous query has processed all commits up to now (used by tests and shutdown).
    pub async fn drain_continuous(&self) -> Result<()> {
        todo!()
    }
    /// Refuses new queries, cancels running ones, stops continuous queries at a clean position.
    pub async fn close(&self) -> Result<()> {
        todo!()
    }
}
