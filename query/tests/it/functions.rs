//! Functions whose answers are checked against `foretell-ml` or by arithmetic rather than by text.
use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use foretell_ml::detect::{Detector, DetectorOptions, Method};
use foretell_query::QueryLimits;

use crate::store::{MINUTE, START, Store, write};

#[tokio::test(flavor = "multi_thread")]
async fn scores_are_those_of_the_detector_for_any_batch_boundary() {
    let store = Store::empty(QueryLimits::default());
    let rows = 20_000i64;
    let value = |i: i64| ((i * 2_654_435_761) % 1_000) as f64 / 100.0 + if i % 5_000 == 4_999 { 500.0 } else { 0.0 };
    for host in 0..3i64 {
        let name = host.to_string();
        let samples: Vec<(i64, f64)> = (0..rows).map(|i| (START + i * MINUTE, value(i + host))).collect();
        write(&store.engine, &[("__name__", "m"), ("host", &name)], &samples);
    }
    for method in Method::ALL.map(Method::name) {
        let sql = format!(
            "SELECT anomaly_score(value, method => '{method}', season => '1d') OVER (PARTITION BY host ORDER BY ts) AS score \
             FROM m ORDER BY host, ts"
        );
        let batches = store.query(&sql).await.unwrap();
        let got = batches.iter().flat_map(|b| b.column(0).as_primitive::<Float64Type>().iter().collect::<Vec<_>>());
        let mut expected = Vec::new();
        for host in 0..3 {
            let options = DetectorOptions { season_ns: Some(86_400_000_000_000), ..DetectorOptions::default() };
            let mut detector = Detector::new(method.parse::<Method>().unwrap(), options).unwrap();
            expected.extend((0..rows).map(|i| detector.update(START + i * MINUTE, value(i + host)).score));
        }
        assert!(got.map(|s| s.map(f64::to_bits)).eq(expected.iter().map(|s| s.map(f64::to_bits))), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_depends_on_no_later_row() {
    let store = Store::prepared();
    let score = |until: i64| {
        format!(
            "SELECT host, ts, anomaly_score(value, method => 'mad') OVER (PARTITION BY host ORDER BY ts) AS s FROM cpu_usage \
             WHERE ts < to_timestamp_nanos({}) ORDER BY host, ts",
            START + until * MINUTE
        )
    };
    let all = store.rows(&score(60)).await.unwrap();
    let some = store.rows(&score(45)).await.unwrap();
    assert_eq!(some.len(), 45 * 3);
    for row in some {
        assert!(all.contains(&row), "{row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_anomaly_is_found() {
    let store = Store::prepared();
    let sql = "SELECT host, ts FROM (SELECT host, ts, anomaly(value, method => 'mad') OVER (PARTITION BY host ORDER BY ts) AS a FROM cpu_usage) \
               WHERE a['is_anomaly'] ORDER BY a['score'] DESC LIMIT 1";
    assert_eq!(store.rows(sql).await.unwrap(), [["b", "2026-01-01T00:50:00Z"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_are_the_same_for_any_number_of_partitions() {
    let store = Store::empty(QueryLimits { spread_small: true, ..QueryLimits::default() });
    // Many series, so that the scan is split; the same values, so that averaging equal times changes nothing.
    for host in 0..10 {
        let samples: Vec<(i64, f64)> = (0..200).map(|i| (START + i * MINUTE, ((i * 37) % 11) as f64)).collect();
        write(&store.engine, &[("__name__", "m"), ("host", &host.to_string())], &samples);
    }
    for call in [
        "forecast(ts, value, 3)",
        "time_to_exhaustion(ts, value, 10, 3)",
        "change_points(ts, value)",
        "seasonality(ts, value)",
        "decompose(ts, value)",
        "correlate(value, value + 1, 5 ORDER BY ts)",
    ] {
        let all = store.cell(&format!("SELECT {call} FROM m")).await;
        let one = store.cell(&format!("SELECT {call} FROM m WHERE host = '3'")).await;
        assert_eq!(all, one, "{call}");
        let per_host = store.rows(&format!("SELECT DISTINCT CAST({call} AS VARCHAR) FROM m GROUP BY host")).await;
        if let Ok(per_host) = per_host {
            assert_eq!(per_host.len(), 1, "{call}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_season_is_found_and_taken_out() {
    let store = Store::empty(QueryLimits::default());
    let value = |i: i64| 100.0 + i as f64 + [0.0, 8.0, 3.0, -2.0, -9.0][(i % 5) as usize];
    let samples: Vec<(i64, f64)> = (0..200).map(|i| (START + i * MINUTE, value(i))).collect();
    write(&store.engine, &[("__name__", "m"), ("host", "a")], &samples);
    write(&store.engine, &[("__name__", "m"), ("host", "b")], &samples[..2]);
    let found = "SELECT host, seasonality(ts, value)['period'] FROM m GROUP BY host ORDER BY host";
    let rows = store.rows(found).await.unwrap();
    assert_eq!(rows[0][1], (5 * MINUTE).to_string());
    let parts = |argument: &str| {
        format!(
            "SELECT max(abs(s)) > 7, max(abs(r)) < 1, count(*) FROM (SELECT unnest(d['seasonal']) AS s, unnest(d['residual']) AS r \
             FROM (SELECT decompose(ts, value{argument}) AS d FROM m WHERE host = 'a'))"
        )
    };
    for argument in ["", ", '5m'", ", season => INTERVAL '5 minutes'"] {
        assert_eq!(store.rows(&parts(argument)).await.unwrap(), [["true", "true", "200"]], "{argument}");
    }
    assert_eq!(store.cell("SELECT decompose(ts, value) IS NULL FROM m WHERE host = 'b'").await, "true");
    let error = store.rows("SELECT decompose(ts, value, 5) FROM m").await.unwrap_err();
    assert!(error.to_string().contains("'season' must be a length of time"), "{error}");
}

/// Two disks, one filling and one as full as ever, and a third with two rows only.
fn disks() -> Store {
    let store = Store::empty(QueryLimits::default());
    for (host, rows, slope) in [("a", 100, 1.0), ("b", 100, 0.0), ("c", 2, 1.0)] {
        let samples: Vec<(i64, f64)> = (0..rows).map(|i| (START + i * MINUTE, slope * i as f64)).collect();
        write(&store.engine, &[("__name__", "disk"), ("host", host)], &samples);
    }
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rising_series_reaches_its_capacity_and_a_constant_or_short_one_never() {
    let store = disks();
    let sql = "SELECT * FROM time_to_exhaustion(TABLE disk, id => [host], capacity => 110, horizon => '30m', method => 'drift') ORDER BY host";
    let table = store.rows(sql).await.unwrap();
    let full_at = store.rows("SELECT max(ts) + INTERVAL '11 minutes' FROM disk").await.unwrap()[0][0].clone();
    let hosts: Vec<&str> = table.iter().map(|row| row[0].as_str()).collect();
    assert_eq!((hosts, table[0][1].as_str()), (vec!["a", "b", "c"], full_at.as_str()), "{table:?}");
    assert_eq!(table[1][1..], table[2][1..], "NULL of both");
    assert!(table[1][1..].iter().all(|cell| *cell != full_at), "{table:?}");
    let aggregate = "SELECT host, x['ts'], x['earliest'], x['latest'] \
                     FROM (SELECT host, time_to_exhaustion(ts, value, 110, '30m', method => 'drift') AS x FROM disk GROUP BY host) ORDER BY host";
    assert_eq!(store.rows(aggregate).await.unwrap(), table);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_is_the_same_as_a_table_however_the_relation_is_spelled() {
    let store = disks();
    let aggregate = "SELECT host, f['ts'], f['value'], f['lo'], f['hi'] \
                     FROM (SELECT host, unnest(forecast(ts, value, 5)) AS f FROM disk GROUP BY host) ORDER BY 1, 2";
    let expected = store.rows(aggregate).await.unwrap();
    assert_eq!(expected.len(), 10, "hosts a and b");
    for relation in [
        "TABLE disk",
        "TABLE metrics.disk",
        "'disk'",
        "'metrics.\"disk\"'",
        "disk",
        "'SELECT * FROM disk'",
        "(SELECT ts, value, host FROM disk)",
        "'WITH d AS (SELECT * FROM disk) SELECT * FROM d;'",
    ] {
        for id in ["[host]", "host", "'host'", "['host']"] {
            let sql = format!(
                "SELECT * FROM forecast({relation}, ts => ts, value => value, id => {id}, horizon => '5m') ORDER BY 1, 2"
            );
            assert_eq!(store.rows(&sql).await.unwrap(), expected, "{sql}");
        }
    }
    let joined = "SELECT count(*) FROM forecast(TABLE disk, id => host, horizon => 5) f JOIN time_to_exhaustion(disk, id => host, capacity => 110, horizon => 5) t ON f.host = t.host";
    assert_eq!(store.cell(joined).await, "10");
}

/// Hours of a shop for 50 days with a calendar that goes on for two more; each day of `HOLIDAYS` is closed.
fn shop() -> Store {
    const HOLIDAYS: [i64; 8] = [5, 11, 13, 20, 28, 31, 40, 50];
    let store = Store::empty(QueryLimits::default());
    let hour = |i: i64| START + i * 60 * MINUTE;
    let closed = |i: i64| HOLIDAYS.contains(&(i / 24));
    let sales = |i: i64| if closed(i) { 2.0 } else { 100.0 + ((i % 24) * 5 + i * 7 % 11) as f64 };
    let samples: Vec<(i64, f64)> = (0..50 * 24).map(|i| (hour(i), sales(i))).collect();
    write(&store.engine, &[("__name__", "sales"), ("shop", "a")], &samples);
    let samples: Vec<(i64, f64)> = (0..52 * 24).map(|i| (hour(i), f64::from(u8::from(closed(i))))).collect();
    write(&store.engine, &[("__name__", "holiday")], &samples);
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holiday_of_the_calendar_is_forecast_and_a_calendar_that_ends_is_told() {
    let store = shop();
    let rows = "(SELECT h.ts, s.value, h.value AS holiday, h.value > 0 AS closed FROM holiday h LEFT JOIN sales s ON s.ts = h.ts)";
    let mean = |arguments: &str| format!("SELECT avg(value) FROM forecast({rows}, horizon => 24{arguments})");
    let usual: f64 = store.cell(&mean("")).await.parse().unwrap();
    assert!(usual > 120.0, "{usual}");
    for regressors in ["[holiday]", "holiday", "['holiday']", "[holiday, closed]", "[closed]"] {
        let known: f64 = store.cell(&mean(&format!(", regressors => {regressors}"))).await.parse().unwrap();
        assert!(known < 60.0, "{regressors}: {known}");
    }
    for (arguments, expect) in [
        ("horizon => 49, regressors => [holiday]", "regressor 1 of 1 is known at 48 of the 49 steps"),
        ("horizon => 24, regressors => ['vacation']", "vacation"),
        ("horizon => 24, regressors => [ts]", "'regressors' must be columns of numbers"),
    ] {
        let error = store.rows(&format!("SELECT * FROM forecast({rows}, {arguments})")).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{arguments}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_table_forms_are_told_and_what_is_text_is_bounded_like_the_rest() {
    let store = disks();
    for (from, expect) in [
        ("time_to_exhaustion(TABLE disk, capacity => 110, horizon => '30m', method => 'crystal')", "seasonal_naive"),
        ("time_to_exhaustion(TABLE disk, capacity => NULL, horizon => '30m')", "'capacity' must be a number"),
        ("time_to_exhaustion(TABLE disk, horizon => '30m')", "argument 'capacity' is missing"),
        ("forecast(TABLE disk, horizon => 0)", "horizon"),
        ("forecast(TABLE disk, horizon => 11001)", "11000"),
        ("forecast(TABLE nowhere, horizon => 5)", "nowhere"),
        ("forecast('DROP TABLE disk', horizon => 5)", "must be the name of a table or a SELECT"),
        ("forecast('SELECT 1; SELECT 2', horizon => 5)", "must be the name of a table or a SELECT"),
        ("forecast(TABLE disk, id => [nothing], horizon => 5)", "nothing"),
        ("forecast(TABLE disk, hosts => [host], horizon => 5)", "unknown argument 'hosts'"),
    ] {
        let error = store.rows(&format!("SELECT * FROM {from}")).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{from}: {error}");
    }
    let deep = format!("SELECT * FROM forecast('SELECT {}1{}', horizon => 5)", "(".repeat(200), ")".repeat(200));
    let error = store.rows(&deep).await.unwrap_err();
    assert!(error.to_string().contains("levels of nesting"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_many_forecasts_are_sorted_by_all_that_was_asked() {
    let store = Store::empty(QueryLimits::default());
    for host in 0..40 {
        let samples: Vec<(i64, f64)> =
            (0..100).map(|i| (START + i * MINUTE, f64::from((7 * i as i32 + host) % 11))).collect();
        write(&store.engine, &[("__name__", "load"), ("host", &host.to_string())], &samples);
    }
    for sql in [
        "SELECT host, f['ts'] AS ts FROM (SELECT host, unnest(forecast(ts, value, 48)) AS f FROM load GROUP BY host) ORDER BY host, f['ts']",
        "SELECT host, ts FROM forecast(TABLE load, id => [host], horizon => 48) ORDER BY host, ts",
    ] {
        let rows = store.rows(sql).await.unwrap();
        assert_eq!(rows.len(), 40 * 48);
        assert!(rows.is_sorted(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_as_a_table_has_many_rows_of_a_key_wherever_it_stands() {
    let store = Store::empty(QueryLimits::default());
    for host in ["a", "b", "c"] {
        let samples: Vec<(i64, f64)> = (0..100).map(|i| (START + i * MINUTE, f64::from(7 * i as i32 % 11))).collect();
        write(&store.engine, &[("__name__", "load"), ("host", host)], &samples);
    }
    let by_hand = "(SELECT not_unique(host) AS host, f['ts'] AS ts FROM (SELECT host, unnest(forecast(ts, value, 8)) AS f FROM load GROUP BY host))";
    let as_table = "forecast(TABLE load, id => [host], horizon => 8)";
    for rows in [by_hand, as_table] {
        for (sql, expect) in [
            (format!("SELECT count(*) FROM (SELECT host, ts FROM {rows} GROUP BY host, ts)"), vec![vec!["24"]]),
            (format!("SELECT count(*) FROM (SELECT DISTINCT host, ts FROM {rows})"), vec![vec!["24"]]),
            (
                format!("SELECT host, count(*) FROM {rows} GROUP BY host ORDER BY host"),
                vec![vec!["a", "8"], vec!["b", "8"], vec!["c", "8"]],
            ),
            (
                format!("SELECT count(*) FROM (VALUES ('a'), ('b')) AS k(host) JOIN {rows} AS r ON k.host = r.host"),
                vec![vec!["16"]],
            ),
            (
                format!(
                    "SELECT count(*) FROM (VALUES ('a'), ('z')) AS k(host) LEFT JOIN {rows} AS r ON k.host = r.host"
                ),
                vec![vec!["9"]],
            ),
            (format!("SELECT count(*), min(host) FROM {rows} WHERE host = 'b'"), vec![vec!["8", "b"]]),
        ] {
            assert_eq!(store.rows(&sql).await.unwrap(), expect, "{sql}");
        }
        let plan =
            store.rows(&format!("EXPLAIN SELECT * FROM {rows} WHERE host = 'b'")).await.unwrap().concat().concat();
        assert!(plan.contains("series=1"), "the condition reaches the index: {plan}");
    }
}
