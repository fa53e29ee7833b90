//! What kinds of SELECT a continuous query may be, and what the planner made of one.
//!
//! ```text
//!  Projection(labels, bucket, f(aggregates))        Projection(ts, labels, f(values, scores))
//!    Aggregate(bucket, labels; aggregates)            [Window(anomaly_score … PARTITION BY labels ORDER BY ts)]
//!      [Filter]                                         [Filter]
//!        TableScan of a metric, of what a               TableScan of a metric, or of what a
//!        continuous query writes, of events             continuous query writes
//! ```
//! Joins with constant rows are resolved before ([`constant_join`]). Works on the analysed but not yet optimised plan, so that the shape is the statement's own. Pure: nothing is read.
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::session_state::SessionState;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, TableScan, Window,
    WindowFunctionDefinition, lit,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::constant_join;
use super::output::DerivedTable;
use crate::error::{Error, Result};
use crate::event::Signal;
use crate::limits::QueryLimits;
use crate::model::score::NAME as MODEL_SCORE;
use crate::planner;
use crate::table::derived::FIELD_LABEL;
use crate::table::{METRICS, PUBLIC, label_type, limited};
use foretell_engine::Snapshot;
use hashbrown::HashSet;

/// What users are told when a statement is of neither kind.
const SHAPES: &str = "a continuous query is either `SELECT time_bucket('1m', ts) AS ts, <labels>, <aggregates> FROM metrics.\"m\" | logs | spans [WHERE …] GROUP BY <bucket, labels>` \
     or `SELECT ts, <labels>, value [, anomaly_score(value) OVER (PARTITION BY <labels> ORDER BY ts) AS score] FROM metrics.\"m\" [WHERE …]`; \
     what another continuous query writes may stand for the metric";

/// Time column of every metric.
pub(super) const TS: &str = "ts";

/// Functions that cut time into buckets.
const BUCKET_FUNCTIONS: [&str; 3] = ["time_bucket", "date_bin", "date_trunc"];

/// What a query reads.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The metric, or the table of events.
    pub(super) table: String,
    /// What that is.
    pub(super) kind: OriginKind,
    /// Its columns that are neither the time nor labels.
    pub(super) values: Vec<String>,
}

/// Kinds of tables that a query may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OriginKind {
    /// Samples of a metric.
    Metric,
    /// What a continuous query writes.
    Derived,
    /// Logs or spans.
    Events(Signal),
}

impl Origin {
    /// The events, unless it is a metric.
    pub(super) fn signal(&self) -> Option<Signal> {
        match self.kind {
            OriginKind::Events(signal) => Some(signal),
            OriginKind::Metric | OriginKind::Derived => None,
        }
    }
    /// Whether an expression is a text that is made of nothing but labels.
    fn is_made_of_labels(&self, expr: &Expr, schema: &DFSchema) -> bool {
        let columns = expr.column_refs();
        let is_text = || {
            expr.get_type(schema)
                .is_ok_and(|kind| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
        };
        self.signal().is_none()
            && !columns.is_empty()
            && columns.iter().all(|column| self.is_label(column))
            && is_text()
    }
    /// Whether a column is constant along a series.
    fn is_label(&self, column: &Column) -> bool {
        column.name != TS && !self.values.contains(&column.name)
    }
}

/// An analysed SELECT of one of the two shapes.
#[derive(Debug)]
pub(super) struct Select {
    /// What it reads.
    pub(super) origin: Origin,
    /// `Filter?(TableScan)`, bound to the snapshot it was planned on.
    pub(super) input: LogicalPlan,
    /// The condition, if any.
    pub(super) filter: Option<Expr>,
    /// Output columns: name and expression over the aggregate or the window.
    pub(super) columns: Vec<(String, Expr)>,
    /// Which shape.
    pub(super) kind: Kind,
}

/// The two shapes.
#[derive(Debug)]
pub(super) enum Kind {
    /// Aggregates over buckets of time; the first number is the bucket's place in the grouping.
    Buckets { aggregate: Aggregate, bucket: usize },
    /// Detectors over each partition in time order; rows as they are without.
    Scores { window: Option<Window> },
}

impl Select {
    /// Whether an expression speaks of nothing but labels.
    pub(super) fn is_about_labels(&self, expr: &Expr) -> bool {
        expr.column_refs().iter().all(|column| self.origin.is_label(column))
    }

