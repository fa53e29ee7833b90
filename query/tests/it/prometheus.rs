//! What the Prometheus HTTP API asks besides queries: raw rows, exemplars, metadata, deletes by selector. How queries are run.
use std::time::Duration;

use foretell_engine::{METRIC_NAME, MatchOp, Matcher};
use foretell_query::promql::{Answer, ExemplarQuery, PromQuery, RawQuery};
use foretell_query::{ErrorKind, QueryLimits};
use tokio::runtime::Builder;

use crate::store::{MINUTE, START, Store, write};

const MINUTE_MS: i64 = MINUTE / 1_000_000;
const START_MS: i64 = START / 1_000_000;

fn of(metric: &str, minutes: (i64, i64)) -> RawQuery {
    let matcher = Matcher { name: METRIC_NAME.to_owned(), op: MatchOp::Regex, value: metric.to_owned() };
    let at = |minute: i64| START_MS + minute * MINUTE_MS;
    RawQuery { matchers: vec![matcher], start_ms: at(minutes.0), end_ms: at(minutes.1) }
}

/// Labels, samples and histograms of each series that a read finds.
async fn read(store: &Store, query: RawQuery) -> Vec<(String, Vec<(i64, f64)>, usize)> {
    let work = move |reader: &foretell_query::promql::RawReader<'_>| {
        let mut found = Vec::new();
        reader.select(&query)?.each(|series| {
            let samples = series.ts_ms.iter().copied().zip(series.values.iter().copied()).collect();
            let histograms = series.histograms.iter().map(|rows| rows.num_rows()).sum();
            found.push((series.labels.to_promql(), samples, histograms));
            Ok(())
        })?;
        Ok(found)
    };
    store.database.read_raw("test".to_owned(), None, work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_rows_are_those_of_both_ends_and_between_in_the_order_of_labels() {
    let store = Store::prepared();
    let found = read(&store, of("cpu_usage|latency_ms", (10, 39))).await;
    let shown: Vec<(&str, usize, usize)> = found.iter().map(|(labels, s, h)| (labels.as_str(), s.len(), *h)).collect();
    assert_eq!(
        shown,
        [
            ("{__name__=\"cpu_usage\",host=\"a\",region=\"eu\"}", 30, 0),
            ("{__name__=\"cpu_usage\",host=\"b\",region=\"us\"}", 30, 0),
            ("{__name__=\"cpu_usage\",host=\"c\"}", 30, 0),
            ("{__name__=\"latency_ms\",service=\"checkout\"}", 30, 1),
        ]
    );
    let times: Vec<i64> = found[0].1.iter().map(|sample| sample.0).collect();
    assert_eq!((times[0], times[29]), (START_MS + 10 * MINUTE_MS, START_MS + 39 * MINUTE_MS));
    assert!(times.is_sorted_by(|a, b| a < b));
    assert!(read(&store, of("cpu_usage", (39, 10))).await.is_empty());
    assert!(read(&store, of("nothing", (0, 60))).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_series_of_any_number_and_length_come_once_and_whole() {
    let store = Store::empty(QueryLimits::default());
    for i in 0..200i64 {
        let samples: Vec<(i64, f64)> = (0..i * 7 % 40).map(|n| (START + n * MINUTE, (i * 100 + n) as f64)).collect();
        let number = format!("{:03}", 199 - i);
        if !samples.is_empty() {
            write(&store.engine, &[("__name__", "many"), ("n", &number)], &samples);
        }
    }
    store.engine.flush().unwrap();
    let found = read(&store, of("many", (0, 60))).await;
    let with_rows = (0..200i64).filter(|i| i * 7 % 40 > 0).count();
    assert_eq!(found.len(), with_rows);
    assert!(found.is_sorted_by(|a, b| a.0 < b.0));
    for (labels, samples, _) in &found {
        let i = 199 - labels.rsplit("n=\"").next().unwrap()[..3].parse::<i64>().unwrap();
        let expected: Vec<(i64, f64)> =
            (0..i * 7 % 40).map(|n| (START_MS + n * MINUTE_MS, (i * 100 + n) as f64)).collect();
        assert_eq!(*samples, expected, "{labels}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_beyond_the_limit_is_refused_and_others_are_not() {
    let by_count = QueryLimits { samples_max: 1_000, ..QueryLimits::default() };
    // 32 bytes a sample: 1,000 samples.
    let by_memory = QueryLimits { memory_bytes_max: 32_000, ..QueryLimits::default() };
    for (limits, why) in [(by_count, "raise query.max_samples"), (by_memory, "the memory pool for queries")] {
        refuses_a_long_series(&Store::empty(limits), why).await;
    }
}

async fn refuses_a_long_series(store: &Store, why: &str) {
    let samples = |n: i64| -> Vec<(i64, f64)> { (0..n).map(|i| (START + i * 1_000_000_000, 1.0)).collect() };
    for name in ["a", "b", "c"] {
        write(&store.engine, &[("__name__", "long"), ("n", name)], &samples(900));
    }
    assert_eq!(read(store, of("long", (0, 60))).await.len(), 3, "one at a time they fit");
    write(&store.engine, &[("__name__", "long"), ("n", "d")], &samples(1_100));
    let query = of("long", (0, 60));
    let work = move |reader: &foretell_query::promql::RawReader<'_>| reader.select(&query)?.each(|_| Ok(()));
    let error = store.database.read_raw("test".to_owned(), None, work).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Execution);
    assert!(error.message.contains(why), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_are_looked_for_in_the_range_only() {
    let store = Store::prepared();
    for (minutes, expected) in [((0, 9), false), ((0, 10), true), ((11, 39), false), ((40, 40), true)] {
        let query = of("latency_ms", minutes);
        let work = move |reader: &foretell_query::promql::RawReader<'_>| reader.select(&query)?.has_histograms();
        assert_eq!(store.database.read_raw("test".to_owned(), None, work).await.unwrap(), expected, "{minutes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_are_those_that_sql_shows() {
    let store = Store::prepared();
    let ask = async |text: &str, end_ms| {
        let query = ExemplarQuery { text: text.to_owned(), start_ms: START_MS, end_ms };
        store.database.exemplars(query, None).await
    };
    let all: usize = store.cell("SELECT count(*) FROM exemplars").await.parse().unwrap();
    let found = ask("histogram_quantile(0.9, rate(latency_ms[5m])) or latency_ms", i64::MAX).await.unwrap().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].labels.metric_name(), found[0].exemplars.len()), ("latency_ms", all));
    assert!(all > 0 && found[0].exemplars.is_sorted_by(|a, b| a.ts_ms <= b.ts_ms));
    assert!(ask("cpu_usage", i64::MAX).await.unwrap().unwrap().is_empty());
    assert!(ask("latency_ms", START_MS).await.unwrap().unwrap().is_empty());
    assert!(ask("vector(1)", i64::MAX).await.unwrap().is_none());
    assert_eq!(ask("latency_ms", START_MS - 1).await.unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(ask("sum(", i64::MAX).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_are_all_or_one() {
    let store = Store::prepared();
    let names = |all: Vec<(String, foretell_query::MetricMetadata)>| -> Vec<String> {
        all.into_iter().map(|family| family.0).collect()
    };
    assert_eq!(names(store.database.metadata(None).await.unwrap()), ["cpu_usage", "latency_ms"]);
    let one = store.database.metadata(Some("latency_ms".to_owned())).await.unwrap();
    assert_eq!((one[0].1.kind.name(), one[0].1.unit.as_str()), ("histogram", "ms"));
    assert!(store.database.metadata(Some("cpu".to_owned())).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_by_selectors_hides_what_a_delete_in_sql_does() {
    let (by_selector, by_sql) = (Store::prepared(), Store::prepared());
    let selectors = ["cpu_usage{host=~\"a|b\"}", "latency_ms"].map(str::to_owned).to_vec();
    let (start_ms, end_ms) = (START_MS + 10 * MINUTE_MS, START_MS + 20 * MINUTE_MS);
    let done = by_selector.database.delete_series(selectors, start_ms, end_ms).await.unwrap();
    assert!(done.series == 3 && done.lsn.is_some());
    for table in ["cpu_usage WHERE host IN ('a', 'b') AND", "latency_ms WHERE"] {
        let range = "ts BETWEEN '2026-01-01T00:10:00Z' AND '2026-01-01T00:20:00Z'";
        by_sql.rows(&format!("DELETE FROM {table} {range}")).await.unwrap();
    }
    for table in ["samples", "histograms", "exemplars"] {
        let rows = async |store: &Store| {
            let mut rows = store.rows(&format!("SELECT * FROM {table}")).await.unwrap();
            rows.sort();
            rows
        };
        assert_eq!(rows(&by_selector).await, rows(&by_sql).await, "{table}");
    }
    let database = &by_selector.database;
    let nothing = database.delete_series(vec!["cpu_usage".to_owned()], end_ms, start_ms).await.unwrap();
    assert_eq!((nothing.series, nothing.lsn), (0, None));
    let long = format!("{}cpu_usage", "-".repeat(4000));
    for bad in [vec![], vec!["{}".to_owned()], vec!["cpu_usage".to_owned(), "sum(cpu_usage)".to_owned()], vec![long]] {
        let error = database.delete_series(bad, start_ms, end_ms).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
    assert_eq!(read(&by_selector, of("cpu_usage", (0, 59))).await[2].1.len(), 60, "host c is untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_millisecond_only_the_newest_sample_is_there() {
    let store = Store::empty(QueryLimits::default());
    let labels = [("__name__", "fine")];
    write(&store.engine, &labels, &[(START, 1.0), (START + 400_000, 5.0)]);
    store.engine.flush().unwrap();
    write(&store.engine, &labels, &[(START + 800_000, 9.0)]);
    assert_eq!(read(&store, of("fine", (0, 1))).await[0].1, [(START_MS, 9.0)]);
    let ask = |text: &str| {
        let (text, at_ms) = (text.to_owned(), START_MS + MINUTE_MS / 2);
        let query = PromQuery { text, start_ms: at_ms, end_ms: at_ms, step_ms: None, lookback_ms: 5 * MINUTE_MS };
        store.database.promql(query, None)
    };
    let value = async |text: &str| match ask(text).await.unwrap() {
        Answer::Vector(rows) => rows.first().map(|row| row.points[0].value),
        other => panic!("{other:?}"),
    };
    assert_eq!(value("fine").await, Some(9.0));
    assert_eq!(value("count_over_time(fine[1m])").await, Some(1.0));
    for function in ["rate", "increase", "delta", "irate", "deriv"] {
        assert_eq!(value(&format!("{function}(fine[1m])")).await, None, "{function} needs two instants");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_holds_its_memory_until_it_is_dropped() {
    let store = Store::prepared();
    let query = PromQuery {
        text: "cpu_usage".to_owned(),
        start_ms: START_MS,
        end_ms: START_MS + 10 * MINUTE_MS,
        step_ms: Some(1000),
        lookback_ms: 5 * MINUTE_MS,
    };
    let answered = store.database.promql_annotated(query, None, false).await.unwrap();
    assert!(store.database.memory_used_bytes() > 0, "it is still to be written out");
    drop(answered);
    assert_eq!(store.database.memory_used_bytes(), 0);
}

/// What a small query answers within `timeout`.
async fn small(store: &Store, timeout: Option<Duration>) -> Result<String, ErrorKind> {
    let query = PromQuery {
        text: "sum by (host) (rate(cpu_usage{host=\"a\"}[5m])) * 2".to_owned(),
        start_ms: START_MS,
        end_ms: START_MS + 30 * MINUTE_MS,
        step_ms: Some(MINUTE_MS),
        lookback_ms: 5 * MINUTE_MS,
    };
    let answered = store.database.promql_annotated(query, timeout, false).await.map_err(|error| error.kind)?;
    Ok(format!("{:?} {:?}", answered.answer, answered.annotations))
}

/// Asked again it is answered where it is asked, if the runtime can do without the thread.
async fn ask_again() {
    let store = Store::prepared();
    let first = small(&store, None).await;
    assert!(first.as_ref().is_ok_and(|answer| answer.contains("Point")), "{first:?}");
    assert_eq!(small(&store, None).await, first);
    // A clock that ticks in milliseconds may let the usual way end first.
    let late = small(&store, Some(Duration::ZERO)).await;
    assert!(late == first || late == Err(ErrorKind::Timeout), "{late:?}");
    // Nobody waits for the last one any more, but it may still be there for a moment.
    for _ in 0..500 {
        if store.database.queries().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.database.queries().is_empty());
    assert_eq!(store.database.memory_used_bytes(), 0);
}

#[test]
fn a_small_query_asked_again_has_the_same_answer_on_every_runtime() {
    for mut builder in [Builder::new_multi_thread(), Builder::new_current_thread()] {
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(ask_again());
        runtime.block_on(runtime.spawn(ask_again())).unwrap();
    }
}
