//! Table functions whose rows are read or computed when they are wanted.
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::scan_exec::{ScanExec, Source};

/// One call of such a function.
pub(crate) trait Call: fmt::Debug + Send + Sync + 'static {
    /// What its memory is listed as in the pool of all queries.
    const CONSUMER: &'static str;

    /// What reads its rows.
    fn source(&self, wanted: Wanted) -> Arc<dyn Source>;
}

/// What is wanted of a call.
pub(crate) struct Wanted {
    /// All columns.
    pub(crate) whole: SchemaRef,
    /// Those that are wanted, by their places, and as a schema.
    pub(crate) columns: Vec<usize>,
    pub(crate) schema: SchemaRef,
    /// Memory while rows are made; nothing so far.
    pub(crate) memory: MemoryReservation,
}

/// A call as a table.
#[derive(Debug)]
pub(crate) struct CallTable<C> {
    call: C,
    schema: SchemaRef,
}

impl<C: Call> CallTable<C> {
    /// `schema` has all columns of `call`.
    pub(crate) fn new(call: C, schema: SchemaRef) -> Self {
        Self { call, schema }
    }
}

#[async_trait]
impl<C: Call> TableProvider for CallTable<C> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let source = self.call.source(Wanted {
            whole: Arc::clone(&self.schema),
            schema: Arc::new(self.schema.project(&columns)?),
            columns,
            memory: MemoryConsumer::new(C::CONSUMER).register(&session.runtime_env().memory_pool),
        });
        Ok(Arc::new(ScanExec::new(source, limit)))
    }
}
