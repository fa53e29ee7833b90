//! Continuous queries over others, what is computed again and what comes too late, pauses and replacements; detectors.
use std::collections::BTreeSet;

use foretell_engine::{LabelSet, WriteBatch};
use foretell_query::ErrorKind;

use crate::continuous_fixture::{Lives, SECOND, START, Sample, difference};

const COUNTS: &str =
    "SELECT time_bucket('1m', ts) AS ts, host, count(*) AS n, sum(value) AS total FROM metrics.\"m\" GROUP BY 1, 2";

const HOSTS: [&str; 20] = [
    "h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9", "i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7", "i8",
    "i9",
];

fn host(host: &'static str, second: i64, value: f64) -> Sample {
    (vec![("host", host)], START + second * SECOND, value)
}

fn assert_same(lives: &Lives, table: &str, select: &str) {
    lives.drain();
    let difference = difference(&lives.table(&format!("SELECT * FROM {table}")), &lives.table(select), &[]);
    assert_eq!(difference, None, "{table}");
}

fn counter(lives: &Lives, name: &str, column: &str) -> i64 {
    let sql = format!(
        "SELECT ts, {column} FROM (SELECT TIMESTAMP '2026-01-01' AS ts, CAST({column} AS DOUBLE) AS {column} FROM \
         (SELECT * FROM sys.continuous_queries UNION ALL SELECT * FROM sys.detectors) WHERE name = '{name}')"
    );
    match lives.table(&sql).values().next().unwrap().get(column) {
        Some(crate::continuous_fixture::Value::Double(n)) => *n as i64,
        other => panic!("{other:?}"),
    }
}

/// An hour of every host, a row each ten seconds.
fn an_hour(lives: &Lives) {
    for minute in 0..60 {
        let rows = (0..6).flat_map(|i| HOSTS.map(|name| host(name, minute * 60 + i * 10, (i + minute) as f64)));
        lives.write("m", &rows.collect::<Vec<_>>());
    }
}

#[test]
fn late_rows_compute_their_own_key_and_bucket_again_and_nothing_else() {
    for options in ["", "EMIT ON WINDOW CLOSE"] {
        let mut lives = Lives::new();
        lives.write("m", &[host("h0", 0, 0.0)]);
        lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '2m' {options} AS {COUNTS}"));
        lives.drain();
        an_hour(&lives);
        lives.drain();
        let before = counter(&lives, "q", "recomputed");
        let closed = "SELECT * FROM q_out WHERE ts < TIMESTAMP '2026-01-01T00:50:00Z'";
        let late: Vec<Sample> = [(3, "h3"), (3, "h4"), (7, "h3"), (8, "h3"), (31, "i9")]
            .into_iter()
            .flat_map(|(minute, name)| [1, 2].map(|second| host(name, minute * 60 + second, 100.0)))
            .collect();
        lives.write("m", &late);
        lives.drain();
        assert_eq!(counter(&lives, "q", "recomputed") - before, 5, "{options}: five pairs of a key and a bucket");
        assert_eq!(counter(&lives, "q", "late"), 10);
        let expected = format!("SELECT * FROM ({COUNTS}) WHERE ts < TIMESTAMP '2026-01-01T00:50:00Z'");
        assert_eq!(difference(&lives.table(closed), &lives.table(&expected), &[]), None, "{options}");
        // the same after a restart, where every host is met for the first time again
        lives.kill();
        let before = counter(&lives, "q", "recomputed");
        lives.write("m", &[host("h7", 12 * 60 + 5, 9.0), host("h8", 14 * 60 + 5, 9.0)]);
        lives.drain();
        assert_eq!(counter(&lives, "q", "recomputed") - before, 2, "{options}");
        assert_eq!(difference(&lives.table(closed), &lives.table(&expected), &[]), None, "{options}");
    }
}