    /// Whether an expression over its input is a label.
    pub(super) fn is_label(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Column(column) if self.origin.is_label(column) && self.input.schema().maybe_index_of_column(column).is_some())
    }

    /// Whether an expression over its input is a text made of labels.
    pub(super) fn is_made_of_labels(&self, expr: &Expr) -> bool {
        self.origin.is_made_of_labels(expr, self.input.schema())
    }

    /// What of WHERE speaks of labels alone.
    pub(super) fn label_filter(&self) -> Option<Expr> {
        let conditions = self.filter.iter().flat_map(split_conjunction);
        conjunction(conditions.filter(|e| !e.column_refs().is_empty() && self.is_about_labels(e)).cloned())
    }

    /// Its input with no rows but those of the series with these numbers.
    pub(super) fn limited_to(&self, series: &Arc<HashSet<u32>>) -> Result<LogicalPlan> {
        let input = self.input.clone().transform(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                if let Some(limited) = limited(&*source_as_provider(&scan.source)?, series) {
                    scan.source = provider_as_source(limited);
                }
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        });
        input.map(|input| input.data).map_err(Error::from_datafusion)
    }

    /// The same without rows before `from`.
    fn since(mut self, from: Option<i64>) -> Result<Self> {
        let Some(from) = from else { return Ok(self) };
        let time = self.input.schema().iter().find(|(_, field)| field.name() == TS);
        let (qualifier, field) = time.ok_or_else(|| Error::internal("a table without a time column"))?;
        let time = Expr::Column(Column::from((qualifier, field)));
        let condition = time.gt_eq(lit(ScalarValue::TimestampNanosecond(Some(from), Some(Arc::from("UTC")))));
        let input = LogicalPlanBuilder::from(self.input).filter(condition.clone()).and_then(LogicalPlanBuilder::build);
        self.input = input.map_err(Error::from_datafusion)?;
        self.filter = conjunction(self.filter.into_iter().chain([condition]));
        Ok(self)
    }
}

/// Plans `sql` on `state` and sorts it into one of the shapes; rows before `from` are not looked at. Call it where the stack is
/// large.
///
/// # Errors
/// `Invalid` for what is not supported, naming it and the two shapes; `NotFound` for an unknown metric.
pub(super) async fn analyse(
    snapshot: &Snapshot,
    state: &SessionState,
    sql: &str,
    from: Option<i64>,
    limits: &QueryLimits,
) -> Result<Select> {
    if has_wildcard(sql) {
        return Err(refused("`*` would change its meaning with each new label: list the columns"));
    }
    let plan = constant_join::resolve(planner::plan(state, sql, limits).await?, state).await?;
    let plan =
        state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(Error::from_datafusion)?;
    let LogicalPlan::Projection(Projection { expr, input, .. }) = plan else { return Err(refused_node(&plan)) };
    let columns = expr.into_iter().map(named).collect();
    let select = match input.as_ref() {
        LogicalPlan::Aggregate(aggregate) => buckets(snapshot, aggregate.clone(), columns),
        LogicalPlan::Window(window) => scores(snapshot, window.clone(), columns),
        LogicalPlan::Filter(filter) if matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_)) => {
            Err(refused("HAVING is not supported: filter when reading the table"))
        }
        LogicalPlan::Filter(_) | LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => {
            rows(snapshot, &input, columns)
        }
        other => Err(refused_node(other)),
    };
    select?.since(from)
}

/// An item of the select list with its column name.
fn named(item: Expr) -> (String, Expr) {
    let name = match &item {
        Expr::Column(column) => column.name.clone(),
        // Of a joined column that keeps its name.
        Expr::Alias(alias) => alias.name.clone(),
        other => other.schema_name().to_string(),
    };
    (name, item.unalias())
}

