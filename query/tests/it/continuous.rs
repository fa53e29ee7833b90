//! Continuous queries: statements, refusals, states, retention of the log.
use foretell_query::ErrorKind;

use crate::continuous_fixture::{Lives, SECOND, START, Sample, Value, difference};

const COUNTS: &str =
    "SELECT time_bucket('1m', ts) AS ts, host, count(*) AS n, sum(value) AS total FROM metrics.\"m\" GROUP BY 1, 2";

fn host(host: &'static str, second: i64, value: f64) -> Sample {
    (vec![("host", host)], START + second * SECOND, value)
}

fn with_counts() -> Lives {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0), host("b", 0, 2.0)]);
    lives.run(&format!("CREATE CONTINUOUS QUERY counts INTO counts_1m WATERMARK '1m' AS {COUNTS}"));
    lives.drain();
    lives
}

fn assert_exact(lives: &Lives) {
    lives.drain();
    let difference = difference(&lives.table("SELECT * FROM counts_1m"), &lives.table(COUNTS), &[]);
    assert_eq!(difference, None);
}

/// The canary of the property test: without telling repeated rows from new ones this fails.
#[test]
fn a_repeated_row_counts_once() {
    let lives = with_counts();
    for _ in 0..3 {
        lives.write("m", &[host("a", 10, 5.0), host("a", 20, 7.0)]);
        assert_exact(&lives);
    }
    let totals = lives.table("SELECT ts, host, total FROM counts_1m WHERE host = 'a'");
    let total = totals.values().next().unwrap().get("total").unwrap().clone();
    assert_eq!(total, Value::Double(13.0), "1 + 5 + 7; counting repeated rows again would give 37");
    assert_eq!(lives.status("late"), "4");
}

/// Otherwise the incremental path would be proved by nothing.
#[test]
fn rows_in_order_are_never_computed_again() {
    let scores = "SELECT ts, host, anomaly_score(value, method => 'ewma') OVER (PARTITION BY host ORDER BY ts) AS score FROM metrics.\"m\"";
    for select in [COUNTS, scores] {
        let lives = Lives::new();
        lives.write("m", &[host("a", 0, 1.0), host("b", 0, 2.0)]);
        lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '1m' AS {select}"));
        lives.drain();
        // Series that were there before are met for the first time.
        lives.write("m", &[host("a", 1, 1.0), host("b", 1, 1.0)]);
        lives.drain();
        let before = lives.status("recomputed");
        for second in 1..300 {
            lives.write(
                "m",
                &[host("a", second * 2, 1.0), host("b", second * 2, second as f64), host("new", second * 2, 2.0)],
            );
            if second % 7 == 0 {
                lives.drain();
            }
        }
        lives.drain();
        assert_eq!(lives.status("recomputed"), before);
        assert_eq!(lives.status("late"), "0");
        assert_eq!(difference(&lives.table("SELECT * FROM q_out"), &lives.table(select), &[]), None);
        let number = |column: &str| lives.status(column).parse::<f64>().unwrap();
        assert!(number("keys") >= 3.0, "three hosts, in one bucket or more");
        assert!(number("state_bytes") > 0.0 && number("busy_seconds") > 0.0);
    }
}

/// A series that is new after the kill is in order at once, so its row is added to the stored state of the bucket.
#[test]
fn partial_aggregates_of_an_open_bucket_survive_a_kill() {
    let mut lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    let select = "SELECT time_bucket('1m', ts) AS ts, count(*) AS n, avg(value) AS mean FROM metrics.\"m\" GROUP BY 1";
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out AS {select}"));
    for (second, name) in [(1, "b"), (2, "c"), (3, "d"), (4, "e")] {
        lives.drain();
        lives.kill();
        let before = lives.status("recomputed");
        lives.write("m", &[host(name, second, 10.0)]);
        lives.drain();
        assert_eq!(difference(&lives.table("SELECT * FROM q_out"), &lives.table(select), &[]), None);
        assert_eq!(lives.status("recomputed"), before, "the stored state was not used");
    }
}

const SCORES: &str = "SELECT ts, host, value, anomaly_score(value, method => 'ewma') OVER (PARTITION BY host ORDER BY ts) AS score FROM metrics.\"m\"";

