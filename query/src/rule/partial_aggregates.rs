//! Lets the engine sum rows up by series and step of time, below aggregations that combine such sums.
//!
//! ```text
//!  Aggregate: groupBy=[time_bucket('1h', ts), host],      Projection: …, sum(sum(value)) / sum(count(*)) AS avg(value)
//!             aggr=[avg(value)]                             Aggregate: groupBy=[time_bucket('1h', ts), host],
//!    TableScan: cpu_usage                         ──►                  aggr=[sum(sum(value)), sum(count(*))]
//!                                                             TableScan: cpu_usage, a row per series and hour
//! ```
//! It applies when all of the statement can be expressed so: every condition is the engine's; groups are expressions over
//! labels and at most one bucket of time; aggregates are `count`, `sum`, `avg`, `min`, `max` of the value or the time, and
//! first and last by time. The bucket of a step's start is the step, so the grouping stays as it was written.
//!
//! The answer is that of the plan it replaces: sums up to rounding, as they are added in another order, everything else
//! exactly. What DataFusion makes of NaN in `min` and `max` depends on the order of rows; so it still gets each NaN as a row
//! of its own, between the rows before it and after it (`foretell_engine::Aggregate`).
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, Sort};
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, LogicalPlan, Projection, TableScan, cast, lit, when};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::table::columns::Column as Shown;
use crate::table::partial::{PartialTable, Plain, Statistic, plain};
use crate::table::pushdown::{Conditions, convert};
use crate::udf::constant;

/// The rule.
#[derive(Debug)]
pub(crate) struct PartialAggregates;

impl OptimizerRule for PartialAggregates {
    fn name(&self) -> &str {
        "partial_aggregates"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        Ok(match rewrite(aggregate)? {
            Some(rewritten) => Transformed::yes(rewritten),
            None => Transformed::no(plan),
        })
    }
}

fn rewrite(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let Some(input) = Input::of(&aggregate.input) else { return Ok(None) };
    let Some((groups, step_ns)) = groups(aggregate, &input)? else { return Ok(None) };
    let mut parts = Parts { input: &input, groups: &groups, list: Vec::new() };
    let mut combined = Vec::with_capacity(aggregate.aggr_expr.len());
    for expr in &aggregate.aggr_expr {
        let Some(Expr::AggregateFunction(call)) = input.resolve(expr)? else { return Ok(None) };
        let Some(expr) = parts.combine(&call)? else { return Ok(None) };
        combined.push(expr);
    }
    let parts = parts.list;
    let Some(scan) = input.scan(&groups, &parts, step_ns)? else { return Ok(None) };
    let lower = Aggregate::try_new(Arc::new(LogicalPlan::TableScan(scan)), groups, parts)?;
    // Under the names and in the order of the aggregation that it replaces.
    let grouped = lower.schema.iter().take(lower.group_expr.len()).map(|field| Expr::Column(Column::from(field)));
    let named = grouped.chain(combined).zip(aggregate.schema.iter()).map(|(expr, (qualifier, field))| {
        let same = expr.qualified_name() == (qualifier.cloned(), field.name().clone());
        if same { expr } else { expr.alias_qualified(qualifier.cloned(), field.name()) }
    });
    let named = named.collect();
    let lower = Arc::new(LogicalPlan::Aggregate(lower));
    let projection = Projection::try_new_with_schema(named, lower, Arc::clone(&aggregate.schema))?;
    Ok(Some(LogicalPlan::Projection(projection)))
}

/// The groups over the columns of the table, and the length of the step if one of them is a bucket of time.
fn groups(aggregate: &Aggregate, input: &Input<'_>) -> Result<Option<(Vec<Expr>, Option<i64>)>> {
    let (mut groups, mut step_ns) = (Vec::with_capacity(aggregate.group_expr.len()), None);
    for expr in &aggregate.group_expr {
        let Some(expr) = input.resolve(expr)? else { return Ok(None) };
        if !input.is_of_series(&expr) {
            let Some(width) = input.bucket(&expr) else { return Ok(None) };
            if step_ns.replace(width).is_some_and(|other| other != width) {
                return Ok(None);
            }
        }
        if groups.contains(&expr) {
            return Ok(None);
        }
        groups.push(expr);
    }
    Ok(Some((groups, step_ns)))
}

/// A scan of plain series, under nodes that only rename and compute columns.
struct Input<'a> {
    /// From the top.
    layers: Vec<&'a LogicalPlan>,
    scan: &'a TableScan,
    plain: Plain,
    conditions: Conditions,
}

