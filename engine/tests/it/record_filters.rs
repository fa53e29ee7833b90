//! Conditions on rows: hints leave groups out and nothing else, words are found exactly.
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use foretell_engine::text::Words;
use foretell_engine::{Engine, ErrorKind, Hint, SeriesId, Snapshot, TimeRange, Unique};

use crate::records::{columns, keys, mirror, records, table, words, write};
use crate::support::{Store, all, series};

/// The numbers of a text column that a scan with `hints` gives, after a filter for `word`.
fn found_with(snapshot: &Snapshot, id: SeriesId, hints: &[Hint], word: &str) -> (usize, Vec<i64>) {
    let mut scan = snapshot.scan_records_for("t", &[id], TimeRange::ALL, Some(&["text"]), hints, &[]).unwrap();
    let (mut read, mut found) = (0, Vec::new());
    while let Some(batch) = scan.next_batch().unwrap() {
        read += batch.num_rows();
        let texts = batch.column(2).as_string::<i32>();
        let has = |row: &usize| texts.value(*row).split(' ').any(|part| part == word);
        found.extend((0..batch.num_rows()).filter(has).map(|row| keys(&batch)[row].1));
    }
    (read, found)
}

#[test]
fn hints_leave_out_groups_and_never_a_row_that_satisfies_them() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let lines = |from: i64, to: i64| {
        let at: Vec<_> = (from..to).map(|ts| (id, ts)).collect();
        let text = StringArray::from_iter_values((from..to).map(|ts| format!("Line {} of all", ts / 2)));
        records(table("t", Unique::WholeRow), &at, columns(vec![("text", Arc::new(text) as ArrayRef)]))
    };
    write(&engine, vec![lines(0, 20_000)]);
    engine.flush().unwrap();
    // Equal rows again, in another file, and more in memory.
    write(&engine, vec![lines(10_000, 20_000)]);
    engine.flush().unwrap();
    write(&engine, vec![lines(19_998, 20_002)]);
    let words =
        |words: &[&str]| vec![Hint::Words { column: "text".into(), words: words.iter().map(|&w| w.into()).collect() }];
    for compacted in [false, true] {
        if compacted {
            engine.compact().unwrap();
        }
        let snapshot = engine.snapshot();
        for number in [0, 17, 4095, 4096, 5000, 9999, 10_000] {
            let word = number.to_string();
            let (read, found) = found_with(&snapshot, id, &words(&["LINE", &word]), &word);
            assert_eq!(found, [number * 2, number * 2 + 1], "{word}");
            assert!(read < 20_000, "{read} rows read for {word}");
        }
        let (read, found) = found_with(&snapshot, id, &words(&["nowhere"]), "nowhere");
        assert!(found.is_empty() && read < 20_000, "{read} rows read");
        assert_eq!(found_with(&snapshot, id, &[], "Line").1.len(), 20_002);
    }
    let range = TimeRange { start: 33, end: 34 };
    engine.delete(&foretell_engine::Selector { range, ..all_of(&engine, id) }).unwrap();
    assert_eq!(found_with(&engine.snapshot(), id, &words(&["17"]), "17").1, [35]);
}

#[test]
fn rows_with_words_are_exactly_those_of_brute_force_in_memory_in_flushed_and_in_merged_files() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let text = |ts: i64| {
        let verb = ["GET", "put", "Delete"][ts as usize % 3];
        let result = if ts % 11 == 0 { "Refused" } else { "ok" };
        (ts % 13 != 0).then(|| format!("{verb} item{ts}: {result} after {} \u{b5}s", ts % 9))
    };
    let lines = |from: i64, to: i64| {
        let at: Vec<_> = (from..to).map(|ts| (id, ts)).collect();
        let columns = columns(vec![
            ("text", Arc::new(StringArray::from_iter((from..to).map(text))) as ArrayRef),
            ("number", Arc::new(Int64Array::from_iter_values(from..to)) as ArrayRef),
        ]);
        records(table("t", Unique::WholeRow), &at, columns)
    };
    let check = |from: i64, state: &str| {
        let snapshot = engine.snapshot();
        for wanted in
            ["refused", "ok GET", "delete REFUSED 5", "item777", "8", "\u{b5}S put", "ok refused", "nothing", ""]
        {
            let (words, mut seen) = (Words::of(wanted), Vec::new());
            let mut has = |ts: &i64| text(*ts).is_some_and(|text| words.are_in(&text, &mut seen));
            let expected: Vec<i64> = (from..20_000).filter(|ts| has(ts)).collect();
            for columns in [Some(&["number"][..]), Some(&["text"][..]), Some(&[][..])] {
                let words = [self::words("text", wanted)];
                let mut scan = snapshot.scan_records_for("t", &[id], TimeRange::ALL, columns, &[], &words).unwrap();
                let mut found = Vec::new();
                while let Some(batch) = scan.next_batch().unwrap() {
                    found.extend(keys(&batch).into_iter().map(|key| key.1));
                }
                assert_eq!(found, expected, "{state}: {wanted:?} with {columns:?}");
            }
        }
        for column in ["number", "nowhere"] {
            let words = [words(column, "a")];
            let scan = snapshot.scan_records_for("t", &[id], TimeRange::ALL, Some(&["number"]), &[], &words);
            let found = scan.and_then(|mut scan| scan.next_batch());
            match column {
                "number" => assert_eq!(found.err().unwrap().kind(), ErrorKind::Invalid),
                _ => assert!(found.unwrap().is_none()),
            }
        }
    };
    write(&engine, vec![lines(0, 20_000)]);
    check(0, "in memory");
    engine.flush().unwrap();
    check(0, "flushed");
    // Equal rows again, in another file and in memory.
    write(&engine, vec![lines(10_000, 20_000)]);
    engine.flush().unwrap();
    write(&engine, vec![lines(19_000, 20_000)]);
    check(0, "in two files and in memory");
    engine.compact().unwrap();
    check(0, "merged, and in memory");
    let range = TimeRange { start: 0, end: 99 };
    engine.delete(&foretell_engine::Selector { range, ..all_of(&engine, id) }).unwrap();
    check(100, "with deleted rows");
    engine.compact().unwrap();
    check(100, "merged again");
}

/// The selector of one series.
fn all_of(engine: &Engine, id: SeriesId) -> foretell_engine::Selector {
    let series = engine.snapshot().select(&all()).unwrap().into_iter().find(|series| series.id == id).unwrap();
    foretell_engine::Selector { metric: Some(series.labels.metric_name().to_owned()), ..all() }
}

#[test]
fn where_the_newest_row_wins_hints_are_refused() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    write(&engine, vec![mirror(&[(id, 1, 0.5)])]);
    let hints = [Hint::Present { column: "text".into() }];
    let refused = engine.snapshot().scan_records_for("mirror", &[id], TimeRange::ALL, None, &hints, &[]);
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Invalid);
    let words = [words("text", "a")];
    let refused = engine.snapshot().scan_records_for("mirror", &[id], TimeRange::ALL, None, &[], &words);
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Invalid);
}