/// The same at size: ten thousand keys, each with a row that is hours late.
#[test]
fn ten_thousand_late_keys_compute_ten_thousand_pairs_again() {
    const KEYS: i64 = 10_000;
    const HALF_HOUR: i64 = 1_800 * SECOND;
    let select = "SELECT time_bucket('30m', ts) AS ts, host, count(*) AS n, sum(value) AS total FROM m GROUP BY 1, 2";
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '5m' AS {select}"));
    lives.drain();
    let series: Vec<_> = (0..KEYS)
        .map(|key| {
            let name = format!("k{key}");
            lives
                .engine()
                .resolve(&LabelSet::from_pairs([("__name__", "m"), ("host", name.as_str())]).unwrap())
                .unwrap()
        })
        .collect();
    let write = |of: &dyn Fn(i64) -> (i64, f64)| {
        let mut batch = WriteBatch::default();
        for (key, &series) in (0..).zip(&series) {
            let (at, value) = of(key);
            batch.push(series, START + at, value);
        }
        lives.engine().write(batch).unwrap().wait().unwrap();
    };
    for half_hour in 0..12 {
        write(&|key| (half_hour * HALF_HOUR + key % 60 * SECOND, 1.0));
        lives.drain();
    }
    let before = counter(&lives, "q", "recomputed");
    write(&|key| (key % 9 * HALF_HOUR + 90 * SECOND, 4.0));
    lives.drain();
    assert_eq!(counter(&lives, "q", "late"), KEYS);
    assert_eq!(counter(&lives, "q", "recomputed") - before, KEYS, "each key in one bucket");
    let same = format!(
        "SELECT CAST(count(*) AS VARCHAR) FROM ({select}) a JOIN q_out b ON a.ts = b.ts AND a.host = b.host \
         WHERE a.n = b.n AND a.total = b.total"
    );
    assert_eq!(lives.texts(&same), [(12 * KEYS + 1).to_string()]);
    assert_eq!(lives.texts("SELECT CAST(count(*) AS VARCHAR) FROM q_out"), [(12 * KEYS + 1).to_string()]);
}

#[test]
fn a_late_row_in_an_open_bucket_leaves_the_running_state_of_the_others() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0), host("b", 0, 2.0)]);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '10m' AS {COUNTS}"));
    lives.drain();
    for second in 1..200 {
        let back = if second % 7 == 0 { 5 } else { 0 };
        lives.write("m", &[host("a", second - back, 1.0), host("b", second, 1.0), host("b", second, 2.0)]);
        if second % 3 == 0 {
            assert_same(&lives, "q_out", COUNTS);
        }
    }
    assert_same(&lives, "q_out", COUNTS);
}

#[test]
fn what_a_query_writes_is_read_by_others_before_it_has_a_row() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    let late = "SELECT time_bucket('1m', ts) AS ts, host, count(*) AS n FROM m WHERE value > 50 GROUP BY 1, 2";
    lives.run(&format!("CREATE CONTINUOUS QUERY first INTO first_out AS {late}"));
    lives.drain();
    assert!(lives.table("SELECT * FROM first_out").is_empty(), "a table without rows is there all the same");
    let hours = "SELECT time_bucket('1h', ts) AS ts, host, sum(n) AS n FROM first_out GROUP BY 1, 2";
    let doubled = "SELECT ts, host, n * 2 AS twice FROM second_out";
    lives.run(&format!("CREATE CONTINUOUS QUERY second INTO second_out AS {hours}"));
    lives.run(&format!("CREATE CONTINUOUS QUERY third INTO third_out AS {doubled}"));
    lives.drain();
    for second in 1..300 {
        lives.write("m", &[host("a", second * 20, (second % 90) as f64), host("b", second * 20, 60.0)]);
    }
    for (table, select) in [("first_out", late), ("second_out", hours), ("third_out", doubled)] {
        assert_same(&lives, table, select);
        assert!(!lives.table(select).is_empty());
    }
    // a row that an overwrite takes out of the first goes from the last, too
    lives.write("m", &(0..300).map(|second| host("b", second * 20, 1.0)).collect::<Vec<_>>());
    for (table, select) in [("first_out", late), ("second_out", hours), ("third_out", doubled)] {
        assert_same(&lives, table, select);
    }
    assert!(lives.table("SELECT * FROM third_out WHERE host = 'b'").is_empty());
}

