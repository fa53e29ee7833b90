//! Rows with typed columns: exact, atomic with samples and state, without duplicates, whatever was flushed or merged.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DurationNanosecondArray, FixedSizeBinaryArray, Float32Array,
    Float64Array, Float64Builder, Int8Array, Int16Array, Int32Array, Int64Array, ListBuilder, MapBuilder, StringArray,
    StringBuilder, StructArray, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type, Schema, UInt64Type};
use arrow::record_batch::RecordBatch;
use foretell_engine::fs::Fs;
use foretell_engine::text::Words;
use foretell_engine::{
    Engine, ErrorKind, Hint, Lsn, RecordTable, Records, RowFilter, SeriesId, Snapshot, TimeRange, Unique, WriteBatch,
};
use proptest::prelude::*;

use crate::deletes::one_of;
use crate::support::{HOUR, Rows, Store, all, series};

pub(crate) fn table(name: &str, unique: Unique) -> RecordTable {
    RecordTable::new(name, unique).unwrap()
}

pub(crate) fn columns(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

pub(crate) fn records(table: RecordTable, keys: &[(SeriesId, i64)], columns: RecordBatch) -> Arc<Records> {
    let (series, ts) = keys.iter().copied().unzip();
    Arc::new(Records { table, series, ts, columns })
}

pub(crate) fn write(engine: &Engine, records: Vec<Arc<Records>>) -> Lsn {
    engine.write(WriteBatch { records, ..WriteBatch::default() }).unwrap().wait().unwrap()
}

fn try_scan(
    snapshot: &Snapshot,
    table: &str,
    ids: &[SeriesId],
    range: TimeRange,
    columns: Option<&[&str]>,
) -> foretell_engine::Result<RecordBatch> {
    let mut scan = snapshot.scan_records(table, ids, range, columns)?;
    let mut batches = Vec::new();
    while let Some(batch) = scan.next_batch()? {
        batches.push(batch);
    }
    Ok(concat_batches(&scan.schema(), &batches).unwrap())
}

fn scan(snapshot: &Snapshot, table: &str, columns: Option<&[&str]>) -> RecordBatch {
    let ids: Vec<SeriesId> = snapshot.select(&all()).unwrap().iter().map(|series| series.id).collect();
    try_scan(snapshot, table, &ids, TimeRange::ALL, columns).unwrap()
}

pub(crate) fn keys(batch: &RecordBatch) -> Vec<(SeriesId, i64)> {
    let (series, ts) = (batch.column(0).as_primitive::<UInt64Type>(), batch.column(1).as_primitive::<Int64Type>());
    series.values().iter().zip(ts.values()).map(|(&id, &ts)| (SeriesId(id), ts)).collect()
}

/// A table that says again what the samples `rows` say: whoever reads both knows whether they were one commit.
pub(crate) fn mirror(rows: &[(SeriesId, i64, f64)]) -> Arc<Records> {
    let keys: Vec<_> = rows.iter().map(|&(id, ts, _)| (id, ts)).collect();
    let value = Float64Array::from_iter_values(rows.iter().map(|row| row.2));
    let text = StringArray::from_iter_values(rows.iter().map(|row| row.2.to_bits().to_string()));
    let columns = columns(vec![("value", Arc::new(value)), ("text", Arc::new(text))]);
    records(table("mirror", Unique::PerInstant), &keys, columns)
}

/// What [`mirror`] wrote, as the samples it mirrors.
pub(crate) fn mirrored(snapshot: &Snapshot) -> foretell_engine::Result<Rows> {
    if snapshot.record_table("mirror").is_none() {
        return Ok(Rows::new());
    }
    let ids: Vec<SeriesId> = snapshot.select(&all())?.iter().map(|series| series.id).collect();
    let batch = try_scan(snapshot, "mirror", &ids, TimeRange::ALL, None)?;
    let text = batch.column(2).as_string::<i32>();
    let values = batch.column(3).as_primitive::<Float64Type>();
    let keys = keys(&batch);
    let rows = keys.iter().enumerate().map(|(row, &key)| {
        assert_eq!(text.value(row), values.value(row).to_bits().to_string());
        (key, values.value(row).to_bits())
    });
    Ok(rows.collect())
}

/// A row of [`events`]: series, time, bits of the value.
pub(crate) type Events = BTreeSet<(SeriesId, i64, u64)>;

/// Events that say again what the samples `rows` say, as logs and spans do: each row that differs stays.
pub(crate) fn events(rows: &[(SeriesId, i64, f64)]) -> Arc<Records> {
    let keys: Vec<_> = rows.iter().map(|&(id, ts, _)| (id, ts)).collect();
    let ids = FixedSizeBinaryArray::try_from_iter(rows.iter().map(|row| row.2.to_bits().to_be_bytes())).unwrap();
    let text = StringArray::from_iter_values(rows.iter().map(|row| event_text(row.2.to_bits())));
    let columns = columns(vec![("id", Arc::new(ids)), ("text", Arc::new(text))]);
    records(table("events", Unique::WholeRow), &keys, columns)
}

/// That the text in `column` has the words of `wanted`.
pub(crate) fn words(column: &str, wanted: &str) -> RowFilter {
    RowFilter::Words { column: column.into(), words: Arc::new(Words::of(wanted)) }
}

fn event_text(bits: u64) -> String {
    format!("It was {bits}, all in all")
}

/// What [`events`] wrote, each row once, whether all rows are asked for or those of one id and its words.
pub(crate) fn happened(snapshot: &Snapshot) -> Events {
    if snapshot.record_table("events").is_none() {
        return Events::new();
    }
    let series: Vec<SeriesId> = snapshot.select(&all()).unwrap().iter().map(|series| series.id).collect();
    let read = |hints: &[Hint], words: &[RowFilter]| {
        let mut scan = snapshot.scan_records_for("events", &series, TimeRange::ALL, None, hints, words).unwrap();
        let mut found = Vec::new();
        while let Some(batch) = scan.next_batch().unwrap() {
            let (ids, texts) = (batch.column(2).as_fixed_size_binary(), batch.column(3).as_string::<i32>());
            for (row, (id, ts)) in keys(&batch).into_iter().enumerate() {
                let bits = u64::from_be_bytes(ids.value(row).try_into().unwrap());
                assert_eq!(texts.value(row), event_text(bits));
                found.push((id, ts, bits));
            }
        }
        found
    };
    let found = read(&[], &[]);
    let each: Events = found.iter().copied().collect();
    assert_eq!(each.len(), found.len(), "each row once: {found:?}");
    for event in [each.first(), each.last()].into_iter().flatten() {
        let (id, word) = (event.2.to_be_bytes().to_vec(), event.2.to_string());
        for hint in [
            Hint::Value { column: "id".into(), value: id },
            Hint::Words { column: "text".into(), words: ["it".into(), word].into_iter().collect() },
        ] {
            assert!(read(std::slice::from_ref(&hint), &[]).contains(event), "{event:?} by {hint:?}");
        }
        let with = |wanted: &str| read(&[], &[words("text", wanted)]);
        let same: Vec<_> = found.iter().filter(|other| other.2 == event.2).copied().collect();
        assert_eq!(with(&format!("ALL {}", event.2)), same);
        let id = RowFilter::Value { column: "id".into(), value: event.2.to_be_bytes().to_vec() };
        assert_eq!(read(&[], &[id]), same);
        let text = RowFilter::Value { column: "text".into(), value: event_text(event.2).into_bytes() };
        assert_eq!(read(&[], &[text]), same);
        assert_eq!(with("in it"), found);
    }
    each
}

/// Every type a column may have, `rows` rows of it, every third of them NULL.
fn every_type(rows: usize) -> RecordBatch {
    let present = |row: usize| row % 3 != 1;
    macro_rules! numbers {
        ($array:ident, $type:ty) => {
            Arc::new($array::from_iter(
                (0..rows).map(|row| present(row).then(|| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as $type)),
            )) as ArrayRef
        };
    }
    let floats = (0..rows).map(|row| {
        let bits = [0x7ff0_0000_0000_0002, 0x8000_0000_0000_0000, 0x7ff8_0000_0000_dead, 0x3fb9_9999_9999_999a];
        present(row).then(|| f64::from_bits(bits[row % 4]))
    });
    let texts: Vec<Option<String>> = (0..rows).map(|row| present(row).then(|| "é\u{0}x".repeat(row % 5))).collect();
    let mut lists = ListBuilder::new(Float64Builder::new());
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..rows {
        (0..row % 4).for_each(|k| lists.values().append_option((k != 1).then_some(k as f64 * 0.1)));
        lists.append(present(row));
        (0..row % 3).for_each(|k| {
            maps.keys().append_value(format!("k{k}"));
            maps.values().append_option((k != 1).then(|| format!("v{row}")));
        });
        maps.append(present(row)).unwrap();
    }
    let fields = Fields::from(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, false)]);
    let nested: Vec<ArrayRef> = vec![
        numbers!(Int64Array, i64),
        Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("b{}", row % 2)))),
    ];
    let valid = arrow::buffer::NullBuffer::from_iter((0..rows).map(|row| row % 5 != 0));
    columns(vec![
        ("bool", Arc::new(BooleanArray::from_iter((0..rows).map(|row| present(row).then_some(row % 2 == 0))))),
        ("i8", numbers!(Int8Array, i8)),
        ("i16", numbers!(Int16Array, i16)),
        ("i32", numbers!(Int32Array, i32)),
        ("i64", numbers!(Int64Array, i64)),
        ("u8", numbers!(UInt8Array, u8)),
        ("u16", numbers!(UInt16Array, u16)),
        ("u32", numbers!(UInt32Array, u32)),
        ("u64", numbers!(UInt64Array, u64)),
        ("f32", Arc::new(Float32Array::from_iter((0..rows).map(|row| present(row).then_some(row as f32 * 0.1))))),
        ("f64", Arc::new(Float64Array::from_iter(floats))),
        ("time", numbers!(TimestampNanosecondArray, i64)),
        (
            "zoned",
            Arc::new(TimestampNanosecondArray::from_iter_values((0..rows).map(|row| row as i64)).with_timezone("UTC")),
        ),
        ("took", numbers!(DurationNanosecondArray, i64)),
        ("text", Arc::new(StringArray::from_iter(texts.iter().map(Option::as_deref)))),
        ("bytes", Arc::new(BinaryArray::from_iter(texts.iter().map(|text| text.as_ref().map(|t| t.as_bytes()))))),
        (
            "id",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    (0..rows).map(|row| present(row).then_some([row as u8; 16])),
                    16,
                )
                .unwrap(),
            ),
        ),
        ("list", Arc::new(lists.finish())),
        ("map", Arc::new(maps.finish())),
        ("struct", Arc::new(StructArray::new(fields, nested, Some(valid)))),
        ("nothing", Arc::new(Int64Array::new_null(rows))),
    ])
}

