//! The default detector: its bits are those of a watch over each series' samples in the order of their commits, whatever ends when.
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use foretell_engine::fs::{FaultFs, FaultPlan, Survival};
use foretell_ml::detect::{Sight, Watch};
use foretell_query::ErrorKind;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::continuous_fixture::{Lives, SECOND, START, Sample};
use crate::store::{MINUTE, Store, write};

const HOSTS: [&str; 3] = ["a", "b", "c"];

fn drain(lives: &Lives) {
    lives.with_database(|database| Box::pin(async move { database.drain_default_detector().await }));
}

/// What each metric's series are taken for, and what is known of each.
#[derive(Default)]
struct Expected {
    watches: BTreeMap<(String, String), Watch>,
    anomalous: BTreeMap<(String, String), Vec<i64>>,
}

impl Expected {
    fn see(&mut self, metric: &str, samples: &[Sample]) {
        for (labels, ts, value) in samples {
            let key = (metric.to_owned(), labels[0].1.to_owned());
            let fresh = || if metric.ends_with("_total") { Watch::of_counter() } else { Watch::default() };
            if let Sight::Anomalous(_) = self.watches.entry(key.clone()).or_insert_with(fresh).look(*ts, *value) {
                self.anomalous.entry(key).or_default().push(*ts);
            }
        }
    }
}

/// Seconds of the anomalous samples of each host.
fn bits(lives: &Lives, metric: &str) -> BTreeMap<(String, String), Vec<i64>> {
    let mut bits: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
    for host in HOSTS {
        let sql = format!(
            "SELECT CAST(CAST(ts AS BIGINT) AS VARCHAR) AS t FROM {metric} WHERE host = '{host}' AND anomalous ORDER BY 1"
        );
        let ts: Vec<i64> = lives.texts(&sql).iter().map(|ts| ts.parse().unwrap()).collect();
        if !ts.is_empty() {
            bits.insert((metric.to_owned(), host.to_owned()), ts);
        }
    }
    bits
}

/// The samples of row `row`: of every host, or with a hole; now and then far off, late or no number.
fn samples(random: &mut StdRng, row: i64, counter: &mut [f64; 3], is_counter: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (number, host) in HOSTS.into_iter().enumerate() {
        let noise = random.random::<f64>() + random.random::<f64>();
        let burst = if random.random_ratio(1, 50) { 40.0 } else { 0.0 };
        counter[number] += 10.0 + noise + burst;
        if random.random_ratio(1, 100) {
            counter[number] = 0.0;
        }
        let value = match random.random_range(0..100) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            _ if is_counter => counter[number],
            _ => noise + burst,
        };
        let late = if random.random_ratio(1, 30) { 5 } else { 0 };
        if random.random_ratio(9, 10) {
            samples.push((vec![("host", host)], START + (row - late) * SECOND, value));
        }
    }
    samples
}

