//! `foretell sql` as scripts use it.
use std::io::Write as _;
use std::process::{Output, Stdio};

use crate::support::{Series, Server, binary};

fn shell(url: &str, args: &[&str], stdin: &str) -> Output {
    let mut child = binary()
        .args(["sql", "--url", url])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn statements_come_from_arguments_or_from_standard_input() {
    let server = Server::start();
    let series = (0..30).fold(Series::of("t_shell", "a"), |series, i| series.sample(i * 1_000, i as f64));
    assert_eq!(server.write(&[series]).status, 204);

    let output = shell(&server.url, &["-c", "SELECT ts, value FROM metrics.\"t_shell\" ORDER BY ts LIMIT 2"], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("1970-01-01T00:00:01.000000000Z") && table.contains("2 rows"), "{table}");

    let output = shell(&server.url, &["--max-rows", "3", "-c", "SELECT value FROM metrics.\"t_shell\""], "");
    assert!(
        text(&output.stdout).contains("30 rows") && text(&output.stdout).contains("only the first 3"),
        "{}",
        text(&output.stdout)
    );

    let output = shell(&server.url, &["--format", "csv"], "-- two statements\nSELECT 1 AS a; SELECT ';' AS b\n");
    assert_eq!(text(&output.stdout), "a\n1\nb\n;\n", "{}", text(&output.stderr));

    let output = shell(&server.url, &["--format", "json", "-c", "SELECT 1 AS a"], "");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["rows"], serde_json::json!([[1]]));

    let output = shell(&server.url, &["--format", "ndjson", "-c", "SELECT 1 AS a"], "");
    assert_eq!(text(&output.stdout), "{\"a\":1}\n");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let server = Server::start();
    let output = shell(&server.url, &["--format", "csv"], "SELECT 1 AS a; SELEC 2; SELECT 3 AS b;");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("bad_data"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "a\n1\n", "nothing runs after a failure");
    let output = shell("http://127.0.0.1:9", &["-c", "SELECT 1"], "");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("foretell serve"), "{}", text(&output.stderr));
    assert_eq!(shell(&server.url, &["--format", "xml"], "").status.code(), Some(2));
}

#[test]
fn names_for_completion_include_tables_and_functions() {
    let server = Server::start();
    server.write(&[Series::of("t_names", "a").sample(1_000, 1.0)]);
    let names = server.get("/api/v1/sql/names").json()["names"].to_string();
    assert!(names.contains("t_names") && names.contains("anomaly_score"), "{names}");
}
