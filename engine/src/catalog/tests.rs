#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use croaring::Bitmap;
use hashbrown::HashSet;
use parking_lot::RwLock;
use proptest::prelude::*;

use crate::types::{LabelSet, MatchOp, Matcher, SeriesId};

use super::postings::{decode, encode};
use super::{Catalogue, Head, HeadPostings, PartitionPostings, Postings, evaluate};

fn labels(metric: u32, number: u32) -> LabelSet {
    let (name, n, pod) = (format!("m{metric}"), (number % 5).to_string(), number.to_string());
    LabelSet::from_pairs([("__name__", &*name), ("n", &*n), ("pod", &*pod)]).unwrap()
}

fn select(head: &RwLock<Head>, name: &str, op: MatchOp, value: &str) -> Vec<SeriesId> {
    let matcher = Matcher { name: name.into(), op, value: value.into() }.compile().unwrap();
    let ids = HeadPostings::ask(head, |postings| {
        Ok(postings.ids(&evaluate(postings, std::slice::from_ref(&matcher))?.unwrap()))
    });
    let mut ids = ids.unwrap();
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn the_head_index_is_a_map_of_the_series_in_use(
        rounds in prop::collection::vec(prop::collection::vec((0u32..3, 0u32..600), 0..60), 1..8),
    ) {
        let head = RwLock::new(Head::default());
        let mut active: BTreeMap<SeriesId, LabelSet> = BTreeMap::new();
        for touched in &rounds {
            let mut in_use = BTreeMap::new();
            // Some together, as a request has them.
            for touched in touched.chunks(7) {
                let before = in_use.clone();
                let mut head = head.write();
                let mut head = head.activation();
                for (i, &(metric, number)) in touched.iter().enumerate() {
                    let id = SeriesId::new(metric, number);
                    let missing = head.touch(&[id, id]);
                    prop_assert_eq!(missing.is_empty(), active.contains_key(&id) || in_use.contains_key(&id));
                    if !missing.is_empty() || i % 3 == 0 {
                        head.activate(id, labels(metric, number));
                    }
                    in_use.insert(id, labels(metric, number));
                }
                prop_assert!(before.keys().all(|id| head.labels_of(*id).is_some()));
            }
            active.extend(in_use.clone());
            for (id, labels) in &active {
                let head = head.read();
                prop_assert_eq!(head.labels_of(*id), Some(labels));
                prop_assert_eq!(head.id_of(labels, head.hash_of(labels)), Some(*id));
            }
            prop_assert_eq!(head.read().active(), active.len());
            for n in 0..5 {
                let expected: Vec<SeriesId> = active.keys().copied().filter(|id| id.number() % 5 == n).collect();
                prop_assert_eq!(select(&head, "n", MatchOp::Equal, &n.to_string()), expected);
            }
            let begin_with_1 = active.keys().copied().filter(|id| id.number().to_string().starts_with('1'));
            prop_assert_eq!(select(&head, "pod", MatchOp::Regex, "1.*"), begin_with_1.collect::<Vec<_>>());
            let evicted = Head::evict_idle(&head);
            prop_assert!(active.keys().all(|id| in_use.contains_key(id) != evicted.contains(id)));
            active = in_use;
        }
        Head::evict_idle(&head);
        prop_assert_eq!(head.read().active(), 0);
        prop_assert!(select(&head, "pod", MatchOp::NotEqual, "").is_empty());
        prop_assert!(head.read().terms().names(None).next().is_none());
    }

    #[test]
    fn a_posting_list_comes_back_and_other_bytes_never_panic(
        numbers in prop::collection::btree_set(prop_oneof![0u32..40, any::<u32>()], 0..30),
        rubbish in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let bytes = encode(&mut Bitmap::of(&numbers));
        prop_assert_eq!(decode(&bytes).unwrap().to_vec(), numbers);
        decode(&rubbish);
    }
}

#[test]
fn values_of_more_than_one_helping_are_all_asked() {
    let head = RwLock::new(Head::default());
    for number in 0..5000 {
        head.write().activation().activate(SeriesId::new(0, number), labels(0, number));
    }
    assert_eq!(select(&head, "pod", MatchOp::Regex, ".*[05]").len(), 1000);
    let all = HeadPostings::ask(&head, |postings| {
        let mut seen = 0;
        postings.values("pod", None, &mut |_| {
            seen += 1;
            Ok(true)
        })?;
        Ok(seen)
    });
    assert_eq!(all.unwrap(), 5000);
}

#[test]
fn an_eviction_during_a_question_asks_it_again() {
    let head = RwLock::new(Head::default());
    for number in 0..10 {
        head.write().activation().activate(SeriesId::new(0, number), labels(0, number));
    }
    Head::evict_idle(&head);
    let mut asked = 0;
    let ids = HeadPostings::ask(&head, |postings| {
        asked += 1;
        let all = postings.all()?;
        if asked == 1 {
            // The slots go, and to others.
            assert_eq!(Head::evict_idle(&head).len(), 10);
            (10..15).for_each(|number| head.write().activation().activate(SeriesId::new(0, number), labels(0, number)));
        }
        Ok(postings.ids(&all))
    });
    assert_eq!((asked, ids.unwrap().len()), (2, 5));
}