fn buckets(snapshot: &Snapshot, aggregate: Aggregate, columns: Vec<(String, Expr)>) -> Result<Select> {
    let (origin, filter) = source(snapshot, &aggregate.input)?;
    let mut bucket = None;
    for (index, group) in aggregate.group_expr.iter().enumerate() {
        match group {
            Expr::Column(column) if origin.signal().is_none() && origin.is_label(column) => {}
            other if origin.is_made_of_labels(other, aggregate.input.schema()) => deterministic(other)?,
            other if origin.signal().is_some_and(|signal| is_event_label(signal, other)) => deterministic(other)?,
            Expr::Column(column) => {
                return Err(refused(&format!(
                    "GROUP BY {} groups by a raw column: group by time_bucket('1m', ts) and labels",
                    column.name
                )));
            }
            other if is_bucket(other) => {
                if bucket.replace(index).is_some() {
                    return Err(refused("there are two buckets of time in GROUP BY"));
                }
            }
            Expr::GroupingSet(_) => return Err(refused("GROUPING SETS, CUBE and ROLLUP are not supported")),
            other => return Err(refused(&format!("grouping by {other} is not supported"))),
        }
    }
    let Some(bucket) = bucket else {
        return Err(refused("GROUP BY has no bucket of time: group by time_bucket('1m', ts)"));
    };
    let aggregate = with_labels(aggregate, bucket)?;
    for expr in &aggregate.aggr_expr {
        deterministic(expr)?;
    }
    for (_, expr) in &columns {
        deterministic(expr)?;
    }
    Ok(Select {
        origin,
        input: aggregate.input.as_ref().clone(),
        filter,
        columns,
        kind: Kind::Buckets { aggregate, bucket },
    })
}

/// Texts that are made by the statement become labels: an empty one is none, in its group, too.
fn with_labels(aggregate: Aggregate, bucket: usize) -> Result<Aggregate> {
    let schema = aggregate.input.schema();
    let names = NamePreserver::new_for_projection();
    let label = |(index, group): (usize, &Expr)| {
        if index == bucket || matches!(group, Expr::Column(_)) {
            return Ok(group.clone());
        }
        let empty = group.get_type(schema).and_then(|kind| ScalarValue::from("").cast_to(&kind));
        let made = nullif(group.clone().unalias(), lit(empty.map_err(Error::from_datafusion)?));
        Ok(names.save(group).restore(made))
    };
    let groups = aggregate.group_expr.iter().enumerate().map(label).collect::<Result<Vec<_>>>()?;
    Aggregate::try_new(aggregate.input, groups, aggregate.aggr_expr).map_err(Error::from_datafusion)
}

fn scores(snapshot: &Snapshot, window: Window, columns: Vec<(String, Expr)>) -> Result<Select> {
    if matches!(window.input.as_ref(), LogicalPlan::Window(_)) {
        return Err(refused("several OVER clauses that differ are not supported: use one PARTITION BY and ORDER BY"));
    }
    let (origin, filter) = source(snapshot, &window.input)?;
    if origin.signal().is_some() {
        return Err(refused("scores are of the values of a metric: aggregate events over buckets of time"));
    }
    for expr in &window.window_expr {
        let Expr::WindowFunction(function) = expr.clone().unalias() else {
            return Err(refused(&format!("{expr} is not supported")));
        };
        match &function.fun {
            WindowFunctionDefinition::WindowUDF(udwf)
                if matches!(udwf.name(), "anomaly_score" | "anomaly" | MODEL_SCORE) => {}
            other => return Err(refused(&format!("the window function {other} is not supported"))),
        }
        let params = &function.params;
        if params.filter.is_some() || params.distinct || params.null_treatment.is_some() {
            return Err(refused("FILTER, DISTINCT and IGNORE NULLS are not supported in a window"));
        }
        let in_time_order = matches!(params.order_by.as_slice(), [sort] if sort.asc && is_column(&sort.expr, TS));
        if !in_time_order {
            return Err(refused("the window must be ordered by ts alone: write OVER (PARTITION BY … ORDER BY ts)"));
        }
        if let Some(other) = params.partition_by.iter().find(|e| !matches!(e, Expr::Column(c) if origin.is_label(c))) {
            return Err(refused(&format!("PARTITION BY {other} is not a label")));
        }
        for argument in &params.args {
            deterministic(argument)?;
        }
    }
    for (_, expr) in &columns {
        deterministic(expr)?;
    }
    let input = window.input.as_ref().clone();
    Ok(Select { origin, input, filter, columns, kind: Kind::Scores { window: Some(window) } })
}

