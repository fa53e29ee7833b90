//! The aggregation of a bucket query as DataFusion's own operators, run over whatever rows or partial states are at hand.
//!
//! ```text
//!  rows of the feed  -> Filter -> Partial ─┐
//!  rows of storage   ----------> Partial ──┼─> PartialReduce -> states -> Final -> columns of the SELECT
//!  states stored before ───────────────────┘
//! ```
//! A *state* row holds the group columns and the intermediate columns of every aggregate.
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr, collect};
use datafusion::scalar::ScalarValue;
use tokio::runtime::Handle;

use super::grid::Grid;
use super::output::{DerivedTable, LabelColumn};
use super::plan::{Kind, Select, TS, needed_columns, physical, refused, simplified};
use crate::error::{Error, Result};

/// A compiled bucket query.
pub(super) struct Aggregation {
    /// Columns of the source it needs.
    pub(super) source: SchemaRef,
    filter: Option<Arc<dyn PhysicalExpr>>,
    /// What of WHERE speaks of labels alone.
    pub(super) label_filter: Option<Arc<dyn PhysicalExpr>>,
    group_by: PhysicalGroupBy,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    states: SchemaRef,
    /// Place of the bucket among the group columns.
    pub(super) bucket: usize,
    /// Places of the output's labels among the group columns.
    labels: Vec<usize>,
    /// The output's labels as functions of a series' labels, unless they are made of columns of events.
    pub(super) series_labels: Option<Vec<Arc<dyn PhysicalExpr>>>,
    values: Vec<Arc<dyn PhysicalExpr>>,
    task: Arc<TaskContext>,
    runtime: Handle,
}

/// The call of an aggregate with its arguments and its filter simplified, under its name. The call itself stays: another
/// aggregate would have other states.
fn with_simple_arguments(expr: &Expr, schema: &DFSchema, state: &SessionState) -> Result<Expr> {
    let Expr::AggregateFunction(mut call) = expr.clone().unalias() else { return Ok(expr.clone()) };
    let simple = |expr| simplified(expr, schema, state);
    call.params.args = call.params.args.into_iter().map(simple).collect::<Result<_>>()?;
    call.params.filter = call.params.filter.map(|filter| simple(*filter).map(Box::new)).transpose()?;
    Ok(Expr::AggregateFunction(call).alias(expr.schema_name().to_string()))
}

/// Output rows: the bucket, the labels and the value columns.
pub(super) struct Finished {
    pub(super) buckets: ArrayRef,
    pub(super) labels: Vec<ArrayRef>,
    pub(super) values: Vec<ArrayRef>,
}

impl Aggregation {
    /// Compiles `select`; also says what table it fills and how its buckets lie.
    ///
    /// # Errors
    /// `Invalid` for columns that cannot be stored.
    pub(super) fn compile(
        select: &Select,
        owner: &str,
        state: &SessionState,
        runtime: Handle,
    ) -> Result<(Self, DerivedTable, Grid)> {
        let Kind::Buckets { aggregate, bucket } = &select.kind else {
            return Err(Error::internal("not a bucket query"));
        };
        let logical = needed_columns(
            aggregate.input.schema(),
            aggregate.group_expr.iter().chain(&aggregate.aggr_expr).chain(&select.filter),
        )?;
        let source: SchemaRef = Arc::new(logical.as_arrow().clone());
        let physical = |expr: &Expr, schema: &DFSchema| physical(expr, schema, state);

        let groups = aggregate
            .group_expr
            .iter()
            .map(|e| Ok((physical(e, &logical)?, e.schema_name().to_string())))
            .collect::<Result<_>>()?;
        let (mut aggregates, mut filters) = (Vec::new(), Vec::new());
        for expr in &aggregate.aggr_expr {
            let context = PhysicalPlanningContext::default();
            let expr = with_simple_arguments(expr, &logical, state)?;
            let lowered = LoweredAggregateBuilder::new(&expr, &logical, &source, state.execution_props(), &context)
                .build()
                .map_err(Error::from_datafusion)?;
            if lowered.aggregate.order_sensitivity().hard_requires() {
                return Err(refused(&format!("{} needs its rows sorted", lowered.aggregate.name())));
            }
            aggregates.push(lowered.aggregate);
            filters.push(lowered.filter);
        }
        let (table, labels, values) = outputs(select, owner, aggregate, *bucket)?;
        let series_labels = match select.origin.signal() {
            Some(_) => None,
            None => {
                Some(labels.iter().map(|&at| physical(&aggregate.group_expr[at], &logical)).collect::<Result<_>>()?)
            }
        };
        let values = values.iter().map(|e| physical(e, &aggregate.schema)).collect::<Result<_>>()?;

        let time_only = needed_columns(&logical, [])?;
        let grid =
            Grid::new(physical(&aggregate.group_expr[*bucket], &time_only)?, Arc::new(time_only.as_arrow().clone()));
        let mut aggregation = Self {
            filter: select.filter.as_ref().map(|e| physical(e, &logical)).transpose()?,
            label_filter: select.label_filter().map(|e| physical(&e, &logical)).transpose()?,
            states: Arc::clone(&source),
            source,
            group_by: PhysicalGroupBy::new_single(groups),
            aggregates,
            filters,
            bucket: *bucket,
            labels,
            series_labels,
            values,
            task: state.task_ctx(),
            runtime,
        };
        let nothing = aggregation.memory(Vec::new(), &aggregation.source)?;
        aggregation.states = aggregation.partial(nothing)?.schema();
        Ok((aggregation, table, grid))
    }

