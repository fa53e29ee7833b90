//! Continuous queries over `spans` and `logs`: rows equal the same SELECT, however spans come.
use std::sync::Arc;

use foretell_engine::WriteBatch;
use foretell_query::event::{Log, LogBuilder, Signal, Span, SpanBuilder, Value};

use crate::continuous_fixture::{Lives, SECOND, START, difference};

const RED: &str = "SELECT time_bucket('1m', ts) AS ts, service, kind, attributes['peer.service'] AS peer, count(*) AS requests, \
     count(*) FILTER (WHERE status = 'error') AS errors, max(duration) AS slowest \
     FROM spans WHERE duration >= 0 GROUP BY 1, 2, 3, 4";

/// A span each second of `from..to`; every third one fails, every other one calls a bank.
fn spans(lives: &Lives, service: &str, from: u64, to: u64) {
    let engine = lives.engine();
    let stream = engine.resolve(&Signal::Spans.stream(service, [("host", "a")]).unwrap()).unwrap();
    let mut builder = SpanBuilder::new(Signal::Spans.known_columns(engine));
    for n in from..to {
        let mut id = [1; 8];
        id[..4].copy_from_slice(&(n as u32).to_be_bytes());
        let span = Span {
            duration: n as i64 * 1_000,
            trace_id: [9; 16],
            span_id: id,
            name: "GET",
            kind: Some(if n.is_multiple_of(2) { "client" } else { "server" }),
            status: n.is_multiple_of(3).then_some("error"),
            ..Span::default()
        };
        let peer = n.is_multiple_of(2).then_some(("peer.service", Value::Text("bank")));
        builder.push(stream, START + n as i64 * SECOND, &span, peer).unwrap();
    }
    commit(lives, builder.finish().unwrap());
}

fn commit(lives: &Lives, records: foretell_engine::Records) {
    let batch = WriteBatch { records: vec![Arc::new(records)], ..WriteBatch::default() };
    lives.engine().write(batch).unwrap().wait().unwrap();
}

fn assert_exact(lives: &Lives, select: &str) {
    lives.drain();
    let difference = difference(&lives.table("SELECT * FROM red_1m"), &lives.table(select), &[]);
    assert_eq!(difference, None);
}

fn create(lives: &Lives, select: &str) {
    lives.run(&format!("CREATE CONTINUOUS QUERY red INTO red_1m AS {select}"));
}

#[test]
fn rates_errors_and_durations_follow_spans_of_any_order_sent_any_number_of_times() {
    let mut lives = Lives::new();
    create(&lives, RED);
    lives.drain();
    spans(&lives, "shop", 100, 200);
    assert_exact(&lives, RED);
    assert!(!lives.table("SELECT * FROM red_1m").is_empty());
    spans(&lives, "cart", 0, 130);
    spans(&lives, "shop", 150, 260);
    assert_exact(&lives, RED);
    let before = lives.table("SELECT * FROM red_1m");
    spans(&lives, "shop", 150, 260);
    assert_exact(&lives, RED);
    assert_eq!(lives.table("SELECT * FROM red_1m"), before, "spans sent again count once");
    lives.engine().flush().unwrap();
    lives.kill();
    spans(&lives, "shop", 20, 40);
    assert_exact(&lives, RED);
    assert_eq!(lives.status("state"), "running");
}

#[test]
fn what_is_there_already_is_worked_through_first() {
    let lives = Lives::new();
    spans(&lives, "shop", 0, 400);
    lives.engine().flush().unwrap();
    create(&lives, RED);
    assert_exact(&lives, RED);
    spans(&lives, "shop", 400, 500);
    assert_exact(&lives, RED);
}

#[test]
fn lines_are_counted_by_severity() {
    let lives = Lives::new();
    let select = "SELECT time_bucket('1m', ts) AS ts, service, severity, count(*) AS n FROM logs GROUP BY 1, 2, 3";
    create(&lives, select);
    let engine = lives.engine();
    let stream = engine.resolve(&Signal::Logs.stream("shop", [("host", "a")]).unwrap()).unwrap();
    let mut builder = LogBuilder::new(None);
    for n in 0..300i64 {
        let severity = Some(if n % 5 == 0 { "ERROR" } else { "INFO" });
        builder.push(stream, START + n * SECOND, &Log { severity, body: Some("x"), ..Log::default() }, []);
    }
    commit(&lives, builder.finish().unwrap());
    assert_exact(&lives, select);
    assert_eq!(lives.table("SELECT * FROM red_1m").len(), 10);
}

#[test]
fn groups_with_too_many_values_and_scores_are_refused() {
    let lives = Lives::new();
    for (select, because) in [
        ("SELECT time_bucket('1m', ts) AS ts, trace_id, count(*) AS n FROM spans GROUP BY 1, 2", "trace_id"),
        ("SELECT time_bucket('1m', ts) AS ts, body, count(*) AS n FROM logs GROUP BY 1, 2", "body"),
        ("SELECT time_bucket('1m', ts) AS ts, attributes, count(*) AS n FROM spans GROUP BY 1, 2", "attributes"),
        (
            "SELECT ts, service, anomaly_score(CAST(duration AS DOUBLE)) OVER (PARTITION BY service ORDER BY ts) AS s FROM spans",
            "scores are of the values of a metric",
        ),
    ] {
        let error = lives.query(&format!("CREATE CONTINUOUS QUERY q INTO q_out AS {select}")).unwrap_err();
        assert!(error.message.contains(because), "{select}: {error}");
    }
}