/// Rows as they are.
fn rows(snapshot: &Snapshot, input: &LogicalPlan, columns: Vec<(String, Expr)>) -> Result<Select> {
    let (origin, filter) = source(snapshot, input)?;
    if origin.signal().is_some() {
        return Err(refused("a table holds numbers: aggregate events over buckets of time"));
    }
    for (_, expr) in &columns {
        deterministic(expr)?;
    }
    Ok(Select { origin, input: input.clone(), filter, columns, kind: Kind::Scores { window: None } })
}

/// What is read under an aggregate or a window, and the condition there.
fn source(snapshot: &Snapshot, input: &LogicalPlan) -> Result<(Origin, Option<Expr>)> {
    let (input, condition) = match input {
        LogicalPlan::Filter(filter) => {
            deterministic(&filter.predicate)?;
            (filter.input.as_ref(), Some(filter.predicate.clone()))
        }
        other => (other, None),
    };
    let (table, kind) = match events(input) {
        Some(signal) => (signal.table_name().to_owned(), OriginKind::Events(signal)),
        None => metric(snapshot, input)?,
    };
    let values = input.schema().fields().iter().filter(|field| *field.data_type() != label_type());
    let values = values.map(|field| field.name().clone()).filter(|name| name != TS).collect();
    Ok((Origin { table, kind, values }, condition))
}

/// The events that a scan reads.
fn events(input: &LogicalPlan) -> Option<Signal> {
    match input {
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            scan @ LogicalPlan::TableScan(_) => events(scan),
            _ => None,
        },
        LogicalPlan::TableScan(TableScan { table_name, .. }) if matches!(table_name.schema(), None | Some(PUBLIC)) => {
            Signal::ALL.into_iter().find(|signal| signal.table_name() == table_name.table())
        }
        _ => None,
    }
}

/// An unqualified name that is a metric's can be no other table's: the catalogue refuses ambiguous names.
fn metric(snapshot: &Snapshot, input: &LogicalPlan) -> Result<(String, OriginKind)> {
    match input {
        LogicalPlan::SubqueryAlias(alias) if matches!(alias.input.as_ref(), LogicalPlan::TableScan(_)) => {
            metric(snapshot, &alias.input)
        }
        LogicalPlan::TableScan(TableScan { table_name, .. }) => {
            let name = table_name.table();
            let known = snapshot.metric(name);
            let has_fields = known.iter().flat_map(|info| &info.label_names).any(|label| **label == *FIELD_LABEL);
            let derived = has_fields || DerivedTable::stored(snapshot, name)?.is_some();
            if !matches!(table_name.schema(), None | Some(METRICS | PUBLIC)) || (known.is_none() && !derived) {
                return Err(refused(&format!("{name} is not the table of a metric")));
            }
            Ok((name.to_owned(), if derived { OriginKind::Derived } else { OriginKind::Metric }))
        }
        other => Err(refused_node(other)),
    }
}

/// Names an unsupported node in the words of SQL.
fn refused_node(node: &LogicalPlan) -> Error {
    let what = match node {
        LogicalPlan::Sort(_) => "ORDER BY is not supported: sort when reading the table",
        LogicalPlan::Limit(_) => "LIMIT is not supported: limit when reading the table",
        LogicalPlan::Distinct(_) => "DISTINCT is not supported",
        LogicalPlan::Union(_) => "UNION is not supported",
        LogicalPlan::Subquery(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) => {
            "subqueries are not supported"
        }
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
            "aggregates and window functions cannot be mixed or nested"
        }
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => "there is no metric in FROM",
        LogicalPlan::Unnest(_) => "UNNEST is not supported",
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => "EXPLAIN cannot be continuous",
        _ => "this statement is not supported",
    };
    refused(what)
}

