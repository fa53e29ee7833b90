//! Selection against brute force over label sets.
use std::collections::BTreeSet;

use foretell_engine::{LabelSet, MatchOp, Matcher, Selector, TimeRange};
use proptest::prelude::*;

use crate::support::{HOUR, Store, write};

fn label_set() -> impl Strategy<Value = LabelSet> {
    let value = || prop::sample::select(vec!["", "", "a", "b", "ab", "c1"]);
    (prop::sample::select(vec!["", "up", "down"]), value(), value(), value())
        .prop_map(|(name, x, y, z)| LabelSet::from_pairs([("__name__", name), ("x", x), ("y", y), ("z", z)]).unwrap())
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let ops = vec![MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex, MatchOp::OneOf];
    let name = prop::sample::select(vec!["__name__", "x", "y", "z", "nowhere"]);
    (name, prop::sample::select(ops), 0usize..6).prop_map(|(name, op, i)| {
        let value = match op {
            MatchOp::Equal | MatchOp::NotEqual => ["", "a", "b", "ab", "up", "missing"][i],
            MatchOp::Regex | MatchOp::NotRegex => [".*", ".+", "a|b", "a.*", "", "(up|c).?"][i],
            MatchOp::OneOf => ["a\0b", "", "\0a", "up\0down", "c1", "missing"][i],
        };
        Matcher { name: name.into(), op, value: value.into() }
    })
}

fn matches(matcher: &Matcher, labels: &LabelSet) -> bool {
    let value = labels.get(&matcher.name).unwrap_or("");
    let regex = || regex::Regex::new(&format!("^(?:{})$", matcher.value)).unwrap().is_match(value);
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
                let found: BTreeSet<LabelSet> = found.into_iter().map(|series| series.labels).collect();
                let wanted = |set: &&LabelSet| {
                    metric.as_ref().is_none_or(|metric| set.metric_name() == metric) && matchers.iter().all(|m| matches(m, set))
                };
                let expected: BTreeSet<LabelSet> = sets.iter().filter(wanted).cloned().collect();
                prop_assert_eq!(found, expected, "{}: {:?}", place, selector);
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
        for _ in 0..2 {
            store.clock.advance(2 * HOUR);
            engine.write(foretell_engine::WriteBatch::default()).unwrap().wait().unwrap();
            engine.flush().unwrap();
        }
        prop_assert_eq!(engine.stats().active_series, 0);
        check(&engine, "catalogue")?;
        engine.close().unwrap();
        check(&store.open(), "reopened")?;
    }
}