#[test]
fn queries_that_would_feed_themselves_are_refused() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    let sum = |from: &str| format!("SELECT time_bucket('1m', ts) AS ts, sum(value) AS value FROM {from} GROUP BY 1");
    lives.run(&format!("CREATE CONTINUOUS QUERY a INTO a_out AS {}", sum("m")));
    lives.run(&format!("CREATE CONTINUOUS QUERY b INTO b_out AS {}", sum("a_out")));
    for (target, path) in [("a_out", "m → a → a_out → b → b_out"), ("b_out", "b_out"), ("m", "")] {
        let sql = format!("CREATE OR REPLACE CONTINUOUS QUERY a INTO {target} AS {}", sum("b_out"));
        let error = lives.query(&sql).unwrap_err();
        let refused = error.message.contains("feed itself") || error.message.contains("writes to b_out");
        assert!(refused || path.is_empty(), "{sql}: {error}");
        assert_eq!(error.kind, ErrorKind::Invalid, "{sql}");
    }
    // nothing was lost with the refusals
    assert_same(&lives, "a_out", &sum("m"));
    assert_same(&lives, "b_out", &sum("a_out"));
}

#[test]
fn rows_after_their_time_are_dropped_counted_and_put_aside_as_the_statement_says() {
    for (policy, revised) in [
        ("LATE DROP", false),
        ("LATE INTO rest", false),
        ("LATE REVISE WITHIN '5m'", false),
        ("LATE REVISE WITHIN '2h'", true),
        ("LATE REVISE", true),
    ] {
        for emit in ["", "EMIT ON WINDOW CLOSE"] {
            let lives = Lives::new();
            lives.write("m", &[host("h0", 0, 0.0)]);
            lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '2m' {policy} {emit} AS {COUNTS}"));
            lives.drain();
            an_hour(&lives);
            lives.drain();
            let before = lives.table("SELECT * FROM q_out WHERE ts < TIMESTAMP '2026-01-01T00:50:00Z'");
            lives.write("m", &[host("h3", 185, 100.0), host("h4", 195, 7.0)]);
            lives.drain();
            let after = lives.table("SELECT * FROM q_out WHERE ts < TIMESTAMP '2026-01-01T00:50:00Z'");
            assert_eq!(after != before, revised, "{policy} {emit}");
            assert_eq!(counter(&lives, "q", "dropped"), if revised { 0 } else { 2 }, "{policy} {emit}");
            if policy.contains("rest") {
                let put = lives.table("SELECT * FROM rest");
                let asked =
                    "SELECT * FROM m WHERE ts IN (TIMESTAMP '2026-01-01T00:03:05Z', TIMESTAMP '2026-01-01T00:03:15Z')";
                assert_eq!(difference(&put, &lives.table(asked), &[]), None);
            }
            // what is not late still counts
            lives.write("m", &[host("h3", 3_700, 1.0), host("h9", 4_000, 1.0)]);
            lives.drain();
            let rows = "SELECT * FROM q_out WHERE ts = TIMESTAMP '2026-01-01T01:01:00Z'";
            assert_eq!(lives.table(rows).len(), 1, "{policy} {emit}");
        }
    }
}

#[test]
fn a_bucket_is_written_once_when_it_is_complete() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '30s' EMIT ON WINDOW CLOSE AS {COUNTS}"));
    let mut seen = BTreeSet::new();
    for second in 1..400 {
        lives.write("m", &[host("a", second, 1.0)]);
        lives.drain();
        let rows = lives.table("SELECT ts, host, n FROM q_out");
        assert_eq!(rows.len() as i64, (second - 30).max(0) / 60, "second {second}");
        for (key, values) in rows {
            seen.insert(format!("{key:?} {values:?}"));
        }
    }
    assert_eq!(seen.len(), 6, "no row had another value first");
}

#[test]
fn a_paused_query_rests_over_restarts_and_misses_nothing() {
    let mut lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out AS {COUNTS}"));
    lives.drain();
    lives.run("ALTER CONTINUOUS QUERY q PAUSE");
    for second in 1..100 {
        lives.write("m", &[host("a", second, 1.0)]);
    }
    lives.drain();
    assert_eq!(lives.status("state"), "paused");
    lives.kill();
    lives.drain();
    assert_eq!((lives.status("state").as_str(), lives.table("SELECT ts, host, n FROM q_out").len()), ("paused", 1));
    lives.run("ALTER CONTINUOUS QUERY q RESUME");
    assert_same(&lives, "q_out", COUNTS);
    assert_eq!((lives.status("state").as_str(), lives.status("rows_in").as_str()), ("running", "99"));
}