    /// The text of the output's labels of each row of states.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn labels_of(&self, states: &RecordBatch) -> Result<Vec<LabelColumn>> {
        self.labels.iter().map(|&place| LabelColumn::new(states.column(place))).collect()
    }

    /// Number of group columns.
    pub(super) fn group_columns(&self) -> usize {
        self.group_by.expr().len()
    }
    /// Columns of a state row.
    pub(super) fn states(&self) -> &SchemaRef {
        &self.states
    }

    /// The rows that pass WHERE.
    ///
    /// # Errors
    /// As the expression.
    pub(super) fn filter(&self, rows: RecordBatch) -> Result<RecordBatch> {
        filter_rows(self.filter.as_ref(), rows)
    }

    /// States of rows of the feed that passed [`Self::filter`].
    ///
    /// # Errors
    /// As the aggregates.
    pub(super) fn aggregate(&self, rows: RecordBatch) -> Result<Vec<RecordBatch>> {
        let input = self.memory(vec![rows], &self.source)?;
        self.run(self.partial(input)?)
    }

    /// States of the stored rows with `start <= ts < end`; `input` is a [`Select::input`] planned on the snapshot to read.
    ///
    /// # Errors
    /// As a query.
    pub(super) fn aggregate_stored(
        &self,
        state: &SessionState,
        input: &LogicalPlan,
        start: i64,
        end: i64,
    ) -> Result<Vec<RecordBatch>> {
        let rows = stored_rows(state, input, &self.source, start, end, &self.runtime)?;
        let partial = self.partial(Arc::new(CoalescePartitionsExec::new(rows)))?;
        self.run(self.over_states(AggregateMode::PartialReduce, partial)?)
    }

    /// One state per group out of many.
    ///
    /// # Errors
    /// As the aggregates.
    pub(super) fn reduce(&self, states: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        if states.is_empty() {
            return Ok(states);
        }
        let input = self.memory(states, &self.states)?;
        self.run(self.over_states(AggregateMode::PartialReduce, input)?)
    }

    /// The output rows of reduced states.
    ///
    /// # Errors
    /// As the aggregates and the select list.
    pub(super) fn finish(&self, states: Vec<RecordBatch>) -> Result<Vec<Finished>> {
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let input = self.memory(states, &self.states)?;
        let rows = self.run(self.over_states(AggregateMode::Final, input)?)?;
        rows.into_iter()
            .map(|batch| {
                let values = self
                    .values
                    .iter()
                    .map(|e| {
                        e.evaluate(&batch)
                            .and_then(|value| value.into_array(batch.num_rows()))
                            .map_err(Error::from_datafusion)
                    })
                    .collect::<Result<_>>()?;
                let labels = self.labels.iter().map(|&place| Arc::clone(batch.column(place))).collect();
                Ok(Finished { buckets: Arc::clone(batch.column(self.bucket)), labels, values })
            })
            .collect()
    }

    fn partial(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<AggregateExec>> {
        let (aggregates, filters) = (self.aggregates.clone(), self.filters.clone());
        AggregateExec::try_new(
            AggregateMode::Partial,
            self.group_by.clone(),
            aggregates,
            filters,
            input,
            Arc::clone(&self.source),
        )
        .map(Arc::new)
        .map_err(Error::from_datafusion)
    }
    fn over_states(&self, mode: AggregateMode, input: Arc<dyn ExecutionPlan>) -> Result<Arc<AggregateExec>> {
        let (aggregates, filters) = (self.aggregates.clone(), vec![None; self.filters.len()]);
        AggregateExec::try_new(mode, self.group_by.as_final(), aggregates, filters, input, Arc::clone(&self.source))
            .map(Arc::new)
            .map_err(Error::from_datafusion)
    }
    fn memory(&self, batches: Vec<RecordBatch>, schema: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(MemorySourceConfig::try_new_exec(&[batches], Arc::clone(schema), None).map_err(Error::from_datafusion)?)
    }
    fn run(&self, plan: Arc<AggregateExec>) -> Result<Vec<RecordBatch>> {
        let batches = self.runtime.block_on(collect(plan, Arc::clone(&self.task))).map_err(Error::from_datafusion)?;
        Ok(batches.into_iter().filter(|batch| batch.num_rows() > 0).collect())
    }
}

