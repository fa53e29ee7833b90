//! Aggregations that the engine sums up: what EXPLAIN shows of them, and that it changes no answer.
use std::collections::BTreeSet;

use foretell_query::QueryLimits;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::store::{START, Store, text, write};

/// Holds for every row, and DataFusion cannot know: rows must be read one by one.
const ROW_BY_ROW: &str = "random() >= 0.0";

async fn plan(store: &Store, sql: &str) -> String {
    let rows = store.rows(&format!("EXPLAIN {sql}")).await.unwrap();
    rows.into_iter().filter(|r| r[0] == "physical_plan").map(|r| r[1].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_what_the_engine_sums_up() {
    let store = Store::prepared();
    for (sql, expect) in [
        ("SELECT max(value) FROM cpu_usage", "series=3, projection=[max(value)], summed up by series"),
        (
            "SELECT count(*) FROM cpu_usage WHERE host = 'a'",
            r#"series=1, matchers=[host="a"], projection=[count(*)], summed"#,
        ),
        (
            "SELECT time_bucket('5m', ts) AS t, host, avg(value) FROM cpu_usage GROUP BY t, host",
            "projection=[ts, host, count(*), sum(value)], summed up by series and 5m",
        ),
        ("SELECT date_trunc('hour', ts), sum(value) FROM cpu_usage GROUP BY 1", "summed up by series and 1h"),
        (
            "SELECT date_bin(INTERVAL '90 seconds', ts), min(ts) FROM cpu_usage GROUP BY 1",
            "summed up by series and 1m30s",
        ),
        (
            "SELECT upper(host), min(value) FROM cpu_usage c GROUP BY 1",
            "projection=[host, min(value)], summed up by series",
        ),
        ("SELECT DISTINCT region FROM cpu_usage", "summed up by series"),
        (
            "SELECT metric, sum(value) FROM samples GROUP BY metric",
            "projection=[metric, sum(value)], summed up by series",
        ),
        (
            "SELECT labels['host'], sum(value) FROM samples WHERE metric = 'cpu_usage' GROUP BY 1",
            "projection=[labels, sum(value)], summed up by series",
        ),
        ("SELECT host, last(value, ts) FROM cpu_usage GROUP BY host", "newest sample by series"),
        ("SELECT host, max(ts) FROM cpu_usage GROUP BY host", "newest sample by series"),
        ("SELECT DISTINCT ON (host) * FROM cpu_usage ORDER BY host, ts DESC", "newest sample by series"),
        ("SELECT host, first(value, ts) FROM cpu_usage GROUP BY host", "summed up by series"),
    ] {
        let plan = plan(&store, sql).await;
        assert!(plan.contains(expect), "{sql}\n{plan}");
    }
    for sql in [
        "SELECT max(value) FROM cpu_usage WHERE value > 5",
        "SELECT sum(value * 2) FROM cpu_usage",
        "SELECT value, count(*) FROM cpu_usage GROUP BY value",
        "SELECT ts, max(value) FROM cpu_usage GROUP BY ts",
        "SELECT date_trunc('week', ts), max(value) FROM cpu_usage GROUP BY 1",
        "SELECT time_bucket('1m', ts), time_bucket('2m', ts), max(value) FROM cpu_usage GROUP BY 1, 2",
        "SELECT count(DISTINCT value) FROM cpu_usage",
        "SELECT sum(value) FILTER (WHERE host = 'a') FROM cpu_usage",
        "SELECT count(region) FROM cpu_usage",
        "SELECT first_value(value) FROM cpu_usage",
        "SELECT host, region, sum(value) FROM cpu_usage GROUP BY ROLLUP (host, region)",
        "SELECT random() > 2.0, sum(value) FROM cpu_usage GROUP BY 1",
        "SELECT max(n) FROM svc_1m",
        "SELECT max(value), approx_percentile(value, 0.5) FROM cpu_usage",
    ] {
        let plan = plan(&store, sql).await;
        assert!(!plan.contains("summed up") && !plan.contains("newest"), "{sql}\n{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_counts_the_rows_that_zone_maps_answered_for() {
    let store = Store::empty(QueryLimits::default());
    let samples = |from: i64| (from..from + 100).map(|i| (START + i * 1_000_000_000, 1.0)).collect::<Vec<_>>();
    write(&store.engine, &[("__name__", "m")], &samples(0));
    store.engine.flush().unwrap();
    write(&store.engine, &[("__name__", "m")], &samples(100));
    for (sql, expect) in [
        ("SELECT count(*), sum(value) FROM m", Some("rows_unread=100")),
        ("SELECT time_bucket('1m', ts), sum(value) FROM m GROUP BY 1", None),
    ] {
        let rows = store.rows(&format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
        assert!(rows[0][1].contains(expect.unwrap_or("ScanExec")), "{rows:?}");
        assert!(expect.is_some() || !rows[0][1].contains("rows_unread"), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rollups_answer_long_steps_and_change_no_answer() {
    const HOUR: i64 = 3_600_000_000_000;
    let hour_ns = std::time::Duration::from_secs(3600);
    let limits = QueryLimits::default();
    let store = Store::with(limits, |config| config.rollup_widths = vec![hour_ns / 12, hour_ns]);
    let begin = START.div_euclid(24 * HOUR) * 24 * HOUR;
    for host in ["a", "b"] {
        let labels = [("__name__", "m"), ("host", host)];
        for day in 0..3 {
            // Every half minute, in whole numbers, so that sums are exact in any order.
            let at = |i: i64| (begin + day * 24 * HOUR + i * HOUR / 120, ((i * 7 + day) % 50) as f64);
            write(&store.engine, &labels, &(0..2880).map(at).collect::<Vec<_>>());
            store.engine.flush().unwrap();
        }
    }
    store.engine.compact().unwrap();
    let (by_hour, by_five) = ("time_bucket('1h', ts)", "time_bucket('5m', ts)");
    for bucket in [by_hour, by_five] {
        let sql = format!("SELECT {bucket}, host, min(value), max(value), avg(value) FROM m GROUP BY 1, 2");
        let explained = store.rows(&format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
        assert!(explained[0][1].contains("rows_rolled_up"), "{bucket}: {explained:?}");
    }
    // Neither the first nor the last of a bucket, where the two hosts have the same time.
    write(&store.engine, &[("__name__", "m"), ("host", "a")], &[(begin + 91 * HOUR / 60, 1000.0)]);
    let of_rollups = store.rows("SELECT count(*) > 0 FROM sys.segments WHERE rollup_bytes > 0").await.unwrap();
    assert_eq!(of_rollups, [["true"]]);
    for bucket in [by_hour, by_five, "time_bucket('90m', ts)", "time_bucket('1d', ts)"] {
        for condition in ["{filter}", "{filter} AND host = 'a'"] {
            let sql = format!(
                "SELECT {bucket} AS b, min(value), max(value), sum(value), count(*), first(value, ts), last(value, ts) \
                 FROM m WHERE {condition} GROUP BY 1"
            );
            same(&store, &sql, "rollups").await;
        }
    }
}

/// Rows of a statement, sorted, under its columns. `{filter}` stands where a condition may.
async fn answer(store: &Store, sql: &str, filter: &str, context: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let sql = sql.replace("{filter}", filter);
    let batches = store.query(&sql).await.unwrap_or_else(|error| panic!("{context}: {sql}: {error}"));
    let columns = batches.first().map(|batch| {
        batch.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
    });
    let mut rows: Vec<Vec<String>> = batches.iter().flat_map(text).collect();
    rows.sort();
    (columns.unwrap_or_default(), rows)
}

async fn same(store: &Store, sql: &str, context: &str) {
    let got = answer(store, sql, "true", context).await;
    let expected = answer(store, sql, ROW_BY_ROW, context).await;
    let differ = got.1.iter().zip(&expected.1).find(|(got, expected)| got != expected);
    assert_eq!(differ, None, "{context}: {sql}");
    assert_eq!(got.1.len(), expected.1.len(), "{context}: {sql}");
    // An empty answer may come without a batch.
    assert!(got.0 == expected.0 || got.1.is_empty(), "{context}: {sql}: {:?} {:?}", got.0, expected.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregations_inside_statements_stay_what_they_were() {
    let store = Store::prepared();
    for sql in [
        // A count is never NULL, and whoever reads it may rely on that.
        "SELECT max(n), sum(n) FROM (SELECT host, count(*) AS n FROM cpu_usage WHERE {filter} GROUP BY host)",
        "SELECT host, count(*) AS n FROM cpu_usage WHERE {filter} GROUP BY host HAVING count(*) > 10 AND max(value) > 20",
        "SELECT count(*), count(value), sum(value), avg(value), min(value), max(value), min(ts), max(ts), last(value, ts)
         FROM cpu_usage WHERE {filter} AND host = 'nobody'",
        "SELECT c.host, c.top, r.first FROM (SELECT host, max(value) AS top FROM cpu_usage WHERE {filter} GROUP BY host) c
         JOIN (SELECT host, min(ts) AS first FROM cpu_usage WHERE {filter} GROUP BY host) r ON c.host = r.host",
        "WITH h AS (SELECT time_bucket('10m', ts) AS t, host, avg(value) AS mean FROM cpu_usage WHERE {filter} GROUP BY t, host)
         SELECT t, max(mean), min(mean) FROM h WHERE t > '2026-01-01T00:10:00Z' GROUP BY t",
        "SELECT host, sum(value) FROM cpu_usage WHERE {filter} GROUP BY host
         UNION ALL SELECT code, sum(value) FROM http_requests_total WHERE {filter} GROUP BY code",
        "SELECT host, avg(value) - (SELECT avg(value) FROM cpu_usage WHERE {filter}) FROM cpu_usage WHERE {filter} GROUP BY host",
        "SELECT x.h, sum(x.v) FROM (SELECT upper(host) AS h, value AS v FROM cpu_usage WHERE {filter}) x GROUP BY x.h",
        "SELECT host AS a, host AS b, count(1) FROM cpu_usage WHERE {filter} GROUP BY a, b",
        "SELECT avg(value), avg(value) + 1, sum(value) / count(*), mean(value) AS m FROM cpu_usage WHERE {filter}",
        "SELECT DISTINCT ON (region) ts, host, value FROM cpu_usage WHERE {filter} AND host != 'b' ORDER BY region, ts DESC",
        "SELECT DISTINCT host, region FROM cpu_usage WHERE {filter} AND ts < '2026-01-01T00:20:00Z'",
        "SELECT metric, count(*), min(ts) FROM samples WHERE {filter} AND metric != 'extreme_times' GROUP BY metric",
        "SELECT min(value), max(value), sum(value), avg(value), count(value) FROM special_values WHERE {filter}",
        "SELECT time_bucket('2m', ts), min(value), max(value), last(value, ts) FROM special_values WHERE {filter} GROUP BY 1",
        "SELECT time_bucket('7d', ts), count(*), first(value, ts) FROM extreme_times WHERE {filter} GROUP BY 1",
        "SELECT min(ts), max(ts), last(value, ts) FROM extreme_times WHERE {filter}",
        "SELECT label_value, label_ts, count(*), max(value) FROM hidden_names WHERE {filter} GROUP BY 1, 2",
        "SELECT host, region, count(*) FROM cpu_usage WHERE {filter} GROUP BY GROUPING SETS ((host), (region), ())",
    ] {
        same(&store, sql, "prepared").await;
    }
}

const LABELS: [&str; 3] = ["a", "b", "c"];

/// Random series with random rows in segments and memory. `odd`: also values that compare oddly.
fn fill(random: &mut StdRng, store: &Store, odd: bool) {
    const ODD: [f64; 6] =
        [f64::NAN, f64::from_bits(0x7ff0_0000_0000_0002), -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY];
    for round in 0..60 {
        let mut pairs = vec![("__name__", "m")];
        for name in LABELS {
            if random.random_bool(0.7) {
                pairs.push((name, ["x", "y"].choose(random).unwrap()));
            }
        }
        let samples: Vec<(i64, f64)> = (0..random.random_range(1..20))
            .map(|_| {
                let value = f64::from(random.random_range(-4i8..5));
                let value = if odd && random.random_bool(0.2) { *ODD.choose(random).unwrap() } else { value };
                (START + random.random_range(0..20) * 1_000, value)
            })
            .collect();
        write(&store.engine, &pairs, &samples);
        if round % 13 == 12 {
            store.engine.flush().unwrap();
        }
        if round == 40 && random.random_bool(0.5) {
            store.engine.compact().unwrap();
        }
    }
    // A column exists once some series has the label.
    write(&store.engine, &[("__name__", "m"), ("a", "x"), ("b", "x"), ("c", "x")], &[]);
}

fn statement(random: &mut StdRng, odd: bool) -> String {
    const AGGREGATES: [&str; 13] = [
        "count(*)",
        "count(value)",
        "sum(value)",
        "avg(value)",
        "min(value)",
        "max(value)",
        "min(ts)",
        "max(ts)",
        "first(value, ts)",
        "last(value, ts)",
        "first_value(value ORDER BY ts DESC)",
        "last_value(ts ORDER BY ts)",
        "sum(value) + count(*)",
    ];
    let buckets = ["time_bucket('3us', ts)", "date_trunc('second', ts)", "time_bucket(INTERVAL '1 hour', ts)"];
    let mut groups: BTreeSet<&str> = BTreeSet::new();
    // What becomes of NaN and of equal times of several series is their order's accident: one series a group, or no groups
    // and no ends.
    let alone = odd || random.random_bool(0.3);
    let ungrouped = random.random_bool(0.3);
    if alone && !ungrouped {
        groups.extend(LABELS);
    } else if !ungrouped {
        groups.extend(["a", "b", "upper(c)", "coalesce(a, 'none')"].choose_multiple(random, 2));
    }
    if !ungrouped && random.random_bool(0.5) {
        groups.extend(buckets.choose(random));
    }
    let several = !alone || ungrouped;
    let all: Vec<&str> =
        AGGREGATES.into_iter().filter(|a| !(several && (a.starts_with("first") || a.starts_with("last")))).collect();
    let mut items: Vec<&str> = groups.iter().copied().collect();
    let count = random.random_range(usize::from(items.is_empty())..5);
    items.extend(all.choose_multiple(random, count));
    let filter = [
        "",
        " AND a = 'x'",
        " AND b IS NULL",
        " AND ts >= to_timestamp_nanos(1767225600000005000)",
        " AND ts BETWEEN to_timestamp_nanos(1767225600000003000) AND to_timestamp_nanos(1767225600000011000)",
    ]
    .choose(random)
    .unwrap();
    let grouping = groups.iter().copied().collect::<Vec<_>>().join(", ");
    let grouping = if groups.is_empty() { String::new() } else { format!(" GROUP BY {grouping}") };
    format!("SELECT {} FROM m WHERE {{filter}}{filter}{grouping}", items.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_aggregations_give_what_row_by_row_gives() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut random = StdRng::seed_from_u64(seed);
    let mut pushed = 0;
    for round in 0..8 {
        let odd = round % 2 == 1;
        let store = Store::empty(QueryLimits { spread_small: round % 4 < 2, ..QueryLimits::default() });
        fill(&mut random, &store, odd);
        for query in 0..40 {
            let sql = statement(&mut random, odd);
            let shown = plan(&store, &sql.replace("{filter}", "true")).await;
            pushed += usize::from(shown.contains("summed up") || shown.contains("newest"));
            same(&store, &sql, &format!("seed {seed}, round {round}, query {query}")).await;
        }
    }
    assert!(pushed > 300, "{pushed} of 320");
}