#[test]
fn a_replaced_query_has_the_rows_of_its_new_select_and_no_others() {
    let mut lives = Lives::new();
    an_hour(&lives);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out AS {COUNTS}"));
    lives.drain();
    let other =
        "SELECT time_bucket('7m', ts) AS ts, count(*) AS n, max(value) AS high FROM m WHERE value > 3 GROUP BY 1";
    lives.run(&format!("CREATE OR REPLACE CONTINUOUS QUERY q INTO q_out AS {other}"));
    assert_same(&lives, "q_out", other);
    lives.kill();
    lives.write("m", &[host("h0", 3_610, 50.0)]);
    assert_same(&lives, "q_out", other);
    let wrong = "CREATE OR REPLACE CONTINUOUS QUERY q INTO q_out AS SELECT count(*) AS n FROM m GROUP BY host";
    assert_eq!(lives.query(wrong).unwrap_err().kind, ErrorKind::Invalid);
    lives.write("m", &[host("h0", 3_620, 50.0)]);
    assert_same(&lives, "q_out", other);
}

#[test]
fn a_back_fill_begins_where_the_statement_says() {
    let lives = Lives::new();
    an_hour(&lives);
    for (name, select) in [("q", COUNTS), ("r", "SELECT ts, host, value AS v FROM m")] {
        let from = "BACKFILL FROM '2026-01-01T00:30:20Z'";
        lives.run(&format!("CREATE CONTINUOUS QUERY {name} INTO {name}_out {from} AS {select}"));
        lives.write("m", &[host("h0", 3_700, 1.0), host("h1", 5, 1.0), host("h1", 1_825, 1.0)]);
        let recent = "SELECT * FROM m WHERE ts >= TIMESTAMP '2026-01-01T00:30:20Z'";
        let expected = select.replace("metrics.\"m\"", "m").replace("FROM m", &format!("FROM ({recent})"));
        assert_same(&lives, &format!("{name}_out"), &expected);
    }
    lives.run(&format!("CREATE CONTINUOUS QUERY s INTO s_out BACKFILL NONE AS {COUNTS}"));
    lives.drain();
    assert!(lives.table("SELECT * FROM s_out").is_empty());
}