/// One of the rows is the one a checkpoint was taken at.
#[test]
fn overwriting_any_row_gives_exact_scores() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '10s' AS {SCORES}"));
    for tens in 0..20 {
        lives.write("m", &(0..10).map(|i| host("a", tens * 10 + i + 1, (i * 7 % 5) as f64)).collect::<Vec<_>>());
        lives.drain();
    }
    for second in 60..180 {
        lives.write("m", &[host("a", second, 9.0)]);
        lives.drain();
        let difference = difference(&lives.table("SELECT * FROM q_out"), &lives.table(SCORES), &[]);
        assert_eq!(difference, None, "after overwriting second {second}");
    }
}

#[test]
fn a_late_row_in_the_batch_of_its_successors_gives_exact_scores() {
    let lives = Lives::new();
    lives.write("m", &[host("new", 0, 1.0)]);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '10s' AS {SCORES}"));
    lives.drain();
    for (name, late) in [("a", 195), ("b", 100), ("c", 3)] {
        let in_order = (1..200).filter(|&second| second != late).chain([late]);
        lives.write("m", &in_order.map(|second| host(name, second, (second * 7 % 5) as f64)).collect::<Vec<_>>());
        lives.drain();
        let difference = difference(&lives.table("SELECT * FROM q_out"), &lives.table(SCORES), &[]);
        assert_eq!(difference, None, "late second {late}");
    }
}

/// More rows than are read from the feed at once, so that a late row is met after its successors were worked on.
#[test]
fn a_late_row_in_a_later_chunk_of_a_tick_is_exact() {
    let mut lives = with_counts();
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '10s' AS {SCORES}"));
    lives.drain();
    lives.reopen_database(|engine| {
        let labels = foretell_engine::LabelSet::from_pairs([("__name__", "m"), ("host", "new")]).unwrap();
        let series = engine.resolve(&labels).unwrap();
        for seconds in [0..66_000, 66_001..66_100, 66_000..66_001, 66_100..66_200] {
            let mut batch = foretell_engine::WriteBatch::default();
            seconds.for_each(|second| batch.push(series, START + second * SECOND, (second * 7 % 5) as f64));
            engine.write(batch).unwrap().wait().unwrap();
        }
    });
    assert_exact(&lives);
    assert_eq!(difference(&lives.table("SELECT * FROM q_out"), &lives.table(SCORES), &[]), None);
}

#[test]
fn rows_state_and_position_are_one_record() {
    let lives = with_counts();
    for second in 1..20 {
        lives.write("m", &[host("a", second * 9, 1.0)]);
        lives.drain();
    }
    let snapshot = lives.engine().snapshot();
    let selector = foretell_engine::Selector {
        metric: Some("counts_1m".into()),
        matchers: Vec::new(),
        range: foretell_engine::TimeRange::ALL,
    };
    let target = snapshot.select(&selector).unwrap()[0].id.metric();
    let commits = lives.engine().read_commits(foretell_engine::Lsn(0), snapshot.lsn(), usize::MAX).unwrap();
    let mut records = 0;
    for commit in &commits {
        let has = |prefix: &[u8]| commit.batch.state.iter().any(|(key, _)| key.starts_with(prefix));
        if commit.batch.series.iter().any(|id| id.metric() == target) {
            assert!(
                has(b"cq/pos/counts") && has(b"cq/win/counts"),
                "rows at {:?} came without their state",
                commit.lsn
            );
            records += 1;
        }
    }
    assert!(records >= 10, "{records}");
}

#[test]
fn calendar_buckets_need_no_width() {
    let lives = Lives::new();
    let day = 86_400;
    lives.write("m", &(0..800).map(|i| host("a", i * day, i as f64)).collect::<Vec<_>>());
    let select = "SELECT date_trunc('month', ts) AS ts, host, count(*) AS days FROM metrics.\"m\" GROUP BY 1, 2";
    lives.run(&format!("CREATE CONTINUOUS QUERY months INTO months AS {select}"));
    lives.drain();
    lives.write("m", &[host("a", 801 * day, 1.0), host("a", 40 * day + 1, 1.0), host("a", 830 * day, 1.0)]);
    lives.drain();
    assert_eq!(difference(&lives.table("SELECT * FROM months"), &lives.table(select), &[]), None);
}

