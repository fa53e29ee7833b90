//! Statements that would hurt are refused with a clear message, and the process lives on.
use foretell_query::{ErrorKind, QueryLimits};

use crate::store::Store;

async fn refused(store: &Store, sql: &str, because: &str) {
    let error = store.error(sql).await;
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.message.contains(because), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_abort_datafusion_are_errors() {
    let store = Store::prepared();
    refused(&store, &format!("SELECT {}", vec!["1"; 600].join("+")), "512 terms").await;
    refused(&store, &format!("SELECT {}", vec!["1"; 10_000].join("+")), "512 terms").await;
    let or_chain = vec!["host = 'a'"; 2_000].join(" OR ");
    refused(&store, &format!("SELECT 1 FROM cpu_usage WHERE {or_chain}"), "512 terms").await;
    refused(&store, &format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)), "nesting").await;
    refused(&store, &format!("SELECT {} true", "NOT ".repeat(5_000)), "in a row").await;
    refused(&store, &format!("SELECT {}1", "- ".repeat(5_000)), "in a row").await;
    refused(&store, &format!("SELECT {}", "abs(".repeat(5_000)), "nesting").await;
    refused(&store, &format!("{}SELECT 1", "EXPLAIN ".repeat(3_000)), "EXPLAIN").await;
    refused(&store, &vec!["SELECT 1"; 3_000].join(" UNION "), "set operations").await;
    refused(&store, &format!("SELECT '{}'", "x".repeat(70_000)), "bytes").await;
    assert_eq!(store.cell("SELECT 1 + 1").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_bounds_are_planned_and_run() {
    let store = Store::prepared();
    let terms = QueryLimits::default().terms_max;
    assert_eq!(store.cell(&format!("SELECT {}", vec!["1"; terms].join("+"))).await, terms.to_string());
    // Not folded away: the chain is evaluated for every row.
    let chain = vec!["value"; terms].join(" + ");
    let sum = store.cell(&format!("SELECT {chain} FROM cpu_usage WHERE host = 'a' LIMIT 1")).await;
    assert_eq!(sum, format!("{:.1}", 10.0 * terms as f64));
    let or_chain: Vec<String> = (0..terms / 2 - 1).map(|i| format!("value = {i}.5")).collect();
    assert_eq!(store.cell(&format!("SELECT count(*) FROM cpu_usage WHERE {}", or_chain.join(" OR "))).await, "0");
    let nested = format!("SELECT {}value{} FROM cpu_usage WHERE host = 'a' LIMIT 1", "abs(".repeat(49), ")".repeat(49));
    assert_eq!(store.cell(&nested).await, "10.0");
    let cases = format!(
        "SELECT {}0 {} FROM cpu_usage LIMIT 1",
        "CASE WHEN value > 1e9 THEN 1 ELSE ".repeat(49),
        "END ".repeat(49)
    );
    assert_eq!(store.cell(&cases).await, "0");
    let list: Vec<String> = (0..terms).map(|i| format!("'h{i}'")).collect();
    assert_eq!(store.cell(&format!("SELECT count(*) FROM cpu_usage WHERE host IN ({})", list.join(","))).await, "0");
    let from = |n: usize| vec!["SELECT value FROM cpu_usage"; n].join(" UNION ALL ");
    assert_eq!(store.cell(&format!("SELECT count(*) FROM ({})", from(60))).await, (60 * 180).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_reach_files_or_settings_are_refused() {
    let store = Store::prepared();
    for sql in [
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "COPY cpu_usage TO 'x.parquet' STORED AS PARQUET",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE TABLE t (a INT)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE SCHEMA s",
        "CREATE DATABASE d",
        "CREATE FUNCTION f(DOUBLE) RETURNS DOUBLE RETURN $1",
        "INSERT INTO cpu_usage VALUES (now(), 1, 'x', 'y')",
        "UPDATE cpu_usage SET value = 1",
        "EXPLAIN DELETE FROM cpu_usage",
        "EXPLAIN ANALYZE DELETE FROM cpu_usage WHERE host = 'a'",
        "DROP TABLE cpu_usage",
        "DROP SCHEMA metrics CASCADE",
        "TRUNCATE TABLE cpu_usage",
        "SET datafusion.execution.target_partitions = 1000",
        "RESET datafusion.execution.target_partitions",
        "BEGIN",
        "COMMIT",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "SELECT 1 INTO t",
        "EXPLAIN INSERT INTO cpu_usage VALUES (now(), 1, 'x', 'y')",
        "EXPLAIN COPY (SELECT 1) TO '/tmp/x.csv'",
        "MERGE INTO cpu_usage USING samples ON true WHEN MATCHED THEN DELETE",
        "USE foretell",
    ] {
        let error = store.error(sql).await;
        assert_eq!(error.kind, ErrorKind::Invalid, "{sql}: {error}");
        assert!(error.message.contains("SQL here reads tables"), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn file_paths_are_not_tables() {
    let store = Store::prepared();
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM 'data.csv'",
        "SELECT * FROM 'https://example.com/x.parquet'",
    ] {
        let error = store.error(sql).await;
        assert_eq!(error.kind, ErrorKind::NotFound, "{sql}: {error}");
        assert!(error.message.contains("file paths are not tables"), "{sql}: {error}");
    }
    let error = store.error("SELECT * FROM read_csv('/etc/passwd')").await;
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_names_the_nearest() {
    let store = Store::prepared();
    let error = store.error("SELECT * FROM cpu_usages").await;
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("did you mean metrics.cpu_usage"), "{error}");
    let error = store.error("SELECT valu FROM cpu_usage").await;
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("value"), "{error}");
    let error = store.error("SELECT * FROM segments").await;
    assert!(error.message.contains("ambiguous: write metrics.\"segments\" or sys.\"segments\""), "{error}");
}
