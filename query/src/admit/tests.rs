#![allow(clippy::unwrap_used)]
use super::*;

fn ok(sql: &str) {
    if let Err(e) = admit(sql, &QueryLimits::default()) {
        panic!("refused: {e}: {}", &sql[..sql.len().min(200)]);
    }
}

fn refused(sql: &str, because: &str) {
    let error = admit(sql, &QueryLimits::default()).unwrap_err();
    assert!(error.message.contains(because), "{error}");
}

#[test]
fn ordinary_statements_pass() {
    ok("SELECT a, b + 1, CASE WHEN x > 1 THEN 'y' ELSE -2 END FROM t WHERE NOT (a = 1 OR b IN (1, 2, 3)) GROUP BY 1;");
    ok("WITH a AS (SELECT 1 AS x), b(y) AS (SELECT x FROM a) SELECT * FROM a JOIN b ON a.x = b.y");
    ok("SELECT f(value, method => 'mad') OVER (PARTITION BY a ORDER BY ts) FROM metrics.\"x\"");
}

#[test]
fn chains_are_bounded_by_terms_not_by_the_number_of_chains() {
    let chain = |n: usize, op: &str| format!("SELECT {}", vec!["1"; n].join(op));
    ok(&chain(512, "+"));
    refused(&chain(513, "+"), "512 terms");
    refused(&chain(10_000, "+"), "512 terms");
    refused(&format!("SELECT {}", vec!["a=1"; 2_000].join(" OR ")), "512 terms");
    ok(&format!("SELECT {}", vec!["1+1+1"; 400].join(",")));
    refused(&format!("SELECT {}", vec!["1+1+1+1+1+1+1+1+1+1+1"; 500].join(",")), "operators in one statement");
}

#[test]
fn a_chain_inside_a_chain_counts_along_the_path() {
    let inner = vec!["1"; 300].join("+");
    refused(&format!("SELECT ({inner}) + {inner}"), "512 terms");
    refused(&format!("SELECT {inner} + (0 + ({inner}))"), "512 terms");
}

#[test]
fn words_used_as_columns_do_not_cut_a_chain() {
    refused(&format!("SELECT {}", vec!["limit"; 600].join("+")), "512 terms");
    refused(&format!("SELECT a{}", " IS DISTINCT FROM on".repeat(600)), "512 terms");
    refused(&format!("SELECT a{}", " AT TIME ZONE group".repeat(600)), "512 terms");
    refused(&format!("SELECT 1{}", "::int".repeat(600)), "512 terms");
}

#[test]
fn depth_is_bounded() {
    let nest = |n: usize| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
    ok(&nest(50));
    refused(&nest(51), "levels of nesting");
    refused(&nest(20_000), "levels of nesting");
    refused(&format!("SELECT {}1", "CASE WHEN a THEN ".repeat(60)), "levels of nesting");
    refused(&format!("SELECT {}true", "NOT ".repeat(60)), "in a row");
    refused(&format!("SELECT {}1", "- ".repeat(60)), "in a row");
    refused(&format!("SELECT {}", vec!["a"; 60].join(".")), "name parts");
    refused("EXPLAIN EXPLAIN SELECT 1", "EXPLAIN");
}

#[test]
fn lists_relations_and_text_are_bounded() {
    ok(&format!("SELECT a IN ({})", vec!["1"; 512].join(",")));
    refused(&format!("SELECT a IN ({})", vec!["1"; 513].join(",")), "512 items");
    refused(&vec!["SELECT 1 FROM a"; 100].join(" UNION ALL "), "set operations");
    refused(&format!("SELECT '{}'", "x".repeat(70_000)), "bytes");
    refused("SELECT 1; SELECT 2", "one at a time");
    refused("  ; ", "empty");
    refused("SELECT 'open", "cannot read");
}

#[test]
fn doubling_with_names_is_bounded() {
    let mut sql = "WITH c0 AS (SELECT 1 AS x)".to_owned();
    for i in 1..20 {
        sql += &format!(", c{i} AS (SELECT a.x FROM c{} a, c{} b)", i - 1, i - 1);
    }
    refused(&format!("{sql} SELECT * FROM c19"), "copies");
}

#[test]
fn words_are_for_dispatch() {
    let words = admit("create Continuous QUERY x INTO y AS SELECT 1", &QueryLimits::default()).unwrap().words;
    assert_eq!(words, ["CREATE", "CONTINUOUS", "QUERY", "X"]);
}
