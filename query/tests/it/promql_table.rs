//! `promql(…)` in SQL: the same answer as the query by itself, within the bounds of the statement.
use std::time::{Duration, Instant};

use foretell_query::promql::{Answer, PromQuery};
use foretell_query::{ErrorKind, QueryLimits, QueryRequest};

use crate::store::{MINUTE, START, Store};

const NS_PER_MS: i64 = 1_000_000;

fn call(expr: &str, end: &str, step: &str) -> String {
    format!("promql('{}', '2026-01-01T00:00:00Z', '{end}', '{step}')", expr.replace('\'', "''"))
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_answers_what_the_query_by_itself_answers() {
    let store = Store::prepared();
    for expr in ["cpu_usage", "sum by (host) (rate(cpu_usage[5m]))", "1 + 1", "topk(1, cpu_usage) > 20", "nothing"] {
        let start_ms = START / NS_PER_MS;
        let query = PromQuery {
            text: expr.to_owned(),
            start_ms,
            end_ms: start_ms + 59 * MINUTE / NS_PER_MS,
            step_ms: Some(MINUTE / NS_PER_MS),
            lookback_ms: 300_000,
        };
        let Answer::Matrix(rows) = store.database.promql(query, None).await.unwrap() else { panic!("{expr}") };
        let mut expected: Vec<(i64, u64, String)> = Vec::new();
        for row in &rows {
            let host = row.labels.get("host").unwrap_or("NULL").to_owned();
            let point = |ts_ms: i64, value: f64| (ts_ms * NS_PER_MS, value.to_bits(), host.clone());
            expected.extend(row.points.iter().map(|point_of| point(point_of.ts_ms, point_of.value)));
        }
        let table = call(expr, "2026-01-01T00:59:00Z", "1m");
        let sql = format!("SELECT CAST(ts AS BIGINT), value, labels['host'] FROM {table}");
        let batches = store.query(&sql).await.unwrap();
        let mut got = Vec::new();
        for batch in &batches {
            use arrow::array::AsArray;
            use arrow::datatypes::{Float64Type, Int64Type};
            let hosts = crate::store::text(batch);
            for (row, text) in hosts.iter().enumerate() {
                let ts = batch.column(0).as_primitive::<Int64Type>().value(row);
                let value = batch.column(1).as_primitive::<Float64Type>().value(row);
                got.push((ts, value.to_bits(), text[2].clone()));
            }
        }
        expected.sort();
        got.sort();
        assert_eq!(got, expected, "{expr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_evaluated_when_its_rows_are_wanted() {
    let store = Store::prepared();
    let table = call("cpu_usage", "2026-01-01T00:59:00Z", "1m");
    let plan = store.rows(&format!("EXPLAIN SELECT value FROM {table}")).await.unwrap();
    let plan = format!("{plan:?}");
    assert!(plan.contains("promql=") && plan.contains("step=60000ms"), "{plan}");
    assert_eq!(store.rows(&format!("SELECT value FROM {table} LIMIT 3")).await.unwrap().len(), 3);
    assert_eq!(store.cell(&format!("SELECT count(*) FROM {table}")).await, "180");
}

#[tokio::test(flavor = "multi_thread")]
async fn deadline_and_memory_are_those_of_the_statement() {
    let store = Store::prepared();
    let sql = format!("SELECT * FROM {}", call("stddev_over_time(vector(1)[7d:1s])", "2026-01-01T03:00:00Z", "1s"));
    let begin = Instant::now();
    let request = QueryRequest { sql, timeout: Some(Duration::from_millis(300)), ..QueryRequest::default() };
    let error = store.request(request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    let give_up = Instant::now() + Duration::from_secs(20);
    while !store.database.queries().is_empty() {
        assert!(Instant::now() < give_up, "the query stays on the list");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    let small = Store::prepared_with(QueryLimits { memory_bytes_max: 512 << 10, ..QueryLimits::default() });
    let error = small.error(&format!("SELECT * FROM {}", call("cpu_usage", "2026-01-01T00:59:00Z", "1s"))).await;
    assert_eq!(error.kind, ErrorKind::Execution, "{error}");
    assert!(error.message.contains("too many samples into memory"), "{error}");

    let few = Store::prepared_with(QueryLimits { samples_max: 100, ..QueryLimits::default() });
    let error = few.error(&format!("SELECT * FROM {}", call("cpu_usage", "2026-01-01T00:59:00Z", "1m"))).await;
    assert_eq!(error.kind, ErrorKind::Execution, "{error}");
    assert!(error.message.contains("too many samples into memory"), "{error}");
    assert_eq!(store.database.memory_used_bytes(), 0, "nothing stays reserved");
}
