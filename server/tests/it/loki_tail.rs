//! Loki's tail: lines come over a WebSocket as they are pushed, each once, until somebody has enough.
use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::{ClientRequestBuilder, client};
use tokio_tungstenite::tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::support::{Server, now_ms, wait_until};

const SHOP: &str = "{app=\"shop\"}";

/// A client that is told of lines.
struct Tail(WebSocket<TcpStream>);

/// A line with its time and its labels.
type Line = (i64, String, Value);

fn query(params: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    format!("/loki/api/v1/tail?{query}")
}

impl Tail {
    /// Or the status with which it is refused.
    fn try_open(server: &Server, params: &[(&str, &str)], headers: &[(&str, &str)]) -> Result<Self, u16> {
        let url = format!("{}{}", server.url.replace("http://", "ws://"), query(params));
        let request = ClientRequestBuilder::new(url.parse().unwrap());
        let request = headers.iter().fold(request, |request, (name, value)| request.with_header(*name, *value));
        match client(request, server.connect()) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    fn open(server: &Server, params: &[(&str, &str)]) -> Self {
        Self::try_open(server, params, &[]).unwrap()
    }

    /// The next message; answers pings meanwhile.
    fn next(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lines up to and with the one called `last`, in the order in which they come.
    fn until(&mut self, last: &str) -> Vec<Line> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|(_, line, _): &Line| line != last) {
            lines.extend(lines_of(&self.next()));
        }
        lines
    }

    /// Their texts.
    fn texts(&mut self, last: &str) -> Vec<String> {
        self.until(last).into_iter().map(|(_, line, _)| line).collect()
    }

