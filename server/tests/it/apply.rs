//! `foretell apply`: a server has what files declare, and the second time nothing changes.
use std::path::Path;
use std::process::Output;

use crate::support::{Series, Server, binary, now_ms, wait_until};

fn apply(server: &Server, files: &Path, args: &[&str]) -> Output {
    binary().args(["apply", "--url", &server.url, "-f"]).arg(files).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it printed, when all went well.
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

const QUERIES: &str = "-- minutes; of each host\n\
    CREATE CONTINUOUS QUERY load_1m INTO load_1m AS\n  SELECT time_bucket('1m', ts) AS ts, host, avg(value) AS mean FROM load GROUP BY 1, 2;\n\
    CREATE DETECTOR odd ON load_1m KEY (host) VALUE mean USING 'mad' INTO anomalies;\n";
const ALERTS: &str = "CREATE ALERT high ON DETECTOR odd WHERE score > 1 FOR '2m' LABELS (severity = 'page');";

fn written(dir: &Path, queries: &str, alerts: &str) {
    std::fs::write(dir.join("10-queries.sql"), queries).unwrap();
    std::fs::write(dir.join("20-alerts.sql"), alerts).unwrap();
    std::fs::write(dir.join("notes.txt"), "DROP EVERYTHING;").unwrap();
}

#[test]
fn a_server_has_what_files_declare_and_the_second_time_nothing_changes() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let labels = [("__name__", "load"), ("host", "a")];
    assert_eq!(server.write(&[Series::new(&labels).sample(now_ms(), 1.0)]).status, 204);
    let names = || {
        server.rows("SELECT name FROM sys.continuous_queries UNION ALL SELECT name FROM sys.detectors UNION ALL SELECT name FROM sys.alerts ORDER BY 1")
    };
    written(dir.path(), QUERIES, ALERTS);
    let plan = done(&apply(&server, dir.path(), &["--dry-run"]));
    let created = "+ continuous query load_1m\n+ detector odd\n+ alert high\n";
    assert_eq!(plan, format!("{created}3 to change, 0 to drop, 0 unchanged\n"));
    assert!(names().is_empty(), "nothing was changed");
    assert_eq!(done(&apply(&server, dir.path(), &[])), format!("{created}3 changed, 0 dropped, 0 unchanged\n"));
    assert_eq!(names().len(), 3);
    let rows_out = || server.rows("SELECT rows_out FROM sys.continuous_queries");
    wait_until("the minutes are written", || rows_out()[0][0].as_u64() > Some(0));
    let before = rows_out();
    // White space and comments are no change.
    written(
        dir.path(),
        &QUERIES.replace("avg(value) AS mean", "avg(value)  AS\n mean"),
        &format!("/* paged */ {ALERTS}"),
    );
    assert_eq!(done(&apply(&server, dir.path(), &[])), "0 changed, 0 dropped, 3 unchanged\n");
    assert_eq!(rows_out(), before, "nothing was computed again");

    let other = ALERTS.replace("'2m'", "'5m'").replace("page", "warn");
    written(dir.path(), &QUERIES.replace("'mad'", "'ewma'"), &other);
    let changed = done(&apply(&server, dir.path(), &[]));
    assert!(changed.starts_with("~ detector odd\n    select: "), "{changed}");
    let of_alert = "~ alert high\n    for: 2m → 5m\n    labels: severity = \"page\" → severity = \"warn\"\n2 changed, 0 dropped, 1 unchanged\n";
    assert!(changed.ends_with(of_alert), "{changed}");

    // What no file declares goes when it is asked for, and what watches it goes first.
    written(dir.path(), QUERIES.split_once("CREATE DETECTOR").unwrap().0, "");
    assert_eq!(done(&apply(&server, dir.path(), &[])), "0 changed, 0 dropped, 1 unchanged\n");
    assert_eq!(names().len(), 3);
    let pruned = done(&apply(&server, dir.path(), &["--prune"]));
    assert_eq!(pruned, "- alert high\n- detector odd\n0 changed, 2 dropped, 1 unchanged\n");
    assert_eq!(names(), [[serde_json::json!("load_1m")]]);
}

#[test]
fn mistakes_name_the_file_and_the_line_and_change_nothing() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    for (file, place, reason) in [
        (
            "CREATE ALERT a ON PROMQL 'up > 0';\n\nDROP ALERT a;",
            "a.sql:3",
            "only CREATE CONTINUOUS QUERY, CREATE [DEFAULT] DETECTOR, CREATE ALERT and",
        ),
        ("CREATE ALERT a ON PROMQL 'up > 0' FOR x;", "a.sql:1", "a duration"),
        ("CREATE ALERT a ON PROMQL 'up';\nCREATE ALERT a ON PROMQL 'down';", "a.sql:2", "alert a is declared twice"),
        ("-- nothing", "", "no statement"),
    ] {
        std::fs::write(dir.path().join("a.sql"), file).unwrap();
        let output = apply(&server, dir.path(), &[]);
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(place) && error.contains(reason), "{file}\n{error}");
        assert!(server.rows("SELECT name FROM sys.alerts").is_empty());
    }
    let missing = apply(&server, &dir.path().join("none"), &[]);
    assert_eq!(missing.status.code(), Some(2));
    std::fs::write(dir.path().join("a.sql"), "CREATE ALERT a ON PROMQL 'up > 0';").unwrap();
    let away = binary().args(["apply", "--url", "http://127.0.0.1:9", "-f"]).arg(dir.path()).output().unwrap();
    assert!(text(&away.stderr).contains("cannot reach the server"), "{}", text(&away.stderr));
}

