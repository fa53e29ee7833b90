//! Keeps DataFusion from sorting by less than was asked.
//!
//! DataFusion 55.2 drops a key of ORDER BY that depends on another one, and takes the key of a GROUP BY to be unique still after
//! `unnest`: `SELECT id, unnest(…) AS f … GROUP BY id ORDER BY id, f` was sorted by `id` alone. Here the rule that does so sees
//! everything but sorts.
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rule, in the place of the one of this name.
#[derive(Debug, Default)]
pub(crate) struct WholeOrders(EliminateDuplicatedExpr);

/// The name of DataFusion's.
pub(super) const REPLACED: &str = "eliminate_duplicated_expr";

impl OptimizerRule for WholeOrders {
    fn name(&self) -> &str {
        "whole_orders"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Sort(_) => Ok(Transformed::no(plan)),
            other => self.0.rewrite(other, config),
        }
    }
}
