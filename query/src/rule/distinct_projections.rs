//! Keeps DataFusion from dropping a projection that looks like the one above it.
//!
//! `SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM t)` is two projections with the same expressions. DataFusion 55 takes the
//! second for a repetition and adds 1 only once. Here the lower of two such projections gets names of its own:
//! `Projection(#0 AS x) over Projection(x + 1 AS #0)`.
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rule.
#[derive(Debug)]
pub(crate) struct DistinctProjections;

impl OptimizerRule for DistinctProjections {
    fn name(&self) -> &str {
        "distinct_projections"
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        below(plan, &mut Vec::new(), &mut 0)
    }
}

/// Rewrites `plan`, which stands below projections with the expressions `above`. As deep as the plan.
fn below(plan: LogicalPlan, above: &mut Vec<Vec<Expr>>, names: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Projection(projection) = &plan else {
        return plan.map_children(|child| below(child, above, names));
    };
    if projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) {
        return plan.map_children(|child| below(child, above, names));
    }
    let repeats = above.contains(&projection.expr);
    above.push(projection.expr.clone());
    let rewritten = plan.map_children(|child| below(child, above, names));
    above.pop();
    match rewritten? {
        Transformed { data: LogicalPlan::Projection(projection), .. } if repeats => {
            rename(projection, names).map(Transformed::yes)
        }
        rewritten => Ok(rewritten),
    }
}

fn rename(projection: Projection, names: &mut usize) -> Result<LogicalPlan> {
    let mut inner = Vec::with_capacity(projection.expr.len());
    let mut outer = Vec::with_capacity(projection.expr.len());
    for (expr, (qualifier, field)) in projection.expr.into_iter().zip(projection.schema.iter()) {
        let name = format!("#{names}");
        *names += 1;
        outer.push(Expr::Column(Column::new_unqualified(&name)).alias_qualified(qualifier.cloned(), field.name()));
        inner.push(expr.unalias().alias(name));
    }
    let inner = LogicalPlan::Projection(Projection::try_new(inner, projection.input)?);
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(outer, Arc::new(inner), projection.schema)?))
}
