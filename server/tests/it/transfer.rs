//! `foretell export` and `foretell import` on the real binary; Arrow and Parquet answers.
use std::io::Write as _;
use std::process::{Output, Stdio};

use arrow::array::AsArray as _;
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use arrow::ipc::reader::StreamReader;
use arrow::util::display::array_value_to_string;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use crate::support::{Series, Server, binary, example, run_script};

/// Metric and labels, time in ns, bits of the value.
type Row = (String, i64, u64);

fn answer(server: &Server, format: &str, sql: &str) -> Vec<u8> {
    let url = format!("{}/api/v1/sql?format={format}", server.url);
    let response = ureq::post(&url).send(sql).unwrap();
    assert_eq!(
        response.headers()["content-type"],
        format!("application/vnd.apache.{}", if format == "arrow" { "arrow.stream" } else { format })
    );
    response.into_body().into_with_config().limit(256 << 20).read_to_vec().unwrap()
}

/// Every sample of a server, exact bits.
fn samples(server: &Server) -> Vec<Row> {
    let stream = answer(server, "arrow", "SELECT ts, metric, labels, value FROM samples");
    let mut rows = Vec::new();
    for batch in StreamReader::try_new(&stream[..], None).unwrap() {
        let batch = batch.unwrap();
        let ts = batch["ts"].as_primitive::<TimestampNanosecondType>();
        let values = batch["value"].as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let text = |name: &str| array_value_to_string(&batch[name], row).unwrap();
            rows.push((format!("{}{}", text("metric"), text("labels")), ts.value(row), values.value(row).to_bits()));
        }
    }
    rows.sort();
    rows
}

/// Bits that only exact copies keep.
const ODD: [u64; 8] = [
    0x7ff0_0000_0000_0002, // a stale marker
    0x7ff8_0000_0000_0001,
    0xfff8_dead_beef_0001,
    0x8000_0000_0000_0000,
    1,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x3fb9_9999_9999_999a,
];

fn filled() -> Server {
    let server = Server::start();
    let odd = ODD.iter().enumerate().fold(Series::of("t_odd", "a"), |series, (i, bits)| {
        series.sample(i as i64 * 1_000 - 3_000, f64::from_bits(*bits))
    });
    let strange = Series::new(&[
        ("__name__", "t:strange"),
        ("ts", "t"),
        ("value", "v,\"w\"\n"),
        ("metric", "ä"),
        ("labels", "{}"),
    ]);
    let nameless = Series::new(&[("only", "a label")]);
    let many = (0..50).map(|job| {
        (0..200).fold(Series::of("t_many", &job.to_string()), |series, i| {
            series.sample(1_785_000_000_000 + i * 15_000, (job * i) as f64)
        })
    });
    let mut batch: Vec<Series> = many.collect();
    batch.extend([odd, strange.sample(1, 0.1).sample(2, 1e300), nameless.sample(-1, 5e-324)]);
    assert_eq!(server.write(&batch).status, 204);
    server
}

