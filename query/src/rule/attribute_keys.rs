//! Reads of `attributes` only the keys that a statement names.
//!
//! `attributes` is a map to SQL and a column for each key on disk. When a statement uses it only as `attributes['key']`, the
//! scans below it need no other key: the table is told so, and makes maps of these keys alone. Anything else that mentions a
//! column of that name, of whatever table, leaves all keys in.
//!
//! It must see a statement before DataFusion drops the projections that say what is used.
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use hashbrown::HashSet;

use crate::table::events::{ATTRIBUTES, EventsTable};
use crate::table::hints::attribute;

/// The rule.
#[derive(Debug)]
pub(crate) struct AttributeKeys;

impl OptimizerRule for AttributeKeys {
    fn name(&self) -> &str {
        "attribute_keys"
    }

    /// Once, on the whole plan.
    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        // What no expression names can still be shown by the root.
        if plan.schema().fields().iter().any(|field| field.name() == ATTRIBUTES) {
            return Ok(Transformed::no(plan));
        }
        let Some(keys) = keys(&plan)? else { return Ok(Transformed::no(plan)) };
        let keys = Arc::new(keys);
        plan.transform_down_with_subqueries(|node| match node {
            // One with a projection was optimised before: the expressions above it may be gone.
            LogicalPlan::TableScan(scan) if scan.projection.is_none() => narrowed(scan, &keys),
            node => Ok(Transformed::no(node)),
        })
    }
}

/// The keys that `plan` and its subqueries read; `None` when they use the whole map, or do not use it.
fn keys(plan: &LogicalPlan) -> Result<Option<HashSet<String>>> {
    let (mut keys, mut whole) = (HashSet::new(), false);
    plan.apply_with_subqueries(|node| {
        // A list of columns by which rows are compared or joined without an expression.
        whole |= matches!(node, LogicalPlan::Distinct(_) | LogicalPlan::Unnest(_) | LogicalPlan::Extension(_))
            && node.inputs().iter().any(|input| input.schema().fields().iter().any(|field| field.name() == ATTRIBUTES));
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Some(key) = attribute(part) {
                    keys.insert(key.to_owned());
                    return Ok(TreeNodeRecursion::Jump);
                }
                whole |= match part {
                    Expr::Column(column) => column.name == ATTRIBUTES,
                    Expr::OuterReferenceColumn(_, column) => column.name == ATTRIBUTES,
                    _ => false,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((!whole && !keys.is_empty()).then_some(keys))
}

fn narrowed(scan: TableScan, keys: &Arc<HashSet<String>>) -> Result<Transformed<LogicalPlan>> {
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = provider.downcast_ref::<EventsTable>() else {
        return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
    };
    let source = provider_as_source(Arc::new(table.with_keys(keys)));
    Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
}
