//! `GET|POST /api/v1/parse_query`: an expression as a tree, in the shape that Prometheus gives it.
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use foretell_query::promql::{self, Tree, TreeSelector, TreeWhen};
use serde_json::{Value, json};

use super::params::Params;
use super::status::success;
use crate::app::App;
use crate::error::ApiError;

/// Most terms of an expression: a tree is as deep as a chain of operators is long.
const TERMS_MAX: usize = 1024;

pub(in super::super) async fn parse_query(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    // Validated before.
    let features = app.config.promql_features().unwrap_or_default();
    let limits = promql::Limits { terms_max: TERMS_MAX, features, ..promql::Limits::default() };
    let tree = promql::tree(params.one("query").unwrap_or_default(), &limits)?;
    Ok(success(&encode(&tree)))
}

fn encode(tree: &Tree) -> Value {
    match tree {
        Tree::Aggregation { op, expr, param, grouping, without } => json!({
            "type": "aggregation",
            "op": op,
            "expr": encode(expr),
            "param": param.as_ref().map(|param| encode(param)),
            "grouping": grouping,
            "without": without,
        }),
        Tree::Binary { op, lhs, rhs, matching, returns_bool } => json!({
            "type": "binaryExpr",
            "op": op,
            "lhs": encode(lhs),
            "rhs": encode(rhs),
            "matching": matching.as_ref().map(|matching| json!({
                "card": matching.cardinality,
                "labels": matching.labels,
                "on": matching.on,
                "include": matching.include,
            })),
            "bool": returns_bool,
        }),
        Tree::Call { function, args } => json!({
            "type": "call",
            "func": {
                "name": function.name,
                "argTypes": function.arg_types,
                "variadic": function.variadic,
                "returnType": function.return_type,
            },
            "args": args.iter().map(encode).collect::<Vec<_>>(),
        }),
        Tree::Number(text) => json!({"type": "numberLiteral", "val": text}),
        Tree::Text(text) => json!({"type": "stringLiteral", "val": text}),
        Tree::Paren(expr) => json!({"type": "parenExpr", "expr": encode(expr)}),
        Tree::Negate(expr) => json!({"type": "unaryExpr", "op": "-", "expr": encode(expr)}),
        Tree::Selector(selector) => encode_selector(selector),
        Tree::Subquery { expr, range_ms, step_ms, when } => {
            let subquery = json!({
                "type": "subquery",
                "expr": encode(expr),
                "range": range_ms,
                "step": step_ms.unwrap_or(0),
            });
            with_when(subquery, when)
        }
    }
}

fn encode_selector(selector: &TreeSelector) -> Value {
    let matchers = selector.alternatives.iter().flatten();
    let matchers = matchers.map(|one| json!({"name": one.name, "type": one.op, "value": one.value}));
    let mut value = json!({
        "type": "vectorSelector",
        "name": selector.name,
        "matchers": matchers.collect::<Vec<_>>(),
    });
    if let Some(range_ms) = selector.range_ms {
        value["type"] = json!("matrixSelector");
        value["range"] = json!(range_ms);
    }
    if let Some(word) = selector.edges {
        value[word] = json!(true);
    }
    with_when(value, &selector.when)
}

fn with_when(mut value: Value, when: &TreeWhen) -> Value {
    value["offset"] = json!(when.offset_ms);
    value["timestamp"] = json!(when.at_ms);
    value["startOrEnd"] = json!(when.start_or_end);
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Pairs of an expression and what Prometheus 3.5 answers for it.
    #[test]
    fn trees_are_those_of_prometheus() {
        let cases = include_str!("tree_cases.txt").lines().filter(|line| !line.is_empty());
        let cases: Vec<&str> = cases.collect();
        assert!(cases.len() > 60);
        for case in cases.chunks(2) {
            let [text, expected] = case else { panic!("an expression without a tree") };
            let tree = promql::tree(text, &promql::Limits::default()).unwrap();
            let expected: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(encode(&tree), expected, "{text}");
        }
    }
}
