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
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result;
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{LabelSet, Snapshot};
use foretell_ml::correlate::Ranking;

use super::call::{Call, CallTable, Wanted};
use super::columns::{label_maps, map_type};
use super::scan_exec::{OneBatch, Reader, Source};
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
        let call = CorrelateCall {
            snapshot: self.snapshot.clone(),
            query: Arc::clone(&self.query),
            question: Arc::new(question),
        };
        Ok(Arc::new(CallTable::new(call, Arc::new(schema))))
    }
}

/// One call.
#[derive(Clone)]
struct CorrelateCall {
    snapshot: Snapshot,
    query: Arc<Query>,
    question: Arc<Question>,
}

impl fmt::Debug for CorrelateCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CORRELATE}={:?}", self.question)
    }
}

impl Call for CorrelateCall {
    const CONSUMER: &'static str = CORRELATE;

    fn source(&self, wanted: Wanted) -> Arc<dyn Source> {
        Arc::new(CorrelateSource { call: self.clone(), wanted })
    }
}

/// The answer of one call, made when it is opened.
struct CorrelateSource {
    call: CorrelateCall,
    wanted: Wanted,
}

impl fmt::Debug for CorrelateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for CorrelateSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.wanted.schema)
    }

    fn partitions(&self) -> usize {
        1
    }

    fn open(&self, _partition: usize, rows: usize) -> Result<Box<dyn Reader>> {
        let CorrelateCall { snapshot, query, question } = &self.call;
        let Wanted { whole, columns: wanted, memory, .. } = &self.wanted;
        let mut store = Store { snapshot, query, memory, held: 0 };
        let (frame, mut target, own) = store.target(question)?;
        let mut ranking = Ranking::default();
        let candidates = store.candidates(question, &frame, &own, &mut |values| {
            ranking.add(target.correlate(&values));
        })?;
        let strongest = ranking.strongest(question.limit);
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
        let batch = RecordBatch::try_new(Arc::clone(whole), columns)?.project(wanted)?;
        // From here on the reader says what it holds.
        memory.free();
        Ok(Box::new(OneBatch::new(batch, rows)))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.call)
    }
}

/// An error about the call.
fn fault(what: impl fmt::Display) -> Error {
    Error::invalid(format!("{CORRELATE}: {what}"))
}
