//! Many series: a range over them is divided among the cores, and what several selectors read is shared. Each step must have
//! the bits that the instant query of that step has, which is too little work to be divided.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use foretell_engine::Engine;
use foretell_query::promql::{Annotations, Answer, Limits, PromQuery, evaluate_annotated};
use foretell_query::{Error, ErrorKind, QueryLimits};
use tokio::runtime::Runtime;

use super::{LOOKBACK_MS, load};
use crate::store::Store;

const MINUTE_MS: i64 = 60_000;
const STEPS: i64 = 60;

/// Samples, exact bits, by labels and time.
type Bits = BTreeMap<(String, i64), String>;

/// Counters that restart and go stale, native histograms, and series that are first the one and then the other.
fn store() -> Store {
    let store = Store::empty(QueryLimits::default());
    let of = |i: usize| {
        let floats = 20 + i % 20;
        [
            format!("m{{kind=\"counter\",i=\"{i:02}\"}} 0.{i:02}+{i}.7x25 _x3 stale 1+0.3x30"),
            format!(
                "m{{kind=\"histogram\",i=\"{i:02}\"}} {{{{count:2 sum:{i}.3 buckets:[1 1]}}}}+{{{{count:3 sum:{i}.9 \
                 buckets:[2 1]}}}}x60"
            ),
            format!(
                "m{{kind=\"mixed\",i=\"{i:02}\"}} 1+{i}x{floats} {{{{count:2 sum:{i}.3 buckets:[1 1]}}}}x{}",
                59 - floats
            ),
        ]
    };
    let lines: Vec<String> = (0..100).flat_map(of).collect();
    load(&store.engine, MINUTE_MS, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    store
}

fn ask(engine: &Engine, text: &str, start_ms: i64, end_ms: Option<i64>) -> (Bits, Annotations) {
    let query = PromQuery {
        text: text.into(),
        start_ms,
        end_ms: end_ms.unwrap_or(start_ms),
        step_ms: end_ms.map(|_| MINUTE_MS),
        lookback_ms: LOOKBACK_MS,
    };
    let answer = evaluate_annotated(&query, &engine.snapshot(), &Limits::default(), &|| false, &|_| Ok(()));
    let (answer, annotations) = answer.unwrap_or_else(|error| panic!("{text}: {error}"));
    let (Answer::Vector(rows) | Answer::Matrix(rows)) = answer else { panic!("{text}: {answer:?}") };
    if end_ms.is_some() {
        assert!(rows.is_sorted_by(|a, b| a.labels.compare(&b.labels).is_lt()), "{text}: not in the order of labels");
    }
    let mut bits = Bits::new();
    for row in rows {
        let labels = row.labels.to_promql();
        let points = row.points.iter().map(|point| (point.ts_ms, format!("{:x}", point.value.to_bits())));
        let histograms = row.histograms.iter().map(|(ts_ms, histogram)| (*ts_ms, format!("{histogram:?}")));
        bits.extend(points.chain(histograms).map(|(ts_ms, text)| ((labels.clone(), ts_ms), text)));
    }
    (bits, annotations)
}

#[test]
fn each_step_of_a_range_is_the_instant_query_of_that_step() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = store();
    for text in [
        "m",
        "timestamp(m)",
        "rate(m[5m])",
        "increase(m[10m])",
        "irate(m[10m])",
        "resets(m[10m])",
        "sum_over_time(m[10m])",
        "last_over_time(m[10m])",
        "quantile_over_time(0.3, m[10m])",
        "quantile_over_time(1.5, m[10m])",
        "double_exponential_smoothing(m[10m], 0.5, 0.3)",
        "max_over_time(rate(m[5m])[10m:1m])",
        "histogram_count(rate(m[5m]))",
        "histogram_quantile(0.5, m)",
        "sum by (kind) (m)",
        "avg by (kind) (rate(m[5m]))",
        "max by (kind) (m)",
        "count without (i) (m)",
        "stddev by (kind) (m)",
        "quantile by (kind) (0.3, m)",
    ] {
        let (range, annotations) = ask(&store.engine, text, 0, Some(STEPS * MINUTE_MS));
        let (mut instants, mut told) = (Bits::new(), Annotations::default());
        for step in 0..=STEPS {
            let (bits, annotations) = ask(&store.engine, text, step * MINUTE_MS, None);
            instants.extend(bits);
            told.warnings.extend(annotations.warnings);
            told.infos.extend(annotations.infos);
        }
        assert!(!range.is_empty(), "{text}");
        let other = range.iter().find(|&(key, bits)| instants.get(key) != Some(bits));
        assert_eq!(other, None, "{text}: the instant query answers otherwise");
        assert_eq!((range.len(), annotations), (instants.len(), told), "{text}");
    }
}