#[test]
fn every_type_comes_back_exactly_from_log_memory_segments_and_merges() {
    for rows in [1, 2, 40, 8193] {
        let store = Store::new();
        let engine = store.open();
        let id = series(&engine, 1);
        let written = every_type(rows);
        let at: Vec<_> = (0..rows as i64).map(|ts| (id, ts)).collect();
        write(&engine, vec![records(table("all", Unique::WholeRow), &at, written.clone())]);
        let names: Vec<String> = written.schema().fields().iter().map(|field| field.name().clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let check = |engine: &Engine, what: &str| {
            let found = scan(&engine.snapshot(), "all", Some(&names));
            assert_eq!(keys(&found), at, "{what}");
            for (column, name) in names.iter().enumerate() {
                assert_eq!(
                    found.column(column + 2).to_data(),
                    written.column(column).to_data(),
                    "{what}, {rows}: {name}"
                );
            }
            let bits = |array: &dyn Array| {
                array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>()
            };
            assert_eq!(
                bits(found.column_by_name("f64").unwrap()),
                bits(written.column_by_name("f64").unwrap()),
                "{what}"
            );
        };
        check(&engine, "memory");
        drop(engine);
        let engine = store.open();
        check(&engine, "log");
        engine.flush().unwrap();
        check(&engine, "segment");
        for ts in 0..4 {
            write(&engine, vec![records(table("all", Unique::WholeRow), &at[..1], written.slice(0, 1))]);
            write(&engine, vec![records(table("all", Unique::WholeRow), &[(id, HOUR * 9 + ts)], written.slice(0, 1))]);
            engine.flush().unwrap();
        }
        assert!(engine.compact().unwrap().segments_in > 0);
        let found = scan(&engine.snapshot(), "all", None);
        assert_eq!(found.num_rows(), rows + 4, "the same row again and again is one row");
        engine.close().unwrap();
        let engine = store.open();
        assert_eq!(scan(&engine.snapshot(), "all", None), found);
    }
}

/// A row of the model.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    level: Option<i64>,
    body: Option<String>,
    buckets: Option<Vec<f64>>,
}