    /// Code and reason with which the server closes.
    fn closed(mut self) -> (u16, String) {
        loop {
            match self.0.read().unwrap() {
                Message::Close(frame) => {
                    let frame = frame.unwrap();
                    // The answer.
                    let _ = self.0.flush();
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Text(_) | Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn lines_of(message: &Value) -> Vec<Line> {
    let streams = message["streams"].as_array().unwrap().iter();
    let lines = streams.flat_map(|stream| {
        let values = stream["values"].as_array().unwrap().iter();
        values.map(|value| {
            let text = |at: usize| value[at].as_str().unwrap().to_owned();
            (text(0).parse().unwrap(), text(1), stream["stream"].clone())
        })
    });
    lines.collect()
}

fn now_ns() -> i64 {
    now_ms() * 1_000_000
}

fn push<S: AsRef<str>>(server: &Server, labels: &Value, lines: &[(i64, S)]) {
    let values: Vec<Value> = lines.iter().map(|(ts, line)| json!([ts.to_string(), line.as_ref()])).collect();
    let body = json!({ "streams": [{ "stream": labels, "values": values }] }).to_string();
    let answer = server.post("/loki/api/v1/push", &[("Content-Type", "application/json")], body.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text);
}

#[test]
fn lines_come_soon_after_they_are_pushed_through_selector_filters_and_stages() {
    let server = Server::start();
    let query = "{app=\"shop\"} |= \"item\" | json | took > 40 | line_format \"{{.item}} took {{.took}}\"";
    let mut tail = Tail::open(&server, &[("query", query)]);
    let (shop, db) = (json!({ "app": "shop", "host": "a" }), json!({ "app": "db" }));
    let mut slowest = Duration::ZERO;
    for n in 0..5 {
        let at = now_ns();
        let line = |took: u32| format!("{{\"item\": {n}, \"took\": {took}}}");
        push(&server, &db, &[(at, line(50))]);
        let pushed = Instant::now();
        push(&server, &shop, &[(at, line(41)), (at + 1, line(40)), (at + 2, "{\"took\": 99}".to_owned())]);
        let came = tail.until(&format!("{n} took 41"));
        slowest = slowest.max(pushed.elapsed());
        let labels = json!({ "app": "shop", "host": "a", "item": n.to_string(), "took": "41" });
        assert_eq!(came, [(at, format!("{n} took 41"), labels)]);
    }
    // A second is promised of a server that has nothing else to do; this machine may have.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    assert_eq!(server.metric("foretell_loki_tails"), 1.0);
    // A line is counted after it was sent.
    wait_until("all are counted", || server.metric("foretell_loki_tail_lines_total") == 5.0);
    assert_eq!(server.metric("foretell_loki_tail_lines_dropped_total"), 0.0);
}

#[test]
fn lines_of_one_instant_and_late_lines_come_once_each() {
    let server = Server::start();
    let labels = json!({ "app": "shop" });
    let at = now_ns();
    push(&server, &labels, &[(at - 1_000, "before")]);
    let mut tail = Tail::open(&server, &[("query", SHOP)]);
    let mut expected = vec!["before".to_owned()];
    for n in 0..30 {
        push(&server, &labels, &[(at, format!("same {n}")), (at, format!("same again {n}"))]);
        expected.extend([format!("same {n}"), format!("same again {n}")]);
        if n == 15 {
            // What is told is told from the feed, not from what a flush has made of it.
            std::thread::sleep(Duration::from_millis(600));
        }
    }
    push(&server, &labels, &[(at - 86_400_000_000_000, "a day late")]);
    push(&server, &labels, &[(at + 60_000_000_000, "ahead of the clock")]);
    expected.extend(["a day late".to_owned(), "ahead of the clock".to_owned()]);
    let mut came = tail.texts("ahead of the clock");
    push(&server, &labels, &[(at + 1, "the end")]);
    came.extend(tail.texts("the end"));
    assert_eq!(came.pop().as_deref(), Some("the end"));
    assert_eq!(came[0], "before");
    came.sort_unstable();
    expected.sort_unstable();
    assert_eq!(came, expected);
    // What is stored agrees.
    assert_eq!(server.rows("SELECT count(*) FROM logs")[0][0], json!(expected.len() + 1));
}

#[test]
fn the_newest_lines_since_the_start_come_first() {
    let server = Server::start();
    let labels = json!({ "app": "shop" });
    let at = now_ns() - 10_000_000_000;
    let lines: Vec<(i64, String)> = (0..300).map(|n| (at + n, n.to_string())).collect();
    push(&server, &labels, &lines);
    push(&server, &labels, &[(at - 3_600_000_000_000, "an hour ago")]);
    let texts = |params: &[(&str, &str)]| {
        let mut all = vec![("query", SHOP)];
        all.extend(params);
        Tail::open(&server, &all).texts("299")
    };
    let expected = |from: usize| (from..300).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(texts(&[]), expected(200));
    assert_eq!(texts(&[("limit", "2")]), expected(298));
    assert_eq!(texts(&[("limit", "5000")]), expected(0));
    assert_eq!(texts(&[("start", &(at + 290).to_string())]), expected(290));
    let all = texts(&[("start", &(at - 7_200_000_000_000).to_string()), ("limit", "5000")]);
    assert_eq!((all.len(), all[0].as_str()), (301, "an hour ago"));
}

#[test]
fn with_delay_for_lines_that_come_in_the_wrong_order_are_told_in_the_right_one() {
    let server = Server::start();
    let labels = json!({ "app": "shop" });
    let mut delayed = Tail::open(&server, &[("query", SHOP), ("delay_for", "3")]);
    let mut prompt = Tail::open(&server, &[("query", SHOP)]);
    let (at, began) = (now_ns(), Instant::now());
    push(&server, &labels, &[(at + 2, "second")]);
    assert_eq!(prompt.texts("second"), ["second"]);
    push(&server, &labels, &[(at + 1, "first")]);
    assert_eq!(prompt.texts("first"), ["first"]);
    let in_time = began.elapsed() < Duration::from_secs(2);
    let came = delayed.until(if in_time { "second" } else { "first" });
    assert!(began.elapsed() >= Duration::from_millis(2_900), "{:?}", began.elapsed());
    if in_time {
        let came: Vec<(i64, &str)> = came.iter().map(|(ts, line, _)| (*ts, line.as_str())).collect();
        assert_eq!(came, [(at + 1, "first"), (at + 2, "second")]);
    }
}

#[test]
fn labels_are_told_apart_for_those_who_ask() {
    let server = Server::start();
    let header = ("X-Loki-Response-Encoding-Flags", "categorize-labels");
    let mut tail = Tail::try_open(&server, &[("query", "{app=\"shop\"} | json")], &[header]).unwrap();
    let at = now_ns();
    let values = json!([[at.to_string(), "{\"took\": 7}", { "user": "u1" }]]);
    let body = json!({ "streams": [{ "stream": { "app": "shop" }, "values": values }] }).to_string();
    let answer = server.post("/loki/api/v1/push", &[("Content-Type", "application/json")], body.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text);
    let told = json!({ "structuredMetadata": { "user": "u1" }, "parsed": { "took": "7" } });
    let stream = json!({ "stream": { "app": "shop" }, "values": [[at.to_string(), "{\"took\": 7}", told]] });
    assert_eq!(tail.next(), json!({ "streams": [stream], "encodingFlags": ["categorize-labels"] }));
}

#[test]
fn what_cannot_be_followed_is_refused_before_there_is_a_websocket() {
    let server = Server::start();
    for (params, part) in [
        (&[("query", "rate({app=\"shop\"}[1m])")][..], "a metric query"),
        (&[("query", "{app=\"shop\"} |")], ""),
        (&[("query", "{}")], "at least one label"),
        (&[], ""),
        (&[("query", SHOP), ("delay_for", "6")], "delay_for"),
        (&[("query", SHOP), ("delay_for", "-1")], "delay_for"),
        (&[("query", SHOP), ("limit", "5001")], "limit"),
        (&[("query", SHOP), ("start", "yesterday")], "start"),
    ] {
        assert_eq!(Tail::try_open(&server, params, &[]).err(), Some(400), "{params:?}");
        let answer = server.get(&query(params));
        assert_eq!((answer.status, answer.json()["errorType"].as_str()), (400, Some("bad_data")), "{params:?}");
        assert!(answer.error().contains(part) && !answer.error().contains("WebSocket"), "{}", answer.text);
    }
    let plain = server.get(&query(&[("query", SHOP)]));
    assert_eq!(plain.status, 400);
    assert!(plain.error().contains("WebSocket") && plain.error().contains("query_range"), "{}", plain.text);
    // A page of another site must not read lines through its visitor's browser; the server's own may.
    let from = |origin: &str| Tail::try_open(&server, &[("query", SHOP)], &[("Origin", origin)]).err();
    assert_eq!(from("https://evil.example"), Some(403));
    assert_eq!(from(&server.url), None);
}

#[test]
fn only_so_many_clients_are_told_at_once() {
    let server = Server::start();
    let open = || Tail::try_open(&server, &[("query", SHOP)], &[]);
    let mut tails: Vec<Tail> = (0..10).map(|_| open().ok().unwrap()).collect();
    assert_eq!(open().err(), Some(429));
    assert_eq!(server.metric("foretell_loki_tails"), 10.0);
    let mut left = tails.pop().unwrap();
    left.0.close(None).unwrap();
    wait_until("the place is free", || server.metric("foretell_loki_tails") == 9.0);
    tails.push(open().ok().unwrap());
    push(&server, &json!({ "app": "shop" }), &[(now_ns(), "to all")]);
    for tail in &mut tails {
        assert_eq!(tail.texts("to all"), ["to all"]);
    }
    // Ends without a word, too.
    drop(tails);
    wait_until("all are gone", || server.metric("foretell_loki_tails") == 0.0);
}

#[test]
fn a_stop_closes_tails_and_does_not_wait_for_them() {
    let mut server = Server::start();
    let reads = Tail::open(&server, &[("query", SHOP)]);
    // Does not answer.
    let silent = Tail::open(&server, &[("query", SHOP)]);
    wait_until("both are there", || server.metric("foretell_loki_tails") == 2.0);
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(reads.closed(), (1001, "the server is stopping".to_owned()));
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    // Well before `shutdown_timeout`, after which whatever is left is abandoned.
    assert!(!server.log().contains("still active"), "{}", server.log());
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(silent.closed().0, 1001);
}

#[test]
fn a_client_that_does_not_read_is_let_go_and_one_that_does_is_kept() {
    let server = Server::start_with_file("[limits]\nwrite_stall_timeout = \"4s\"\n");
    let mut reads = Tail::open(&server, &[("query", SHOP)]);
    let mut silent = Tail::open(&server, &[("query", SHOP)]);
    let labels = json!({ "app": "shop" });
    // Longer than silence is borne; reading answers the pings.
    let until = Instant::now() + Duration::from_secs(9);
    let mut n = 0;
    while Instant::now() < until {
        let line = format!("line {n}");
        push(&server, &labels, &[(now_ns(), &line)]);
        assert_eq!(reads.texts(&line), [line.as_str()]);
        std::thread::sleep(Duration::from_millis(300));
        n += 1;
    }
    wait_until("the silent one is let go", || server.metric("foretell_loki_tails") <= 1.0);
    push(&server, &labels, &[(now_ns(), "still here")]);
    assert_eq!(reads.texts("still here"), ["still here"]);
    // As bytes: whoever answers the pings of a connection that is closed may not get to read why.
    let mut bytes = Vec::new();
    silent.0.get_mut().read_to_end(&mut bytes).unwrap();
    let closes = |frame: &[u8]| frame[0] == 0x88 && frame[2..4] == 1008_u16.to_be_bytes();
    assert!(bytes.windows(4).any(closes), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_client_that_is_too_slow_is_told_what_it_missed_and_the_count_is_right() {
    let server = Server::start();
    let mut tail = Tail::open(&server, &[("query", SHOP)]);
    let labels = json!({ "app": "shop" });
    let (text, mut sent) = ("x".repeat(8 << 10), 0_u64);
    let dropped = || server.metric("foretell_loki_tail_lines_dropped_total") as u64;
    // The systems' own buffers take some megabytes.
    while dropped() == 0 {
        assert!(sent < 100_000, "nothing is dropped: is the buffer bounded?");
        let lines: Vec<(i64, String)> = (0..200).map(|n| (now_ns() + n, format!("{sent} {n} {text}"))).collect();
        push(&server, &labels, &lines);
        sent += 200;
    }
    let (mut came, mut told) = (0, 0);
    while came + dropped() < sent || told == 0 {
        let message = tail.next();
        came += lines_of(&message).len() as u64;
        for entry in message["dropped_entries"].as_array().into_iter().flatten() {
            assert_eq!(entry["labels"], labels, "{entry}");
            assert!(entry["timestamp"].as_str().unwrap().parse::<i64>().unwrap() > 0, "{entry}");
            told += 1;
        }
    }
    assert_eq!(came + dropped(), sent);
    push(&server, &labels, &[(now_ns(), "the end")]);
    assert_eq!(tail.texts("the end"), ["the end"]);
}
