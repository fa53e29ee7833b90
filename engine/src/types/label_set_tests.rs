#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn pairs_are_sorted_and_empty_values_mean_absent() {
    let set = LabelSet::from_pairs([("job", "a"), ("__name__", "up"), ("zone", "")]).unwrap();
    assert_eq!(set.iter().collect::<Vec<_>>(), [("__name__", "up"), ("job", "a")]);
    assert_eq!((set.metric_name(), set.get("zone")), ("up", None));
    assert_eq!(LabelSet::from_bytes(set.as_bytes()).unwrap(), set);
}

#[test]
fn empty_and_duplicate_names_are_refused() {
    assert!(LabelSet::from_pairs([("", "x")]).is_err());
    assert!(LabelSet::from_pairs([("a", "1"), ("a", "2")]).is_err());
    assert!(LabelSet::from_pairs([("a", "1"), ("a", "")]).is_err());
}

#[test]
fn bytes_that_are_not_canonical_are_corruption() {
    let unsorted = b"\x01b\x01x\x01a\x01x";
    let empty_value = b"\x01a\x00";
    let short = b"\x09a";
    for bytes in [unsorted.as_slice(), empty_value, short] {
        assert!(matches!(LabelSet::from_bytes(bytes), Err(Error::Corruption { .. })), "{bytes:?}");
    }
}

#[test]
fn the_order_is_that_of_the_labels_whatever_their_lengths() {
    let text = |n: u64| "ab".repeat((n % 40) as usize) + ["", "a", "b", "é", "zz"][(n / 40 % 5) as usize];
    let (mut random, mut sets) = (1u64, Vec::new());
    for _ in 0..300 {
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        let pairs =
            [("__name__", text(next() % 4)), ("job", text(next())), ("le", text(next() % 7)), ("zone", text(next()))];
        sets.push(LabelSet::from_pairs(pairs.iter().map(|(name, value)| (*name, value.as_str()))).unwrap());
    }
    for a in &sets {
        for b in &sets {
            assert_eq!(a.compare(b), a.iter().cmp(b.iter()), "{a:?} {b:?}");
        }
    }
}

#[test]
fn what_is_filtered_is_canonical() {
    let set = LabelSet::from_pairs([("__name__", "up"), ("job", "a"), ("zone", "é")]).unwrap();
    let expect = LabelSet::from_pairs([("__name__", "up"), ("zone", "é")]).unwrap();
    assert_eq!(set.filtered(|name| name != "job"), expect);
    assert_eq!(set.filtered(|_| true), set);
    assert!(set.filtered(|_| false).is_empty());
}

#[test]
fn a_set_without_a_name_is_what_a_filter_leaves() {
    let long = "x".repeat(300);
    for pairs in
        [vec![], vec![("job", "a")], vec![("__name__", "up"), ("a", long.as_str()), ("job", "a"), ("zone", "é")]]
    {
        let set = LabelSet::from_pairs(pairs.iter().copied()).unwrap();
        for name in ["", "a", "job", "le", "zz", METRIC_NAME, "zone"] {
            assert_eq!(set.without(name), set.filtered(|other| other != name), "{pairs:?} without {name}");
        }
    }
}