#[test]
fn bits_are_those_of_a_watch_over_the_samples_whatever_is_killed_when() {
    let cases = std::env::var("FORETELL_PROPERTY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let steps = prop::collection::vec((0..12u8, 1..12i64), 20..60);
    let (found, kills) = (Cell::new(0), Cell::new(0));
    runner
        .run(&(any::<u64>(), steps), |(seed, steps)| {
            let mut random = StdRng::seed_from_u64(seed);
            let mut lives = Lives::new();
            lives.run("CREATE DEFAULT DETECTOR");
            let (mut expected, mut counters, mut row) = (Expected::default(), [0.0; 3], 0);
            for (step, rows) in steps {
                match step {
                    0 => {
                        lives.kill();
                        kills.set(kills.get() + 1);
                    }
                    1 => lives.reopen_database(|_| {}),
                    2 => drain(&lives),
                    3 => lives.engine().flush().unwrap(),
                    _ => {
                        for metric in ["m", "m_total"] {
                            let batch: Vec<Sample> = (row..row + rows)
                                .flat_map(|row| samples(&mut random, row, &mut counters, metric == "m_total"))
                                .collect();
                            lives.write(metric, &batch);
                            expected.see(metric, &batch);
                        }
                        row += rows;
                    }
                }
            }
            if row == 0 {
                return Ok(());
            }
            drain(&lives);
            let got: BTreeMap<_, _> = ["m", "m_total"].iter().flat_map(|metric| bits(&lives, metric)).collect();
            found.set(found.get() + got.values().map(Vec::len).sum::<usize>());
            if got == expected.anomalous {
                Ok(())
            } else {
                Err(TestCaseError::fail(format!("{got:?}, expected {:?}", expected.anomalous)))
            }
        })
        .unwrap();
    let (found, kills) = (found.get(), kills.get());
    assert!(found > 50 && kills > 5, "{found} bits, {kills} kills: the test would prove nothing");
}

#[test]
fn a_power_cut_at_any_call_loses_no_bit() {
    let batch = |number: i64| -> Vec<Sample> {
        let value = |row: i64| if row == 50 || row == 77 { 1e3 } else { (row * 7 % 5) as f64 };
        (number * 10..number * 10 + 10).map(|row| (vec![("host", "a")], START + row * SECOND, value(row))).collect()
    };
    let work = |lives: &Lives, from: i64| -> i64 {
        for number in from..10 {
            if lives.try_write("m", &batch(number)).is_err() {
                return number;
            }
            let drained = lives
                .with_database(|database| Box::pin(async move { Ok(database.drain_default_detector().await.is_ok()) }));
            if !drained {
                return number + 1;
            }
        }
        10
    };
    let calls = {
        let fs = FaultFs::new();
        let lives = Lives::on(Arc::new(fs.clone()));
        lives.run("CREATE DEFAULT DETECTOR");
        let before = fs.calls();
        assert_eq!(work(&lives, 0), 10);
        fs.calls() - before
    };
    let mut died = 0;
    for die_after in (0..calls).step_by(3) {
        let fs = FaultFs::new();
        let mut lives = Lives::on(Arc::new(fs.clone()));
        lives.run("CREATE DEFAULT DETECTOR");
        fs.plan(FaultPlan {
            die_at: Some(fs.calls() + die_after),
            survival: Survival::Prefix((die_after % 40) as usize),
            ..FaultPlan::default()
        });
        let next = work(&lives, 0);
        died += u32::from(next < 10);
        lives.kill_and(|| fs.power_cut());
        assert_eq!(work(&lives, next), 10, "after dying at call {die_after}");
        drain(&lives);
        let seconds: Vec<i64> = bits(&lives, "m")
            .into_values()
            .flatten()
            .map(|ts| (ts - START) / SECOND)
            .filter(|s| [50, 77].contains(s))
            .collect();
        assert_eq!(seconds, [50, 77], "after dying at call {die_after}");
    }
    assert!(died > 0, "no run died: the test would prove nothing");
}

/// 60 calm rows and a spike, of two hosts of each of some metrics.
async fn watched(create: &str) -> Store {
    let store = Store::empty(Default::default());
    store.rows(create).await.unwrap();
    for metric in ["m", "other", "ALERTS"] {
        for host in ["a", "b"] {
            let value = |row: i64| if row == 55 && host == "a" { 1e3 } else { (row * 7 % 5) as f64 };
            let rows: Vec<(i64, f64)> = (0..60).map(|row| (START + row * MINUTE, value(row))).collect();
            write(&store.engine, &[("__name__", metric), ("host", host)], &rows);
        }
    }
    store.database.drain_default_detector().await.unwrap();
    store
}

const SPIKES: &str = "SELECT metric, labels['host'], ts FROM samples WHERE anomalous ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn only_series_of_its_matcher_are_watched_and_none_that_are_made_of_them() {
    let spike = |metric: &str| vec![metric.to_owned(), "a".to_owned(), "2026-01-01T00:55:00Z".to_owned()];
    let store = watched("CREATE DEFAULT DETECTOR").await;
    assert_eq!(store.rows(SPIKES).await.unwrap(), [spike("m"), spike("other")]);
    let store = watched("CREATE DEFAULT DETECTOR ON '{__name__=~\"m|ALERTS\",host!=\"b\"}'").await;
    assert_eq!(store.rows(SPIKES).await.unwrap(), [spike("m")]);
    assert_eq!(store.cell("SELECT series FROM sys.default_detector").await, "1");
    assert_eq!(store.cell("SELECT samples FROM sys.default_detector").await, "60");
    let store = watched("CREATE DEFAULT DETECTOR ON 'm{host=\"b\"}'").await;
    assert_eq!(store.rows(SPIKES).await.unwrap(), [] as [Vec<String>; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_query_can_ask_for_an_anomaly_rate() {
    let store = watched("CREATE DEFAULT DETECTOR").await;
    for sql in [
        "SELECT anomaly_rate(anomalous) FROM m",
        "SELECT anomaly_rate(anomalous) FROM samples WHERE metric = 'm'",
        "SELECT avg(CAST(anomalous AS DOUBLE)) FROM m",
        "SELECT value FROM promql('avg(avg_over_time(m{__value__=\"anomalous\"}[1h]))', '2026-01-01T00:59:00Z', '2026-01-01T00:59:00Z', '1m')",
    ] {
        assert_eq!(store.cell(sql).await.parse::<f64>().unwrap(), 1.0 / 120.0, "{sql}");
    }
    let by_hour = "SELECT host, time_bucket('30m', ts) AS t, anomaly_rate(anomalous) FILTER (WHERE value < 2000) AS rate, count(*) FROM m \
                   GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 1";
    let rate = (1.0f64 / 30.0).to_string();
    assert_eq!(store.rows(by_hour).await.unwrap(), [["a", "2026-01-01T00:30:00Z", &rate, "30"]]);
    assert_eq!(store.cell("SELECT anomaly_rate(anomalous) FROM m WHERE value < 0").await, "NULL");
    let either = "SELECT count(*) FROM promql('{__value__=\"anomalous\",__name__=~\"m|other\"} == 1', '2026-01-01T00:55:00Z', '2026-01-01T00:55:00Z', '1m')";
    assert_eq!(store.cell(either).await, "2");
    let ordinary =
        "SELECT count(*) FROM promql('m{__value__=\"other\"}', '2026-01-01T00:55:00Z', '2026-01-01T00:55:00Z', '1m')";
    assert_eq!(store.cell(ordinary).await, "0", "a label like any other");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_column_of_bits_is_there_for_statements_that_name_it() {
    let store = watched("CREATE DEFAULT DETECTOR").await;
    let columns = |batches: Vec<arrow::array::RecordBatch>| -> Vec<String> {
        batches[0].schema().fields().iter().map(|field| field.name().clone()).collect()
    };
    assert_eq!(columns(store.query("SELECT * FROM m").await.unwrap()), ["ts", "value", "host"]);
    assert_eq!(columns(store.query("SELECT *, anomalous AS odd FROM m").await.unwrap()).len(), 5);
    write(&store.engine, &[("__name__", "labelled"), ("anomalous", "perhaps")], &[(START, 1.0)]);
    assert_eq!(store.cell("SELECT anomalous FROM labelled").await, "perhaps");
    let without = Store::empty(Default::default());
    write(&without.engine, &[("__name__", "m")], &[(START, 1.0)]);
    assert_eq!(without.cell("SELECT anomalous FROM m").await, "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_created_once_replaced_and_dropped_and_its_bits_stay() {
    let store = watched("CREATE DEFAULT DETECTOR").await;
    let error = store.error("CREATE DEFAULT DETECTOR").await;
    assert!(error.message.contains("OR REPLACE"), "{error}");
    assert_eq!(store.cell("CREATE DEFAULT DETECTOR IF NOT EXISTS ON 'm'").await, "there is a default detector");
    assert_eq!(store.cell("CREATE OR REPLACE DEFAULT DETECTOR").await, "the default detector is unchanged");
    let preview = store.rows("EXPLAIN CREATE OR REPLACE DEFAULT DETECTOR ON 'm'").await.unwrap();
    assert_eq!(preview, [["default detector", "default", "replace", "watches", "{__name__=~\".+\"}", "m"]]);
    assert_eq!(store.cell("CREATE OR REPLACE DEFAULT DETECTOR ON 'm'").await, "default detector replaced");
    assert_eq!(store.cell("SELECT watches FROM sys.default_detector").await, "m");
    for (sql, said) in [
        ("CREATE OR REPLACE DEFAULT DETECTOR ON 'm{'", "is no series selector"),
        ("CREATE OR REPLACE DEFAULT DETECTOR ON 'rate(m[1m])'", "is no series selector"),
        ("CREATE OR REPLACE DEFAULT DETECTOR ON '{a=\"b\" or c=\"d\"}'", "alternatives"),
        ("CREATE OR REPLACE DEFAULT DETECTOR ON '{a=~\"(\"}'", "is no series selector"),
    ] {
        let error = store.error(sql).await;
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains(said), "{sql}: {error}");
    }
    store.rows("DROP DEFAULT DETECTOR").await.unwrap();
    assert_eq!(store.error("DROP DEFAULT DETECTOR").await.kind, ErrorKind::NotFound);
    assert_eq!(store.cell("DROP DEFAULT DETECTOR IF EXISTS").await, "there is no default detector");
    assert_eq!(store.rows("SHOW DEFAULT DETECTOR").await.unwrap(), [] as [Vec<String>; 0]);
    assert_eq!(store.rows(SPIKES).await.unwrap().len(), 2);
    assert!(!store.database.default_detector_stats().on);
}