#[test]
fn detectors_share_a_table_and_equal_the_select_over_anomaly() {
    let mut lives = Lives::new();
    an_hour(&lives);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '30s' AS {COUNTS}"));
    lives.run("CREATE DETECTOR hosts ON m KEY (host) USING 'ewma' INTO anomalies");
    lives.run("CREATE DETECTOR minutes ON q_out KEY (host) VALUE total USING 'mad' WATERMARK '30s' INTO anomalies");
    lives.run("CREATE DETECTOR one ON m WHERE (host = 'h3') VALUE (value * 2) USING 'ewma' INTO anomalies");
    let answer = |value: &str, method: &str, keys: &str, from: &str| {
        let call = format!("anomaly(CAST({value} AS DOUBLE), method => '{method}') OVER ({keys}ORDER BY ts)");
        let fields = ["score", "expected", "lo", "hi", "is_anomaly", "tier"].map(|f| format!("{call}['{f}'] AS {f}"));
        format!("CAST({value} AS DOUBLE) AS value, {}, CAST(NULL AS INT) AS version FROM {from}", fields.join(", "))
    };
    let check = |lives: &Lives| {
        lives.drain();
        let by = "PARTITION BY host ";
        for (name, expected) in [
            ("hosts", format!("SELECT ts, 'hosts' AS detector, host, {}", answer("value", "ewma", by, "m"))),
            (
                "minutes",
                format!(
                    "SELECT * FROM (SELECT ts, 'minutes' AS detector, host, {}) WHERE ts <= (SELECT max(ts) - INTERVAL '30 seconds' FROM q_out)",
                    answer("total", "mad", by, "q_out")
                ),
            ),
            (
                "one",
                format!("SELECT ts, 'one' AS detector, {}", answer("value * 2", "ewma", "", "m WHERE host = 'h3'")),
            ),
        ] {
            let got = lives.table(&format!("SELECT * FROM anomalies WHERE detector = '{name}'"));
            let expected = lives.table(&expected);
            assert_eq!(difference(&got, &expected, &[]), None, "{name}");
            assert!(!expected.is_empty());
        }
    };
    check(&lives);
    for second in 3_600..3_700 {
        lives.write("m", &[host("h3", second, 1.0), host("h4", second, 5.0)]);
    }
    check(&lives);
    lives.kill();
    lives.write("m", &[host("h3", 3_800, 700.0), host("h4", 60, 700.0)]);
    check(&lives);
    assert!(!lives.table("SELECT * FROM anomalies WHERE is_anomaly AND detector = 'hosts' AND host = 'h3'").is_empty());

    let names = |lives: &Lives, table: &str| lives.table(&format!("SELECT name FROM sys.{table}")).len();
    assert_eq!((names(&lives, "detectors"), names(&lives, "continuous_queries")), (3, 1));
    let taken = lives.query("CREATE CONTINUOUS QUERY hosts INTO x AS SELECT ts, value FROM m").unwrap_err();
    assert_eq!(taken.message, "detector hosts exists: drop it first or choose another name");
    let wrong = lives.query("DROP CONTINUOUS QUERY hosts").unwrap_err();
    assert_eq!(wrong.message, "there is no continuous query hosts: SHOW CONTINUOUS QUERIES lists all");
    lives.run("DROP DETECTOR one");
    lives.run("CREATE OR REPLACE DETECTOR minutes ON q_out KEY (host) VALUE n USING 'ewma' INTO anomalies");
    lives.drain();
    let left = lives.table("SELECT ts, detector, host, value FROM anomalies WHERE detector = 'minutes'");
    let expected = lives.table("SELECT ts, 'minutes' AS detector, host, CAST(n AS DOUBLE) AS value FROM q_out");
    assert_eq!(difference(&left, &expected, &[]), None);
}

#[test]
fn what_is_the_same_is_not_replaced_and_what_would_change_is_told() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0), host("a", 70, 2.0)]);
    let preview = |sql: &str| {
        lives
            .query(sql)
            .unwrap()
            .iter()
            .flat_map(|batch| {
                let text = |column: &str| {
                    arrow::compute::cast(batch.column_by_name(column).unwrap(), &arrow::datatypes::DataType::Utf8)
                        .unwrap()
                };
                let columns = ["name", "change", "property", "is", "becomes"].map(text);
                let cell = |column: &arrow::array::ArrayRef, row| {
                    arrow::array::AsArray::as_string::<i32>(column).value(row).to_owned()
                };
                (0..batch.num_rows())
                    .map(|row| columns.iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("|"))
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<String>>()
    };
    let create = format!("CREATE CONTINUOUS QUERY q INTO q_out BACKFILL FROM '1d' AS {COUNTS}");
    assert_eq!(preview(&format!("EXPLAIN {create}")), ["q|create|||"]);
    assert!(lives.table("SELECT name FROM sys.continuous_queries").is_empty());
    lives.run(&create);
    lives.drain();
    let out = counter(&lives, "q", "rows_out");
    let same = create.replace("CREATE ", "create or replace ").replace(" AS SELECT", "\n AS  SELECT");
    assert_eq!(preview(&format!("EXPLAIN {same}")), ["q|unchanged|||"]);
    lives.run(&same);
    lives.drain();
    assert_eq!(counter(&lives, "q", "rows_out"), out, "nothing was computed again");
    let other = same.replace("BACKFILL FROM '1d'", "WATERMARK '1m' LATE DROP");
    assert_eq!(
        preview(&format!("EXPLAIN {other}")),
        ["q|replace|watermark|5m|1m", "q|replace|late|revise|revise within 0s"]
    );
    let kind = "EXPLAIN CREATE DETECTOR q ON m KEY (host) INTO q_out";
    assert_eq!(preview(kind)[0], "q|replace|kind|continuous query|detector");
    assert!(lives.query("EXPLAIN CREATE DETECTOR x").is_err());
}

#[test]
fn mistakes_in_detectors_are_errors_that_say_what_to_do() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out AS {COUNTS}"));
    for (rest, reason) in [
        ("ON nowhere INTO t", "nowhere"),
        ("ON m KEY (shop) INTO t", "shop"),
        ("ON m KEY (host) VALUE price INTO t", "price"),
        ("ON m KEY (host) USING 'magic' INTO t", "known methods are"),
        ("ON m KEY (value) INTO t", "not a label"),
        ("ON m WHERE (ts > now()) KEY (host) INTO t", "another time"),
        ("ON m KEY (host) INTO q_out", "continuous query q writes to q_out"),
        ("ON logs INTO t", "value"),
    ] {
        let error = lives.query(&format!("CREATE DETECTOR d {rest}")).unwrap_err();
        assert!(error.message.contains(reason), "{rest}: {error}");
    }
    assert!(lives.table("SELECT name FROM sys.detectors").is_empty());
}