/// The rows of `batch` for which `filter` is true.
///
/// # Errors
/// As the expression.
pub(super) fn filter_rows(filter: Option<&Arc<dyn PhysicalExpr>>, batch: RecordBatch) -> Result<RecordBatch> {
    let Some(filter) = filter else { return Ok(batch) };
    let kept =
        filter.evaluate(&batch).and_then(|value| value.into_array(batch.num_rows())).map_err(Error::from_datafusion)?;
    let kept = kept.as_boolean_opt().ok_or_else(|| Error::internal("WHERE is not a condition"))?;
    filter_record_batch(&batch, kept).map_err(|e| Error::internal(e.to_string()))
}

/// A physical plan for the columns `source` of `input` with `start <= ts < end` (`i64::MAX` includes the last instant).
///
/// # Errors
/// As planning.
pub(super) fn stored_rows(
    state: &SessionState,
    input: &LogicalPlan,
    source: &SchemaRef,
    start: i64,
    end: i64,
    runtime: &Handle,
) -> Result<Arc<dyn ExecutionPlan>> {
    let instant = |ns: i64| lit(ScalarValue::TimestampNanosecond(Some(ns), Some(Arc::from("UTC"))));
    let mut in_range = col(TS).gt_eq(instant(start));
    in_range = if end == i64::MAX { in_range } else { in_range.and(col(TS).lt(instant(end))) };
    let columns =
        source.fields().iter().map(|field| Expr::Column(datafusion::common::Column::new_unqualified(field.name())));
    let plan = LogicalPlanBuilder::from(input.clone())
        .filter(in_range)
        .and_then(|builder| builder.project(columns))
        .and_then(LogicalPlanBuilder::build)
        .map_err(Error::from_datafusion)?;
    runtime.block_on(state.create_physical_plan(&plan)).map_err(Error::from_datafusion)
}

type Outputs = (DerivedTable, Vec<usize>, Vec<Expr>);

/// Sorts the select list into the bucket, labels and values.
fn outputs(select: &Select, owner: &str, aggregate: &Aggregate, bucket: usize) -> Result<Outputs> {
    let groups: Vec<String> = aggregate.group_expr.iter().map(|e| e.schema_name().to_string()).collect();
    let place_of = |expr: &Expr| {
        let name = match expr {
            Expr::Column(column) => aggregate.schema.maybe_index_of_column(column)?,
            _ => return None,
        };
        (name < groups.len()).then_some(name)
    };
    let mut table = DerivedTable { owner: owner.to_owned(), labels: Vec::new(), fields: Vec::new() };
    let (mut labels, mut values, mut has_bucket) = (Vec::new(), Vec::new(), false);
    for (name, expr) in &select.columns {
        match place_of(expr) {
            Some(place) if place == bucket => {
                if name != TS || has_bucket {
                    return Err(refused(&format!(
                        "the bucket is selected once and called ts: write {} AS ts",
                        groups[bucket]
                    )));
                }
                has_bucket = true;
            }
            Some(place) => {
                label_name(name)?;
                labels.push(place);
                table.labels.push(name.clone());
            }
            None => {
                use datafusion::logical_expr::ExprSchemable;
                let data_type = expr.get_type(&aggregate.schema).map_err(Error::from_datafusion)?;
                table.fields.push((field_name(name, &data_type)?, data_type));
                values.push(expr.clone());
            }
        }
    }
    if !has_bucket {
        return Err(refused(&format!("the bucket is missing from the columns: select {} AS ts", groups[bucket])));
    }
    if let Some(missing) = (0..groups.len()).find(|&place| place != bucket && !labels.contains(&place)) {
        return Err(refused(&format!(
            "{} is grouped by but not selected, so rows could not be told apart",
            groups[missing]
        )));
    }
    distinct_columns(&table)?;
    Ok((table, labels, values))
}

/// Refuses names that a label of the table cannot have.
pub(super) fn label_name(name: &str) -> Result<()> {
    if name.is_empty() || name == TS || name.starts_with("__") {
        return Err(refused(&format!("a label column cannot be called \"{name}\": rename it with AS")));
    }
    Ok(())
}

/// Refuses names and types that a value column of the table cannot have.
pub(super) fn field_name(name: &str, data_type: &DataType) -> Result<String> {
    if name.is_empty() || name == TS || name.starts_with("__") {
        return Err(refused(&format!("a value column cannot be called \"{name}\": rename it with AS")));
    }
    if !DerivedTable::is_field_type(data_type) {
        return Err(refused(&format!(
            "column \"{name}\" has type {data_type}, and a table holds numbers and booleans besides labels"
        )));
    }
    Ok(name.to_owned())
}

/// Refuses tables without values or with two columns of one name.
pub(super) fn distinct_columns(table: &DerivedTable) -> Result<()> {
    if table.fields.is_empty() {
        return Err(refused("there is no value column"));
    }
    let mut names: Vec<&String> = table.labels.iter().chain(table.fields.iter().map(|(name, _)| name)).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(refused(&format!("two columns are called \"{}\": rename one with AS", pair[0]))),
        None => Ok(()),
    }
}