#[test]
fn what_is_read_once_answers_as_what_is_read_twice() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = store();
    // In another order conditions are not looked upon as equal.
    let (m, other) = ("m{kind!=\"x\",i!=\"y\"}", "m{i!=\"y\",kind!=\"x\"}");
    for text in [
        "rate(M[10m]) - rate(N[5m])",
        "rate(M[5m]) - rate(N[10m])",
        "M - N offset 2m",
        "sum_over_time(M[10m] offset 5m) + N",
        "max_over_time(M[10m]) - max_over_time(rate(N[2m])[5m:1m])",
        "histogram_count(M) / histogram_sum(N)",
        "histogram_count(rate(M[10m])) / histogram_sum(rate(N[5m]))",
        "histogram_quantile(0.5, M) - histogram_count(N)",
        "histogram_count(M) - histogram_quantile(0.5, N)",
        "M + N + N",
    ] {
        let ask = |n: &str| ask(&store.engine, &text.replace('M', m).replace('N', n), 0, Some(STEPS * MINUTE_MS));
        let (once, twice) = (ask(m), ask(other));
        assert!(!once.0.is_empty(), "{text}");
        assert_eq!(once, twice, "{text}");
    }
}

#[test]
fn of_several_errors_that_of_the_first_series_is_told() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = Store::empty(QueryLimits::default());
    let mut lines: Vec<String> = (1..200).map(|i| format!("d{{i=\"{i:03}\"}} 1+1x60")).collect();
    lines.push("d{i=\"000\"} _x40 1+1x20".to_owned());
    load(&store.engine, MINUTE_MS, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let query = PromQuery {
        text: "double_exponential_smoothing(d[10m], time() / 1800 + 0.1, 0.5)".into(),
        start_ms: 0,
        end_ms: STEPS * MINUTE_MS,
        step_ms: Some(MINUTE_MS),
        lookback_ms: LOOKBACK_MS,
    };
    let answer = evaluate_annotated(&query, &store.engine.snapshot(), &Limits::default(), &|| false, &|_| Ok(()));
    let error = answer.unwrap_err();
    assert!(error.message.contains("got: 1.433333"), "{}", error.message);
}

/// What is asked of memory until `bytes_max` does not do.
fn asked_until_refused(engine: &Engine, text: &str, bytes_max: usize) -> usize {
    let query = PromQuery {
        text: text.into(),
        start_ms: 0,
        end_ms: STEPS * MINUTE_MS,
        step_ms: Some(1_000),
        lookback_ms: LOOKBACK_MS,
    };
    let asked = AtomicUsize::new(0);
    let reserve = |bytes: usize| {
        asked.fetch_max(bytes, Ordering::Relaxed);
        if bytes > bytes_max { Err(Error::new(ErrorKind::Execution, "no memory")) } else { Ok(()) }
    };
    let answer = evaluate_annotated(&query, &engine.snapshot(), &Limits::default(), &|| false, &reserve);
    assert_eq!(answer.unwrap_err().message, "no memory", "{text}");
    asked.into_inner()
}

#[test]
fn histograms_are_counted_while_they_are_made() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = Store::empty(QueryLimits::default());
    let buckets = "1 ".repeat(200);
    let mut lines = vec![format!("wide {{{{count:200 sum:9 buckets:[{buckets}]}}}}x60")];
    lines.extend((0..10).map(|i| format!("factor{{i=\"{i}\"}} 2x60")));
    load(&store.engine, MINUTE_MS, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    // A histogram at each step of the hour takes 12 MB: those of the answer, and for the second one 12 MB and ten times that.
    for (text, bytes_max) in [("sum_over_time(wide[5m])", 4 << 20), ("factor * on() group_left wide", 16 << 20)] {
        let asked = asked_until_refused(&store.engine, text, bytes_max);
        assert!(asked <= 2 * bytes_max, "{text}: {asked} bytes");
    }
}

#[test]
fn of_several_groups_with_too_many_partners_the_first_is_told() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = Store::empty(QueryLimits::default());
    let lines: Vec<String> = (0..40).map(|i| format!("p{{group=\"{:02}\",i=\"{i}\"}} 1x60", i / 2)).collect();
    load(&store.engine, MINUTE_MS, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let query =
        PromQuery { text: "p + on(group) p".into(), start_ms: 0, end_ms: 0, step_ms: None, lookback_ms: LOOKBACK_MS };
    let answer = evaluate_annotated(&query, &store.engine.snapshot(), &Limits::default(), &|| false, &|_| Ok(()));
    let error = answer.unwrap_err();
    assert!(error.message.contains("match group {group=\"00\"}"), "{}", error.message);
}
