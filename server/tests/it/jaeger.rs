//! Jaeger's query API over spans that are in the store.
use std::sync::Arc;

use foretell_engine::{Engine, EngineConfig, WriteBatch};
use foretell_query::event::{Signal, Span, SpanBuilder, SpanEvent, SpanLink, Value};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Answer, Server, now_ms};

const MS: i64 = 1_000_000;

/// `0…0<n>`, as bytes.
fn trace(n: u8) -> [u8; 16] {
    let mut id = [0; 16];
    id[15] = n;
    id
}

fn hex(n: u8) -> String {
    format!("{n:032x}")
}

/// A server over `traces` traces of a shop, one a second from the returned instant on (ns).
fn shop(traces: u8) -> (Server, i64) {
    let dir = Arc::new(TempDir::new().unwrap());
    let start = (now_ms() - 600_000) * MS;
    {
        let engine = Engine::open(EngineConfig::new(dir.path().join("data"))).unwrap();
        let stream =
            |service: &'static str| engine.resolve(&Signal::Spans.stream(service, [("host", "h1")]).unwrap()).unwrap();
        let mut builder = SpanBuilder::new(None);
        for n in 1..=traces {
            let ts = start + i64::from(n) * 1_000 * MS;
            let events = [SpanEvent { ts: ts + 2_000, name: "retry", attributes: vec![("n", Value::Integer(2))] }];
            let links = [SpanLink { trace_id: trace(99), span_id: [9; 8], ..SpanLink::default() }];
            let root = Span {
                duration: i64::from(n) * 10 * MS,
                trace_id: trace(n),
                span_id: [1; 8],
                name: "GET /cart",
                kind: Some("server"),
                status: (n == 3).then_some("error"),
                ..Span::default()
            };
            let child = Span {
                duration: 5 * MS,
                span_id: [2; 8],
                parent_span_id: Some([1; 8]),
                name: "SELECT",
                kind: Some("client"),
                status: None,
                events: &events,
                links: &links,
                ..root.clone()
            };
            builder.push(stream("web"), ts, &root, [("http.code", Value::Integer(200 + i64::from(n)))]).unwrap();
            builder.push(stream("db"), ts + MS, &child, [("user", Value::Text("it's"))]).unwrap();
        }
        let records = vec![Arc::new(builder.finish().unwrap())];
        engine.write(WriteBatch { records, ..WriteBatch::default() }).unwrap().wait().unwrap();
        engine.close().unwrap();
    }
    (Server::start_in(dir, &[]), start)
}

fn ask(server: &Server, path: &str, params: &[(&str, &str)]) -> Answer {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    server.get(&format!("{path}?{query}"))
}

#[test]
fn services_operations_and_dependencies_are_those_of_the_spans() {
    let (server, _) = shop(4);
    let data = |path: &str, params: &[(&str, &str)]| {
        let answer = ask(&server, path, params);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()["data"].clone()
    };
    assert_eq!(data("/api/services", &[]), json!(["db", "web"]));
    assert_eq!(data("/api/services/web/operations", &[]), json!(["GET /cart"]));
    assert_eq!(data("/api/services/none/operations", &[]), json!([]));
    assert_eq!(data("/api/operations", &[("service", "db")]), json!([{"name": "SELECT", "spanKind": "client"}]));
    assert_eq!(data("/api/operations", &[("service", "db"), ("spanKind", "server")]), json!([]));
    assert_eq!(data("/api/dependencies", &[]), json!([{"parent": "web", "child": "db", "callCount": 4}]));
    assert_eq!(data("/api/dependencies", &[("endTs", "5000"), ("lookback", "1000")]), json!([]));
}

