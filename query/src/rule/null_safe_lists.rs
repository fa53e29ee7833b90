//! Keeps NULL apart from false where DataFusion merges lists of values.
//!
//! DataFusion 55 simplifies `x IN (1) AND x IN (2)` to `x IN ()` and that to `false`, and `x NOT IN (1) OR x NOT IN (2)` to
//! `true`. For a NULL `x` both are NULL, and under a NOT, or as the filter itself, the difference is a wrong row: labels are
//! often NULL. This rule runs before and writes such an expression as `CASE WHEN x IS NULL THEN NULL ELSE false END`.
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Case, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule.
#[derive(Debug)]
pub(crate) struct NullSafeLists;

impl OptimizerRule for NullSafeLists {
    fn name(&self) -> &str {
        "null_safe_lists"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.map_expressions(|expr| expr.transform_up(|expr| Ok(rewrite(expr))))
    }
}

fn rewrite(expr: Expr) -> Transformed<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else { return Transformed::no(expr) };
    let (Some(left), Some(right)) = (list_of(left), list_of(right)) else { return Transformed::no(expr) };
    if left.expr != right.expr {
        return Transformed::no(expr);
    }
    let disjoint = |a: &InList, b: &InList| !a.list.iter().any(|item| b.list.contains(item));
    let within = |a: &InList, b: &InList| a.list.iter().all(|item| b.list.contains(item));
    let otherwise = match (op, left.negated, right.negated) {
        (Operator::And, false, false) if disjoint(&left, &right) => false,
        (Operator::And, false, true) if within(&left, &right) => false,
        (Operator::And, true, false) if within(&right, &left) => false,
        (Operator::Or, true, true) if disjoint(&left, &right) => true,
        _ => return Transformed::no(expr),
    };
    Transformed::yes(Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(
            Box::new(Expr::IsNull(left.expr)),
            Box::new(Expr::Literal(ScalarValue::Boolean(None), None)),
        )],
        else_expr: Some(Box::new(Expr::Literal(ScalarValue::Boolean(Some(otherwise)), None))),
    }))
}

/// `x IN (…)`, `x NOT IN (…)` and `NOT x IN (…)`, all items constants other than NULL.
fn list_of(expr: &Expr) -> Option<InList> {
    match expr {
        Expr::InList(list) if list.list.iter().all(is_constant) => Some(list.clone()),
        Expr::Not(inner) => list_of(inner).map(|list| InList { negated: !list.negated, ..list }),
        _ => None,
    }
}

/// A literal other than NULL, possibly under the cast that coercion put there.
fn is_constant(item: &Expr) -> bool {
    match item {
        Expr::Literal(value, _) => !value.is_null(),
        Expr::Cast(cast) => is_constant(&cast.expr),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn list(items: &[i32], negated: bool) -> Expr {
        col("x").in_list(items.iter().map(|&i| lit(i)).collect(), negated)
    }

    fn check(expr: Expr, expect: &str) {
        assert_eq!(rewrite(expr).data.to_string(), expect);
    }

    #[test]
    fn only_what_would_lose_null_is_rewritten() {
        let never = "CASE WHEN x IS NULL THEN Boolean(NULL) ELSE Boolean(false) END";
        let always = "CASE WHEN x IS NULL THEN Boolean(NULL) ELSE Boolean(true) END";
        check(list(&[1, 2], false).and(list(&[3], false)), never);
        check(list(&[1, 2], false).and(list(&[2, 1, 3], true)), never);
        check(list(&[1], true).or(list(&[2], true)), always);
        check((!list(&[1], false)).or(list(&[2], true)), always);
        check(list(&[1, 2], false).and(list(&[2], false)), "x IN ([Int32(1), Int32(2)]) AND x IN ([Int32(2)])");
        check(list(&[1], false).or(list(&[2], false)), "x IN ([Int32(1)]) OR x IN ([Int32(2)])");
    }
}
