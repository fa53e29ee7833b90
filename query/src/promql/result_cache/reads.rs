//! What an expression reads, as far as it concerns for how long an answer holds.
use foretell_engine::{METRIC_NAME, MatchOp};

use super::super::expr::{Aggregate, AggregateOp, Binary, BinaryOp, Edges, Expr, Type, When};
use super::super::source::Matchers;

/// What an expression reads at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reads {
    /// How far after the instant of a step the last sample may lie that it reads.
    pub(super) ahead_ms: i64,
    /// Whether a step has the same value, to the last bit, whichever other steps it is evaluated with.
    pub(super) cuts: bool,
    /// Whether steps evaluated apart are together what they are when they are evaluated at once.
    pub(super) joins: bool,
}

impl Reads {
    /// `None` when an answer must not be kept: with `@` all steps read the same instant, and `info` reads by itself.
    pub(super) fn of(expr: &Expr) -> Option<Self> {
        let cuts = is_steady(expr);
        ahead(expr).map(|ahead_ms| Self { ahead_ms, cuts, joins: cuts && joins(expr) })
    }
}

fn ahead(expr: &Expr) -> Option<i64> {
    let moved =
        |when: &When| (when.at.is_none() && when.edges == Edges::Exact).then(|| 0_i64.saturating_sub(when.offset_ms));
    match expr {
        Expr::Number(_) | Expr::Text(_) => Some(0),
        Expr::Selector(selector) | Expr::Range(selector, _) => moved(&selector.when),
        Expr::Subquery(subquery) => Some(ahead(&subquery.expr)?.saturating_add(moved(&subquery.when)?)),
        Expr::Call(function, _) if function.name == "info" => None,
        Expr::Call(_, args) => args.iter().map(ahead).reduce(|a, b| Some(a?.max(b?))).unwrap_or(Some(0)),
        Expr::Aggregate(aggregate) => {
            let param = aggregate.param.as_ref().map(ahead);
            let inner = ahead(&aggregate.expr)?;
            Some(param.map_or(Some(inner), |param| Some(inner.max(param?)))?)
        }
        Expr::Binary(binary) => Some(ahead(&binary.lhs)?.max(ahead(&binary.rhs)?)),
        Expr::Negate(expr) => ahead(expr),
    }
}

/// Aggregations add up, and choose among equals, in the order in which series come. That of selectors is the order of labels, and
/// what makes one series of one keeps it. Groups and matches come in the order of their first member that is there at any
/// step: with other steps it may be another one.
fn is_steady(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::Text(_) | Expr::Selector(_) | Expr::Range(..) => true,
        Expr::Subquery(subquery) => is_steady(&subquery.expr),
        Expr::Call(_, args) => args.iter().all(is_steady),
        Expr::Aggregate(aggregate) => {
            let Aggregate { op, expr, param, .. } = &**aggregate;
            let any_order = matches!(
                op,
                AggregateOp::Count
                    | AggregateOp::Group
                    | AggregateOp::Quantile
                    | AggregateOp::CountValues
                    | AggregateOp::LimitRatio
            );
            is_steady(expr) && param.as_ref().is_none_or(is_steady) && (any_order || is_in_order(expr))
        }
        Expr::Binary(binary) => is_steady(&binary.lhs) && is_steady(&binary.rhs),
        Expr::Negate(expr) => is_steady(expr),
    }
}

/// Whether the series of a vector come in an order that no step has a part in.
fn is_in_order(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::Text(_) | Expr::Selector(_) | Expr::Range(..) => true,
        Expr::Subquery(subquery) => is_in_order(&subquery.expr),
        Expr::Call(function, args) => {
            let groups = ["label_replace", "label_join", "histogram_quantile", "histogram_fraction"];
            !groups.contains(&function.name) && args.iter().all(|arg| is_in_order(arg) && has_one_name(arg))
        }
        Expr::Aggregate(_) => false,
        Expr::Binary(binary) => {
            let sides = [&binary.lhs, &binary.rhs];
            sides.iter().any(|side| side.kind() == Type::Scalar)
                && sides.iter().all(|side| is_in_order(side) && has_one_name(side))
        }
        Expr::Negate(expr) => is_in_order(expr) && has_one_name(expr),
    }
}

/// Functions refuse two series that become one, even where one begins after the other has ended: those in different parts
/// would go unseen. They cannot become one where only the name goes and all have the same.
fn joins(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::Text(_) | Expr::Selector(_) | Expr::Range(..) => true,
        Expr::Subquery(subquery) => joins(&subquery.expr),
        Expr::Call(function, _) if matches!(function.name, "label_replace" | "label_join") => false,
        Expr::Call(_, args) => args.iter().all(|arg| joins(arg) && has_one_name(arg)),
        Expr::Negate(expr) => joins(expr) && has_one_name(expr),
        Expr::Aggregate(aggregate) => {
            let Aggregate { op, expr, param, .. } = &**aggregate;
            // The first of those that are there.
            *op != AggregateOp::Limitk && joins(expr) && param.as_ref().is_none_or(joins)
        }
        Expr::Binary(binary) => joins(&binary.lhs) && joins(&binary.rhs),
    }
}

