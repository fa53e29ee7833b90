//! Built-in continuous queries over spans: switched on by the configuration, kept up to date while spans come.
use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Server, binary, wait_until};

/// Calls of a shop: each is answered in 5 ms, every fourth one fails.
fn spans(from: u32, to: u32) -> String {
    let span = |n: u32| {
        let (status, second) = (if n.is_multiple_of(4) { "error" } else { "ok" }, n % 60);
        let (trace, start) = (format!("{:032x}", n + 1), format!("2026-01-01T00:00:{second:02}Z"));
        format!(
            "{{\"ts\":\"{start}\",\"duration\":5000000,\"trace_id\":\"{trace}\",\"span_id\":\"01\",\"service\":\"bank\",\"name\":\"pay\",\"kind\":\"server\",\"status\":\"{status}\"}}\n\
             {{\"ts\":\"{start}\",\"duration\":6000000,\"trace_id\":\"{trace}\",\"span_id\":\"02\",\"service\":\"shop\",\"name\":\"call\",\"kind\":\"client\",\"peer.service\":\"bank\",\"status\":\"{status}\"}}\n"
        )
    };
    (from..to).map(span).collect()
}

fn import(server: &Server, rows: &str) {
    let mut command = binary();
    command.args(["import", "--url", &server.url, "--into", "spans", "--format", "ndjson", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rows.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn requests_errors_and_durations_of_services_and_calls_are_tables() {
    let server = Server::start_with_file("[continuous]\nenable = [\"red_services\", \"red_edges\"]\n");
    let rows = |sql: &str| json!(server.rows(sql));
    let queries = "SELECT name FROM sys.continuous_queries ORDER BY 1";
    wait_until("the queries", || rows(queries) == json!([["red_edges"], ["red_services"]]));
    import(&server, &spans(0, 40));
    // again: nothing is counted twice
    import(&server, &spans(20, 40));
    let minute = "2026-01-01T00:00:00.000000000Z";
    let services = "SELECT ts, service, requests, errors, p50 FROM red_services";
    let answered = || server.sql(services).json()["rows"] == json!([[minute, "bank", 40, 10, 5_000_000.0]]);
    wait_until("the services", answered);
    let edges = "SELECT ts, caller, callee, requests, errors, p99 FROM red_edges";
    wait_until("the calls", || {
        server.sql(edges).json()["rows"] == json!([[minute, "shop", "bank", 40, 10, 6_000_000.0]])
    });
}