impl<'a> Input<'a> {
    /// What `plan` is, if it is that and the engine takes every condition over.
    fn of(plan: &'a LogicalPlan) -> Option<Self> {
        let (mut layers, mut below) = (Vec::new(), plan);
        let scan = loop {
            layers.push(below);
            below = match below {
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                LogicalPlan::Projection(projection) => &projection.input,
                LogicalPlan::TableScan(scan) => break scan,
                _ => return None,
            };
        };
        layers.pop();
        let provider = source_as_provider(&scan.source).ok()?;
        let (plain, shape) = plain(provider.as_ref())?;
        let mut conditions = Conditions::default();
        for filter in &scan.filters {
            conditions = conditions.and(convert(filter, shape)?);
        }
        scan.fetch.is_none().then_some(Self { layers, scan, plain, conditions })
    }

    /// `expr`, which is over the output of the layers, over the columns of the table.
    fn resolve(&self, expr: &Expr) -> Result<Option<Expr>> {
        let (mut resolved, mut known) = (expr.clone().unalias_nested().data, true);
        for layer in &self.layers {
            let replaced = resolved.transform_up(|expr| {
                let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
                let below = layer.schema().maybe_index_of_column(column).and_then(|index| match layer {
                    LogicalPlan::SubqueryAlias(alias) => {
                        let (qualifier, field) = alias.input.schema().qualified_field(index);
                        Some(Expr::Column(Column::from((qualifier, field))))
                    }
                    LogicalPlan::Projection(projection) => {
                        Some(projection.expr.get(index)?.clone().unalias_nested().data)
                    }
                    _ => None,
                });
                known &= below.is_some();
                Ok(below.map_or_else(|| Transformed::no(expr), Transformed::yes))
            });
            resolved = replaced.data()?;
        }
        Ok(known.then_some(resolved))
    }

    /// What a resolved expression shows, if it is a column.
    fn shown(&self, expr: &Expr) -> Option<&Shown> {
        let Expr::Column(column) = expr else { return None };
        self.column(column)
    }

    fn column(&self, column: &Column) -> Option<&Shown> {
        self.plain.columns.get(self.plain.schema.index_of(&column.name).ok()?)
    }

    /// Whether a resolved expression has one value for all rows of a series.
    fn is_of_series(&self, expr: &Expr) -> bool {
        let labels = || {
            expr.column_refs()
                .into_iter()
                .all(|column| matches!(self.column(column), Some(Shown::Label(_) | Shown::Labels)))
        };
        let computed = !matches!(expr, Expr::GroupingSet(_)) && !expr.is_volatile();
        computed && !expr.contains_outer() && !expr.contains_scalar_subquery() && labels()
    }

    /// The length of the steps into which a resolved expression cuts time, counted from the epoch.
    fn bucket(&self, expr: &Expr) -> Option<i64> {
        let Expr::ScalarFunction(call) = expr else { return None };
        let [Expr::Literal(width, _), ts] = call.args.as_slice() else { return None };
        if self.shown(ts) != Some(&Shown::Ts) {
            return None;
        }
        match call.name() {
            "time_bucket" | "date_bin" => constant::nanos(width, call.name(), "width").ok()?,
            // In UTC, the zone of every time column, these have a fixed length; weeks do not start at the epoch.
            "date_trunc" => match constant::text(width, call.name(), "unit").ok()??.to_lowercase().as_str() {
                "second" => Some(1_000_000_000),
                "minute" => Some(60_000_000_000),
                "hour" => Some(3_600_000_000_000),
                "day" => Some(86_400_000_000_000),
                _ => None,
            },
            _ => None,
        }
    }

    /// The table summed up, with the columns that `groups` and `parts` use.
    fn scan(&self, groups: &[Expr], parts: &[Expr], step_ns: Option<i64>) -> Result<Option<TableScan>> {
        let (plain, conditions) = (self.plain.clone(), self.conditions.clone());
        // Without groups, DataFusion compares values in an order that is total and has a place for NaN.
        let Some(table) = PartialTable::new(plain, conditions, step_ns, groups.is_empty()) else { return Ok(None) };
        let source = provider_as_source(Arc::new(table));
        let schema = source.schema();
        let mut used = BTreeSet::new();
        for column in groups.iter().chain(parts).flat_map(Expr::column_refs) {
            used.insert(schema.index_of(&column.name)?);
        }
        if used.is_empty() {
            used.insert(schema.index_of(Statistic::Rows.name())?);
        }
        let scan = TableScanBuilder::new(self.scan.table_name.clone(), source);
        scan.with_projection(Some(used.into_iter().collect())).build().map(Some)
    }
}