pub(crate) fn run(args: &[&str], stdin: &[u8]) -> Output {
    let mut child =
        binary().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that gives up early does not read to the end.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn ok(args: &[&str]) -> String {
    let output = run(args, b"");
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(args: &[&str], stdin: &str) -> String {
    let output = run(args, stdin.as_bytes());
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_parquet_export_imported_elsewhere_has_every_row_with_its_bits() {
    let source = filled();
    let dir = TempDir::new().unwrap();
    let file = path(&dir, "all.parquet");
    let said = ok(&["export", "--url", &source.url, "--format", "parquet", &file]);
    assert!(said.starts_with("exported 10011 rows to "), "{said}");
    let target = Server::start();
    let said = ok(&["import", "--url", &target.url, "--format", "parquet", &file]);
    assert!(said.starts_with("imported 10011 samples of 1 file "), "{said}");
    let expected = samples(&source);
    assert_eq!(samples(&target), expected);
    assert!(ODD.iter().all(|bits| expected.iter().any(|row| row.2 == *bits)));
    ok(&["import", "--url", &target.url, "--format", "parquet", &file]);
    assert_eq!(samples(&target), expected, "importing again changes nothing");
}

#[test]
fn csv_and_openmetrics_bring_back_all_but_the_bits_of_nan() {
    let source = filled();
    let dir = TempDir::new().unwrap();
    let text_bits = |rows: &[Row], stale: bool| -> Vec<Row> {
        let keep = |row: &&Row| stale || row.2 != ODD[0];
        let one_nan = |bits: u64| if f64::from_bits(bits).is_nan() { ODD[1] } else { bits };
        rows.iter().filter(keep).map(|(series, ts, bits)| (series.clone(), *ts, one_nan(*bits))).collect()
    };
    let csv = path(&dir, "all.csv");
    ok(&["export", "--url", &source.url, "--format", "csv", &csv]);
    assert!(std::fs::read_to_string(&csv).unwrap().starts_with("ts,metric,labels,value\n"));
    let target = Server::start();
    ok(&["import", "--url", &target.url, "--format", "csv", &csv]);
    let mut expected = text_bits(&samples(&source), true);
    expected.sort();
    assert_eq!(samples(&target), expected);

    let om = path(&dir, "all.om");
    let output = run(&["export", "--url", &source.url, "--format", "promtool", &om], b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 stale markers left out"), "{output:?}");
    let text = std::fs::read_to_string(&om).unwrap();
    assert!(
        text.contains("t_odd{job=\"a\"} +Inf 2.000\n") && text.ends_with("# EOF\n"),
        "{}",
        &text[text.len() - 300..]
    );
    let target = Server::start();
    ok(&["import", "--url", &target.url, "--format", "promtool", &om]);
    let mut expected = text_bits(&samples(&source), false);
    expected.sort();
    assert_eq!(samples(&target), expected);
}

#[test]
fn what_is_exported_can_be_chosen() {
    let source = filled();
    let export = |args: &[&str]| ok(&[&["export", "--url", &source.url, "--format", "csv"], args, &["-"]].concat());
    let lines = |text: &str| text.lines().count() - 1;
    assert_eq!(lines(&export(&["--matchers", "t_many{job=~\"1|2\"}"])), 400);
    assert_eq!(lines(&export(&["--matchers", "{__name__=\"t_many\", job!~\"1.*\", nothing=\"\"}"])), 200 * 39);
    let bounded = export(&["--matchers", "t_odd", "--start", "1970-01-01T00:00:00Z", "--end", "1970-01-01T00:00:02Z"]);
    assert_eq!(lines(&bounded), 2, "from --start on, before --end: {bounded}");
    let table =
        export(&["--table", "metrics.\"t_many\"", "--start", "2026-07-25T17:20:00Z", "--end", "2026-07-25T17:20:15Z"]);
    assert!(table.starts_with("ts,value,job\n"), "{table}");
    let query = export(&[
        "--query",
        "SELECT job, max(value) AS top FROM metrics.\"t_many\" GROUP BY 1 ORDER BY 2 DESC LIMIT 1",
    ]);
    assert_eq!(query, "job,top\n49,9751.0\n");
    assert_eq!(export(&["--matchers", "t_nothing"]), "ts,metric,labels,value\n");
    for (args, because) in [
        (&["--matchers", "{"][..], "--matchers: expected"),
        (&["--query", "SELEC 1"], "bad_data"),
        (&["--table", "no_such_table"], "not found"),
        (&["--start", "1970-01-01T00:00:02Z", "--end", "1970-01-01T00:00:02Z"], "--end is not after --start"),
    ] {
        let error = refused(&[&["export", "--url", &source.url, "--format", "csv"], args, &["-"]].concat(), "");
        assert!(error.contains(because), "{args:?}: {error}");
    }
    let error = refused(&["export", "--url", &source.url, "--format", "promtool", "--query", "SELECT 1 AS a", "-"], "");
    assert!(error.contains("no column ts"), "{error}");
    assert!(refused(&["export", "--url", "http://127.0.0.1:9", "--format", "csv", "-"], "").contains("cannot reach"));
}

#[test]
fn a_part_never_passes_for_the_whole() {
    let server = Server::start_with_file("[query]\nrows_max = 300000\n");
    // More than the answer is held back for, so that the status is 200 when the limit is hit.
    let sql = "SELECT value, value + 1 AS next FROM generate_series(1, 300001)";
    for format in ["arrow", "parquet", "csv"] {
        let response = match ureq::post(format!("{}/api/v1/sql?format={format}", server.url)).send(sql) {
            // Parquet is written by groups of rows, so nothing was on its way yet
            Err(ureq::Error::StatusCode(422)) if format == "parquet" => continue,
            response => response.unwrap(),
        };
        let read = response.into_body().into_with_config().limit(256 << 20).read_to_vec();
        assert!(read.is_err(), "{format}: {} bytes", read.unwrap().len());
    }
    let dir = TempDir::new().unwrap();
    let file = path(&dir, "out.parquet");
    std::fs::write(&file, "old").unwrap();
    for (query, because) in [
        (sql, "broke off"),
        ("SELECT 1 / CAST(0 AS INT) AS x", "divide by zero"),
        ("SELECT INTERVAL '1 month' AS x", "cannot be written as parquet"),
    ] {
        let error = refused(&["export", "--url", &server.url, "--format", "parquet", "--query", query, &file], "");
        assert!(error.to_lowercase().contains(because), "{query}: {error}");
    }
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["out.parquet"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old", "a file stays until the new one is complete");
}

#[test]
fn answers_in_columns_have_their_own_types_and_are_streamed() {
    let server = filled();
    let sql = "SELECT ts, job, value FROM metrics.\"t_many\"";
    let file = answer(&server, "parquet", sql);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 10_000);
    let rows: usize = reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 10_000);
    let empty = answer(&server, "parquet", "SELECT ts FROM samples WHERE false");
    assert_eq!(
        ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(empty)).unwrap().build().unwrap().count(),
        0
    );
    let long = "SELECT a.value AS a, b.value AS b FROM generate_series(1, 3000) a, generate_series(1, 500) b";
    for format in ["arrow", "parquet"] {
        let bytes = answer(&server, format, long);
        let rows: usize = match format {
            "arrow" => StreamReader::try_new(&bytes[..], None).unwrap().map(|batch| batch.unwrap().num_rows()).sum(),
            _ => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
                reader.metadata().file_metadata().num_rows() as usize
            }
        };
        assert_eq!(rows, 1_500_000, "{format}");
    }
}

#[test]
fn wide_tables_are_imported_under_a_name() {
    let server = Server::start();
    let args = ["import", "--url", &server.url, "--format", "csv", "--metric", "t_wide", "--epoch", "s", "-"];
    let csv = "host,ts,value,metric\r\na,1,1.5,cpu\r\nb,2,NaN,\r\n\"c,\"\"d\"\"\",3,-0.0,\"\"\r\n";
    assert_eq!(run(&args, csv.as_bytes()).status.code(), Some(0));
    let rows = server.rows("SELECT host, metric, value, ts FROM metrics.\"t_wide\" ORDER BY ts");
    assert_eq!(
        serde_json::json!(rows),
        serde_json::json!([
            ["a", "cpu", 1.5, "1970-01-01T00:00:01.000000000Z"],
            ["b", null, "NaN", "1970-01-01T00:00:02.000000000Z"],
            ["c,\"d\"", null, -0.0, "1970-01-01T00:00:03.000000000Z"]
        ])
    );
}

#[test]
fn faults_are_named_with_file_and_place_and_what_came_before_is_there() {
    let server = Server::start();
    let import = |format: &'static str| ["import", "--url", &server.url, "--format", format, "-"].map(str::to_owned);
    for (format, text, because) in [
        ("csv", "ts,metric,value\n1970-01-01T00:00:01Z,t_ok,1\nsoon,t_ok,2\n", "-: line 3: time \"soon\""),
        ("csv", "ts,metric,value\n1970-01-01T00:00:01Z,t_ok\n", "line 2: 2 fields, the header has 3"),
        (
            "csv",
            "ts,metric,value\n1970-01-01T00:00:01.0000001Z,t_ok,1\n",
            "line 2: ts 1970-01-01T00:00:01.000000100Z has a part",
        ),
        ("csv", "ts,metric,value\n1,t_ok,1\n", "--epoch"),
        ("csv", "time,metric,value\n", "line 1: there is no column ts"),
        ("csv", "", "empty"),
        ("promtool", "{__name__=\"t_ok\"} 1 1000\nt_ok 2 nonsense\n", "-: line 2: time \"nonsense\""),
        ("promtool", "{__name__=\"h\"} {count:1, sum:1} 1000\n", "native histogram"),
        ("promtool", "{__name__=\"t_ok\", a=\"b\", a=\"c\"} 1 1000\n", "the label a is there twice"),
        ("parquet", "", "not standard input"),
    ] {
        let args = import(format);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let error = refused(&args, text);
        assert!(error.contains(because) && error.contains("importing the same files again"), "{text}: {error}");
    }
    assert_eq!(server.count("t_ok"), 1, "the row before the fault, sent by several imports");
    // What the server refuses is told with its reason, and the valid rows beside it are stored.
    let far = "ts,metric,value\n1970-01-01T00:00:01Z,t_part,1\n2200-01-01T00:00:00Z,t_part,2\n";
    let error = refused(&["import", "--url", &server.url, "--format", "csv", "-"], far);
    assert!(error.contains("rows 2 to 3") && error.contains("future_max") && error.contains("400"), "{error}");
    assert_eq!(server.count("t_part"), 1);
    let dir = TempDir::new().unwrap();
    let file = path(&dir, "cut.parquet");
    std::fs::write(&file, "PAR1 and no more").unwrap();
    let error = refused(&["import", "--url", &server.url, "--format", "parquet", &file], "");
    assert!(error.contains(&file) && error.contains("not a whole Parquet file"), "{error}");
    let error = refused(&["import", "--url", "http://127.0.0.1:9", "--format", "promtool", "-"], "{a=\"b\"} 1 1\n");
    assert!(error.contains("does not answer"), "{error}");
}

#[test]
fn a_busy_server_is_waited_for() {
    // Room for one request at a time: the others get 429.
    let server = Server::start_with_file(
        "[limits]\nin_flight_bytes_max = \"600KiB\"\nwire_bytes_max = \"200KiB\"\ndecoded_bytes_max = \"400KiB\"\n",
    );
    let mut csv = String::from("ts,metric,value,job\n");
    for i in 0..60_000 {
        csv.push_str(&format!(
            "1970-01-01T00:{:02}:{:02}.{:03}Z,t_busy,{i},j{}\n",
            i / 60_000 % 60,
            i / 1_000 % 60,
            i % 1_000,
            i % 3
        ));
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let output = run(&["import", "--url", &server.url, "--format", "csv", "-"], csv.as_bytes());
                assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
            });
        }
    });
    assert_eq!(server.count("t_busy"), 60_000);
}

#[test]
fn the_example_of_the_documentation_runs() {
    let server = Server::start();
    assert_eq!(server.write(&[Series::of("up", "node-1").sample(1_785_000_000_000, 1.0)]).status, 204);
    let dir = TempDir::new().unwrap();
    let said = run_script(&server, &example("import-export.md", 1), dir.path());
    assert!(said.ends_with("ts,room,value\n2026-01-31T12:00:00.000000000Z,kitchen,21.5\n"), "{said}");
    let text = std::fs::read_to_string(dir.path().join("node.csv")).unwrap();
    assert!(text.contains("node-1"), "{text}");
}