/// (series, slot of time, level, body, buckets), and which of the columns the batch has at all.
type NewLines = (Vec<(usize, i64, Option<i64>, Option<u8>, Option<u8>)>, u8);

#[derive(Clone, Debug)]
enum Op {
    Write(bool, NewLines),
    /// (series as bits, slots of time)
    Delete(u8, i64, i64),
    Flush,
    Compact,
    Reopen(bool),
    Hold,
}

fn op() -> impl Strategy<Value = Op> {
    let line = (0..4usize, -4i64..8, prop::option::of(0..3i64), prop::option::of(0..4u8), prop::option::of(0..3u8));
    prop_oneof![
        8 => (any::<bool>(), (prop::collection::vec(line, 0..30), 0..8u8)).prop_map(|(whole, lines)| Op::Write(whole, lines)),
        2 => (1..16u8, -4i64..8, 0i64..6).prop_map(|(which, from, len)| Op::Delete(which, from, from + len)),
        4 => Just(Op::Flush),
        2 => Just(Op::Compact),
        1 => any::<bool>().prop_map(Op::Reopen),
        1 => Just(Op::Hold),
    ]
}

fn lines((new, has): &NewLines, ids: &[SeriesId]) -> Vec<(SeriesId, i64, Line)> {
    let slot = HOUR / 3;
    let line = |&(n, at, level, body, buckets): &(usize, i64, Option<i64>, Option<u8>, Option<u8>)| {
        let level = level.filter(|_| has & 1 != 0);
        let body = body.filter(|_| has & 2 != 0).map(|body| format!("request {body} took too long"));
        let buckets = buckets.filter(|_| has & 4 != 0).map(|n| vec![0.25; n.into()]);
        (ids[n], at * slot, Line { level, body, buckets })
    };
    new.iter().map(line).collect()
}

