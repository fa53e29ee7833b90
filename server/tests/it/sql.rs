//! The SQL endpoint.
use std::io::{Read as _, Write as _};

use crate::support::{Series, Server};

fn with_data() -> Server {
    let server = Server::start();
    let answer = server.write(&[
        Series::of("t_sql", "a").sample(1_000, 1.5).sample(2_000, f64::NAN),
        Series::of("t_sql", "b,\"c\"").sample(1_000, f64::NEG_INFINITY),
    ]);
    assert_eq!(answer.status, 204);
    server
}

const ALL: &str = "SELECT ts, job, value FROM metrics.\"t_sql\" ORDER BY job, ts";

#[test]
fn json_has_columns_rows_and_stats() {
    let server = with_data();
    let answer = server.sql(ALL);
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let json = answer.json();
    assert_eq!(
        json["columns"],
        serde_json::json!([{"name":"ts","type":"TIMESTAMP"},{"name":"job","type":"VARCHAR"},{"name":"value","type":"DOUBLE"}])
    );
    assert_eq!(
        json["rows"],
        serde_json::json!([
            ["1970-01-01T00:00:01.000000000Z", "a", 1.5],
            ["1970-01-01T00:00:02.000000000Z", "a", "NaN"],
            ["1970-01-01T00:00:01.000000000Z", "b,\"c\"", "-Infinity"],
        ])
    );
    assert_eq!(json["stats"]["rows"], 3);
    assert!(json["stats"]["elapsed_ms"].is_number());
    assert_eq!(answer.header("x-foretell-query-id"), json["stats"]["query_id"].to_string());
}

#[test]
fn csv_and_ndjson_say_the_same() {
    let server = with_data();
    let csv = server.post("/api/v1/sql?format=csv", &[], ALL.as_bytes());
    assert!(csv.header("content-type").starts_with("text/csv"));
    assert_eq!(
        csv.text,
        "ts,job,value\n1970-01-01T00:00:01.000000000Z,a,1.5\n1970-01-01T00:00:02.000000000Z,a,NaN\n\
         1970-01-01T00:00:01.000000000Z,\"b,\"\"c\"\"\",-Infinity\n"
    );
    let ndjson = server.post("/api/v1/sql?format=ndjson", &[], ALL.as_bytes());
    let first: serde_json::Value = serde_json::from_str(ndjson.text.lines().next().unwrap()).unwrap();
    assert_eq!(first, serde_json::json!({"ts":"1970-01-01T00:00:01.000000000Z","job":"a","value":1.5}));
    assert_eq!(ndjson.text.lines().count(), 3);
}

#[test]
fn parameters_are_values_not_text() {
    let server = with_data();
    let body = serde_json::json!({"query": "SELECT count(*) FROM metrics.\"t_sql\" WHERE job = $1", "params": ["a"]});
    let answer = server.post("/api/v1/sql", &[("Content-Type", "application/json")], body.to_string().as_bytes());
    assert_eq!(answer.json()["rows"][0][0], 2, "{}", answer.text);
    let body = serde_json::json!({"query": "SELECT count(*) FROM metrics.\"t_sql\" WHERE job = $1", "params": ["a' OR '1'='1"]});
    let answer = server.post("/api/v1/sql", &[("Content-Type", "application/json")], body.to_string().as_bytes());
    assert_eq!(answer.json()["rows"][0][0], 0, "{}", answer.text);
}

#[test]
fn bad_requests_are_400_with_a_reason() {
    let server = Server::start();
    let post = |path: &str, body: &[u8]| server.post(path, &[], body);
    for (path, body, expected) in [
        ("/api/v1/sql", &b""[..], "empty"),
        ("/api/v1/sql", b"SELEC 1", ""),
        ("/api/v1/sql", b"SELECT no_such_column FROM samples", ""),
        ("/api/v1/sql", b"\xff\xfe", "UTF-8"),
        ("/api/v1/sql", b"{\"query\":\"SELECT 1\",\"parms\":[]}", "params"),
        ("/api/v1/sql?format=orc", b"SELECT 1", "json, csv, ndjson, arrow, parquet"),
        ("/api/v1/sql?timeout=soon", b"SELECT 1", "duration"),
        ("/api/v1/sql?fromat=csv", b"SELECT 1", "fromat"),
    ] {
        let answer = post(path, body);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        assert!(answer.error().contains(expected), "{path}: {}", answer.text);
        assert_eq!(answer.json()["errorType"], "bad_data");
    }
    assert_eq!(post("/api/v1/sql", &vec![b' '; 2 << 20]).status, 413);
    assert!(matches!(server.sql("SELECT * FROM no_such_table").status, 400 | 404));
}

