//! `foretell import --into logs|spans` and the export of both, on the real binary.
use std::process::Output;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Server, example, run_script};

fn run(server: &Server, args: &[&str], stdin: &str) -> Output {
    crate::transfer::run(&[args, &["--url", &server.url]].concat(), stdin.as_bytes())
}

fn ok(server: &Server, args: &[&str], stdin: &str) -> String {
    let output = run(server, args, stdin);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(server: &Server, args: &[&str], stdin: &str) -> String {
    let output = run(server, args, stdin);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn count(server: &Server, table: &str) -> u64 {
    server.rows(&format!("SELECT count(*) FROM {table}"))[0][0].as_u64().unwrap()
}

/// Three rows as Nezha has them, and two that are broken.
const NEZHA_LOGS: &str = "Timestamp,TimeUnixNano,Node,PodName,Container,TraceID,SpanID,Log\n\
    2023-01-29T09:35:38.387636821Z,1,n1,ts-order-service-5b67c48447-mv5hb,server,0493e2752438fbbe19f9cc7efe9aaaa9,882624ccb9c39604,\"{\"\"log\"\":\"\"17:35:38.386 INFO  o.s.OrderServiceImpl#365 [getOrderById]\\n\"\",\"\"stream\"\":\"\"stdout\"\"}\"\n\
    2023-01-29T09:35:39Z,1,n1,ts-order-service-5b67c48447-mv5hb,server,0493e2752438fbbe19f9cc7efe9aaaa9,882624ccb9c39604,{\"log\":\"a\",\"b\"\":\"\"c\"\"}\"\n\
    2023-01-29T09:35:40Z,1,n2,ts-travel-service-abc-xyz12,server,0493e2752438fbbe19f9cc7efe9aaaa9,882624ccb9c39605,\"{\"\"log\"\":\"\"17:35:40 ERROR x\"\"}\"\n\
    soon,1,n2,ts-travel-service-abc-xyz12,server,,,x\n";

const NEZHA_LOG_RULES: [&str; 22] = [
    "--map",
    "ts=Timestamp",
    "--map",
    "body=Log.log",
    "--map",
    "trace_id=TraceID",
    "--map",
    "span_id=SpanID",
    "--map",
    "resource.node=Node",
    "--map",
    "resource.pod=PodName",
    "--map",
    "resource.container=Container",
    "--extract",
    "service=PodName~^(.*)-[0-9a-z]+-[0-9a-z]{5}$",
    "--extract",
    "severity=Log.log~^\\S+ (TRACE|DEBUG|INFO|WARN|ERROR) ",
    "--drop",
    "TimeUnixNano",
    "--skip",
    "2",
];

#[test]
fn log_lines_of_csv_are_mapped_and_broken_rows_counted() {
    let server = Server::start();
    let args = [&["import", "--into", "logs", "--format", "csv"][..], &NEZHA_LOG_RULES, &["-"]].concat();
    let output = run(&server, &args, NEZHA_LOGS);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("-: 2 rows left out, the first: line 3: a quote inside"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("imported 2 log lines of 1 file"));
    let rows =
        server.rows("SELECT ts, service, severity, trace_id, span_id, resource['pod'], body FROM logs ORDER BY ts");
    assert_eq!(
        json!(rows),
        json!([
            [
                "2023-01-29T09:35:38.387636821Z",
                "ts-order-service",
                "INFO",
                "0493e2752438fbbe19f9cc7efe9aaaa9",
                "882624ccb9c39604",
                "ts-order-service-5b67c48447-mv5hb",
                "17:35:38.386 INFO  o.s.OrderServiceImpl#365 [getOrderById]\n"
            ],
            [
                "2023-01-29T09:35:40.000000000Z",
                "ts-travel-service",
                "ERROR",
                "0493e2752438fbbe19f9cc7efe9aaaa9",
                "882624ccb9c39605",
                "ts-travel-service-abc-xyz12",
                "17:35:40 ERROR x"
            ]
        ])
    );
    ok(&server, &args, NEZHA_LOGS);
    assert_eq!(count(&server, "logs"), 2, "importing again changes nothing");
}

#[test]
fn spans_of_csv_make_a_trace() {
    let server = Server::start();
    let csv = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration\n\
        e58bcd245dd957fb40c41ab287f857e9,0a158a32f7231a45,root,ts-gateway-service-6f6cfc45b-h5m2n,/*,1674986309307000000,1674986309647134905,340134\n\
        e58bcd245dd957fb40c41ab287f857e9,8de4cc6f9efe7078,0a158a32f7231a45,ts-gateway-service-6f6cfc45b-h5m2n,handle,1674986309307763900,1674986309646940114,339176\n";
    let args = "import --into spans --format csv --epoch ns --map ts=StartTimeUnixNano --map end=EndTimeUnixNano \
        --map trace_id=TraceID --map span_id=SpanID --map parent_span_id=ParentID --null root --map name=OperationName \
        --map resource.pod=PodName --extract service=PodName~^(.*)-[0-9a-z]+-[0-9a-z]{5}$ --drop Duration -";
    let args: Vec<&str> = args.split_whitespace().collect();
    assert!(ok(&server, &args, csv).starts_with("imported 2 spans of 1 file"));
    let rows = server.rows("SELECT service, name, parent_span_id, duration FROM spans ORDER BY ts");
    assert_eq!(
        json!(rows),
        json!([
            ["ts-gateway-service", "/*", null, 340_134_905],
            ["ts-gateway-service", "handle", "0a158a32f7231a45", 339_176_214]
        ])
    );
    let tree = server.rows("SELECT count(*) FROM trace_tree('e58bcd245dd957fb40c41ab287f857e9')");
    assert_eq!(tree[0][0], json!(2));
}

#[test]
fn exports_of_each_format_come_back_elsewhere() {
    let source = Server::start();
    let lines: String = (0..300)
        .map(|i| {
            format!(
                "{{\"ts\":\"2026-01-01T00:{:02}:{:02}.000000001Z\",\"service\":\"s{}\",\"severity\":\"WARN\",\"body\":\"line, \\\"{i}\\\"\\n\",\
                 \"scope\":\"x\",\"code\":{i},\"share\":0.5,\"ok\":true,\"resource\":{{\"host\":\"h{}\"}}}}\n",
                i / 60,
                i % 60,
                i % 3,
                i % 2
            )
        })
        .collect();
    ok(&source, &["import", "--into", "logs", "--format", "ndjson", "-"], &lines);
    let span = r#"{"ts":"2026-01-01T00:00:00Z","duration":7,"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00000000000000f1",
        "service":"s1","name":"GET","kind":"server","status":"error","status_message":"no","http.status":500,
        "events":[{"ts":"2026-01-01T00:00:00.000000005Z","name":"e","attributes":{"k":"v"}}],
        "links":[{"trace_id":"0af7651916cd43dd8448eb211c80319d","span_id":"00000000000000f2","trace_state":"a=b"}]}"#;
    ok(&source, &["import", "--into", "spans", "--format", "ndjson", "-"], &span.replace('\n', " "));
    let dir = TempDir::new().unwrap();
    let all = |server: &Server, table: &str| {
        let mut rows: Vec<String> =
            server.rows(&format!("SELECT * FROM {table}")).into_iter().map(|row| json!(row).to_string()).collect();
        rows.sort();
        rows
    };
    assert_eq!((count(&source, "logs"), count(&source, "spans")), (300, 1));
    for format in ["ndjson", "parquet", "csv"] {
        let target = Server::start();
        for table in ["logs", "spans"] {
            let file = dir.path().join(format!("{table}.{format}")).to_str().unwrap().to_owned();
            ok(&source, &["export", "--format", format, "--table", table, &file], "");
            ok(&target, &["import", "--into", table, "--format", format, &file], "");
            assert_eq!(all(&target, table), all(&source, table), "{table} by {format}");
        }
    }
}

#[test]
fn faults_are_named_with_their_place_and_what_came_before_is_there() {
    let server = Server::start();
    for (args, text, because) in [
        ("--format ndjson", "{\"ts\":\"2026-01-01T00:00:00Z\",\"body\":\"x\"}\n{\n", "-: line 2: not JSON"),
        ("--format ndjson", "[]\n", "line 1: not a JSON object"),
        ("--format ndjson", "{\"body\":\"x\"}\n", "line 1: there is no ts"),
        ("--format ndjson", "{\"ts\":5}\n", "--epoch"),
        ("--format csv --map body=Content", "ts,Text\n", "line 1: there is no column Content"),
        ("--format csv --map name=x", "ts\n", "logs have no field \"name\""),
        ("--format csv --type a=number", "ts\n", "--type a=number: types are"),
        ("--format csv --type code=int", "ts,code\n2026-01-01T00:00:00Z,abc\n", "line 2: attribute code: \"abc\""),
        ("--format csv --metric up", "ts\n", "for samples"),
        ("--format promtool", "", "for samples"),
        ("--format parquet", "", "not standard input"),
    ] {
        let all = format!("import --into logs {args} -");
        let error = refused(&server, &all.split_whitespace().collect::<Vec<_>>(), text);
        assert!(error.contains(because), "{args}: {error}");
    }
    assert_eq!(count(&server, "logs"), 1, "the row before the fault");
    let error = refused(&server, &["import", "--format", "csv", "--map", "body=x", "-"], "ts,value\n");
    assert!(error.contains("--into logs"), "{error}");
    let error = refused(&server, &["import", "--format", "ndjson", "-"], "");
    assert!(error.contains("--into logs"), "{error}");
    let far = "{\"ts\":\"2026-01-01T00:00:01Z\",\"body\":\"y\"}\n{\"ts\":\"2200-01-01T00:00:00Z\",\"body\":\"z\"}\n";
    let error = refused(&server, &["import", "--into", "logs", "--format", "ndjson", "-"], far);
    assert!(error.contains("rows 1 to 2: the server refused 1 of 2") && error.contains("future_max"), "{error}");
    assert_eq!(count(&server, "logs"), 2, "the valid row beside the one refused");
}

#[test]
fn the_examples_of_the_documentation_run() {
    let server = Server::start();
    let dir = TempDir::new().unwrap();
    run_script(&server, &example("import-export.md", 2), dir.path());
    assert_eq!((count(&server, "logs"), count(&server, "spans")), (2, 1));
    assert_eq!(std::fs::read_to_string(dir.path().join("logs.ndjson")).unwrap().lines().count(), 2);
}
