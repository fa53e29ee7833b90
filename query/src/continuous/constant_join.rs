//! Joins with constant rows: what they say of a series' labels becomes columns of it.
//!
//! ```text
//!  FROM cpu_usage c JOIN (VALUES ('a', 'shop', 0.9), ('b', 'search', 0.7)) AS o(host, team, most) ON c.host = o.host
//!  ->  FROM cpu_usage c WHERE known(c.host), with o.team = team(c.host), o.most = most(c.host) wherever they stand
//! ```
//! One row at most belongs to a series, so a joined column is a function of its labels, and the SELECT keeps one of the two shapes. A
//! `LEFT JOIN` does without the condition.
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, ExprSchema, JoinType};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_plan::collect;
use hashbrown::HashMap;

use super::output::encode_labels;
use super::plan::{deterministic, refused};
use crate::error::{Error, Result};
use crate::table::label_type;

/// Rows of a constant table.
const ROWS_MAX: usize = 10_000;
/// Joins of a query.
const JOINS_MAX: usize = 8;
const HOW: &str =
    "a join is with constant rows, on labels alone: JOIN (VALUES ('a', 'shop')) AS o(host, team) ON m.host = o.host";

/// `plan` without joins.
///
/// # Errors
/// `Invalid` for a join with anything but constant rows, for rows of which several belong to a series, for too many.
pub(super) async fn resolve(mut plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    for _ in 0..JOINS_MAX {
        let Some(join) = innermost(&plan)? else { return Ok(plan) };
        let lookup = Lookup::of(&join, state).await?;
        plan = replaced(plan, &join, &lookup)?;
    }
    match innermost(&plan)? {
        None => Ok(plan),
        Some(_) => Err(refused(&format!("more than {JOINS_MAX} joins are too many"))),
    }
}

