//! Answers that are kept: whatever is written, late, over what was there, deleted or dropped, an answer is the one that an
//! evaluation gives.
use std::ops::RangeInclusive;

use foretell_engine::{Matcher, Selector, TimeRange};
use foretell_query::QueryLimits;
use foretell_query::promql::{PromQuery, ResultCacheStats};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::store::{MINUTE, START, Store, write};

const MINUTE_MS: i64 = MINUTE / 1_000_000;
const START_MS: i64 = START / 1_000_000;
const LOOKBACK_MS: i64 = 5 * MINUTE_MS;

fn range(text: &str, minutes: RangeInclusive<i64>, step: i64) -> PromQuery {
    PromQuery {
        text: text.to_owned(),
        start_ms: START_MS + minutes.start() * MINUTE_MS,
        end_ms: START_MS + minutes.end() * MINUTE_MS,
        step_ms: Some(step * MINUTE_MS),
        lookback_ms: LOOKBACK_MS,
    }
}

/// The answer that may come from the cache, which must be that of an evaluation.
async fn ask(store: &Store, query: &PromQuery, at: &str) -> String {
    let mut answers = Vec::new();
    for fresh in [false, true] {
        let answered = store.database.promql_annotated(query.clone(), None, fresh).await;
        answers.push(match answered {
            Ok(answered) => format!("{:?} {:?}", answered.answer, answered.annotations),
            Err(error) => error.to_string(),
        });
    }
    assert_eq!(answers[0], answers[1], "{at}: {query:?}");
    answers.swap_remove(0)
}

/// Queries answered wholly, in part, and not at all from the cache, since `before`.
fn since(store: &Store, before: ResultCacheStats) -> (u64, u64, u64) {
    let now = store.database.result_cache_stats();
    (now.whole - before.whole, now.part - before.part, now.none - before.none)
}