#[test]
fn an_overwritten_row_counts_with_its_newest_value() {
    let lives = with_counts();
    lives.write("m", &[host("a", 10, 5.0)]);
    lives.drain();
    lives.write("m", &[host("a", 10, 50.0)]);
    assert_exact(&lives);
}

#[test]
fn a_group_that_an_overwrite_empties_disappears_and_comes_back() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0), host("b", 70, 1.0)]);
    let select =
        "SELECT time_bucket('1m', ts) AS ts, host, count(*) AS n FROM metrics.\"m\" WHERE value < 10 GROUP BY 1, 2";
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO small AS {select}"));
    for (value, rows) in [(99.0, 1), (3.0, 2), (98.0, 1), (97.0, 1)] {
        lives.write("m", &[host("a", 0, value)]);
        lives.drain();
        let got = lives.table("SELECT * FROM small");
        assert_eq!(got.len(), rows, "{got:?}");
        assert_eq!(difference(&got, &lives.table(select), &[]), None);
    }
}

#[test]
fn existing_data_is_worked_through_and_counts_keep_their_type() {
    let lives = Lives::new();
    for hour in 0..30 {
        lives.write("m", &(0..60).map(|i| host("a", hour * 90_000 + i * 7, i as f64)).collect::<Vec<_>>());
    }
    lives.engine().flush().unwrap();
    lives.run(&format!("CREATE CONTINUOUS QUERY counts INTO counts_1m AS {COUNTS}"));
    assert_exact(&lives);
    assert_eq!(lives.status("state"), "running");
    assert_eq!(lives.status("rows_in"), "0", "existing rows are read from storage, not from the feed");
}

#[test]
fn statements_answer_with_small_tables() {
    let lives = with_counts();
    let text = |sql: &str| arrow::util::pretty::pretty_format_batches(&lives.query(sql).unwrap()).unwrap().to_string();
    let shown = text("show continuous queries");
    assert!(shown.contains("counts_1m") && shown.contains("running"), "{shown}");
    let described = text("DESCRIBE CONTINUOUS QUERY \"counts\"");
    assert!(described.contains("watermark") && described.contains("1m"), "{described}");
    assert!(text("SELECT name, target, lag FROM sys.continuous_queries").contains("counts_1m"));
    let again = format!("CREATE CONTINUOUS QUERY counts INTO other AS {COUNTS}");
    assert_eq!(
        lives.query(&again).unwrap_err().message,
        "continuous query counts exists: drop it first, choose another name, or write OR REPLACE"
    );
    assert!(text(&again.replace("QUERY counts", "QUERY IF NOT EXISTS counts")).contains("exists"));
    assert!(text("DROP CONTINUOUS QUERY Counts;").contains("dropped"));
    assert_eq!(lives.query("DROP CONTINUOUS QUERY counts").unwrap_err().kind, ErrorKind::NotFound);
    assert!(text("DROP CONTINUOUS QUERY IF EXISTS counts").contains("there is no"));
}

#[test]
fn a_dropped_query_leaves_its_rows_and_no_state_and_can_be_created_again() {
    let mut lives = with_counts();
    let rows = lives.table("SELECT * FROM counts_1m");
    lives.run("DROP CONTINUOUS QUERY counts");
    lives.write("m", &[host("a", 100, 1.0)]);
    lives.drain();
    assert_eq!(lives.table("SELECT * FROM counts_1m"), rows);
    assert!(lives.engine().snapshot().state_keys(b"cq/").is_empty());
    lives.kill();
    assert_eq!(lives.table("SELECT name FROM sys.continuous_queries").len(), 0);
    lives.run(&format!("CREATE CONTINUOUS QUERY counts2 INTO counts_1m AS {COUNTS}"));
    assert_exact(&lives);
}

