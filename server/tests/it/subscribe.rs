//! `SUBSCRIBE` over server-sent events, with the real binary.
use std::io::{BufRead as _, BufReader};

use arrow::array::AsArray as _;
use arrow::datatypes::Float64Type;
use arrow::ipc::reader::StreamReader;
use foretell_proto::foretell::v1::subscribe_response::Delivery as Got;
use foretell_proto::foretell::v1::{SubscribeRequest, SubscribeResponse};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::grpc::{Streamed, call as call_grpc, framed};
use crate::support::{Series, Server, wait_until};

const START_MS: i64 = 1_767_225_600_000;

/// The events of a subscription, read as they come.
struct Events(Box<dyn std::io::BufRead>);

impl Events {
    fn open(server: &Server, sql: &str, last: Option<&str>) -> Self {
        let agent = ureq::Agent::config_builder().timeout_recv_body(Some(std::time::Duration::from_secs(30))).build();
        let mut request = agent.new_agent().post(format!("{}/api/v1/sql", server.url));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send(sql).unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(Box::new(BufReader::new(response.into_body().into_reader())))
    }

    /// The next event: its kind and its data.
    fn next(&mut self) -> (String, Value) {
        let (mut kind, mut data) = (String::new(), Value::Null);
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
            match line.trim_end().split_once(": ") {
                Some(("event", event)) => kind = event.to_owned(),
                Some(("data", text)) => data = serde_json::from_str(text).unwrap(),
                None if !kind.is_empty() => return (kind, data),
                _ => {}
            }
        }
    }

    /// Rows up to the next cursor, and the cursor.
    fn rows(&mut self) -> (Vec<Value>, String) {
        let mut rows = Vec::new();
        loop {
            match self.next() {
                (kind, data) if kind == "row" => rows.push(data),
                (kind, data) if kind == "cursor" => return (rows, data["cursor"].as_str().unwrap().to_owned()),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn write(server: &Server, second: i64, host: &str, value: f64) {
    let labels = [("__name__", "load"), ("host", host)];
    assert_eq!(server.write(&[Series::new(&labels).sample(START_MS + second * 1_000, value)]).status, 204);
}

fn values(rows: &[Value]) -> Vec<f64> {
    rows.iter().map(|row| row["value"].as_f64().unwrap()).collect()
}

#[test]
fn rows_come_as_they_are_written_and_again_from_a_cursor() {
    let server = Server::start();
    write(&server, 0, "a", 1.0);
    write(&server, 1, "a", 2.0);
    let mut all = Events::open(&server, "SUBSCRIBE load FROM 'start'", None);
    let (rows, begin) = all.rows();
    assert_eq!(values(&rows), [1.0, 2.0]);
    assert_eq!(rows[0]["host"], "a");
    let mut high = Events::open(
        &server,
        "SUBSCRIBE (SELECT host, value * 2 AS value FROM load WHERE value > 10) FROM 'now'",
        None,
    );
    wait_until("both are counted", || server.metric("foretell_subscriptions") == 2.0);
    // of another table: nobody is told
    assert_eq!(server.write(&[Series::of("other", "x").sample(START_MS, 99.0)]).status, 204);
    write(&server, 2, "b", 30.0);
    let (rows, _) = all.rows();
    assert_eq!(values(&rows), [30.0]);
    assert_eq!(high.rows().0, [json!({"host": "b", "value": 60.0})]);
    write(&server, 3, "b", 4.0);
    write(&server, 4, "b", 50.0);
    assert_eq!(values(&high.rows().0), [100.0]);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(values(&all.rows().0));
    }
    assert_eq!(seen, [4.0, 50.0]);
    // who was away goes on where it was, over a restart
    drop((all, high));
    let server = Server::start_in(server.kill(), &[]);
    for last in [None, Some(begin.as_str())] {
        let from = if last.is_none() { format!("SUBSCRIBE load FROM '{begin}'") } else { "SUBSCRIBE load".to_owned() };
        let mut again = Events::open(&server, &from, last);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(values(&again.rows().0));
        }
        assert_eq!(seen, [30.0, 4.0, 50.0], "{from}");
    }
}

/// Values of the rows up to the next cursor, and the cursor, over gRPC.
fn streamed(stream: &mut Streamed) -> (Vec<f64>, String) {
    let mut values = Vec::new();
    loop {
        let message = stream.next().expect("a message");
        match SubscribeResponse::decode(&*message).unwrap().delivery.unwrap() {
            Got::Rows(bytes) => {
                for batch in StreamReader::try_new(&*bytes, None).unwrap() {
                    let batch = batch.unwrap();
                    let column = batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().clone();
                    values.extend_from_slice(column.values());
                }
            }
            Got::Cursor(cursor) => return (values, cursor),
        }
    }
}

fn grpc(server: &Server, statement: &str, cursor: &str) -> Streamed {
    let call = SubscribeRequest { statement: statement.to_owned(), cursor: cursor.to_owned() };
    Streamed::open(server, SUBSCRIBE, &call.encode_to_vec())
}

const SUBSCRIBE: &str = "/foretell.v1.Subscriptions/Subscribe";

#[test]
fn over_grpc_rows_come_as_arrow_and_go_on_from_a_cursor() {
    let server = Server::start();
    for second in 0..3 {
        write(&server, second, "a", second as f64);
    }
    let mut all = grpc(&server, "SUBSCRIBE load FROM 'start'", "");
    let (values, begin) = streamed(&mut all);
    assert_eq!(values, [0.0, 1.0, 2.0]);
    let mut high = grpc(&server, "SUBSCRIBE (SELECT value * 2 AS value FROM load WHERE value > 10)", "");
    wait_until("both are counted", || server.metric("foretell_subscriptions") == 2.0);
    write(&server, 3, "b", 30.0);
    assert_eq!(streamed(&mut all).0, [30.0]);
    assert_eq!(streamed(&mut high).0, [60.0]);
    drop((all, high));
    wait_until("both are gone", || server.metric("foretell_subscriptions") == 0.0);
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(streamed(&mut grpc(&server, "SUBSCRIBE load", &begin)).0, [30.0]);
    // many rows come in messages that every client takes
    let series: Vec<_> = (0..300)
        .map(|host| {
            let host = format!("{host:0>1000}");
            (0..50).fold(Series::of("load", &host), |series, second| series.sample(START_MS + second * 1_000, 7.0))
        })
        .collect();
    let mut many = grpc(&server, "SUBSCRIBE load", "");
    assert_eq!(server.write(&series).status, 204);
    let mut seen = 0;
    while seen < 15_000 {
        let message = many.next().expect("a message");
        assert!(message.len() < 4 << 20, "{} bytes", message.len());
        if let Some(Got::Rows(bytes)) = SubscribeResponse::decode(&*message).unwrap().delivery {
            seen += StreamReader::try_new(&*bytes, None).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
        }
    }
    assert_eq!(seen, 15_000);
}

#[test]
fn over_grpc_mistakes_and_the_end_of_the_server_are_statuses() {
    let mut server = Server::start();
    write(&server, 0, "a", 1.0);
    let code = |statement: &str, cursor: &str| {
        let call = SubscribeRequest { statement: statement.to_owned(), cursor: cursor.to_owned() };
        let called = call_grpc(&server, SUBSCRIBE, &[], &framed(false, &call.encode_to_vec()));
        assert!(!called.message().is_empty());
        called.code()
    };
    assert_eq!(code("SELECT 1", ""), 3);
    assert_eq!(code("SUBSCRIBE load FROM 'yesterday'", ""), 3);
    assert_eq!(code("SUBSCRIBE load", "yesterday"), 3);
    assert_eq!(code("SUBSCRIBE nothing_of_the_kind", ""), 5);
    assert_eq!(call_grpc(&server, SUBSCRIBE, &[], &framed(false, b"\xff")).code(), 3);
    assert_eq!(call_grpc(&server, SUBSCRIBE, &[("grpc-encoding", "gzip")], &framed(true, b"x")).code(), 3);
    let mut open = grpc(&server, "SUBSCRIBE load", "");
    server.signal("TERM");
    assert_eq!(open.next(), Err(14));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn what_a_continuous_query_writes_can_be_subscribed_to() {
    let server = Server::start();
    write(&server, 0, "a", 1.0);
    let sql = "CREATE CONTINUOUS QUERY q INTO minutes EMIT ON WINDOW CLOSE WATERMARK '10s' AS \
               SELECT time_bucket('1m', ts) AS ts, host, count(*) AS n FROM load GROUP BY 1, 2";
    assert_eq!(server.sql(sql).status, 200);
    let mut events = Events::open(&server, "SUBSCRIBE minutes", None);
    for second in 1..150 {
        write(&server, second, "a", 1.0);
    }
    let mut rows = Vec::new();
    while rows.len() < 2 {
        rows.extend(events.rows().0);
    }
    let expected = [("2026-01-01T00:00:00.000000000Z", 60), ("2026-01-01T00:01:00.000000000Z", 60)];
    assert_eq!(rows, expected.map(|(ts, n)| json!({"ts": ts, "host": "a", "n": n})));
}

#[test]
fn mistakes_are_told_before_anything_is_streamed() {
    let server = Server::start();
    for (sql, status, reason) in [
        ("SUBSCRIBE nowhere", 404, "nowhere"),
        ("SUBSCRIBE (DELETE FROM load)", 400, ""),
        ("SUBSCRIBE sys.tables FROM 'yesterday'", 400, "is no cursor"),
        ("SUBSCRIBE sys.tables FROM '999999999'", 400, "ahead of the store"),
    ] {
        let answer = server.sql(sql);
        assert_eq!(answer.status, status, "{sql}: {}", answer.text);
        assert!(answer.error().contains(reason), "{sql}: {}", answer.text);
    }
    // a client that stays does not keep the server from ending
    write(&server, 0, "a", 1.0);
    let _events = Events::open(&server, "SUBSCRIBE load", None);
    let begun = std::time::Instant::now();
    server.stop();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}