/// Whether all series of a vector have the same name, or none.
fn has_one_name(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::Text(_) => true,
        Expr::Selector(selector) | Expr::Range(selector, _) => names_one(&selector.matchers),
        Expr::Subquery(subquery) => has_one_name(&subquery.expr),
        Expr::Call(_, args) => args.iter().all(has_one_name),
        // It may make names of values.
        Expr::Aggregate(aggregate) if aggregate.op == AggregateOp::CountValues => false,
        Expr::Aggregate(aggregate) => has_one_name(&aggregate.expr),
        Expr::Binary(binary) => {
            let Binary { op, lhs, rhs, matching, .. } = &**binary;
            // A side without a partner brings no name.
            let is_filled = matching.fill != (None, None);
            *op != BinaryOp::Or && !is_filled && has_one_name(lhs) && has_one_name(rhs)
        }
        Expr::Negate(expr) => has_one_name(expr),
    }
}

fn names_one(matchers: &Matchers) -> bool {
    let [all] = matchers.0.as_slice() else { return false };
    all.iter().any(|matcher| &*matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::{Limits, parse};
    use super::*;

    fn reads(text: &str) -> Option<Reads> {
        Reads::of(&parse::parse(text, &Limits::default()).unwrap())
    }

    #[test]
    fn an_expression_reads_up_to_its_step_and_what_a_negative_offset_adds() {
        let minute = 60_000;
        for (text, ahead_ms) in [
            ("m", 0),
            ("sum by (a) (rate(m[5m]))", 0),
            ("m offset 5m", -5 * minute),
            ("m offset -5m", 5 * minute),
            ("m offset 1h / on (a) n", 0),
            ("m offset 5m * 2", 0),
            ("vector(1)", 0),
            ("max_over_time(rate(m[5m] offset -2m)[1h:1m] offset -1m)", 3 * minute),
            ("topk(scalar(n offset -1m), m)", minute),
        ] {
            assert_eq!(reads(text).map(|reads| reads.ahead_ms), Some(ahead_ms), "{text}");
        }
        for text in ["m @ 100", "m @ end()", "sum(m) + rate(m[5m] @ start())", "max_over_time(m[1h:1m] @ 7)", "info(m)"]
        {
            assert_eq!(reads(text), None, "{text}");
        }
    }

    #[test]
    fn steps_are_joined_where_no_two_series_can_become_one() {
        let together = [
            "m",
            "{a=\"b\"}",
            "sum by (a) (rate(m[5m]))",
            "max by (__name__) ({__name__=~\"a|b\"})",
            "1 - m / n",
            "quantile_over_time(0.9, m[5m])",
            "abs(m > 1)",
            "m or n",
            "vector(1)",
        ];
        for text in together {
            assert!(reads(text).unwrap().joins, "{text}");
        }
        let apart = [
            "rate({__name__=~\"a|b\"}[5m])",
            "-{a=\"b\"}",
            "abs(m or n)",
            "abs(sum by (__name__) ({a=\"b\"}))",
            "label_replace(m, \"a\", \"$1\", \"b\", \"(.*)\")",
            "sum(label_join(m, \"a\", \"-\", \"b\", \"c\"))",
            "limitk(2, m)",
            "max_over_time(abs({a=\"b\"})[5m:1m])",
            "-count_values(\"__name__\", m)",
            "sum(sum by (a) (m))",
        ];
        for text in apart {
            assert!(!reads(text).unwrap().joins, "{text}");
        }
    }

    #[test]
    fn steps_are_cut_out_where_the_order_of_series_does_not_depend_on_others() {
        let steady = [
            "topk(2, m)",
            "sum by (a) (rate(m[5m]) * 2)",
            "avg({__name__=~\"a|b\"})",
            "sum(m) / sum(n)",
            "quantile(0.5, sum by (a) (m))",
            "count(a or b)",
            "rate({__name__=~\"a|b\"}[5m])",
            "histogram_quantile(0.9, sum by (le) (rate(m[5m])))",
            "max_over_time(sum by (a) (m)[5m:1m])",
        ];
        for text in steady {
            assert!(reads(text).unwrap().cuts, "{text}");
        }
        let others = [
            "topk(1, count by (g) (m))",
            "sum(sum by (g) (m))",
            "avg(topk(5, m))",
            "sum(a or b)",
            "sum({__name__=~\"a|b\"} * 2)",
            "sum(a * on (g) b)",
            "stddev(label_replace(m, \"a\", \"$1\", \"b\", \"(.*)\"))",
            "max_over_time(sum(sum by (a) (m))[5m:1m])",
            "avg(histogram_quantile(0.9, sum by (le, a) (m)))",
        ];
        for text in others {
            assert!(!reads(text).unwrap().cuts, "{text}");
        }
    }
}
