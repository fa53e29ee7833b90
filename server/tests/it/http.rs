//! What surrounds every endpoint.
use std::collections::BTreeSet;

use crate::support::{Answer, Server, binary};

#[test]
fn errors_have_one_shape() {
    let server = Server::start();
    let answer = server.get("/no/such/route");
    assert_eq!((answer.status, answer.json()["errorType"].as_str()), (404, Some("not_found")));
    let answer = server.get("/api/v1/write");
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    answer.error();
    assert_eq!(server.get("/api/v1/sql").status, 405);
    assert_eq!(server.post("/metrics", &[], b"").status, 405);
}

#[test]
fn browsers_are_kept_careful() {
    let server = Server::start();
    for path in ["/", "/metrics", "/-/ready", "/nothing"] {
        let answer = server.get(path);
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
    }
    let answer = server.post("/api/v1/sql", &[("Origin", "https://evil.example")], b"SELECT 1");
    assert_eq!(answer.status, 403);
    let own = server.url.clone();
    assert_eq!(server.post("/api/v1/sql", &[("Origin", &own)], b"SELECT 1").status, 200);
}

/// They do not take the router's way.
#[test]
fn questions_are_surrounded_and_refused_as_all_requests_are() {
    let server = Server::start();
    let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
    let others = names(&server.get("/api/v1/labels"));
    for (route, asked) in [("query", "query=1&time=1"), ("query_range", "query=1&start=0&end=1&step=1")] {
        let path = format!("/api/v1/{route}");
        let answer = server.get(&format!("{path}?{asked}"));
        assert_eq!((answer.status, names(&answer)), (200, others.clone()), "{path}");
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        assert_eq!(server.post(&path, &[form], asked.as_bytes()).text, answer.text);
        let evil = ("Origin", "https://evil.example");
        assert_eq!(server.post(&path, &[form, evil], asked.as_bytes()).status, 403);
        let wrong = server.get(&path);
        assert_eq!((wrong.status, names(&wrong)), (400, others.clone()));
        let put = server.put(&format!("{path}?{asked}"));
        assert_eq!((put.status, put.header("allow")), (405, "GET, HEAD, POST"));
        assert_eq!(server.get(&format!("{path}/?{asked}")).status, 404);
        let head =
            server.raw(format!("HEAD {path}?{asked} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        let metrics = server.get("/metrics").text;
        for (method, status, count) in
            [("GET", 200, 1), ("GET", 400, 1), ("POST", 200, 1), ("PUT", 405, 1), ("HEAD", 200, 1)]
        {
            let line = format!(
                "foretell_http_requests_total{{route=\"{path}\",method=\"{method}\",status=\"{status}\"}} {count}\n"
            );
            assert!(metrics.contains(&line), "{line}");
        }
        assert!(metrics.contains("foretell_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"}"));
    }
}

#[test]
fn the_description_of_the_api_names_nothing_that_is_not_there() {
    let server = Server::start();
    let api = server.get("/api/openapi.json").json();
    assert_eq!(api["info"]["version"], env!("CARGO_PKG_VERSION"));
    for path in api["paths"].as_object().unwrap().keys() {
        let status = server.get(&path.replace("{name}", "job")).status;
        assert!(matches!(status, 200 | 400 | 405), "{path}: {status}");
    }
    assert!(server.get("/").text.contains("/api/openapi.json"));
    assert_eq!(server.get("/-/healthy").status, 200);
}

#[test]
fn heads_that_are_too_long_are_refused() {
    let mut server = Server::start();
    let answer = server.raw(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(200_000)).as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let headers: String = (0..500).map(|i| format!("X-{i}: y\r\n")).collect();
    let answer = server.raw(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(server.raw(b"\x00\x01\x02\r\n\r\n").len() < 1000);
    assert!(server.is_alive());
}

#[test]
fn the_command_line_helps() {
    for args in [&["--help"][..], &["serve", "--help"], &["sql", "--help"], &["version"], &["completions", "bash"]] {
        let output = binary().args(args).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{args:?}");
    }
    let output = binary().args(["srve"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("serve"));
}

#[test]
fn clients_that_are_too_slow_are_let_go() {
    let server = Server::start_with_file("[limits]\nheader_timeout = \"300ms\"\nbody_timeout = \"300ms\"\n");
    // Each of these waits until the server closes: the test's patience is the bound.
    assert_eq!(server.raw(b""), "", "silence");
    let answer = server.raw(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nX-Slow");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "half a head: {answer}");
    let answer = server.raw(b"POST /api/v1/sql HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nSELECT");
    assert!(answer.starts_with("HTTP/1.1 408"), "half a body: {answer}");
    assert_eq!(server.get("/-/healthy").status, 200);
}
