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
    for method in ["auto", "mad", "ewma", "seasonal"] {
        let sql = format!(
            "SELECT anomaly_score(value, method => '{method}', season => '1d') OVER (PARTITION BY host ORDER BY ts) AS score \
             FROM m ORDER BY host, ts"
        );
        let batches = store.query(&sql).await.unwrap();
        let got = batches.iter().flat_map(|b| b.column(0).as_primitive::<Float64Type>().iter().collect::<Vec<_>>());
        let mut expected = Vec::new();
        for host in 0..3 {
            let options = DetectorOptions { season_ns: Some(86_400_000_000_000) };
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
    let store = Store::empty(QueryLimits::default());
    // Many series, so that the scan is split; the same values, so that averaging equal times changes nothing.
    for host in 0..10 {
        let samples: Vec<(i64, f64)> = (0..200).map(|i| (START + i * MINUTE, ((i * 37) % 11) as f64)).collect();
        write(&store.engine, &[("__name__", "m"), ("host", &host.to_string())], &samples);
    }
    for call in [
        "forecast(ts, value, 3)",
        "time_to_exhaustion(ts, value, 10, 3)",
        "change_points(ts, value)",
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
async fn a_rising_series_reaches_its_capacity() {
    let store = Store::empty(QueryLimits::default());
    let samples: Vec<(i64, f64)> = (0..100).map(|i| (START + i * MINUTE, i as f64)).collect();
    write(&store.engine, &[("__name__", "disk")], &samples);
    let sql = |arguments: &str| {
        format!(
            "SELECT x['ts'], x['earliest'], x['latest'] FROM (SELECT time_to_exhaustion(ts, value, {arguments}) AS x FROM disk)"
        )
    };
    let expected = store.rows("SELECT max(ts) + INTERVAL '11 minutes' FROM disk").await.unwrap();
    let found = store.rows(&sql("110, '30m', method => 'drift'")).await.unwrap();
    assert_eq!(found[0][0], expected[0][0], "{found:?}");
    let error = store.rows(&sql("110, '30m', method => 'crystal'")).await.unwrap_err();
    assert!(error.to_string().contains("seasonal_naive"), "{error}");
    let error = store.rows(&sql("NULL, '30m'")).await.unwrap_err();
    assert!(error.to_string().contains("'capacity' must be a number"), "{error}");
}