/// The aggregates of what the engine sums up, and how calls are answered from them.
struct Parts<'a> {
    input: &'a Input<'a>,
    groups: &'a [Expr],
    list: Vec<Expr>,
}

impl Parts<'_> {
    /// The answer of `call`, an expression over the aggregates in the list.
    fn combine(&mut self, call: &AggregateFunction) -> Result<Option<Expr>> {
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = &call.params;
        let [arg] = args.as_slice() else { return Ok(None) };
        if *distinct || filter.is_some() {
            return Ok(None);
        }
        let name = call.func.name();
        if let "first_value" | "last_value" = name {
            let Some((arg, key)) = self.by_time(name == "first_value", arg, order_by) else { return Ok(None) };
            let params = AggregateFunctionParams { args: vec![arg], order_by: vec![key], ..call.params.clone() };
            return Ok(Some(self.add(AggregateFunction { func: Arc::clone(&call.func), params })));
        }
        if !order_by.is_empty() || null_treatment.is_some() {
            return Ok(None);
        }
        let shown = self.input.shown(arg);
        let is_constant = matches!(arg, Expr::Literal(value, _) if !value.is_null());
        Ok(match (name, shown) {
            ("count", Some(Shown::Value | Shown::Ts)) => Some(self.count()?),
            ("count", None) if is_constant => Some(self.count()?),
            ("sum", Some(Shown::Value)) => Some(self.sum(Statistic::Sum)),
            ("avg", Some(Shown::Value)) => {
                let rows = cast(self.sum(Statistic::Rows), DataType::Float64);
                Some(self.sum(Statistic::Sum) / rows)
            }
            ("min", Some(Shown::Value)) => Some(self.of(&call.func, Statistic::Min)),
            ("max", Some(Shown::Value)) => Some(self.of(&call.func, Statistic::Max)),
            ("min", Some(Shown::Ts)) => Some(self.of(&call.func, Statistic::FirstTs)),
            ("max", Some(Shown::Ts)) => Some(self.of(&call.func, Statistic::LastTs)),
            _ => None,
        })
    }

    /// What takes the place of `arg`, of which the first or the last by `order_by` is wanted, and of that order: it is time,
    /// besides what is the same in all rows of a group.
    fn by_time(&self, first: bool, arg: &Expr, order_by: &[Sort]) -> Option<(Expr, Sort)> {
        let mut keys = order_by.iter().filter(|key| !self.groups.contains(&key.expr));
        let (Some(key), None) = (keys.next(), keys.next()) else { return None };
        if self.input.shown(&key.expr) != Some(&Shown::Ts) {
            return None;
        }
        let earliest = first == key.asc;
        let (ts, value) =
            if earliest { (Statistic::FirstTs, Statistic::First) } else { (Statistic::LastTs, Statistic::Last) };
        let arg = match self.input.shown(arg) {
            Some(Shown::Ts) => self.column(ts),
            Some(Shown::Value) => self.column(value),
            _ if self.input.is_of_series(arg) => arg.clone(),
            _ => return None,
        };
        Some((arg, Sort { expr: self.column(ts), ..key.clone() }))
    }

    /// The number of rows. No rows have no sum, but a number.
    fn count(&mut self) -> Result<Expr> {
        let rows = self.sum(Statistic::Rows);
        when(rows.clone().is_not_null(), rows).otherwise(lit(0i64))
    }

    fn sum(&mut self, statistic: Statistic) -> Expr {
        self.of(&sum_udaf(), statistic)
    }

    fn of(&mut self, func: &Arc<AggregateUDF>, statistic: Statistic) -> Expr {
        let args = vec![self.column(statistic)];
        self.add(AggregateFunction::new_udf(Arc::clone(func), args, false, None, Vec::new(), None))
    }

    /// The column of what `call` answers, which is computed once.
    fn add(&mut self, call: AggregateFunction) -> Expr {
        let expr = Expr::AggregateFunction(call);
        let column = Expr::Column(Column::new_unqualified(expr.schema_name().to_string()));
        if !self.list.contains(&expr) {
            self.list.push(expr);
        }
        column
    }

    fn column(&self, statistic: Statistic) -> Expr {
        let table: TableReference = self.input.scan.table_name.clone();
        Expr::Column(Column::new(Some(table), statistic.name()))
    }
}
