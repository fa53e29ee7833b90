//! Selection against brute force over label sets.
use std::collections::BTreeSet;

use foretell_engine::clock::Clock as _;
use foretell_engine::{LabelSet, MatchOp, Matcher, Selector, TimeRange};
use proptest::prelude::*;

use crate::support::{HOUR, Store, all, forget_idle, scan, write};

fn label_set() -> impl Strategy<Value = LabelSet> {
    let value = || prop::sample::select(vec!["", "", "a", "b", "ab", "c1", "A", "äb", "dd"]);
    (prop::sample::select(vec!["", "up", "down"]), value(), value(), value())
        .prop_map(|(name, x, y, z)| LabelSet::from_pairs([("__name__", name), ("x", x), ("y", y), ("z", z)]).unwrap())
}

/// Finite and not, with and without a common beginning, accepting "" and not.
const REGEXES: [&str; 16] = [
    ".*",
    ".+",
    "a|b",
    "a.*",
    "",
    "(up|c).?",
    "a?",
    "a.+",
    "ab|ab.*|",
    "(?i)A.?",
    "^a$",
    "a\\b.*",
    "[^a]*",
    "(a|ab)(b|)",
    "d{2,3}",
    "ä.*",
];

fn matcher() -> impl Strategy<Value = Matcher> {
    let ops = vec![MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex, MatchOp::OneOf];
    let name = prop::sample::select(vec!["__name__", "x", "y", "z", "nowhere"]);
    (name, prop::sample::select(ops), 0..REGEXES.len()).prop_map(|(name, op, i)| {
        let value = match op {
            MatchOp::Equal | MatchOp::NotEqual => ["", "a", "b", "ab", "up", "missing"][i % 6],
            MatchOp::Regex | MatchOp::NotRegex => REGEXES[i],
            MatchOp::OneOf => ["a\0b", "", "\0a", "up\0down", "c1", "missing"][i % 6],
        };
        Matcher { name: name.into(), op, value: value.into() }
    })
}