#[test]
fn a_table_with_other_columns_or_another_writer_is_refused() {
    let lives = with_counts();
    let scores =
        "SELECT ts, host, anomaly_score(value) OVER (PARTITION BY host ORDER BY ts) AS score FROM metrics.\"m\"";
    for (sql, message) in [
        (
            format!("CREATE CONTINUOUS QUERY q INTO counts_1m AS {scores}"),
            "continuous query counts writes to counts_1m: choose another table",
        ),
        (
            format!("CREATE CONTINUOUS QUERY q INTO m AS {scores}"),
            "continuous query q would feed itself (m → q): choose another table to write to",
        ),
    ] {
        assert_eq!(lives.query(&sql).unwrap_err().message, message);
    }
    lives.write("taken", &[host("a", 0, 1.0)]);
    let taken = lives.query(&format!("CREATE CONTINUOUS QUERY q INTO taken AS {scores}")).unwrap_err();
    assert_eq!(taken.message, "taken is a metric: choose another table");
    lives.run("DROP CONTINUOUS QUERY counts");
    let other = lives.query(&format!("CREATE CONTINUOUS QUERY q INTO counts_1m AS {scores}")).unwrap_err();
    assert!(other.message.contains("has other columns"), "{other}");
}

#[test]
fn other_shapes_are_refused_with_the_reason_and_the_two_shapes() {
    let lives = with_counts();
    let over = "OVER (PARTITION BY host ORDER BY ts)";
    for (select, reason) in [
        (format!("{COUNTS} ORDER BY 1"), "ORDER BY is not supported"),
        (format!("{COUNTS} LIMIT 5"), "LIMIT is not supported"),
        (format!("{COUNTS} HAVING count(*) > 1"), "HAVING is not supported"),
        (format!("SELECT DISTINCT * FROM ({COUNTS})"), "`*` would change"),
        (
            "SELECT DISTINCT time_bucket('1m', ts) AS ts, count(*) AS n FROM m GROUP BY 1".into(),
            "DISTINCT is not supported",
        ),
        ("SELECT * FROM m".into(), "`*` would change"),
        ("SELECT ts, host FROM m".into(), "there is no value column"),
        ("SELECT ts, service, duration FROM spans".into(), "a table holds numbers"),
        ("SELECT host, count(*) AS n FROM m GROUP BY 1".into(), "GROUP BY has no bucket of time"),
        ("SELECT count(*) AS n FROM m".into(), "GROUP BY has no bucket of time"),
        ("SELECT m.ts AS ts, count(*) AS n FROM m GROUP BY 1".into(), "GROUP BY ts groups by a raw column"),
        (
            "SELECT time_bucket('1m', ts) AS minute, count(*) AS n FROM m GROUP BY 1".into(),
            "the bucket is selected once and called ts",
        ),
        (
            "SELECT host, count(*) AS n FROM m GROUP BY host, time_bucket('1m', ts)".into(),
            "the bucket is missing from the columns",
        ),
        (
            "SELECT time_bucket('1m', ts) AS ts, count(*) AS n FROM m GROUP BY 1, host".into(),
            "is grouped by but not selected",
        ),
        ("SELECT time_bucket('1m', ts) AS ts, host FROM m GROUP BY 1, 2".into(), "there is no value column"),
        ("SELECT time_bucket('1m', ts) AS ts, max(host) AS h FROM m GROUP BY 1".into(), "column \"h\" has type"),
        (
            "SELECT time_bucket('1m', ts) AS ts, host AS __x, count(*) AS n FROM m GROUP BY 1, 2".into(),
            "a label column cannot be called",
        ),
        (
            "SELECT time_bucket('1m', ts) AS ts, count(*) AS n FROM m WHERE ts > now() GROUP BY 1".into(),
            "now() gives another answer at another time",
        ),
        (
            "SELECT time_bucket('1m', ts) AS ts, count(*) AS n FROM m WHERE log_template(host) = 'a' GROUP BY 1".into(),
            "log_template() gives another answer at another time",
        ),
        (
            "SELECT time_bucket('1m', ts) AS ts, count(*) AS n FROM m WHERE value > (SELECT 1) GROUP BY 1".into(),
            "subqueries are not supported",
        ),
        (
            "SELECT time_bucket('1m', ts) AS ts, count(*) AS n FROM (SELECT ts FROM m) GROUP BY 1".into(),
            "subqueries are not supported",
        ),
        (
            "SELECT time_bucket('1m', x.ts) AS ts, count(*) AS n FROM m x JOIN m y ON x.ts = y.ts GROUP BY 1".into(),
            "a join is with constant rows, on labels alone",
        ),
        (
            "SELECT x.ts, x.value FROM m x JOIN (VALUES (1.5)) AS o(v) ON x.value = o.v".into(),
            "x.value = o.v are not a label and a text",
        ),
        (
            "SELECT x.ts, x.value FROM m x JOIN (VALUES ('a'), ('a')) AS o(h) ON x.host = o.h".into(),
            "two constant rows of a join have the key a",
        ),
        (
            "SELECT x.ts, x.value FROM m x JOIN (VALUES ('a', '')) AS o(h, t) ON x.host = o.h".into(),
            "an empty text cannot be a label",
        ),
        (
            "SELECT x.ts, x.value FROM m x JOIN (VALUES ('a', 2)) AS o(h, most) ON x.host = o.h AND x.value < o.most"
                .into(),
            "is another condition",
        ),
        (
            "SELECT x.ts, x.value FROM m x CROSS JOIN (VALUES ('a')) AS o(h)".into(),
            "a join is with constant rows, on labels alone",
        ),
        (
            "SELECT x.ts, x.value FROM m x JOIN (VALUES (cast(now() AS varchar))) AS o(h) ON x.host = o.h".into(),
            "now() gives another answer at another time",
        ),
        (
            "SELECT time_bucket('1m', ts) AS ts, count(*) AS n FROM samples GROUP BY 1".into(),
            "samples is not the table of a metric",
        ),
        (format!("{COUNTS} UNION ALL {COUNTS}"), "UNION is not supported"),
        (format!("SELECT ts, anomaly_score(value) {over} AS score FROM m"), "host is in PARTITION BY but not selected"),
        (format!("SELECT host, anomaly_score(value) {over} AS score FROM m"), "ts is missing from the columns"),
        (format!("SELECT ts, host, avg(value) {over} AS a FROM m"), "is not supported"),
        (format!("SELECT ts, host, anomaly(value) {over} AS a FROM m"), "column \"a\" has type"),
        (
            "SELECT ts, host, anomaly_score(value) OVER (PARTITION BY host ORDER BY ts, value) AS score FROM m".into(),
            "the window must be ordered by ts alone",
        ),
        (
            format!(
                "SELECT ts, host, anomaly_score(value) {over} AS a, anomaly_score(value) OVER (ORDER BY ts) AS b FROM m"
            ),
            "several OVER clauses that differ are not supported",
        ),
    ] {
        let error = lives.query(&format!("CREATE CONTINUOUS QUERY q INTO t AS {select}")).expect_err(&select);
        assert!(error.message.contains(reason), "{select}\n{error}\nexpected: {reason}");
        assert_eq!(error.kind, ErrorKind::Invalid, "{select}");
    }
    let unknown = lives.query("CREATE CONTINUOUS QUERY q INTO t AS SELECT time_bucket('1m', ts) AS ts, count(*) AS n FROM nowhere GROUP BY 1").unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::NotFound);
    assert_eq!(lives.table("SELECT name FROM sys.continuous_queries WHERE name = 'q'").len(), 0);
}