#[test]
fn a_delete_is_durable_counted_and_only_what_it_says() {
    let server = with_data();
    let before = server.metric("foretell_engine_deletes_total");
    let answer = server.sql("DELETE FROM metrics.\"t_sql\" WHERE job = 'a' AND ts < '1970-01-01T00:00:02Z'");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    let columns =
        serde_json::json!([{"name":"series","type":"BIGINT UNSIGNED"},{"name":"lsn","type":"BIGINT UNSIGNED"}]);
    assert_eq!((&json["columns"], &json["rows"][0][0]), (&columns, &1.into()));
    assert!(json["rows"][0][1].is_u64(), "{json}");
    let left = serde_json::json!([
        ["1970-01-01T00:00:02.000000000Z", "a", "NaN"],
        ["1970-01-01T00:00:01.000000000Z", "b,\"c\"", "-Infinity"]
    ]);
    assert_eq!(server.sql(ALL).json()["rows"], left);
    assert_eq!(server.metric("foretell_engine_deletes_total") - before, 1.0);
    // No clean stop: the delete is in the log.
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.sql(ALL).json()["rows"], left);
    for (sql, because) in [
        ("DELETE FROM metrics.\"t_sql\" WHERE value > 1", "cannot delete by"),
        ("DELETE FROM samples", "must say of what"),
        ("DELETE FROM sys.series", "nothing can be deleted"),
        ("EXPLAIN DELETE FROM samples", "refused"),
    ] {
        let answer = server.sql(sql);
        assert_eq!(
            (answer.status, answer.json()["errorType"].as_str()),
            (400, Some("bad_data")),
            "{sql}: {}",
            answer.text
        );
        assert!(answer.error().contains(because), "{sql}: {}", answer.text);
    }
    assert_eq!(server.get("/api/v1/sql").status, 405, "never by GET");
    assert_eq!(server.sql(ALL).json()["rows"], left);
    assert_eq!(server.sql("DELETE FROM metrics.\"t_sql\"").status, 200);
    assert_eq!(server.count("t_sql"), 0);
}

#[test]
fn files_and_settings_cannot_be_reached() {
    let mut server = Server::start();
    let dir = server.dir.path().display().to_string();
    for sql in [
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{dir}/stderr.log'"),
        format!("COPY (SELECT 1) TO '{dir}/out.csv'"),
        format!("COPY samples TO '{dir}/out.parquet' STORED AS PARQUET"),
        format!("SELECT * FROM '{dir}/stderr.log'"),
        "SELECT * FROM '/etc/passwd'".to_owned(),
        "SELECT * FROM \"/etc/passwd\"".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "CREATE VIEW v AS SELECT 1".to_owned(),
        "DROP TABLE samples".to_owned(),
        "INSERT INTO samples VALUES (1)".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
    ] {
        let answer = server.sql(&sql);
        assert!(matches!(answer.status, 400 | 404), "{sql}: {} {}", answer.status, answer.text);
        assert!(!answer.error().is_empty());
    }
    assert!(!server.dir.path().join("out.csv").exists());
    assert!(server.is_alive());
}

#[test]
fn monstrous_statements_are_refused_and_the_server_lives() {
    let mut server = Server::start();
    let or = vec!["1=2"; 10_000].join(" OR ");
    let sum = vec!["1"; 10_000].join("+");
    let parentheses = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let list = (0..10_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let unions = vec!["SELECT 1"; 3_000].join(" UNION ALL ");
    let nots = "NOT ".repeat(10_000);
    for sql in [
        format!("SELECT {sum}"),
        format!("SELECT 1 WHERE {or}"),
        format!("SELECT {parentheses}"),
        format!("SELECT 1 WHERE 1 IN ({list})"),
        unions,
        format!("SELECT {nots} true"),
        format!("SELECT '{}'", "x".repeat(100_000)),
        format!("SELECT {}", "-".repeat(20_000)),
    ] {
        let answer = server.sql(&sql);
        assert!((400..500).contains(&answer.status), "{}…: {} {}", &sql[..40], answer.status, answer.text);
        assert!(answer.error().len() < 4_000, "an error does not repeat the statement");
    }
    assert_eq!(server.rows("SELECT 1 + 1")[0][0], 2);
    assert!(server.is_alive());
}

#[test]
fn a_deadline_ends_a_statement() {
    let server = Server::start();
    let sql =
        "SELECT count(*) FROM generate_series(1, 2000000) a, generate_series(1, 2000000) b WHERE a.value * b.value = 7";
    let answer = server.post("/api/v1/sql?timeout=200ms", &[], sql.as_bytes());
    assert!(answer.status >= 400, "{}", answer.text);
    if answer.status != 400 && answer.status != 404 {
        assert_eq!((answer.status, answer.json()["errorType"].as_str()), (503, Some("timeout")), "{}", answer.text);
    }
}

#[test]
fn large_answers_are_streamed_whole() {
    let server = Server::start();
    let samples = 60_000;
    for chunk in 0..6 {
        let mut series = Series::of("t_large", "a-label-value-that-takes-some-room-in-the-answer");
        for i in 0..samples / 6 {
            series = series.sample((chunk * samples / 6 + i) * 1000, i as f64);
        }
        assert_eq!(server.write(&[series]).status, 204);
    }
    let answer = server.sql("SELECT * FROM metrics.\"t_large\"");
    assert!(answer.text.len() > 2 << 20, "{}", answer.text.len());
    assert_eq!(answer.json()["rows"].as_array().unwrap().len() as i64, samples);
    assert_eq!(answer.json()["stats"]["rows"], samples);
}

#[test]
fn a_client_that_leaves_does_not_keep_its_query() {
    let server = Server::start();
    let series = (0..40).map(|job| {
        (0..1_000).fold(Series::of("t_leave", &job.to_string()), |series, i| series.sample(i * 1000, i as f64))
    });
    assert_eq!(server.write(&series.collect::<Vec<_>>()).status, 204);
    for _ in 0..5 {
        let mut stream = server.connect();
        let sql = "SELECT a.ts, a.value, b.value FROM metrics.\"t_leave\" a JOIN metrics.\"t_leave\" b ON a.ts = b.ts";
        write!(stream, "POST /api/v1/sql HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}", sql.len()).unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
    }
    crate::support::wait_until("abandoned queries are counted", || {
        server.get("/metrics").text.contains("foretell_queries_total{outcome=\"abandoned\"} 5")
    });
    crate::support::wait_until("only the one that asks is listed", || {
        server.rows("SELECT count(*) FROM sys.queries")[0][0] == 1
    });
}
