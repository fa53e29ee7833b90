//! `correlate(metric => 'latency_ms', window => '1h')`: which other series move with a metric.
//!
//! ```text
//! target ─► mean of its series on a grid ─► its transform, once
//! candidates, some series at a time ─► the same grid ─► strongest lag of each ─► ranked
//! ```
//! Candidates are all series of samples, and for each service the counts of its logs and of its spans. They are read when the
//! answer is wanted, over the snapshot that all tables of the statement read; no more of them is kept than their labels and
//! correlations. The maths is in [`foretell_ml::correlate`].
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{LabelSet, Snapshot};
use foretell_ml::correlate::Ranking;

use super::columns::{label_maps, map_type};
use super::scan_exec::{OneBatch, Reader, ScanExec, Source};
use crate::error::Error;
use crate::promql::Limits;
use crate::running::Query;
use question::Question;
use read::Store;

mod question;
mod read;

/// Its name in SQL.
pub(crate) const CORRELATE: &str = "correlate";

/// The function, for one statement.
pub(crate) struct CorrelateFunction {
    snapshot: Snapshot,
    limits: Limits,
    query: Arc<Query>,
}

impl fmt::Debug for CorrelateFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorrelateFunction")
    }
}

impl CorrelateFunction {
    /// For the statement that is listed as `query`.
    pub(crate) fn new(snapshot: Snapshot, limits: Limits, query: Arc<Query>) -> Self {
        Self { snapshot, limits, query }
    }
}

impl TableFunctionImpl for CorrelateFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let question = Question::new(args.exprs(), &self.limits)?;
        let schema = Schema::new(vec![
            Field::new("metric", DataType::Utf8, false),
            Field::new("labels", map_type(), false),
            Field::new("lag", DataType::Int64, false),
            Field::new("r", DataType::Float64, false),
            Field::new("p_value", DataType::Float64, false),
        ]);
        Ok(Arc::new(CorrelateTable {
            snapshot: self.snapshot.clone(),
            query: Arc::clone(&self.query),
            question: Arc::new(question),
            schema: Arc::new(schema),
        }))
    }
}

/// One call.
struct CorrelateTable {
    snapshot: Snapshot,
    query: Arc<Query>,
    question: Arc<Question>,
    schema: SchemaRef,
}

impl fmt::Debug for CorrelateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorrelateTable({:?})", self.question)
    }
}

#[async_trait]
impl TableProvider for CorrelateTable {
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
        let source = CorrelateSource {
            snapshot: self.snapshot.clone(),
            query: Arc::clone(&self.query),
            question: Arc::clone(&self.question),
            shown: Arc::new(self.schema.project(&columns)?),
            whole: Arc::clone(&self.schema),
            columns,
            memory: MemoryConsumer::new("correlate").register(&session.runtime_env().memory_pool),
        };
        Ok(Arc::new(ScanExec::new(Arc::new(source), limit)))
    }
}

/// The answer of one call, made when it is opened.
struct CorrelateSource {
    snapshot: Snapshot,
    query: Arc<Query>,
    question: Arc<Question>,
    /// All columns, those that are wanted, and their schema.
    whole: SchemaRef,
    columns: Vec<usize>,
    shown: SchemaRef,
    memory: MemoryReservation,
}

impl fmt::Debug for CorrelateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for CorrelateSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shown)
    }

    fn partitions(&self) -> usize {
        1
    }

    fn open(&self, _partition: usize, rows: usize) -> Result<Box<dyn Reader>> {
        let mut store = Store { snapshot: &self.snapshot, query: &self.query, memory: &self.memory, held: 0 };
        let (frame, mut target, own) = store.target(&self.question)?;
        let mut ranking = Ranking::default();
        let candidates = store.candidates(&self.question, &frame, &own, &mut |values| {
            ranking.add(target.correlate(&values));
        })?;
        let strongest = ranking.strongest(self.question.limit);
        let chosen: Vec<&LabelSet> = strongest.iter().map(|&(at, _)| &candidates[at]).collect();
        let names: StringArray = chosen.iter().map(|labels| labels.get(METRIC_NAME).or(Some(""))).collect();
        let lags = strongest.iter().map(|(_, found)| found.lag.saturating_mul(frame.step));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(names),
            Arc::new(label_maps(chosen.iter().copied())?),
            Arc::new(Int64Array::from_iter_values(lags)),
            Arc::new(Float64Array::from_iter_values(strongest.iter().map(|(_, found)| found.r))),
            Arc::new(Float64Array::from_iter_values(strongest.iter().map(|(_, found)| found.p_value))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.whole), columns)?.project(&self.columns)?;
        // From here on the reader says what it holds.
        self.memory.free();
        Ok(Box::new(OneBatch::new(batch, rows)))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CORRELATE}={:?}", self.question)
    }
}

/// An error about the call.
fn fault(what: impl fmt::Display) -> Error {
    Error::invalid(format!("{CORRELATE}: {what}"))
}