fn matches(matcher: &Matcher, labels: &LabelSet) -> bool {
    let value = labels.get(&matcher.name).unwrap_or("");
    let regex = || regex::Regex::new(&format!("^(?s:{})$", matcher.value)).unwrap().is_match(value);
    match matcher.op {
        MatchOp::Equal => value == matcher.value,
        MatchOp::NotEqual => value != matcher.value,
        MatchOp::Regex => regex(),
        MatchOp::NotRegex => !regex(),
        MatchOp::OneOf => matcher.value.split('\0').any(|one| one == value),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_operator_selects_what_brute_force_selects(
        sets in prop::collection::btree_set(label_set(), 1..40),
        queries in prop::collection::vec((prop::collection::vec(matcher(), 0..4), prop::option::of(0usize..3)), 1..20),
    ) {
        let store = Store::new();
        let engine = store.open();
        let sets: Vec<LabelSet> = sets.into_iter().collect();
        let check = |engine: &foretell_engine::Engine, place: &str| -> Result<(), TestCaseError> {
            let snapshot = engine.snapshot();
            for (matchers, metric) in &queries {
                let metric = metric.map(|i| ["", "up", "nothing"][i].to_owned());
                let selector = Selector { metric: metric.clone(), matchers: matchers.clone(), range: TimeRange::ALL };
                let found = snapshot.select(&selector).unwrap();
                prop_assert!(found.is_sorted_by(|a, b| a.id < b.id));
                let count = found.len() as u64;
                prop_assert_eq!(&snapshot.select_few(&selector, count).unwrap(), &Some(found.clone()));
                if count > 0 {
                    prop_assert_eq!(snapshot.select_few(&selector, count - 1).unwrap(), None);
                }
                if metric.is_none() {
                    let all = Selector { metric: None, matchers: Vec::new(), range: TimeRange::ALL };
                    let ids = snapshot.select(&all).unwrap().into_iter().map(|series| series.id).collect();
                    prop_assert_eq!(&snapshot.matching(ids, matchers).unwrap(), &found, "{}: {:?}", place, selector);
                }
                let found: BTreeSet<LabelSet> = found.into_iter().map(|series| series.labels).collect();
                let wanted = |set: &&LabelSet| {
                    metric.as_ref().is_none_or(|metric| set.metric_name() == metric) && matchers.iter().all(|m| matches(m, set))
                };
                let expected: BTreeSet<LabelSet> = sets.iter().filter(wanted).cloned().collect();
                prop_assert_eq!(&found, &expected, "{}: {:?}", place, selector);
                let names: BTreeSet<&str> = expected.iter().flat_map(|set| set.iter().map(|pair| pair.0)).collect();
                prop_assert_eq!(&snapshot.label_names(&selector).unwrap(), &Vec::from_iter(names), "{}: {:?}", place, selector);
                for (name, limit) in [("x", 100), ("y", 2), ("__name__", 100), ("nowhere", 1), ("z", 0)] {
                    let values: BTreeSet<&str> = expected.iter().filter_map(|set| set.get(name)).collect();
                    let values: Vec<&str> = values.into_iter().take(limit).collect();
                    let found = snapshot.label_values(name, &selector, limit).unwrap();
                    prop_assert_eq!(found, values, "{}: {:?}, {} {}", place, selector, name, limit);
                }
            }
            Ok(())
        };
        for (i, set) in sets.iter().enumerate() {
            let id = engine.resolve(set).unwrap();
            write(&engine, &[(id, (i % 3) as i64 * 5 * HOUR, 1.0)]);
            if i % 13 == 12 {
                engine.flush().unwrap();
            }
        }
        check(&engine, "head")?;
        engine.flush().unwrap();
        forget_idle(&store, &engine);
        check(&engine, "catalogue")?;
        engine.close().unwrap();
        check(&store.open(), "reopened")?;
    }
}

#[test]
fn names_and_values_are_those_of_the_partitions_in_range() {
    let store = Store::new();
    let engine = store.open();
    for (pod, hour) in [("a", 0), ("b", 1), ("c", 9)] {
        let set =
            LabelSet::from_pairs([("__name__", "up"), ("pod", pod), (if hour == 9 { "late" } else { "early" }, "1")]);
        let id = engine.resolve(&set.unwrap()).unwrap();
        write(&engine, &[(id, hour * HOUR, 1.0)]);
    }
    engine.flush().unwrap();
    forget_idle(&store, &engine);
    let snapshot = engine.snapshot();
    let select = |start: i64, end: i64| Selector {
        metric: None,
        matchers: Vec::new(),
        range: TimeRange { start: start * HOUR, end: end * HOUR },
    };
    assert_eq!(snapshot.label_values("pod", &select(0, 20), 9).unwrap(), ["a", "b", "c"]);
    assert_eq!(snapshot.label_values("pod", &select(1, 2), 9).unwrap(), ["b"]);
    assert_eq!(snapshot.label_values("pod", &select(2, 1), 9).unwrap(), [""; 0]);
    assert_eq!(snapshot.label_names(&select(0, 2)).unwrap(), ["__name__", "early", "pod"]);
    assert_eq!(snapshot.label_names(&select(5, 20)).unwrap(), ["__name__", "late", "pod"]);
    assert!(snapshot.label_names(&select(5, 6)).unwrap().is_empty());
}

#[test]
fn a_held_snapshot_finds_the_series_of_its_memtables_however_long_they_are_idle() {
    let store = Store::new();
    let engine = store.open();
    let set = |pod: &str| LabelSet::from_pairs([("__name__", "up"), ("pod", pod)]).unwrap();
    let (early, late) = (engine.resolve(&set("early")).unwrap(), engine.resolve(&set("late")).unwrap());
    write(&engine, &[(early, 5, 1.0)]);
    let snapshot = engine.snapshot();
    // What it sees is gone for all others, so that the flush does not write it.
    let matchers = vec![Matcher { name: "pod".into(), op: MatchOp::Equal, value: "early".into() }];
    engine.delete(&Selector { metric: None, matchers, range: TimeRange::ALL }).unwrap();
    for _ in 0..4 {
        store.clock.advance(2 * HOUR);
        write(&engine, &[(late, store.clock.now_ns(), 1.0)]);
        engine.flush().unwrap();
        let found = snapshot.select(&all()).unwrap();
        assert!(found.iter().any(|series| series.id == early), "of {found:?}");
        assert_eq!(snapshot.label_values("pod", &all(), 1).unwrap(), ["early"]);
        assert!(snapshot.cardinality().unwrap().labels.iter().any(|label| &*label.label == "pod" && label.values == 2));
    }
    assert_eq!(scan(&snapshot, &[early], TimeRange::ALL).unwrap().len(), 1);
    // Then nothing keeps it in memory.
    drop(snapshot);
    forget_idle(&store, &engine);
}

#[test]
fn cardinality_counts_each_series_once_wherever_it_is() {
    let store = Store::new();
    let engine = store.open();
    let set = |name: &str, pod: &str| LabelSet::from_pairs([("__name__", name), ("pod", pod)]).unwrap();
    for hour in 0..3 {
        // p1 lives on, the others live for an hour.
        for pod in ["p1".to_owned(), format!("pod{hour}")] {
            let id = engine.resolve(&set("up", &pod)).unwrap();
            write(&engine, &[(id, hour * HOUR, 1.0)]);
        }
        engine.flush().unwrap();
    }
    forget_idle(&store, &engine);
    for name in ["down", "up"] {
        let id = engine.resolve(&set(name, "p1")).unwrap();
        write(&engine, &[(id, 2 * HOUR, 1.0)]);
    }
    let check = |engine: &foretell_engine::Engine| {
        let cardinality = engine.snapshot().cardinality().unwrap();
        let labels: Vec<_> = cardinality.labels.iter().map(|l| (&*l.label, l.values, l.series)).collect();
        assert_eq!(labels, [("pod", 4, 5), ("__name__", 2, 5)]);
        let metrics: Vec<_> = cardinality.metrics.iter().map(|(name, series)| (&**name, *series)).collect();
        assert_eq!((metrics, cardinality.series), (vec![("up", 4), ("down", 1)], 5));
    };
    check(&engine);
    engine.flush().unwrap();
    check(&engine);
    drop(engine);
    check(&store.open());
}

#[test]
fn the_estimate_of_rows_is_right_where_series_are_alike_and_counts_every_source() {
    let store = Store::new();
    let engine = store.open();
    let mut ids: Vec<_> = (0..12).map(|n| crate::support::series(&engine, n)).collect();
    ids.sort_unstable();
    let (second, minute) = (HOUR / 3600, HOUR / 60);
    let fill = |from: i64, to: i64| {
        for at in from..to {
            write(&engine, &ids.iter().map(|&id| (id, at * second, 1.0)).collect::<Vec<_>>());
        }
    };
    fill(0, 600);
    engine.flush().unwrap();
    // The tail of the memtable: requests with a sample of each series.
    fill(600, 900);
    let snapshot = engine.snapshot();
    let series = snapshot.select(&all()).unwrap();
    let estimate = |wanted: usize, start, end| snapshot.rows_estimate(&series[..wanted], TimeRange { start, end });
    assert_eq!(snapshot.rows_estimate(&series, TimeRange::ALL), 12 * 900);
    assert_eq!(snapshot.rows_estimate(&series[..3], TimeRange::ALL), 3 * 900);
    assert_eq!(snapshot.rows_estimate(&[], TimeRange::ALL), 0);
    assert_eq!(estimate(2, 5, 4), 0);
    // The memtable's rows count whole; of the segment's a tenth is in the minute.
    let minute_of_two = estimate(2, 4 * minute, 5 * minute) as i64 - 2 * 300;
    assert!((110..=130).contains(&minute_of_two), "{minute_of_two}");
    assert_eq!(estimate(2, 700 * second, 900 * second), 2 * 300);
}