#[test]
fn a_trace_comes_back_with_all_it_has() {
    let (server, start) = shop(4);
    let answer = ask(&server, "/api/traces/3", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    let trace = &json["data"][0];
    assert_eq!((trace["traceID"].as_str(), trace["spans"].as_array().unwrap().len()), (Some(hex(3).as_str()), 2));
    let span = |name: &str| {
        trace["spans"].as_array().unwrap().iter().find(|span| span["operationName"] == name).unwrap().clone()
    };
    let (root, child) = (span("GET /cart"), span("SELECT"));
    assert_eq!(
        (root["startTime"].as_i64(), root["duration"].as_i64()),
        (Some(start / 1_000 + 3_000_000), Some(30_000))
    );
    assert_eq!(root["references"], json!([]));
    let tag = |key: &str, kind: &str, value: serde_json::Value| json!({ "key": key, "type": kind, "value": value });
    for tag in [
        tag("http.code", "string", "203".into()),
        tag("span.kind", "string", "server".into()),
        tag("error", "bool", true.into()),
    ] {
        assert!(root["tags"].as_array().unwrap().contains(&tag), "{tag} in {root}");
    }
    let reference =
        |kind: &str, trace: String, span: &str| json!({ "refType": kind, "traceID": trace, "spanID": span });
    assert_eq!(
        child["references"],
        json!([
            reference("CHILD_OF", hex(3), "0101010101010101"),
            reference("FOLLOWS_FROM", hex(99), "0909090909090909"),
        ])
    );
    assert_eq!(child["logs"][0]["timestamp"].as_i64(), root["startTime"].as_i64().map(|us| us + 2));
    assert_eq!(
        child["logs"][0]["fields"],
        json!([tag("event", "string", "retry".into()), tag("n", "string", "2".into())])
    );
    let process = &trace["processes"][child["processID"].as_str().unwrap()];
    assert_eq!(*process, json!({ "serviceName": "db", "tags": [tag("host", "string", "h1".into())] }));
    for path in ["/api/traces/77", "/api/traces/0"] {
        assert_eq!(ask(&server, path, &[]).status, 404, "{path}");
    }
}

#[test]
fn searches_find_the_traces_of_which_all_is_true_the_newest_first() {
    let (server, start) = shop(4);
    let us = |n: i64| (start / 1_000 + n * 1_000_000).to_string();
    let (from, to) = (us(2), us(3));
    for (params, expected) in [
        (vec![("service", "web")], &[4, 3, 2, 1][..]),
        (vec![("service", "web"), ("limit", "2")], &[4, 3]),
        (vec![("service", "web"), ("operation", "SELECT")], &[]),
        (vec![("service", "db"), ("operation", "SELECT"), ("limit", "1")], &[4]),
        (vec![("service", "web"), ("start", &from), ("end", &to)], &[3, 2]),
        (vec![("service", "web"), ("minDuration", "20ms"), ("maxDuration", "30ms")], &[3, 2]),
        (vec![("service", "web"), ("tags", r#"{"http.code": "202"}"#)], &[2]),
        (vec![("service", "web"), ("tags", r#"{"error": "true"}"#)], &[3]),
        (vec![("service", "web"), ("tag", "http.code:202"), ("tag", "host:h1")], &[2]),
        (vec![("service", "db"), ("tag", "user:it's"), ("limit", "1")], &[4]),
        (vec![("service", "web"), ("tag", "host:h2")], &[]),
        (vec![("traceID", "2"), ("traceID", "4"), ("traceID", "50")], &[2, 4]),
    ] {
        let answer = ask(&server, "/api/traces", &params);
        assert_eq!(answer.status, 200, "{params:?}: {}", answer.text);
        let json = answer.json();
        let found: Vec<&str> =
            json["data"].as_array().unwrap().iter().map(|trace| trace["traceID"].as_str().unwrap()).collect();
        let expected: Vec<String> = expected.iter().map(|&n| hex(n)).collect();
        assert_eq!(found, expected, "{params:?}");
        let whole = json["data"].as_array().unwrap().iter().all(|trace| trace["spans"].as_array().unwrap().len() == 2);
        assert!(whole, "{params:?}: a trace comes with all its spans");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_reason() {
    let server = Server::start();
    for (path, params, part) in [
        ("/api/traces", vec![], "service"),
        ("/api/traces", vec![("service", "x"), ("limit", "0")], "from 1 to 1500"),
        ("/api/traces", vec![("service", "x"), ("tags", "[")], "JSON object"),
        ("/api/traces", vec![("traceID", "x")], "invalid trace id"),
        ("/api/traces/x", vec![], "invalid trace id"),
        ("/api/operations", vec![], "service"),
        ("/api/dependencies", vec![("endTs", "now")], "endTs"),
    ] {
        let answer = ask(&server, path, &params);
        assert_eq!(answer.status, 400, "{path} {params:?}: {}", answer.text);
        assert!(answer.error().contains(part), "{path} {params:?}: {}", answer.text);
    }
    assert_eq!(ask(&server, "/api/services", &[]).json()["data"], json!([]));
    assert_eq!(ask(&server, "/api/traces", &[("service", "x")]).json()["data"], json!([]));
    assert_eq!(ask(&server, "/api/dependencies", &[]).json()["data"], json!([]));
}