fn encode(unique: Unique, has: u8, lines: &[(SeriesId, i64, Line)]) -> Arc<Records> {
    let keys: Vec<_> = lines.iter().map(|line| (line.0, line.1)).collect();
    let mut buckets = ListBuilder::new(Float64Builder::new());
    lines.iter().for_each(|line| match &line.2.buckets {
        Some(values) => buckets.append_value(values.iter().copied().map(Some)),
        None => buckets.append_null(),
    });
    let level: ArrayRef = Arc::new(Int64Array::from_iter(lines.iter().map(|line| line.2.level)));
    let body: ArrayRef = Arc::new(StringArray::from_iter(lines.iter().map(|line| line.2.body.as_deref())));
    let named = [("level", level), ("body", body), ("buckets", Arc::new(buckets.finish()) as ArrayRef)];
    let has = named.into_iter().enumerate().filter(|(bit, _)| has & (1 << bit) != 0).map(|(_, column)| column);
    let fields: Vec<(&str, ArrayRef)> = has.collect();
    let schema =
        Schema::new(fields.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect::<Vec<_>>());
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(lines.len()));
    let arrays = fields.into_iter().map(|(_, array)| array).collect();
    let columns = RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options).unwrap();
    let name = if unique == Unique::WholeRow { "whole" } else { "instant" };
    records(table(name, unique), &keys, columns)
}

fn decode(batch: &RecordBatch) -> Vec<(SeriesId, i64, Line)> {
    let lines = keys(batch).into_iter().enumerate().map(|(row, (id, ts))| {
        let column = |name: &str| batch.column_by_name(name).filter(|column| column.is_valid(row));
        let level = column("level").map(|column| column.as_primitive::<Int64Type>().value(row));
        let body = column("body").map(|column| column.as_string::<i32>().value(row).to_owned());
        let buckets = column("buckets")
            .map(|column| column.as_list::<i32>().value(row).as_primitive::<Float64Type>().values().to_vec());
        (id, ts, Line { level, body, buckets })
    });
    lines.collect()
}

#[derive(Clone, Debug, Default)]
struct Model {
    instant: BTreeMap<(SeriesId, i64), Line>,
    whole: BTreeMap<(SeriesId, i64), Vec<Line>>,
}

impl Model {
    fn write(&mut self, whole: bool, lines: Vec<(SeriesId, i64, Line)>) {
        for (id, ts, line) in lines {
            let same = self.whole.entry((id, ts));
            if !whole {
                self.instant.insert((id, ts), line);
            } else if let known = same.or_default()
                && !known.contains(&line)
            {
                known.push(line);
            }
        }
        self.whole.retain(|_, lines| !lines.is_empty());
    }

    fn delete(&mut self, ids: &[SeriesId], range: TimeRange) {
        let stays = |key: &(SeriesId, i64)| !ids.contains(&key.0) || !range.contains(key.1);
        self.instant.retain(|key, _| stays(key));
        self.whole.retain(|key, _| stays(key));
    }