/// An error that names what is not supported and what is.
pub(super) fn refused(what: &str) -> Error {
    Error::invalid(format!("{what}; {SHAPES}"))
}

/// Refuses what could give another answer tomorrow, and what reads other tables.
pub(super) fn deterministic(expr: &Expr) -> Result<()> {
    let mut problem = None;
    expr.apply(|e| {
        if let Some(name) = planner::unstable(e) {
            problem = Some(format!("{name}() gives another answer at another time"));
        }
        match e {
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                problem = Some("subqueries are not supported".to_owned())
            }
            Expr::Placeholder(_) => {
                problem = Some("parameters such as $1 cannot be stored: write the value".to_owned())
            }
            _ => {}
        }
        Ok(if problem.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(Error::from_datafusion)?;
    problem.map_or(Ok(()), |what| Err(refused(&what)))
}

/// Whether `expr` is a bucket function of `ts` and literals.
fn is_bucket(expr: &Expr) -> bool {
    // Coercion of an argument leaves the old name as an alias.
    let Expr::ScalarFunction(function) = expr.clone().unalias() else { return false };
    let columns = expr.column_refs();
    BUCKET_FUNCTIONS.contains(&function.func.name()) && columns.len() == 1 && columns.iter().all(|c| c.name == TS)
}

/// Whether a group of events may be a label: made of columns with few values, and of attributes.
fn is_event_label(signal: Signal, expr: &Expr) -> bool {
    let own: &[&str] = match signal {
        Signal::Logs => &["service", "severity", "scope"],
        Signal::Spans => &["service", "name", "kind", "status"],
    };
    // A whole map is no label.
    let is_map = matches!(expr, Expr::Column(column) if ["attributes", "resource"].contains(&column.name.as_str()));
    let columns = expr.column_refs();
    let known = |name: &str| own.contains(&name) || ["attributes", "resource"].contains(&name);
    !is_map && !columns.is_empty() && columns.iter().all(|column| known(&column.name))
}

fn is_column(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Column(column) if column.name == name)
}

/// Whether the select list has a `*` that stands for columns.
fn has_wildcard(sql: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return false };
    let tokens: Vec<Token> = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).collect();
    tokens.windows(2).any(|pair| {
        let starts_item = match &pair[0] {
            Token::Comma | Token::Period => true,
            Token::Word(word) => {
                word.quote_style.is_none()
                    && ["select", "distinct", "all"].iter().any(|w| word.value.eq_ignore_ascii_case(w))
            }
            _ => false,
        };
        starts_item && pair[1] == Token::Mul
    })
}

/// `expr` as an optimizer leaves it: some functions are nothing but a form of others, and cannot be computed before.
pub(super) fn simplified(expr: Expr, schema: &DFSchema, state: &SessionState) -> Result<Expr> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let coerced = simplifier.coerce(expr, schema).map_err(Error::from_datafusion)?;
    simplifier.simplify(coerced).map_err(Error::from_datafusion)
}

/// What computes `expr` over rows of `schema`.
///
/// # Errors
/// `Invalid` when it cannot be computed from them.
pub(crate) fn physical(expr: &Expr, schema: &DFSchema, state: &SessionState) -> Result<Arc<dyn PhysicalExpr>> {
    let expr = simplified(expr.clone(), schema, state)?;
    state.create_physical_expr(expr, schema).map_err(Error::from_datafusion)
}

/// The columns of `schema` that `exprs` mention, in table order, as a schema of their own.
///
/// # Errors
/// `Internal` when the planner's schema is inconsistent.
pub(super) fn needed_columns<'a>(schema: &DFSchema, exprs: impl IntoIterator<Item = &'a Expr>) -> Result<DFSchema> {
    let mut used = std::collections::HashSet::from([TS.to_owned()]);
    for expr in exprs {
        used.extend(expr.column_refs().into_iter().map(|c| c.name.clone()));
    }
    let fields: Vec<(Option<TableReference>, _)> = schema
        .iter()
        .filter(|(_, field)| used.contains(field.name()))
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    DFSchema::new_with_metadata(fields, Default::default()).map_err(Error::from_datafusion)
}
