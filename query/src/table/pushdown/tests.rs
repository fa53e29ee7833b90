#![allow(clippy::unwrap_used)]
use datafusion::logical_expr::{col, lit};

use super::*;

struct Labels;

impl Shape for Labels {
    fn label(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Column(c) if c.name != "ts" && c.name != "value" => Some(c.name.clone()),
            _ => None,
        }
    }
}

fn at(ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into())))
}

/// `range; matchers` or `never` or `-`
fn check(filter: Expr, expect: &str) {
    let got = match convert(&filter, &Labels) {
        None => "-".to_owned(),
        Some(c) if c.never => "never".to_owned(),
        Some(c) => {
            let matchers: Vec<String> =
                c.matchers.iter().map(|m| format!("{} {:?} {:?}", m.name, m.op, m.value)).collect();
            let range = if c.range == TimeRange::ALL {
                String::new()
            } else {
                format!("{}..={}; ", c.range.start, c.range.end)
            };
            format!("{range}{}", matchers.join(", "))
        }
    };
    assert_eq!(got, expect, "{filter}");
}

#[test]
fn time_bounds_are_closed_and_exact() {
    check(col("ts").gt(at(5)).and(col("ts").lt(at(9))), "6..=8; ");
    check(col("ts").gt_eq(at(5)).and(at(9).gt_eq(col("ts"))), "5..=9; ");
    check(col("ts").between(at(5), at(9)), "5..=9; ");
    check(col("ts").eq(at(5)), "5..=5; ");
    check(col("ts").between(at(9), at(5)), "never");
    check(col("ts").gt(at(i64::MAX)), "never");
    check(col("ts").lt(at(i64::MIN)), "never");
    check(col("ts").not_eq(at(5)), "-");
    check(col("ts").gt(lit(5)), "-");
}

#[test]
fn an_absent_label_is_null() {
    check(col("a").eq(lit("x")), r#"a Equal "x""#);
    check(col("a").eq(lit("")), "never");
    check(col("a").not_eq(lit("x")), r#"a NotEqual "x", a NotEqual """#);
    check(col("a").not_eq(lit("")), r#"a NotEqual """#);
    check(col("a").is_null(), r#"a Equal """#);
    check(col("a").is_not_null(), r#"a NotEqual """#);
    check(col("a").eq(lit(ScalarValue::Utf8(None))), "never");
    check(lit("x").eq(col("a")), r#"a Equal "x""#);
}

#[test]
fn lists_and_chains_become_one_matcher() {
    check(col("a").in_list(vec![lit("x"), lit("y"), lit("")], false), "a OneOf \"x\\0y\"");
    check(col("a").eq(lit("x")).or(col("a").eq(lit("y"))), "a OneOf \"x\\0y\"");
    check(col("a").eq(lit("x")).or(col("b").eq(lit("y"))), "-");
    check(col("a").in_list(vec![lit("x\0"), lit("y")], false), "-");
    check(col("a").in_list(vec![lit("x"), lit("y")], true), r#"a NotEqual "", a NotEqual "x", a NotEqual "y""#);
    check(col("a").in_list(vec![lit("x"), lit(ScalarValue::Utf8(None))], true), "never");
}

#[test]
fn patterns_are_anchored_for_the_engine() {
    check(col("a").like(lit("x.%_")), r#"a Regex "x\\.(?s:.*)(?s:.)", a NotEqual """#);
    check(col("a").not_like(lit("x%")), r#"a NotRegex "x(?s:.*)", a NotEqual """#);
    check(col("a").ilike(lit("x%")), "-");
    let regex = |op| Expr::BinaryExpr(BinaryExpr::new(Box::new(col("a")), op, Box::new(lit("^x|y"))));
    check(regex(Operator::RegexMatch), r#"a Regex "(?s:.*)(?:^x|y)(?s:.*)", a NotEqual """#);
    check(regex(Operator::RegexNotMatch), r#"a NotRegex "(?s:.*)(?:^x|y)(?s:.*)", a NotEqual """#);
    check(regex(Operator::RegexIMatch), "-");
}

#[test]
fn values_stay_with_datafusion() {
    check(col("value").gt(lit(1.0)), "-");
    check(col("a").gt(lit("x")), "-");
    check(col("a").eq(col("b")), "-");
    check(lit(ScalarValue::Boolean(None)), "never");
    check(lit(true), "");
}