#[test]
fn explain_says_how_a_query_works() {
    let lives = Lives::new();
    an_hour(&lives);
    lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out LATE REVISE WITHIN '1h' AS {COUNTS}"));
    lives.run("CREATE DETECTOR d ON q_out KEY (host) VALUE n WATERMARK '1m' INTO t");
    let text = |sql: &str| arrow::util::pretty::pretty_format_batches(&lives.query(sql).unwrap()).unwrap().to_string();
    let query = text("EXPLAIN CONTINUOUS QUERY q");
    for expected in ["m (metric)", "host", "n, total", "partial aggregates of open buckets", "revise within 1h"] {
        assert!(query.contains(expected), "{expected}: {query}");
    }
    let detector = text("EXPLAIN DETECTOR d");
    for expected in ["q_out (rows of a continuous query)", "detector, host", "window close", "one detector a series"] {
        assert!(detector.contains(expected), "{expected}: {detector}");
    }
}

#[test]
fn detectors_that_hold_more_memory_than_they_may_let_go_of_it_and_lose_nothing() {
    const MEMORY: usize = 200 << 10;
    let mut lives = Lives::frugal(MEMORY);
    an_hour(&lives);
    lives.run("CREATE DETECTOR d ON m KEY (host) INTO d_out");
    lives.run("CREATE DETECTOR e ON m WHERE (host = 'h1') KEY (host) USING 'ewma' INTO e_out");
    for round in 0..6 {
        for second in 0..40 {
            let second = 3_600 + round * 400 + second * 10;
            lives.write("m", &HOSTS.map(|name| host(name, second, (second % 7) as f64)));
        }
        lives.drain();
        let (held, most) =
            lives.with_database(|database| Box::pin(async move { Ok(database.continuous_memory_bytes()) }));
        assert!(held <= most && most == MEMORY, "{held} of {most}");
        if round == 3 {
            lives.engine().flush().unwrap();
            lives.kill();
        }
    }
    for (table, name, method, filter) in [("d_out", "d", "auto", ""), ("e_out", "e", "ewma", "WHERE host = 'h1'")] {
        let call = format!("anomaly(CAST(value AS DOUBLE), method => '{method}') OVER (PARTITION BY host ORDER BY ts)");
        let fields = ["score", "expected", "lo", "hi", "is_anomaly", "tier"].map(|f| format!("{call}['{f}'] AS {f}"));
        let expected = format!(
            "SELECT ts, '{name}' AS detector, host, value, {}, CAST(NULL AS INT) AS version FROM m {filter}",
            fields.join(", ")
        );
        let got = lives.table(&format!("SELECT * FROM {table}"));
        assert_eq!(difference(&got, &lives.table(&expected), &[]), None, "{name}");
    }
    // What is stored of the series is in the file after a flush, and no longer in memory.
    lives.engine().flush().unwrap();
    let size = lives.engine().snapshot().state_size(b"");
    assert!(size.held_bytes == 0 && size.filed_bytes > 20 * 1_000, "{size:?}");
}