fn minute(store: &Store, series: &str, at: i64, value: f64) {
    write(&store.engine, &[("__name__", "m_total"), ("s", series)], &[(START + at * MINUTE, value)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_is_not_evaluated_again_and_what_does_not_is() {
    let store = Store::empty(QueryLimits::default());
    for at in 0..60 {
        minute(&store, "a", at, at as f64);
        minute(&store, "b", at, 1.0);
    }
    let text = "sum(rate(m_total[5m]))";
    let expect = async |minutes: RangeInclusive<i64>, how: (u64, u64, u64), why: &str| {
        let before = store.database.result_cache_stats();
        let answer = ask(&store, &range(text, minutes, 1), why).await;
        assert_eq!(since(&store, before), how, "{why}");
        answer
    };
    let (whole, part, none) = ((1, 0, 0), (0, 1, 0), (0, 0, 1));
    let first = expect(10..=50, none, "nobody has asked").await;
    assert!(first.contains("Point"));
    assert_eq!(expect(10..=50, whole, "the same again").await, first);
    expect(20..=40, part, "a part of it").await;
    expect(10..=50, whole, "the larger one is still there").await;
    expect(20..=60, part, "the dashboard goes on").await;
    expect(20..=60, whole, "what was put together is kept").await;
    minute(&store, "a", 61, 7.0);
    expect(20..=60, whole, "nothing reads the new sample").await;
    expect(20..=61, part, "but this one").await;
    minute(&store, "a", 30, 700.0);
    expect(20..=61, part, "a late sample: steps before it hold").await;
    minute(&store, "a", 10, 700.0);
    expect(20..=61, none, "a sample earlier than all it reads: it cannot know").await;
    let all_of_b = Selector {
        metric: Some("m_total".into()),
        matchers: vec![Matcher { name: "s".into(), op: foretell_engine::MatchOp::Equal, value: "b".into() }],
        range: TimeRange { start: START + 40 * MINUTE, end: i64::MAX },
    };
    store.engine.delete(&all_of_b).unwrap();
    expect(20..=61, part, "rows were deleted").await;
    store.engine.flush().unwrap();
    store.engine.compact().unwrap();
    expect(20..=61, whole, "merges change nothing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_partitions_are_gone_from_answers() {
    let store = Store::empty(QueryLimits::default());
    let day = 24 * 60;
    for at in (0..20 * day).step_by(60) {
        minute(&store, "a", at, at as f64);
    }
    store.engine.flush().unwrap();
    let query = range("count_over_time(m_total[1h])", 0..=(20 * day), 60);
    let before = ask(&store, &query, "before").await;
    assert!(store.engine.drop_before(START + 10 * 24 * 60 * MINUTE).unwrap() > 0);
    assert_ne!(ask(&store, &query, "after").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_nothing_is_kept() {
    let store = Store::empty(QueryLimits { result_cache_bytes_max: 0, ..QueryLimits::default() });
    minute(&store, "a", 1, 1.0);
    for _ in 0..3 {
        ask(&store, &range("m_total", 0..=10, 1), "no room").await;
    }
    let stats = store.database.result_cache_stats();
    assert_eq!((stats.answers, stats.bytes, stats.whole, stats.none), (0, 0, 0, 3));
}

/// Selectors, functions that keep and drop names, operators, offsets to either side, subqueries, `@`, and what annotates.
const TEXTS: [&str; 24] = [
    "m_total",
    "sum by (s) (rate(m_total[5m]))",
    "rate({__name__=~\"m_total|n\"}[5m])",
    "m_total offset -7m - on (s) n",
    "max_over_time(sum(m_total)[10m:2m] offset -3m)",
    "topk(2, {__name__=~\"m_total|n\"})",
    "m_total @ end()",
    "m_total or n",
    "abs(m_total or n)",
    "absent(m_total{s=\"a\"})",
    "avg_over_time(m_total[9m]) > 40",
    "histogram_quantile(0.5, m_total)",
    "label_replace(m_total, \"t\", \"$1\", \"s\", \"(.)\")",
    "count_values(\"v\", n)",
    "time() + scalar(n{s=\"b\"})",
    "limitk(1, m_total)",
    "topk(1, count by (g) (m_total))",
    "sum(sum by (g) (m_total / 7))",
    "avg(topk(2, m_total / 7))",
    "stddev(m_total / 7 or n / 3)",
    "sum({__name__=~\"m_total|n\"} / 7)",
    "-count_values(\"__name__\", n)",
    "quantile(scalar(n{s=\"b\"}) / 10, m_total)",
    "sum by (g) (rate(m_total[5m]))",
];

/// Names, and values of `s` and `g`, whose lengths say when a series rests.
const SERIES: [(&str, &str, &str); 7] = [
    ("m_total", "a", "zz"),
    ("m_total", "b", "a"),
    ("m_total", "cc", "zz"),
    ("m_total", "dd", "a"),
    ("n", "b", ""),
    ("n", "ccc", ""),
    ("n", "dd", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_the_whole_and_no_instant_is_too_far() {
    let store = Store::empty(QueryLimits::default());
    for at in 0..30 {
        minute(&store, "a", at, at as f64);
    }
    let seconds = |seconds: i64| PromQuery {
        step_ms: Some(1000),
        end_ms: START_MS + seconds * 1000,
        ..range("m_total", 0..=0, 1)
    };
    assert!(ask(&store, &seconds(10_999), "the most steps").await.contains("Point"));
    assert!(
        ask(&store, &seconds(11_000), "one more, of which the others are known").await.contains("exceeded maximum")
    );
    for (start_ms, end_ms) in [(-1_000, 0), (i64::MIN, i64::MIN + 50), (i64::MAX - 50, i64::MAX)] {
        for text in ["1", "time()", "vector(1)", "m_total", "m_total offset -5m"] {
            let query = PromQuery { start_ms, end_ms, step_ms: Some(10), ..range(text, 0..=0, 1) };
            for _ in 0..2 {
                ask(&store, &query, text).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_the_cache_is_that_of_an_evaluation_whatever_happened_since() {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let store = Store::empty(QueryLimits::default());
        let mut now = 20;
        for round in 0..150 {
            match random.random_range(0..10) {
                // As scrapes do.
                0..6 => {
                    for _ in 0..random.random_range(1..4) {
                        now += 1;
                        for (name, series, group) in SERIES {
                            // Each lives for a while, rests, and comes back.
                            let lives = (now / 15 + series.len() as i64 + group.len() as i64) % 3 > 0;
                            if lives && random.random_bool(0.9) {
                                let value = f64::from(random.random_range(0..20));
                                let labels = [("__name__", name), ("g", group), ("s", series)];
                                write(&store.engine, &labels, &[(START + now * MINUTE, value)]);
                            }
                        }
                    }
                }
                6 => minute(&store, "b", random.random_range(0..now), -1.0),
                7 => {
                    let start = random.random_range(0..now);
                    let range = TimeRange { start: START + start * MINUTE, end: START + (start + 5) * MINUTE };
                    store
                        .engine
                        .delete(&Selector { metric: Some("m_total".into()), matchers: Vec::new(), range })
                        .unwrap();
                }
                8 => store.engine.flush().map(|_| ()).unwrap(),
                _ => store.engine.compact().map(|_| ()).unwrap(),
            }
            for _ in 0..6 {
                let text = TEXTS.choose(&mut random).unwrap();
                // Few lengths and phases, so that ranges overlap.
                let (step, from) = (random.random_range(1..3), (now - 20) / 4 * 4 + random.random_range(-2..1) * 4);
                let query = match random.random_range(0..5) {
                    0 => PromQuery { step_ms: None, ..range(text, now..=now, 1) },
                    _ => range(text, from..=from + random.random_range(4..=7) * 4, step),
                };
                for _ in 0..random.random_range(1..=2) {
                    ask(&store, &query, &format!("seed {seed}, round {round}")).await;
                }
            }
        }
        let stats = store.database.result_cache_stats();
        assert!(stats.whole > 20 && stats.part > 20 && stats.none > 20, "all ways are gone: {stats:?}");
    }
}
