//! What is pushed into the scan, and that it changes no answer.
use std::sync::Arc;

use foretell_query::QueryLimits;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::conditions::{Domain, LABELS, Labels, Row, VALUES};
use crate::store::{START, Store, write};

async fn explain(store: &Store, sql: &str) -> String {
    let rows = store.rows(&format!("EXPLAIN {sql}")).await.unwrap();
    rows.into_iter().filter(|r| r[0] == "physical_plan").map(|r| r[1].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_filters_in_the_scan() {
    let store = Store::prepared();
    for (filter, expect) in [
        ("host = 'a'", r#"series=1, matchers=[host="a"]"#),
        ("host != 'a'", r#"series=2, matchers=[host!="a", host!=""]"#),
        ("host IN ('a', 'b', 'c', 'd', 'e')", r#"matchers=[host in "a|b|c|d|e"]"#),
        ("host IN ('a', 'b')", r#"matchers=[host in "a|b"]"#),
        ("host = 'a' OR host = 'b'", r#"matchers=[host in "a|b"]"#),
        ("host NOT IN ('a', 'b')", r#"host!="a""#),
        ("region IS NULL", r#"series=1, matchers=[region=""]"#),
        ("region IS NOT NULL", r#"series=2, matchers=[region!=""]"#),
        ("host LIKE 'a%'", "matchers=[host=~"),
        ("host NOT LIKE 'a%'", "matchers=[host!~"),
        ("host ~ '^[ab]'", "matchers=[host=~"),
        ("host !~ '[ab]$'", "matchers=[host!~"),
        ("ts >= '2026-01-01T00:10:00Z'", "ts=[1767226200000000000..]"),
        ("ts > TIMESTAMP '2026-01-01 00:10:00'", "ts=[1767226200000000001..]"),
        (
            "ts BETWEEN '2026-01-01T00:10:00Z' AND '2026-01-01T00:20:00Z'",
            "ts=[1767226200000000000..=1767226800000000000]",
        ),
        ("ts < now() - INTERVAL '1 hour'", "ts=[..="),
        (
            "ts >= to_timestamp('2026-01-01T00:10:00Z') AND host = 'a'",
            r#"ts=[1767226200000000000..], matchers=[host="a"]"#,
        ),
        ("ts = '2026-01-01T00:10:00Z'", "ts=[1767226200000000000..=1767226200000000000]"),
    ] {
        let plan = explain(&store, &format!("SELECT value FROM cpu_usage WHERE {filter}")).await;
        assert!(plan.contains(expect), "{filter}\n{plan}");
        assert!(plan.contains("projection=[value]"), "{filter}\n{plan}");
        assert!(!plan.contains("FilterExec"), "{filter}\n{plan}");
    }
    let plan = explain(&store, "SELECT value FROM cpu_usage WHERE value > 5").await;
    assert!(plan.contains("FilterExec"), "{plan}");
    let plan = explain(&store, "SELECT value FROM cpu_usage WHERE host = 'a' LIMIT 3").await;
    assert!(plan.contains("limit=3"), "{plan}");
    let plan =
        explain(&store, "SELECT count(*) FROM samples WHERE metric = 'cpu_usage' AND labels['host'] = 'a'").await;
    assert!(plan.contains(r#"series=1, matchers=["#) && !plan.contains("FilterExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_filters_give_what_brute_force_gives() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut random = StdRng::seed_from_u64(seed);
    let store = Store::empty(QueryLimits::default());
    let mut rows = Vec::new();
    let instants: Vec<i64> = (0..20).map(|i| START + i * 1_000).collect();
    let domain = Domain { column: str::to_owned, instants: &instants };
    for round in 0..40 {
        let mut labels = Labels::new();
        for name in LABELS {
            let value = VALUES[random.random_range(0..VALUES.len())];
            if !value.is_empty() && random.random_bool(0.7) {
                labels.insert(name, value);
            }
        }
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, *v)).chain([("__name__", "m")]).collect();
        let samples: Vec<(i64, f64)> = (0..random.random_range(1..10))
            .map(|_| (START + random.random_range(0..20) * 1_000, f64::from(random.random_range(0..10))))
            .collect();
        write(&store.engine, &pairs, &samples);
        let labels = Arc::new(labels);
        for (ts, value) in samples {
            // Of equal timestamps the newest wins.
            rows.retain(|row: &Row| row.ts != ts || row.labels != labels);
            rows.push(Row { ts, value, labels: Arc::clone(&labels) });
        }
        if round % 13 == 12 {
            store.engine.flush().unwrap();
        }
    }
    // A column exists once some series has the label.
    write(&store.engine, &[("__name__", "m"), ("a", "x"), ("b", "x"), ("c", "x")], &[]);
    for query in 0..400 {
        let condition = domain.condition(&mut random, 3);
        let sql = format!("SELECT ts, value, a, b, c FROM m WHERE {}", condition.sql);
        let mut got = store.rows(&sql).await.unwrap_or_else(|e| panic!("seed {seed}, query {query}: {sql}: {e}"));
        let shown = |row: &Row| {
            let label = |name: &str| row.labels.get(name).map_or("NULL".to_owned(), |v| (*v).to_owned());
            let nanos = row.ts - START;
            let ts =
                if nanos == 0 { "2026-01-01T00:00:00Z".to_owned() } else { format!("2026-01-01T00:00:00.{nanos:09}Z") };
            vec![ts, format!("{:?}", row.value), label("a"), label("b"), label("c")]
        };
        let mut expected: Vec<Vec<String>> = rows.iter().filter(|row| condition.holds(row)).map(shown).collect();
        got.iter_mut().for_each(|row| row[0] = padded(&row[0]));
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "seed {seed}, query {query}: {sql}");
    }
}

/// Arrow leaves out trailing groups of zeros.
fn padded(ts: &str) -> String {
    match ts.strip_suffix('Z').and_then(|t| t.split_once('.')) {
        Some((seconds, fraction)) => format!("{seconds}.{fraction:0<9}Z"),
        None => ts.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_few_rows_use_one_core_and_answer_as_others_do() {
    let counted = "SELECT host, count(*) AS n, sum(value) AS s FROM (SELECT * FROM m LIMIT 1000000) AS m GROUP BY host ORDER BY host";
    let mut answers = Vec::new();
    for (rows, spread_small, spread) in [(100, false, false), (100, true, true), (5_000, false, true)] {
        let store = Store::empty(QueryLimits { spread_small, ..QueryLimits::default() });
        for host in ["a", "b"] {
            let samples: Vec<(i64, f64)> = (0..rows).map(|i| (START + i * 1_000_000_000, (i % 7) as f64)).collect();
            write(&store.engine, &[("__name__", "m"), ("host", host)], &samples);
            store.engine.flush().unwrap();
        }
        let plan = explain(&store, counted).await;
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(plan.contains("Repartition"), spread && cores > 1, "{rows} {spread_small}\n{plan}");
        answers.push(store.rows(counted).await.unwrap());
        assert_eq!(answers.last().unwrap().len(), 2);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[2][1][..2], ["b", "5000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_that_is_far_too_low_costs_no_row() {
    const ROWS: i64 = 100_000;
    let store = Store::empty(QueryLimits::default());
    // One write with all rows of one series, not sorted yet: it is taken for one row. Its batches are more than may wait.
    let samples: Vec<(i64, f64)> = (0..ROWS).map(|i| (START + i * 1_000_000, i as f64)).collect();
    write(&store.engine, &[("__name__", "m"), ("host", "a")], &samples);
    let plan = explain(&store, "SELECT value, count(*) FROM m GROUP BY value").await;
    assert!(!plan.contains("Repartition"), "{plan}");
    let values: Vec<String> = store.rows("SELECT value FROM m").await.unwrap().concat();
    assert_eq!(values.len() as i64, ROWS);
    assert!(values.iter().enumerate().all(|(i, value)| value.parse::<f64>().unwrap() == i as f64));
    let sum = store.rows("SELECT count(*), sum(value) FROM (SELECT value FROM m LIMIT 1000000)").await.unwrap();
    assert_eq!(sum[0][0], ROWS.to_string());
    assert_eq!(sum[0][1].parse::<f64>().unwrap(), (ROWS * (ROWS - 1) / 2) as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn estimated_rows_are_not_taken_for_exact_numbers_of_distinct_values() {
    let store = Store::prepared();
    for filter in ["a.value = -1 AND b.value = -2", "a.value = -1 AND b.value = -2 AND a.host = b.host"] {
        let sql = format!(
            "SELECT count(DISTINCT a.value), count(DISTINCT b.value) FROM cpu_usage a, cpu_usage b WHERE {filter}"
        );
        assert_eq!(store.rows(&sql).await.unwrap(), [["0", "0"]], "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_where_it_was_planned_says_why() {
    let store = Store::prepared();
    let error = store.rows("SELECT CAST(host AS INT) FROM cpu_usage").await.unwrap_err();
    assert!(error.to_string().contains("host") || error.to_string().to_lowercase().contains("cast"), "{error}");
    let limits = QueryLimits { rows_max: 10, ..QueryLimits::default() };
    let store = Store::empty(limits);
    write(&store.engine, &[("__name__", "m")], &(0..11).map(|i| (START + i, 1.0)).collect::<Vec<_>>());
    let error = store.rows("SELECT value FROM m").await.unwrap_err();
    assert!(error.to_string().contains("more than 10 rows"), "{error}");
}