#[test]
fn the_default_detector_is_declared_like_others() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let declared = |text: &str| std::fs::write(dir.path().join("a.sql"), text).unwrap();
    let watches = || server.rows("SELECT watches FROM sys.default_detector").concat();
    let alert = "CREATE ALERT a ON PROMQL 'up > 0';";
    declared(&format!("{alert} CREATE DEFAULT DETECTOR ON 'up';"));
    let made = "+ alert a\n+ default detector default\n2 changed, 0 dropped, 0 unchanged\n";
    assert_eq!(done(&apply(&server, dir.path(), &[])), made);
    assert_eq!(watches(), ["up"]);
    assert_eq!(done(&apply(&server, dir.path(), &["--prune"])), "0 changed, 0 dropped, 2 unchanged\n");
    declared(&format!("{alert} CREATE DEFAULT DETECTOR;"));
    let changed = done(&apply(&server, dir.path(), &[]));
    assert!(changed.starts_with("~ default detector default\n    watches: up → {__name__=~\".+\"}\n"), "{changed}");
    declared(alert);
    let pruned = done(&apply(&server, dir.path(), &["--prune"]));
    assert_eq!(pruned, "- default detector default\n0 changed, 1 dropped, 1 unchanged\n");
    assert!(watches().is_empty());
}

#[test]
fn yaml_declares_the_same_objects_as_sql() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    assert_eq!(server.write(&[Series::new(&[("__name__", "load"), ("host", "a")]).sample(now_ms(), 1.0)]).status, 204);
    let yaml = "continuous_queries:\n- name: load_1m\n  into: load_1m\n  watermark: 30s\n  select: |\n    SELECT time_bucket('1m', ts) AS ts, host, avg(value) AS mean\n    \
        FROM load GROUP BY 1, 2\ndetectors:\n- {name: odd, on: load_1m, where: host <> 'x', key: [host], value: mean, using: mad, escalate: [{tier: 2, above: 0.8}], late: revise within '1h', into: anomalies}\n\
        alerts:\n- {name: high, on: {detector: odd, where: score > 1}, for: 2m, labels: {severity: page}, notify: [{webhook: 'http://127.0.0.1:9/a'}]}\n\
        silences:\n- {name: night, on: '{severity=\"page\"}', weekly: {on: [sat, sun], from: '22:00', for: 8h}}\ndefault_detector: {on: load}\n";
    std::fs::write(dir.path().join("all.yml"), yaml).unwrap();
    let made = "+ continuous query load_1m\n+ default detector default\n+ detector odd\n+ alert high\n+ silence night\n5 changed, 0 dropped, 0 unchanged\n";
    assert_eq!(done(&apply(&server, dir.path(), &[])), made);
    assert_eq!(done(&apply(&server, dir.path(), &["--prune"])), "0 changed, 0 dropped, 5 unchanged\n");
    let sql = "CREATE CONTINUOUS QUERY load_1m INTO load_1m WATERMARK '30s' AS SELECT time_bucket('1m', ts) AS ts, host, avg(value) AS mean FROM load GROUP BY 1, 2;\n\
        CREATE DETECTOR odd ON load_1m WHERE (host <> 'x') KEY (host) VALUE mean USING 'mad' ESCALATE (TIER 2 WHEN score > 0.8) LATE REVISE WITHIN '1h' INTO anomalies;\n\
        CREATE ALERT high ON DETECTOR odd WHERE score > 1 FOR '2m' LABELS (severity = 'page') NOTIFY (WEBHOOK 'http://127.0.0.1:9/a');\n\
        CREATE SILENCE night ON '{severity=\"page\"}' WEEKLY ON (sat, sun) FROM '22:00' FOR '8h'; CREATE DEFAULT DETECTOR ON 'load';";
    std::fs::remove_file(dir.path().join("all.yml")).unwrap();
    std::fs::write(dir.path().join("all.sql"), sql).unwrap();
    assert_eq!(done(&apply(&server, dir.path(), &[])), "0 changed, 0 dropped, 5 unchanged\n");
    std::fs::write(dir.path().join("all.yaml"), "detectors: [{name: d, of: m}]").unwrap();
    let wrong = apply(&server, dir.path(), &[]);
    assert!(text(&wrong.stderr).contains("all.yaml: detectors: d: unknown field of"), "{}", text(&wrong.stderr));
}
