//! Deadlines, cancellation, concurrency, memory and row limits.
use std::time::{Duration, Instant};

use foretell_query::{Error, ErrorKind, QueryLimits, QueryRequest};
use futures::StreamExt;

use crate::store::Store;

/// Runs for as long as one lets it.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 100000000) a CROSS JOIN generate_series(1, 100000000) b";
/// Answers for as long as one lets it.
const ENDLESS_ROWS: &str =
    "SELECT a.value FROM generate_series(1, 100000000) a CROSS JOIN generate_series(1, 100000000) b";

fn request(sql: &str, timeout: Option<Duration>) -> QueryRequest {
    QueryRequest { sql: sql.to_owned(), timeout, ..QueryRequest::default() }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < give_up, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_past_its_deadline_is_a_timeout() {
    let store = Store::prepared();
    let begin = Instant::now();
    let error = store.request(request(ENDLESS, Some(Duration::from_millis(100)))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    until("the query leaves the list", || store.database.queries().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_can_be_listed_and_cancelled() {
    let store = Store::prepared();
    let mut response = store.database.query(request(ENDLESS_ROWS, None)).await.unwrap();
    assert!(response.stream.next().await.unwrap().is_ok());
    let listed = store.rows("SELECT id, sql, rows > 0 FROM sys.queries ORDER BY id").await.unwrap();
    assert_eq!(listed[0], [response.id.to_string(), ENDLESS_ROWS.to_owned(), "true".to_owned()]);
    assert_eq!(listed.len(), 2, "a query sees itself");
    assert!(store.database.cancel(response.id));
    let error = loop {
        match response.stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break Error::from_datafusion(error),
            None => panic!("ended without an error"),
        }
    };
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert!(response.stream.next().await.is_none());
    until("the query leaves the list", || store.database.queries().is_empty()).await;
    assert!(!store.database.cancel(response.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_answer_cancels_the_query() {
    let store = Store::prepared();
    let response = store.database.query(request(ENDLESS, None)).await.unwrap();
    assert_eq!(store.database.queries().len(), 1);
    drop(response);
    until("the query leaves the list", || store.database.queries().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_beyond_the_places_wait_and_beyond_the_queue_are_refused() {
    let limits = QueryLimits { concurrency: 1, queue_max: 1, ..QueryLimits::default() };
    let store = Store::prepared_with(limits);
    let running = store.database.query(request(ENDLESS, None)).await.unwrap();
    let waiting = store.database.query(request("SELECT 1", None));
    tokio::pin!(waiting);
    // Polled once, it stands in the queue.
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    let error = store.error("SELECT 1").await;
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("too many queries"), "{error}");
    drop(running);
    assert!(waiting.await.is_ok());
    // A place that never comes free is a timeout.
    let _running = store.database.query(request(ENDLESS, None)).await.unwrap();
    let error = store.request(request("SELECT 1", Some(Duration::from_millis(20)))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_memory_are_bounded() {
    let limits = QueryLimits { rows_max: 1_000, memory_bytes_max: 4 << 20, ..QueryLimits::default() };
    let store = Store::prepared_with(limits);
    let error = store.error("SELECT value FROM generate_series(1, 100000000)").await;
    assert_eq!(error.kind, ErrorKind::Execution);
    assert!(error.message.contains("more than 1000 rows"), "{error}");
    let error = store.error("SELECT count(*) FROM (SELECT DISTINCT value FROM generate_series(1, 10000000))").await;
    assert_eq!(error.kind, ErrorKind::Execution, "{error}");
    assert!(error.message.contains("memory pool"), "{error}");
    // The pool is given back.
    assert_eq!(store.cell("SELECT count(DISTINCT value) FROM generate_series(1, 1000)").await, "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_scans_and_windows_hold_is_bounded_too() {
    let limits = QueryLimits { memory_bytes_max: 16 << 20, ..QueryLimits::default() };
    let store = Store::prepared_with(limits);
    // Every row is held until the last has come; and a scan has contexts and scratch of its own.
    let window = "SELECT max(s) FROM (SELECT sum(value) OVER () AS s FROM generate_series(1, 5000000))";
    let small = Store::prepared_with(QueryLimits { memory_bytes_max: 100 << 10, ..QueryLimits::default() });
    for (store, sql) in [(&store, window), (&small, "SELECT max(value) FROM cpu_usage")] {
        let error = store.error(sql).await;
        assert_eq!(error.kind, ErrorKind::Execution, "{sql}: {error}");
        assert!(error.message.contains("memory pool"), "{sql}: {error}");
    }
    // A window that goes along with its input holds few rows, however many there are.
    let rows = "SELECT max(n) FROM (SELECT row_number() OVER () AS n FROM generate_series(1, 5000000))";
    assert_eq!(store.cell(rows).await, "5000000");
    let names = "SELECT count(*) > 0 FROM sys.series a JOIN sys.series b ON a.id = b.id";
    assert_eq!(store.cell(names).await, "true");
    // A query ends a moment after its answer.
    for _ in 0..1000 {
        if store.database.memory_used_bytes() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} bytes of the pool are not given back", store.database.memory_used_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_database_refuses_queries() {
    let store = Store::prepared();
    let mut response = store.database.query(request(ENDLESS, None)).await.unwrap();
    store.database.close().await.unwrap();
    let error = Error::from_datafusion(response.stream.next().await.unwrap().unwrap_err());
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert_eq!(store.error("SELECT 1").await.kind, ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_values_not_text() {
    let store = Store::prepared();
    let request = QueryRequest {
        sql: "SELECT count(*) FROM cpu_usage WHERE host = $1 AND value > $2".to_owned(),
        params: vec!["a'; DROP".into(), 1.0.into()],
        timeout: None,
    };
    let rows = store.request(request).await.unwrap();
    assert_eq!(crate::store::text(&rows[0]), [["0"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_cannot_make_huge_values() {
    let store = Store::prepared();
    for sql in [
        "SELECT repeat('x', 1000000000)",
        "SELECT length(lpad('x', 2000000000, 'y'))",
        "SELECT rpad(host, 100000) FROM cpu_usage CROSS JOIN generate_series(1, 8192)",
        "SELECT array_length(range(1, 100000000))",
        "SELECT array_length(generate_series(1, 100000000))",
        "SELECT range(TIMESTAMP '2020-01-01', TIMESTAMP '2026-01-01', INTERVAL '1 second')",
        "SELECT array_repeat(1, 100000000)",
        "SELECT array_resize([1], 100000000, 0)",
        "SELECT replace(repeat('x', 100000), 'x', repeat('y', 100000))",
    ] {
        let error = store.error(sql).await;
        assert_eq!(error.kind, ErrorKind::Execution, "{sql}: {error}");
        assert!(error.message.contains("ask for less"), "{sql}: {error}");
    }
    let mut doubled = "repeat('x', 50000) AS s".to_owned();
    for _ in 0..12 {
        doubled = format!("concat(s, s, s, s) AS s FROM (SELECT {doubled})");
    }
    let error = store.error(&format!("SELECT {doubled}")).await;
    assert!(error.message.contains("ask for less"), "{error}");
    assert_eq!(store.cell("SELECT lpad('x', 3, 'yz') || repeat('a', 2) || array_length(range(1, 5))").await, "yzxaa4");
}