#[test]
fn two_series_in_one_partition_fail_the_query_with_their_names() {
    let lives = Lives::new();
    let sample =
        |instance, second, value| (vec![("job", "web"), ("instance", instance)], START + second * SECOND, value);
    lives.write("m", &[sample("a", 0, 1.0)]);
    lives.run("CREATE CONTINUOUS QUERY q INTO s AS SELECT ts, job, anomaly_score(value) OVER (PARTITION BY job ORDER BY ts) AS score FROM m");
    lives.drain();
    assert_eq!(lives.status("state"), "running");
    lives.write("m", &[sample("b", 1, 1.0)]);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while lives.status("state") != "failed" {
        assert!(std::time::Instant::now() < patience, "{}", lives.status("state"));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let error = lives.status("last_error");
    assert!(error.contains("one partition of the window holds two series") && error.contains("\"b\""), "{error}");
}

#[test]
fn the_log_is_kept_for_a_query_that_has_not_read_it() {
    let mut lives = with_counts();
    lives.reopen_database(|engine| {
        for second in 1..200 {
            let series = engine
                .resolve(&foretell_engine::LabelSet::from_pairs([("__name__", "m"), ("host", "a")]).unwrap())
                .unwrap();
            let mut batch = foretell_engine::WriteBatch::default();
            batch.push(series, START + second * SECOND, 1.0);
            engine.write(batch).unwrap().wait().unwrap();
            if second % 50 == 0 {
                engine.flush().unwrap();
            }
        }
    });
    assert_exact(&lives);
    assert_eq!(lives.status("rows_in"), "199", "read from the feed, not computed again");
}

#[test]
fn a_query_whose_log_is_gone_computes_everything_again() {
    let mut lives = with_counts();
    lives.reopen_database(|engine| {
        engine.retain_wal("continuous query counts", None);
        let series = engine
            .resolve(&foretell_engine::LabelSet::from_pairs([("__name__", "m"), ("host", "a")]).unwrap())
            .unwrap();
        for second in 1..3_000 {
            let mut batch = foretell_engine::WriteBatch::default();
            (0..10).for_each(|i| batch.push(series, START + (second * 10 + i) * SECOND, 1.0));
            engine.write(batch).unwrap().wait().unwrap();
        }
        engine.flush().unwrap();
    });
    // Whether the engine still had it or not, the answer is the same.
    assert_exact(&lives);
    assert_eq!(lives.status("state"), "running");
}

#[test]
fn a_new_row_is_in_the_table_well_under_a_second() {
    let lives = with_counts();
    let started = std::time::Instant::now();
    lives.write("m", &[host("a", 30, 5.0)]);
    while lives.table("SELECT ts, host, n FROM counts_1m WHERE n = 2").is_empty() {
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Every example of the documentation runs as it stands there.
#[test]
fn examples_of_the_documentation_run() {
    let lives = Lives::new();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/continuous-queries.md");
    let text = std::fs::read_to_string(path).unwrap();
    let labels = |instance| vec![("job", "shop"), ("instance", instance)];
    lives.write(
        "http_request_duration_seconds",
        &(0..300).map(|i| (labels("a"), START + i * SECOND, (i % 7) as f64)).collect::<Vec<_>>(),
    );
    lives.write(
        "http_request_duration_seconds",
        &(0..300).map(|i| (labels("b"), START + i * SECOND, (i % 5) as f64)).collect::<Vec<_>>(),
    );
    let blocks: Vec<&str> = text.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5);
    for statement in blocks.iter().flat_map(|block| block.split(";\n")).map(str::trim).filter(|s| !s.is_empty()) {
        lives.run(statement);
        lives.drain();
    }
}

#[test]
fn an_empty_text_is_no_label_and_its_rows_are_in_the_group_without_one() {
    let lives = Lives::new();
    let sample = |labels: &[(&'static str, &'static str)], value| (labels.to_vec(), START, value);
    lives.write("m", &[sample(&[("host", "a-x")], 1.0), sample(&[("host", "b")], 2.0), sample(&[("job", "j")], 4.0)]);
    lives.run(
        "CREATE CONTINUOUS QUERY q INTO q_out AS SELECT time_bucket('1m', ts) AS ts, split_part(host, '-', 2) AS zone, sum(value) AS total \
         FROM m GROUP BY 1, 2",
    );
    lives.drain();
    let expected = "SELECT time_bucket('1m', ts) AS ts, nullif(split_part(host, '-', 2), '') AS zone, sum(value) AS total FROM m GROUP BY 1, 2";
    for _ in 0..2 {
        let got = lives.table("SELECT * FROM q_out");
        assert_eq!(difference(&got, &lives.table(expected), &[]), None);
        assert!(got.len() >= 2, "{got:?}");
        // late, in a group of two
        lives.write("m", &[(vec![("host", "b")], START - 1, 8.0), (vec![("host", "b")], START + 1, 16.0)]);
        lives.drain();
    }
}