/// A join with none below it.
fn innermost(plan: &LogicalPlan) -> Result<Option<Join>> {
    let mut found = None;
    plan.apply(|node| {
        if let LogicalPlan::Join(join) = node {
            found = Some(join.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(Error::from_datafusion)?;
    Ok(found)
}

/// Whether nothing is read.
fn is_constant(plan: &LogicalPlan) -> Result<bool> {
    let mut constant = true;
    plan.apply(|node| {
        constant &= matches!(
            node,
            LogicalPlan::Values(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Projection(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Union(_)
        );
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(Error::from_datafusion)?;
    if constant {
        let mut unstable = Ok(());
        let visited = plan.apply(|node| {
            node.apply_expressions(|expr| {
                if let Err(error) = deterministic(expr) {
                    unstable = Err(error);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        });
        visited.map_err(Error::from_datafusion)?;
        unstable?;
    }
    Ok(constant)
}

/// A join as functions of labels.
struct Lookup {
    /// The side that is read.
    read: Arc<LogicalPlan>,
    /// Columns of the other side.
    schema: DFSchemaRef,
    /// Labels by which a row is found.
    on: Vec<Expr>,
    rows: Arc<Rows>,
    is_left: bool,
}

impl Lookup {
    async fn of(join: &Join, state: &SessionState) -> Result<Self> {
        let (read, constant, is_left) = match (is_constant(&join.left)?, is_constant(&join.right)?, join.join_type) {
            (false, true, JoinType::Inner) => (&join.left, &join.right, false),
            (true, false, JoinType::Inner) => (&join.right, &join.left, false),
            (false, true, JoinType::Left) => (&join.left, &join.right, true),
            (true, false, JoinType::Right) => (&join.right, &join.left, true),
            _ => return Err(refused(HOW)),
        };
        let schema = Arc::clone(constant.schema());
        let mut pairs = join.on.clone();
        for condition in join.filter.iter().cloned().flat_map(split_conjunction_owned) {
            match condition {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => pairs.push((*left, *right)),
                other => return Err(refused(&format!("{HOW}; {other} is another condition"))),
            }
        }
        let (mut on, mut places) = (Vec::new(), Vec::new());
        for (left, right) in pairs {
            let (Expr::Column(left), Expr::Column(right)) = (&left, &right) else { return Err(refused(HOW)) };
            let (label, own) =
                if schema.maybe_index_of_column(right).is_some() { (left, right) } else { (right, left) };
            let place = schema.maybe_index_of_column(own).ok_or_else(|| refused(HOW))?;
            let label_field = read.schema().field_from_column(label).map_err(|_| refused(HOW))?;
            if *label_field.data_type() != label_type() || !is_text(schema.field(place).data_type()) {
                return Err(refused(&format!("{HOW}; {label} = {own} are not a label and a text")));
            }
            on.push(Expr::Column(label.clone()));
            places.push(place);
        }
        if on.is_empty() {
            return Err(refused(HOW));
        }
        let physical = state.create_physical_plan(constant).await.map_err(Error::from_datafusion)?;
        let rows_schema = physical.schema();
        let batches = collect(physical, state.task_ctx()).await.map_err(Error::from_datafusion)?;
        let rows = concat_batches(&rows_schema, &batches).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { read: Arc::clone(read), schema, on, rows: Arc::new(Rows::new(rows, &places)?), is_left })
    }

    /// The column in this place, or whether there is a row.
    fn call(&self, column: Option<usize>) -> Expr {
        let name = match column {
            Some(place) => format!("lookup_{}", self.schema.field(place).name()),
            None => "is_known".to_owned(),
        };
        let signature = Signature::any(self.on.len(), Volatility::Immutable);
        let function = Function { rows: Arc::clone(&self.rows), column, name, signature };
        ScalarUDF::new_from_impl(function).call(self.on.clone())
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Puts `lookup` in the place of `join`, and of the columns that came from it.
fn replaced(plan: LogicalPlan, join: &Join, lookup: &Lookup) -> Result<LogicalPlan> {
    let mut done = false;
    let rewritten = plan.transform_up(|node| {
        if let LogicalPlan::Join(found) = &node
            && found == join
        {
            done = true;
            let read = LogicalPlanBuilder::from(Arc::clone(&lookup.read));
            let read = if lookup.is_left { read } else { read.filter(lookup.call(None))? };
            return Ok(Transformed::yes(read.build()?));
        }
        if !done {
            return Ok(Transformed::no(node));
        }
        let given: Vec<DFSchemaRef> = node.inputs().into_iter().map(|input| Arc::clone(input.schema())).collect();
        let joined = |column: &Column| {
            // An aggregate or another node below may have made a column of it already.
            let known = given.iter().any(|schema| schema.maybe_index_of_column(column).is_some());
            if known { None } else { lookup.schema.maybe_index_of_column(column) }
        };
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform(|expr| match &expr {
                Expr::Column(column) => match joined(column) {
                    Some(place) => Ok(Transformed::yes(lookup.call(Some(place)))),
                    None => Ok(Transformed::no(expr)),
                },
                _ => Ok(Transformed::no(expr)),
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        let node = node.data.recompute_schema()?;
        Ok(Transformed::yes(one_filter(node)?))
    });
    rewritten.map(|plan| plan.data).map_err(Error::from_datafusion)
}

/// A filter over a filter as one.
fn one_filter(node: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    match &node {
        LogicalPlan::Filter(outer) => match outer.input.as_ref() {
            LogicalPlan::Filter(inner) => LogicalPlanBuilder::from(Arc::clone(&inner.input))
                .filter(inner.predicate.clone().and(outer.predicate.clone()))?
                .build(),
            _ => Ok(node),
        },
        _ => Ok(node),
    }
}

/// Constant rows, found by their key.
struct Rows {
    rows: RecordBatch,
    of_key: HashMap<Box<[u8]>, u32>,
}

impl Rows {
    fn new(rows: RecordBatch, key: &[usize]) -> Result<Self> {
        if rows.num_rows() > ROWS_MAX {
            return Err(refused(&format!(
                "a join with {} constant rows is too large, the limit is {ROWS_MAX}",
                rows.num_rows()
            )));
        }
        let internal = |error: arrow::error::ArrowError| Error::internal(error.to_string());
        for column in rows.columns().iter().filter(|column| is_text(column.data_type())) {
            let texts = cast(column, &DataType::Utf8).map_err(internal)?;
            if texts.as_string::<i32>().iter().flatten().any(str::is_empty) {
                return Err(refused("an empty text cannot be a label: write NULL in the constant rows of a join"));
            }
        }
        let columns = key.iter().map(|&place| cast(rows.column(place), &DataType::Utf8).map_err(internal));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut of_key = HashMap::new();
        for row in 0..rows.num_rows() {
            let Some(bytes) = key_of(&columns, row) else { continue };
            if of_key.insert(bytes, row as u32).is_some() {
                let key: Vec<&str> = columns.iter().map(|column| column.as_string::<i32>().value(row)).collect();
                return Err(refused(&format!("two constant rows of a join have the key {}", key.join(", "))));
            }
        }
        Ok(Self { rows, of_key })
    }

    /// The row of each of `rows` keys.
    fn find(&self, key: &[ArrayRef], rows: usize) -> UInt32Array {
        (0..rows).map(|row| self.of_key.get(&key_of(key, row)?).copied()).collect()
    }
}

/// The texts in a row; `None` when one is NULL, which equals nothing.
fn key_of(columns: &[ArrayRef], row: usize) -> Option<Box<[u8]>> {
    if columns.iter().any(|column| column.is_null(row)) {
        return None;
    }
    let mut bytes = Vec::new();
    encode_labels(columns.iter().map(|column| Some(column.as_string::<i32>().value(row))), &mut bytes);
    Some(bytes.into())
}

/// A column of the row that belongs to labels, or whether there is one.
struct Function {
    rows: Arc<Rows>,
    column: Option<usize>,
    name: String,
    signature: Signature,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rows, &other.rows) && self.column == other.column
    }
}
impl Eq for Function {}
impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.rows), self.column).hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.column.map_or(DataType::Boolean, |place| self.rows.rows.column(place).data_type().clone()))
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        Ok(Arc::new(Field::new(&self.name, self.return_type(&[])?, self.column.is_some())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let text = |value: ColumnarValue| {
            Ok::<_, DataFusionError>(cast(&value.into_array(args.number_rows)?, &DataType::Utf8)?)
        };
        let key = args.args.into_iter().map(text).collect::<DataFusionResult<Vec<_>>>()?;
        let found = self.rows.find(&key, args.number_rows);
        Ok(ColumnarValue::Array(match self.column {
            Some(place) => take(self.rows.rows.column(place), &found, None)?,
            None => Arc::new((0..found.len()).map(|row| Some(found.is_valid(row))).collect::<BooleanArray>()),
        }))
    }
}
