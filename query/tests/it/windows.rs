//! Windows over whole series go without a sort, and answer as with one.
use foretell_query::QueryLimits;

use crate::store::{MINUTE, START, Store, write};

/// As statements of many rows are planned: a sort of few is not worth sparing.
fn spread() -> QueryLimits {
    QueryLimits { spread_small: true, ..QueryLimits::default() }
}

/// Whether the plan goes without a sort.
async fn goes_along(store: &Store, sql: &str) -> bool {
    let plan: String = store.rows(&format!("EXPLAIN {sql}")).await.unwrap().concat().concat();
    assert!(plan.contains("WindowAggExec"), "{plan}");
    let spared = plan.contains("SeriesOrderedExec");
    assert!(spared != plan.contains("SortExec: expr=["), "{plan}");
    spared
}

const SCORED: &str =
    "SELECT host, region, ts, anomaly_score(value) OVER (PARTITION BY host ORDER BY ts) AS score FROM cpu_usage";

#[tokio::test(flavor = "multi_thread")]
async fn a_window_over_whole_series_needs_no_sort_and_any_other_does() {
    let store = Store::prepared_with(spread());
    assert!(goes_along(&store, SCORED).await);
    let counted = |from: &str| format!("SELECT count(*) FILTER (WHERE score > 1) FROM ({from})");
    assert!(goes_along(&store, &counted(SCORED)).await);
    assert!(goes_along(&store, &SCORED.replace("PARTITION BY host", "PARTITION BY region, host")).await);
    assert!(goes_along(&store, &format!("{SCORED} WHERE value > 1")).await);
    for other in [
        SCORED.replace("PARTITION BY host", "PARTITION BY host || 'x'"),
        SCORED
            .replace("PARTITION BY host ORDER BY ts", "PARTITION BY host ORDER BY value")
            .replace("anomaly_score(value)", "lag(value)"),
        SCORED
            .replace("PARTITION BY host ORDER BY ts", "PARTITION BY host ORDER BY ts DESC")
            .replace("anomaly_score(value)", "lag(value)"),
        // what is above relies on the order of hosts
        format!("{SCORED} ORDER BY host, ts"),
    ] {
        assert!(!goes_along(&store, &other).await, "{other}");
    }
}

/// Rows in several files and in memory, late ones, overwritten ones, deleted ones.
async fn scattered() -> Store {
    let store = Store::prepared_with(spread());
    for round in 0..4 {
        for host in ["a", "b", "d", "e", "f"] {
            let samples: Vec<(i64, f64)> = (0..40)
                .map(|i| (START + (17 * round + 3 * i) * MINUTE, f64::from((7 * i as i32 + round as i32) % 11)))
                .collect();
            write(&store.engine, &[("__name__", "cpu_usage"), ("host", host), ("region", "eu")], &samples);
        }
        if round < 3 {
            store.engine.flush().unwrap();
        }
    }
    store.rows("DELETE FROM cpu_usage WHERE host = 'e' AND ts < '2026-01-01T00:20:00Z'").await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sort_the_answers_are_the_same() {
    let store = scattered().await;
    // several series of a region
    assert!(!goes_along(&store, &SCORED.replace("PARTITION BY host", "PARTITION BY region")).await);
    // and two of a host
    assert!(!goes_along(&store, SCORED).await);
    for function in
        ["anomaly_score(value)", "anomaly_score(value, method => 'mad')", "lag(value)", "row_number()", "sum(value)"]
    {
        // labels are a and b and one for each series
        let key = "coalesce(host, '') || coalesce(region, '')";
        let whole = format!(
            "SELECT {key} AS k, ts, {function} OVER (PARTITION BY host, region ORDER BY ts) AS x FROM cpu_usage"
        );
        let sorted =
            format!("SELECT {key} AS k, ts, {function} OVER (PARTITION BY {key} ORDER BY ts) AS x FROM cpu_usage");
        assert!(goes_along(&store, &whole).await && !goes_along(&store, &sorted).await, "{function}");
        let collected = |sql: &str| format!("SELECT * FROM ({sql}) WHERE ts IS NOT NULL");
        let (mut found, mut expected) =
            (store.rows(&collected(&whole)).await.unwrap(), store.rows(&collected(&sorted)).await.unwrap());
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{function}");
        assert!(found.len() > 250, "{}", found.len());
        // and what sits above it, also where it counts on hashes of the key
        let joined = |sql: &str| {
            format!(
                "SELECT a.k, count(*), count(a.x) FROM ({sql}) AS a JOIN (SELECT DISTINCT {key} AS k FROM cpu_usage) AS b ON a.k = b.k GROUP BY a.k ORDER BY a.k"
            )
        };
        assert_eq!(
            store.rows(&joined(&whole)).await.unwrap(),
            store.rows(&joined(&sorted)).await.unwrap(),
            "{function}"
        );
        let summed =
            |sql: &str| format!("SELECT k, count(*), count(x), min(ts), max(ts) FROM ({sql}) GROUP BY k ORDER BY k");
        assert_eq!(
            store.rows(&summed(&whole)).await.unwrap(),
            store.rows(&summed(&sorted)).await.unwrap(),
            "{function}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_over_more_rows_than_there_is_memory_for_is_answered() {
    let limits = QueryLimits { memory_bytes_max: 12 << 20, ..QueryLimits::default() };
    let store = Store::empty(limits);
    let samples: Vec<(i64, f64)> = (0..100_000).map(|i| (START + i * 1_000_000_000, (i % 17) as f64)).collect();
    for host in 0..8 {
        write(&store.engine, &[("__name__", "load"), ("host", &host.to_string())], &samples);
    }
    store.engine.flush().unwrap();
    let counted = |key: &str| {
        format!(
            "SELECT count(*), count(x) FROM (SELECT anomaly_score(value, method => 'mad') OVER (PARTITION BY {key} ORDER BY ts) AS x FROM load)"
        )
    };
    assert_eq!(store.rows(&counted("host")).await.unwrap(), [["800000", "799920"]]);
    let sorted = store.rows(&counted("host || 'x'")).await.unwrap_err();
    assert!(sorted.message.contains("memory"), "{sorted}");
}
