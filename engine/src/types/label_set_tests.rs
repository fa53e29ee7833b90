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
