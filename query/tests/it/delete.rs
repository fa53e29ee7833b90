//! `DELETE`: hides exactly the rows that a SELECT with the same condition shows, or is refused.
use datafusion::scalar::ScalarValue;
use foretell_engine::{EngineConfig, TimeRange};
use foretell_query::{ErrorKind, QueryLimits, QueryRequest};

use crate::store::{MINUTE, START, Store, text, write};

async fn count(store: &Store, from_where: &str) -> u64 {
    store.cell(&format!("SELECT count(*) FROM {from_where}")).await.parse().unwrap()
}

/// Deletes `from_where` from a fresh store; the rows of `table` that a SELECT showed are gone, all others are there.
async fn exact(table: &str, condition: &str) {
    let store = Store::prepared();
    let doomed = count(&store, &format!("{table} WHERE {condition}")).await;
    let kept = async || {
        let mut rows = store.rows(&format!("SELECT * FROM {table} WHERE ({condition}) IS NOT TRUE")).await.unwrap();
        rows.sort();
        rows
    };
    let (expected, everything) = (kept().await, count(&store, "samples").await);
    assert!(doomed > 0, "{condition} tests nothing");
    let answer = store.rows(&format!("DELETE FROM {table} WHERE {condition}")).await.unwrap();
    assert!(answer[0][0].parse::<u64>().unwrap() > 0, "{condition}");
    assert_eq!(count(&store, &format!("{table} WHERE {condition}")).await, 0, "{condition}");
    assert_eq!(kept().await, expected, "{condition}");
    assert_eq!(count(&store, "samples").await, everything - doomed, "nothing of other tables goes: {condition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_hides_what_a_select_with_its_condition_shows_and_nothing_else() {
    for condition in [
        "host = 'a'",
        "host <> 'a'",
        "region <> 'eu'",
        "region IS NULL",
        "region IS DISTINCT FROM 'eu'",
        "host IN ('a', 'c')",
        "host NOT IN ('a', 'c')",
        "host LIKE 'a%'",
        "host ~ '^[ab]$' AND region !~ 'u.'",
        "ts < '2026-01-01T00:30:00Z'",
        "ts >= '2026-01-01T00:10:00Z' AND ts < TIMESTAMP '2026-01-01 00:20:00' AND host = 'b'",
        "ts BETWEEN '2026-01-01T00:10:00Z' AND '2026-01-01T00:20:00Z'",
        "ts = '2026-01-01T00:10:00Z'",
        "ts < now() - INTERVAL '1 minute' AND host = 'c'",
        "true",
    ] {
        exact("cpu_usage", condition).await;
    }
    exact("metrics.\"job:load:avg5m\"", "\"podName\" = 'p1'").await;
    exact("hidden_names", "label_value = 'v'").await;
    exact("samples", "metric = 'cpu_usage' AND labels['host'] = 'a'").await;
    exact("samples", "metric LIKE 'cpu%' AND ts < '2026-01-01T00:30:00Z'").await;
    exact("samples", "labels['service'] = 'checkout'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_metric_goes_when_it_is_named() {
    let store = Store::prepared();
    let before = count(&store, "samples").await;
    let answer = store.query("DELETE FROM metrics.cpu_usage").await.unwrap();
    let names: Vec<_> = answer[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["series", "lsn"]);
    assert_eq!(text(&answer[0])[0], ["3", &store.engine.snapshot().lsn().0.to_string()]);
    assert_eq!((count(&store, "cpu_usage").await, count(&store, "samples").await), (0, before - 180));
    let again = store.rows("DELETE FROM metrics.cpu_usage WHERE host = 'nobody'").await.unwrap();
    assert_eq!(again, [["0", "NULL"]], "nothing matched, nothing was committed");
    assert_eq!(store.rows("DELETE FROM cpu_usage WHERE host = NULL").await.unwrap(), [["0", "NULL"]]);
    write(&store.engine, &[("__name__", "cpu_usage"), ("host", "a"), ("region", "eu")], &[(START, 7.0)]);
    assert_eq!(store.cell("SELECT value FROM cpu_usage").await, "7.0", "what is written later is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_takes_parameters_and_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let mut config = EngineConfig::new(directory.path());
        config.background = false;
        foretell_engine::Engine::open(config).unwrap()
    };
    let engine = open();
    for host in ["a", "b"] {
        let samples: Vec<_> = (0..10).map(|i| (START + i * MINUTE, i as f64)).collect();
        write(&engine, &[("__name__", "m"), ("host", host)], &samples);
    }
    let database = foretell_query::Database::open(engine.clone(), QueryLimits::default()).unwrap();
    let request = QueryRequest {
        sql: "DELETE FROM m WHERE host = $1 AND ts >= $2".into(),
        params: vec![
            ScalarValue::from("a"),
            ScalarValue::TimestampNanosecond(Some(START + 4 * MINUTE), Some("UTC".into())),
        ],
        timeout: None,
    };
    database.query(request).await.unwrap();
    database.close().await.unwrap();
    engine.close().unwrap();
    drop((database, engine));
    let engine = open();
    let database = foretell_query::Database::open(engine.clone(), QueryLimits::default()).unwrap();
    let request = QueryRequest { sql: "SELECT count(*) FROM m".into(), ..QueryRequest::default() };
    let mut answer = database.query(request).await.unwrap();
    let batch = futures::StreamExt::next(&mut answer.stream).await.unwrap().unwrap();
    assert_eq!(text(&batch)[0], ["14"]);
    let all = foretell_engine::Selector { metric: Some("m".into()), matchers: Vec::new(), range: TimeRange::ALL };
    assert_eq!(engine.snapshot().select(&all).unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_by_exactly_is_refused_and_changes_nothing() {
    let store = Store::prepared();
    let (before, lsn) = (count(&store, "samples").await, store.engine.snapshot().lsn());
    for (sql, because) in [
        ("DELETE FROM cpu_usage WHERE value > 20", "value > "),
        ("DELETE FROM cpu_usage WHERE host = 'a' AND value > 20", "value > "),
        ("DELETE FROM cpu_usage WHERE host = 'a' OR ts < '2026-01-01T00:30:00Z'", "conditions on labels"),
        ("DELETE FROM cpu_usage WHERE host > 'a'", "conditions on labels"),
        ("DELETE FROM cpu_usage WHERE host = region", "conditions on labels"),
        ("DELETE FROM cpu_usage WHERE ts <> '2026-01-01T00:30:00Z'", "conditions on labels"),
        ("DELETE FROM cpu_usage WHERE upper(host) = 'A'", "conditions on labels"),
        ("DELETE FROM cpu_usage WHERE host <> uuid()", "conditions on labels"),
        ("DELETE FROM cpu_usage WHERE host IN (SELECT host FROM cpu_usage)", "subquery"),
        ("DELETE FROM cpu_usage WHERE ts < (SELECT max(ts) FROM cpu_usage)", "conditions on labels"),
        ("DELETE FROM cpu_usage LIMIT 5", "LIMIT"),
        ("DELETE FROM cpu_usage ORDER BY ts LIMIT 5", "ORDER BY"),
        ("DELETE FROM cpu_usage RETURNING *", "RETURNING"),
        ("DELETE FROM cpu_usage USING samples WHERE true", "USING"),
        ("DELETE FROM cpu_usage AS c WHERE c.host = 'a'", "not just the name"),
        ("DELETE FROM cpu_usage, latency_ms", "several tables"),
        ("DELETE FROM cpu_usage JOIN latency_ms ON true", "not just the name"),
        ("DELETE FROM generate_series(1, 3)", "not just the name"),
        ("DELETE FROM (SELECT * FROM cpu_usage)", "not just the name"),
        ("DELETE FROM samples", "must say of what"),
        ("DELETE FROM samples WHERE ts < now()", "must say of what"),
        ("DELETE FROM sys.series", "nothing can be deleted from 'series'"),
        ("DELETE FROM cpu_usage WHERE host ~ '('", "bad regular expression: unclosed group"),
        ("DELETE FROM cpu_usage WHERE no_such_label = 'a'", "no_such_label"),
        ("DELETE cpu_usage", ""),
        ("DELETE", ""),
        ("DELETE FROM", ""),
        ("DELETE FROM cpu_usage; DELETE FROM latency_ms", "one at a time"),
        ("EXPLAIN DELETE FROM cpu_usage", "refused"),
        ("WITH x AS (SELECT 1) DELETE FROM cpu_usage", ""),
    ] {
        let error = store.error(sql).await;
        assert_eq!(error.kind, ErrorKind::Invalid, "{sql}: {error}");
        assert!(error.message.contains(because), "{sql}: {error}");
    }
    assert_eq!(store.error("DELETE FROM cpu_usages").await.kind, ErrorKind::NotFound);
    assert_eq!(count(&store, "samples").await, before);
    assert_eq!(store.engine.snapshot().lsn(), lsn, "nothing was committed");
}
