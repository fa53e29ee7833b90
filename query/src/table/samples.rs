//! `samples`: every sample of every metric, `ts, metric, labels MAP, value`.
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use foretell_engine::Snapshot;
use foretell_engine::types::METRIC_NAME;

use super::columns::{Column, map_type};
use super::metric::{SeriesSource, with_bit_field};
use super::partial::Plain;
use super::plan::Rows;
use super::pushdown::{Conditions, Shape};
use super::scan_exec::Source;
use super::{SAMPLES, label_type, timestamp_type};

/// All metrics as one table.
pub(crate) struct SamplesTable {
    snapshot: Snapshot,
    columns: Vec<Column>,
    schema: SchemaRef,
    shows_bits: bool,
}

impl fmt::Debug for SamplesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SamplesTable({SAMPLES})")
    }
}

impl SamplesTable {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let schema = Schema::new(vec![
            Field::new("ts", timestamp_type(), false),
            Field::new("metric", label_type(), true),
            Field::new("labels", map_type(), false),
            Field::new("value", DataType::Float64, false),
        ]);
        let columns = vec![Column::Ts, Column::Label(METRIC_NAME.to_owned()), Column::Labels, Column::Value];
        Self { snapshot, columns, schema: Arc::new(schema), shows_bits: false }
    }

    /// The same table with the bits of the default detector as its last column.
    pub(crate) fn with_bits(mut self) -> Self {
        self.shows_bits = true;
        self.schema = with_bit_field(&self.schema);
        self.columns.push(Column::Anomalous);
        self
    }

    /// What it shows, unless that is more than samples.
    pub(crate) fn plain(&self) -> Option<Plain> {
        (!self.shows_bits).then(|| Plain {
            snapshot: self.snapshot.clone(),
            metric: None,
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
        })
    }
}

impl Shape for SamplesTable {
    fn label(&self, expr: &Expr) -> Option<String> {
        shown_label(expr)
    }
}

/// The label that `metric`, or `labels['name']` in the form that the planner gives it, shows.
pub(crate) fn shown_label(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) if column.name == "metric" => Some(METRIC_NAME.to_owned()),
        Expr::ScalarFunction(call) if call.name() == "get_field" => match call.args.as_slice() {
            [Expr::Column(map), Expr::Literal(ScalarValue::Utf8(Some(name)), _)]
                // The map leaves the metric's name out.
                if map.name == "labels" && name != METRIC_NAME && !name.is_empty() =>
            {
                Some(name.clone())
            }
            _ => None,
        },
        _ => None,
    }
}

impl Rows for SamplesTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn source(
        &self,
        session: &dyn Session,
        conditions: Conditions,
        schema: SchemaRef,
        columns: &[usize],
    ) -> Result<Arc<dyn Source>> {
        let columns = columns.iter().map(|&i| self.columns[i].clone()).collect();
        Ok(Arc::new(SeriesSource::select(&self.snapshot, None, conditions, schema, columns, session)?))
    }
}