    fn check(&self, snapshot: &Snapshot, ids: &[SeriesId], range: TimeRange) {
        let wanted = |key: &(SeriesId, i64)| ids.contains(&key.0) && range.contains(key.1);
        let instant: Vec<_> =
            self.instant.iter().filter(|(key, _)| wanted(key)).map(|(k, line)| (k.0, k.1, line.clone())).collect();
        let whole = self.whole.iter().filter(|(key, _)| wanted(key));
        let whole: Vec<_> = whole.flat_map(|(k, lines)| lines.iter().map(|line| (k.0, k.1, line.clone()))).collect();
        for (name, expected) in [("instant", instant), ("whole", whole)] {
            if snapshot.record_table(name).is_none() {
                assert_eq!(expected, []);
                continue;
            }
            assert_eq!(decode(&try_scan(snapshot, name, ids, range, None).unwrap()), expected, "{name}");
            if snapshot.record_table(name).unwrap().columns.index_of("body").is_ok() {
                let bodies = try_scan(snapshot, name, ids, range, Some(&["body"])).unwrap();
                assert_eq!(bodies.num_columns(), 3);
                let found: Vec<_> = decode(&bodies).into_iter().map(|line| line.2.body).collect();
                assert_eq!(found, expected.into_iter().map(|line| line.2.body).collect::<Vec<_>>(), "{name}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_history_of_records_reads_as_its_model(ops in prop::collection::vec(op(), 1..40)) {
        let mut store = Store::new();
        store.config.wal_segment_bytes = 3000;
        let mut engine = store.open();
        let ids: Vec<SeriesId> = (0..4).map(|n| series(&engine, n)).collect();
        // A sample each that is never deleted, so that the ids stay what they are over a restart.
        crate::support::write(&engine, &ids.iter().map(|&id| (id, 100 * HOUR, 1.0)).collect::<Vec<_>>());
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        let (mut model, mut held) = (Model::default(), Vec::new());
        for op in &ops {
            match op {
                Op::Write(whole, new) => {
                    let lines = lines(new, &ids);
                    let unique = if *whole { Unique::WholeRow } else { Unique::PerInstant };
                    write(&engine, vec![encode(unique, new.1, &lines)]);
                    model.write(*whole, lines);
                }
                Op::Delete(which, from, to) => {
                    let numbers: Vec<u32> = (0..4).filter(|n| which >> n & 1 == 1).collect();
                    let range = TimeRange { start: from * (HOUR / 3), end: to * (HOUR / 3) };
                    engine.delete(&one_of(&numbers, range.start, range.end)).unwrap();
                    model.delete(&numbers.iter().map(|&n| ids[n as usize]).collect::<Vec<_>>(), range);
                }
                Op::Flush => engine.flush().unwrap(),
                Op::Compact => drop(engine.compact().unwrap()),
                Op::Hold => held.push((engine.snapshot(), model.clone())),
                Op::Reopen(close) => {
                    if *close {
                        engine.close().unwrap();
                    }
                    drop(engine);
                    engine = store.open();
                }
            }
            let snapshot = engine.snapshot();
            model.check(&snapshot, &sorted, TimeRange::ALL);
            model.check(&snapshot, &sorted[1..3], TimeRange { start: -HOUR, end: HOUR });
        }
        engine.flush().unwrap();
        engine.compact().unwrap();
        model.check(&engine.snapshot(), &sorted, TimeRange::ALL);
        prop_assert_eq!(engine.stats().tombstones, 0);
        let rows = model.instant.len() + model.whole.values().map(Vec::len).sum::<usize>();
        prop_assert!(engine.stats().record_segment_rows >= rows as u64);
        for (snapshot, model) in &held {
            model.check(snapshot, &sorted, TimeRange::ALL);
        }
    }
}

#[test]
fn deleted_records_go_from_disk_with_the_merge_and_their_files_with_them() {
    let store = Store::new();
    let engine = store.open();
    let (a, b) = (series(&engine, 1), series(&engine, 2));
    for hour in 0..3 {
        write(&engine, vec![mirror(&[(a, hour * HOUR, 1.0), (b, hour * HOUR, 2.0)])]);
    }
    engine.flush().unwrap();
    let before = engine.snapshot();
    assert_eq!(engine.delete(&one_of(&[1], 0, HOUR)).unwrap().series, 1);
    engine.delete(&one_of(&[1, 2], 2 * HOUR, 2 * HOUR)).unwrap();
    let left: Rows = [((b, 0), 2f64.to_bits()), ((b, HOUR), 2f64.to_bits())].into();
    assert_eq!(mirrored(&engine.snapshot()).unwrap(), left, "instant");
    // A row of a hidden instant that comes afterwards shows.
    write(&engine, vec![mirror(&[(a, 0, 3.0)])]);
    engine.flush().unwrap();
    assert!(engine.stats().tombstones > 0);
    let done = engine.compact().unwrap();
    assert_eq!((done.rows_deleted, engine.stats().tombstones), (4, 0), "{done:?}");
    let left: Rows = left.into_iter().chain([((a, 0), 3f64.to_bits())]).collect();
    assert_eq!(mirrored(&engine.snapshot()).unwrap(), left);
    assert_eq!((engine.stats().record_segment_rows, engine.stats().rows_deleted), (3, 4));
    assert_eq!(mirrored(&before).unwrap().len(), 6, "pinned");
    drop(before);
    let files = store.fs.list(Path::new("/store/partitions/2")).unwrap();
    assert!(files.iter().all(|name| !name.ends_with(".records")), "{files:?}");
    engine.close().unwrap();
    drop(engine);
    assert_eq!(mirrored(&store.open().snapshot()).unwrap(), left);
}

#[test]
fn records_count_in_the_memory_of_memtables_and_in_its_bound() {
    let mut store = Store::new();
    store.config.memtable_total_bytes_max = 1 << 20;
    let engine = store.open();
    let id = series(&engine, 1);
    let text = "x".repeat(1000);
    let lines = || {
        let column = StringArray::from_iter_values((0..100).map(|_| text.as_str()));
        let at: Vec<_> = (0..100).map(|ts| (id, ts)).collect();
        let columns = columns(vec![("text", Arc::new(column))]);
        WriteBatch { records: vec![records(table("t", Unique::WholeRow), &at, columns)], ..WriteBatch::default() }
    };
    engine.write(lines()).unwrap().wait().unwrap();
    assert!(engine.stats().memtable_bytes >= 100_000, "{}", engine.stats().memtable_bytes);
    let refused = (0..20).find_map(|_| engine.write(lines()).and_then(|written| written.wait()).err());
    assert_eq!(refused.expect("a bound").kind(), ErrorKind::Unavailable);
    engine.flush().unwrap();
    assert_eq!(engine.stats().memtable_bytes, 0);
    engine.write(lines()).unwrap().wait().unwrap();
}

#[test]
fn a_column_keeps_its_type_and_a_table_its_rule() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let of = |unique, name, array| records(table("t", unique), &[(id, 0)], columns(vec![(name, array)]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    write(&engine, vec![of(Unique::WholeRow, "a", Arc::clone(&number))]);
    let refused = |records: Arc<Records>| {
        let error = engine.write(WriteBatch { records: vec![records], ..WriteBatch::default() }).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        error.to_string()
    };
    let error = refused(of(Unique::WholeRow, "a", Arc::clone(&text)));
    assert!(error.contains("Int64") && error.contains("Utf8"), "{error}");
    let error = refused(of(Unique::PerInstant, "a", Arc::clone(&number)));
    assert!(error.contains("WholeRow") && error.contains("PerInstant"), "{error}");
    refused(of(Unique::WholeRow, "ts", Arc::clone(&number)));
    refused(of(Unique::WholeRow, "", Arc::clone(&number)));
    refused(of(Unique::WholeRow, "d", Arc::new(arrow::array::Date32Array::from(vec![1]))));
    refused(of(Unique::WholeRow, "long", Arc::new(StringArray::from(vec!["x".repeat((1 << 20) + 100)]))));
    refused(records(table("t", Unique::WholeRow), &[(id, 0), (id, 1)], columns(vec![("a", number)])));
    refused(records(table("t", Unique::WholeRow), &[(SeriesId(1 << 40), 0)], columns(vec![("b", text)])));
    assert!(RecordTable::new("No", Unique::WholeRow).is_err() && RecordTable::new("", Unique::WholeRow).is_err());
    assert_eq!(scan(&engine.snapshot(), "t", None).num_rows(), 1);
}

#[test]
fn a_refused_batch_leaves_neither_rows_nor_columns() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let number = |name| columns(vec![(name, Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    let new = records(table("t", Unique::WholeRow), &[(id, 0)], number("a"));
    let wrong = records(table("t", Unique::WholeRow), &[(id, 0), (id, 1)], number("a"));
    let batch = WriteBatch { records: vec![new, wrong], ..crate::support::batch(&[(id, 0, 1.0)]) };
    assert!(engine.write(batch).is_err());
    let snapshot = engine.snapshot();
    assert!(snapshot.record_table("t").is_none() && snapshot.lsn() == Lsn(0));
    assert_eq!(snapshot.scan_records("t", &[id], TimeRange::ALL, None).err().unwrap().kind(), ErrorKind::Invalid);
}

#[test]
fn a_refused_batch_uses_up_none_of_the_columns_that_a_table_may_have() {
    // As many as a table may have.
    const COLUMNS: usize = 1024;
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let names: Vec<String> = (0..COLUMNS).map(|at| format!("c{at}")).collect();
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let all_of = |id, array: &ArrayRef| {
        let all = names.iter().map(|name| (name.as_str(), Arc::clone(array))).collect();
        records(table("t", Unique::WholeRow), &[(id, 0)], columns(all))
    };
    let one = |name, array: ArrayRef| records(table("t", Unique::WholeRow), &[(id, 0)], columns(vec![(name, array)]));
    let refused = |records| {
        let error = engine.write(WriteBatch { records, ..WriteBatch::default() }).err().unwrap();
        error.kind()
    };
    // A later part of the batch has a type that columns cannot have, a column too many, another type, another rule.
    let days: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![1]));
    assert_eq!(refused(vec![all_of(id, &number), one("c0", days)]), ErrorKind::Invalid);
    assert_eq!(refused(vec![all_of(id, &number), one("more", Arc::clone(&number))]), ErrorKind::Limit);
    assert_eq!(refused(vec![all_of(id, &number), one("c0", Arc::clone(&text))]), ErrorKind::Invalid);
    let other_rule = records(table("t", Unique::PerInstant), &[(id, 0)], columns(vec![("c0", Arc::clone(&number))]));
    assert_eq!(refused(vec![all_of(id, &number), other_rule]), ErrorKind::Invalid);
    // The columns are fine, but the series is not.
    assert_eq!(refused(vec![all_of(SeriesId(1 << 40), &number)]), ErrorKind::Invalid);
    // All names are free, with another type too.
    write(&engine, vec![one("more", number)]);
    assert_eq!(refused(vec![all_of(id, &text)]), ErrorKind::Limit);
    let rest = names[1..].iter().map(|name| (name.as_str(), Arc::clone(&text))).collect();
    write(&engine, vec![records(table("t", Unique::WholeRow), &[(id, 1)], columns(rest))]);
    assert_eq!(engine.snapshot().record_table("t").unwrap().columns.fields().len(), COLUMNS);
}

#[test]
fn the_feed_delivers_records_from_memory_and_from_the_log() {
    for feed_bytes_max in [0, 64 << 20] {
        let mut store = Store::new();
        store.config.feed_bytes_max = feed_bytes_max;
        let engine = store.open();
        let id = series(&engine, 1);
        let rows = [(id, 5, 0.5), (id, 7, 0.25)];
        write(&engine, vec![mirror(&rows)]);
        write(&engine, vec![mirror(&rows[1..])]);
        let commits = engine.read_commits(Lsn(0), Lsn(2), 1).unwrap();
        assert_eq!(commits.len(), 1, "two rows are more than the one asked for");
        let found = &commits[0].batch.records[0];
        assert_eq!((&found.series, &found.ts), (&vec![id, id], &vec![5, 7]));
        assert_eq!(found.columns.column(0).as_primitive::<Float64Type>().values(), &[0.5, 0.25]);
    }
}

#[test]
fn a_series_of_records_alone_is_found_again() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    write(&engine, vec![mirror(&[(id, HOUR, 0.5)])]);
    engine.close().unwrap();
    let engine = store.open();
    assert_eq!(series(&engine, 1), id);
    let selector = foretell_engine::Selector { range: TimeRange { start: HOUR, end: HOUR }, ..all() };
    assert_eq!(engine.snapshot().select(&selector).unwrap().len(), 1);
    assert_eq!(mirrored(&engine.snapshot()).unwrap().len(), 1);
    let stats = engine.stats();
    assert_eq!((stats.record_segments, stats.record_segment_rows, stats.segments), (1, 1, 0));
}

#[test]
fn a_flipped_byte_in_a_record_segment_is_found_by_open_or_scan_or_does_not_matter_to_it() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let at: Vec<_> = (0..60).map(|ts| (id, ts)).collect();
    write(&engine, vec![records(table("all", Unique::WholeRow), &at, every_type(60))]);
    let whole = try_scan(&engine.snapshot(), "all", &[id], TimeRange::ALL, None).unwrap();
    engine.close().unwrap();
    drop(engine);
    let mut in_filters = 0;
    let dir = Path::new("/store/partitions/0");
    let name = store.fs.list(dir).unwrap().into_iter().find(|name| name.ends_with(".records")).unwrap();
    let path = dir.join(name);
    let len = store.fs.len(&path).unwrap() as usize;
    for byte in (0..len).step_by(len / 100 + 1) {
        store.fs.flip(&path, byte);
        let found =
            store.try_open().and_then(|engine| try_scan(&engine.snapshot(), "all", &[id], TimeRange::ALL, None));
        match found {
            Err(foretell_engine::Error::Corruption { path: at, offset, .. }) => {
                assert!(at == path && offset <= len as u64, "byte {byte}: {} {offset}", at.display());
            }
            // A scan without hints reads no filter: `verify` does, and a scan with hints.
            Ok(found) if found == whole => in_filters += 1,
            other => panic!("byte {byte} of {len}: {other:?}"),
        }
        store.fs.flip(&path, byte);
    }
    assert!(in_filters < 50, "{in_filters} of about 100");
    assert!(store.open().snapshot().scan_records("all", &[id], TimeRange::ALL, None).is_ok());
}

#[test]
fn series_of_events_are_seen_by_who_names_them() {
    let store = Store::new();
    let engine = store.open();
    let stream = engine.resolve(&crate::support::labels(&[("__name__", "__logs__"), ("job", "test")])).unwrap();
    let id = series(&engine, 1);
    write(&engine, vec![mirror(&[(id, 1, 0.5), (stream, 1, 0.5)])]);
    for flushed in [false, true] {
        if flushed {
            engine.flush().unwrap();
        }
        let snapshot = engine.snapshot();
        let job =
            foretell_engine::Matcher { name: "job".into(), op: foretell_engine::MatchOp::Equal, value: "test".into() };
        let by_label = foretell_engine::Selector { matchers: vec![job], ..all() };
        let ids = |selector: &foretell_engine::Selector| -> Vec<SeriesId> {
            snapshot.select(selector).unwrap().iter().map(|series| series.id).collect()
        };
        assert_eq!((ids(&all()), ids(&by_label)), (vec![id], vec![id]));
        let named = foretell_engine::Selector { metric: Some("__logs__".into()), ..by_label.clone() };
        assert_eq!(ids(&named), [stream]);
        assert_eq!(snapshot.label_values("__name__", &all(), 10).unwrap(), ["m1"]);
        assert!(snapshot.metrics().iter().all(|metric| &*metric.name == "m1"));
        assert!(snapshot.metric("__logs__").is_some());
    }
    let job =
        foretell_engine::Matcher { name: "job".into(), op: foretell_engine::MatchOp::Equal, value: "test".into() };
    let by_label = foretell_engine::Selector { matchers: vec![job], ..all() };
    assert_eq!(engine.delete(&by_label).unwrap().series, 1);
    let left = try_scan(&engine.snapshot(), "mirror", &[stream], TimeRange::ALL, None).unwrap();
    assert_eq!(left.num_rows(), 1, "a delete of metrics leaves events alone");
}

#[test]
fn events_with_a_retention_of_their_own_go_before_the_metrics_of_their_partition() {
    let mut store = Store::new();
    store.config.retention_of.insert("__logs__".into(), std::time::Duration::from_secs(3 * 3600));
    let engine = store.open();
    let stream = |engine: &Engine, name| {
        engine.resolve(&crate::support::labels(&[("__name__", name), ("job", "test")])).unwrap()
    };
    let (logs, spans, id) = (stream(&engine, "__logs__"), stream(&engine, "__spans__"), series(&engine, 1));
    for hour in 0..6 {
        let row = |id| (id, hour * HOUR, hour as f64);
        let batch = crate::support::batch(&[row(id)]);
        let records = vec![events(&[row(logs), row(spans)])];
        engine.write(WriteBatch { records, ..batch }).unwrap().wait().unwrap();
        engine.flush().unwrap();
    }
    let hours = |snapshot: &Snapshot, id| -> Vec<i64> {
        keys(&try_scan(snapshot, "events", &[id], TimeRange::ALL, None).unwrap())
            .iter()
            .map(|key| key.1 / HOUR)
            .collect()
    };
    let whole = vec![0, 1, 2, 3, 4, 5];
    engine.compact().unwrap();
    assert_eq!((hours(&engine.snapshot(), logs), engine.oldest_accepted_of_ns("__logs__")), (whole.clone(), -3 * HOUR));
    store.clock.advance(5 * HOUR + 7);
    assert_eq!(engine.oldest_accepted_of_ns("__logs__"), 2 * HOUR + 7);
    assert_eq!(engine.oldest_accepted_of_ns("__spans__"), i64::MIN);
    let pinned = engine.snapshot();
    engine.compact().unwrap();
    assert_eq!(hours(&engine.snapshot(), logs), [2, 3, 4, 5], "a partition that is partly too old stays whole");
    assert_eq!(hours(&engine.snapshot(), spans), whole);
    assert_eq!(crate::support::rows(&engine.snapshot()).len(), 6, "metrics stay");
    assert_eq!(hours(&pinned, logs), whole, "a snapshot from before reads on");
    drop(pinned);
    engine.flush().unwrap();
    engine.compact().unwrap();
    let stats = engine.stats();
    assert_eq!((stats.record_segment_rows, stats.tombstones), (10, 0), "the bytes are gone, too");
    engine.compact().unwrap();
    assert_eq!(engine.stats().lsn, stats.lsn, "one delete was enough");
    store.fs.power_cut();
    drop(engine);
    store.config.retention_of.clear();
    let engine = store.open();
    assert_eq!(hours(&engine.snapshot(), logs), [2, 3, 4, 5]);
}