#[test]
fn a_series_that_comes_back_while_others_are_forgotten_stays_in_use() {
    let id = |number| SeriesId::new(0, number);
    let mut head = Head::default();
    (0..10).for_each(|number| head.activation().activate(id(number), labels(0, number)));
    // One eviction ends, the next is in the middle.
    head.end_eviction(false);
    assert_eq!(head.touch(&[id(1), id(9)]), []);
    let mut evicted = HashSet::new();
    head.evict_idle_among(0..5, &mut evicted);
    assert_eq!(head.touch(&[id(2), id(1), id(7)]), [id(2)], "a writer learns that it is gone");
    head.activation().activate(id(2), labels(0, 2));
    head.activation().activate(id(10), labels(0, 10));
    head.evict_idle_among(5..10, &mut evicted);
    assert_eq!(head.evictions(), 0, "nobody gets the slots before the end");
    head.end_eviction(true);
    assert_eq!(head.evictions(), 1);
    assert!(evicted == [0, 2, 3, 4, 5, 6, 8].map(id).into_iter().collect::<HashSet<_>>(), "{evicted:?}");
    assert_eq!(head.active(), 5);
    for number in [1, 2, 7, 9, 10] {
        assert_eq!(head.labels_of(id(number)), Some(&labels(0, number)));
        let labels = labels(0, number);
        assert_eq!(head.id_of(&labels, head.hash_of(&labels)), Some(id(number)));
    }
    assert_eq!(head.touch(&[id(1), id(2), id(7), id(9), id(10)]), []);
}

#[test]
fn the_ids_of_new_ordinals_are_written_before_the_lists_that_have_them() {
    struct Tables(Vec<u8>);
    impl rocksdb::WriteBatchIterator for Tables {
        fn put(&mut self, key: &[u8], _: &[u8]) {
            self.0.push(key[9]);
        }
        fn delete(&mut self, _: &[u8]) {}
    }
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = Catalogue::open(dir.path(), true, 0, 64 << 20).unwrap();
    let series: Vec<(SeriesId, LabelSet)> = (0..2000).map(|n| (SeriesId::new(0, n), labels(0, n))).collect();
    let by_id: Vec<_> = series.iter().collect();
    let mut batch = rocksdb::WriteBatch::default();
    catalogue.add_to_index(&catalogue.db().unwrap(), &mut batch, (7, 0), &series, &by_id).unwrap();
    let mut tables = Tables(Vec::new());
    batch.iterate(&mut tables);
    let ids_end = tables.0.iter().rposition(|&table| table == b'o').unwrap();
    let lists_begin = tables.0.iter().position(|table| b"ln".contains(table)).unwrap();
    assert!(ids_end < lists_begin, "a query that comes in between would find no id for an ordinal");
}

/// Series `from..to` of one metric, the ordinals of a partition.
fn some_series(from: u32, to: u32) -> Vec<(SeriesId, LabelSet)> {
    (from..to).map(|number| (SeriesId::new(0, number), labels(0, number))).collect()
}

#[test]
fn a_question_during_or_after_a_change_of_the_index_finds_all_that_is_there_then() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = Catalogue::open(dir.path(), true, 0, 64 << 20).unwrap();
    let names = |series| PartitionPostings { catalogue: &catalogue, index: 7, series };
    let ids = |series: u32, pod: &str| names(series).ids(&names(series).exact("pod", pod).unwrap()).unwrap();
    let step = 37;
    for from in (0..2000).step_by(step as usize) {
        let to = from + step;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| catalogue.add_series(7, from, &some_series(from, to)).unwrap());
            // What was there before is there all the time.
            while !writer.is_finished() {
                let n = names(to).exact("n", "3").unwrap();
                assert!((0..from).filter(|number| number % 5 == 3).all(|number| n.contains(number)));
                assert!(names(to).ids(&n).is_ok(), "of what a list has, the ids are known");
                assert!(from == 0 || ids(from, &(from - 1).to_string()) == [SeriesId::new(0, from - 1)]);
            }
        });
        let n = names(to).exact("n", "3").unwrap();
        assert_eq!(n.to_vec(), (0..to).filter(|number| number % 5 == 3).collect::<Vec<_>>());
        assert_eq!(names(to).present("pod").unwrap().cardinality(), u64::from(to));
        let expected: Vec<SeriesId> = (0..to).map(|number| SeriesId::new(0, number)).collect();
        assert_eq!(names(to).ids(&names(to).all().unwrap()).unwrap(), expected);
        assert_eq!(ids(to, &(to - 1).to_string()), [SeriesId::new(0, to - 1)]);
        assert!(ids(to, &to.to_string()).is_empty());
    }
}

#[test]
fn lists_that_were_read_ahead_are_those_that_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = Catalogue::open(dir.path(), true, 0, 64 << 20).unwrap();
    catalogue.add_series(7, 0, &some_series(0, 600)).unwrap();
    catalogue.warm_up(7, &|| true).unwrap();
    let postings = PartitionPostings { catalogue: &catalogue, index: 7, series: 600 };
    let kept = catalogue.bytes();
    for number in [0, 511, 512, 599] {
        let found = postings.exact("pod", &number.to_string()).unwrap();
        assert_eq!(postings.ids(&found).unwrap(), [SeriesId::new(0, number)]);
    }
    assert_eq!(postings.present("n").unwrap().cardinality(), 600);
    assert_eq!(catalogue.bytes(), kept, "nothing was read again");
}
