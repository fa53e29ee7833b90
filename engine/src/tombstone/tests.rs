//! Coalescing and holes against looking at every deletion.
#![allow(clippy::unwrap_used)]
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::types::SeriesId;

/// Ids at the ends of two metrics, and ten instants.
fn id(n: u8) -> SeriesId {
    SeriesId(u64::from(u32::MAX) - 3 + u64::from(n))
}

fn deletion() -> impl Strategy<Value = Deletion> {
    (prop::collection::vec(0u8..8, 1..4), 0i64..10, 0i64..4).prop_map(|(ids, start, len)| Deletion {
        series: ids.into_iter().map(id).collect(),
        range: TimeRange { start, end: start + len },
    })
}

fn shows(hidden: &Hidden, series: SeriesId) -> Vec<i64> {
    let (ts, mut holes): (Vec<i64>, Vec<TimeRange>) = ((0..14).collect(), Vec::new());
    hidden.holes(series, &mut holes);
    let (mut shown, mut hole, mut at) = (Vec::new(), 0, 0);
    while let Some(piece) = next_visible(&ts, at, &holes, &mut hole) {
        assert!(!piece.is_empty() && piece.start >= at);
        at = piece.end;
        shown.extend_from_slice(&ts[piece]);
    }
    shown
}

proptest! {
    #[test]
    fn coalesced_tombstones_hide_what_each_of_them_hid(
        epochs in prop::collection::vec(prop::collection::vec(deletion(), 1..8), 1..4),
        flush_from in 0usize..4,
    ) {
        // Epoch k is of commits 10k + 1 and later; sources end at commits 10k.
        let mut list = Tombstones::default();
        for (k, deletions) in epochs.iter().enumerate() {
            let start = 10 * k as u64;
            for (lsn, deletion) in (start + 1..).zip(deletions) {
                list.add(Lsn(lsn), Lsn(start), std::slice::from_ref(deletion));
            }
        }
        let flush_from = flush_from.min(epochs.len() - 1);
        let last = Lsn(10 * epochs.len() as u64);
        let flushed: Tombstones = list.flushed(Lsn(10 * flush_from as u64), last).into_iter().collect();
        for source in 0..=epochs.len() {
            for n in 0..8 {
                let all = || epochs.iter().skip(source).flatten().filter(|d| d.series.contains(id(n)));
                let expected: Vec<i64> = (0..14).filter(|&t| !all().any(|d| d.range.contains(t))).collect();
                prop_assert_eq!(shows(&list.after(Lsn(10 * source as u64), TimeRange::ALL), id(n)), expected.clone());
                // After a flush there is no source inside what was flushed, and to those before it all is one.
                if source <= flush_from {
                    let of_flush = epochs.iter().skip(flush_from).flatten().filter(|d| d.series.contains(id(n)));
                    let gone: Vec<TimeRange> = of_flush.map(|d| d.range).collect();
                    let expected: Vec<i64> = (0..14).filter(|&t| !gone.iter().any(|range| range.contains(t))).collect();
                    prop_assert_eq!(shows(&flushed.after(Lsn(10 * source as u64), TimeRange::ALL), id(n)), expected);
                }
            }
        }
        prop_assert!(flushed.after(last, TimeRange::ALL).is_empty());
    }

    #[test]
    fn a_series_set_is_read_back_and_answers_ranges(ids in prop::collection::btree_set(0u64..40, 0..20)) {
        let ids: Vec<SeriesId> = ids.into_iter().map(|n| SeriesId(n + u64::from(u32::MAX) - 20)).collect();
        let set: SeriesSet = ids.iter().copied().collect();
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        let mut reader = Reader::new(&bytes, Path::new("f"), 0);
        let back = SeriesSet::decode(&mut reader).unwrap();
        reader.finish().unwrap();
        prop_assert_eq!(&back, &set);
        prop_assert_eq!(back.iter().collect::<Vec<_>>(), ids.clone());
        for first in 0..40 {
            for last in first..40 {
                let ends = [first, last].map(|n| SeriesId(n + u64::from(u32::MAX) - 20));
                let expected = ids.iter().any(|id| (ends[0]..=ends[1]).contains(id));
                prop_assert_eq!(set.has_any(ends[0], ends[1]), expected);
            }
        }
    }
}

#[test]
fn deletes_of_the_same_rows_stay_one_tombstone() {
    let mut list = Tombstones::default();
    let series = |ids: &[u8]| ids.iter().map(|&n| id(n)).collect::<SeriesSet>();
    let range = |start, end| TimeRange { start, end };
    let adds = [
        (series(&[1]), range(0, 9)),
        (series(&[2]), range(0, 9)),
        (series(&[1, 2]), range(10, 19)),
        (series(&[2]), range(3, 4)),
        (series(&[1, 2, 3]), range(-5, 30)),
    ];
    for (lsn, (series, range)) in (1..).zip(adds) {
        list.add(Lsn(lsn), Lsn(0), &[Deletion { series, range }]);
    }
    assert_eq!(list.len(), 1);
    // One commit with rows in between, and they must stay apart.
    list.add(Lsn(9), Lsn(8), &[Deletion { series: series(&[1]), range: range(0, 1) }]);
    assert_eq!(list.len(), 2);
}

#[test]
fn damaged_series_sets_are_refused() {
    // More runs than bytes; a run over the end of a metric; runs out of order; an id beyond 64 bits.
    let cases: [&[u64]; 4] = [&[9, 0, 0], &[1, u64::from(u32::MAX), 1], &[2, 5, 0, 0, 0], &[2, u64::MAX, 0, 1, 0]];
    for case in cases {
        let mut bytes = Vec::new();
        case.iter().for_each(|&n| crate::format::put_varint(&mut bytes, n));
        let error = SeriesSet::decode(&mut Reader::new(&bytes, Path::new("f"), 0)).unwrap_err();
        assert!(matches!(error, crate::Error::Corruption { .. }), "{error}");
    }
}
