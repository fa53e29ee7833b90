#![allow(clippy::unwrap_used)]
use std::path::Path;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, FixedSizeBinaryBuilder, Float64Builder, Int64Array, ListBuilder, MapBuilder,
    StringArray, StringBuilder, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;

use super::*;
use crate::codec::Effort;
use crate::error::Error;
use crate::format::Reader;
use crate::fs::{FaultFs, Fs};
use crate::text::Words;
use crate::types::Lsn;

const PATH: &str = "/p/0000000001.records";

/// Series, ts and columns: numbers with NULLs, texts, lists, nothing but NULLs.
fn batch(from: usize, rows: usize, text_len: usize) -> RecordBatch {
    let at = || from..from + rows;
    let mut lists = ListBuilder::new(Float64Builder::new());
    for row in at() {
        (0..row % 5).for_each(|k| lists.values().append_value(k as f64 + 0.5));
        lists.append(row % 4 != 1);
    }
    let text = |row: usize| format!("{row}-").repeat(text_len.div_ceil(4));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("series", Arc::new(UInt64Array::from_iter_values(at().map(|row| row as u64 / 10))), false),
        ("ts", Arc::new(Int64Array::from_iter_values(at().map(|row| row as i64 % 10 * 1000))), false),
        ("bit", Arc::new(BooleanArray::from_iter(at().map(|row| Some(row % 3 == 0)))), true),
        ("lists", Arc::new(lists.finish()), true),
        ("none", Arc::new(Int64Array::new_null(rows)), true),
        ("number", Arc::new(Int64Array::from_iter(at().map(|row| (row % 3 != 0).then_some(row as i64)))), true),
        ("text", Arc::new(StringArray::from_iter_values(at().map(text))), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Rows as logs and spans have them: ids, texts, times, maps, a column that few rows have.
fn events(rows: usize) -> RecordBatch {
    let mut ids = FixedSizeBinaryBuilder::new(16);
    let mut tags = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..rows {
        if row % 3 == 0 {
            ids.append_null();
        } else {
            ids.append_value([row as u8; 16]).unwrap();
        }
        (0..row % 5).for_each(|key| {
            tags.keys().append_value(format!("key{key}"));
            tags.values().append_value(format!("value {row}"));
        });
        tags.append(row % 5 != 0).unwrap();
    }
    let at = || 0..rows;
    let seen = TimestampNanosecondArray::from_iter(at().map(|row| (row % 2 == 0).then_some(row as i64 * 7)));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("series", Arc::new(UInt64Array::from_iter_values(at().map(|row| row as u64 / 50))), false),
        ("ts", Arc::new(Int64Array::from_iter_values(at().map(|row| row as i64 % 50 * 1000))), false),
        ("attr/i/code", Arc::new(Int64Array::from_iter(at().map(|row| (row % 40 == 7).then_some(500_i64)))), true),
        (
            "body",
            Arc::new(StringArray::from_iter(at().map(|row| Some(format!("GET /Item{row} took {}ms", row % 9))))),
            true,
        ),
        ("id", Arc::new(ids.finish()), true),
        ("seen", Arc::new(seen.with_timezone("UTC")), true),
        ("tags", Arc::new(tags.finish()), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// What rows of [`events`] satisfy.
fn satisfied(rows: usize) -> Vec<Hint> {
    let column = |name: &str| name.to_owned();
    let mut hints = vec![
        Hint::Within { column: column("attr/i/code"), low: 500, high: 500 },
        Hint::Within { column: column("seen"), low: 0, high: 0 },
        Hint::Present { column: column("attr/i/code") },
        Hint::Value { column: column("tags"), value: b"key3".to_vec() },
    ];
    for row in (1..rows).step_by(3) {
        let words = ["get".to_owned(), format!("item{row}")].into_iter().collect();
        hints.push(Hint::Words { column: column("body"), words });
        hints.push(Hint::Value { column: column("id"), value: vec![row as u8; 16] });
    }
    hints
}

fn write(fs: &FaultFs, batches: &[RecordBatch]) -> RecordMeta {
    fs.create_dir(Path::new("/p")).unwrap();
    let table = RecordTable::new("t", Unique::WholeRow).unwrap();
    let columns = Arc::new(Schema::new(batches[0].schema().fields()[2..].to_vec()));
    let mut writer = RecordWriter::create(fs, Path::new(PATH), table, columns, -3, 1, (Lsn(4), Lsn(9))).unwrap();
    batches.iter().for_each(|batch| writer.append(batch).unwrap());
    writer.finish().unwrap()
}

/// Everything the file holds, group by group.
fn read(fs: &FaultFs, meta: &RecordMeta) -> Result<Vec<Vec<ArrayRef>>> {
    let segment = RecordSegment::open(fs, Path::new(PATH), meta)?;
    let mut decoder = ColumnDecoder::default();
    let groups = (0..segment.groups()).map(|group| {
        let (series, ts) = segment.keys(group, &mut decoder)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(series)), Arc::new(Int64Array::from(ts))];
        for column in 0..segment.columns().fields().len() {
            columns.push(segment.column(group, column, None, &mut decoder)?);
        }
        segment.check_filters(group)?;
        Ok(columns)
    });
    groups.collect()
}

#[test]
fn a_file_gives_back_what_was_written_in_groups_of_rows_and_of_bytes() {
    let fs = FaultFs::new();
    let written = [batch(0, 5000, 8), batch(5000, 5000, 8), batch(10_000, 300, 100_000)];
    let meta = write(&fs, &written);
    assert_eq!((meta.segment.rows, meta.segment.series, meta.segment.partition), (10_300, 1030, -3));
    let groups = read(&fs, &meta).unwrap();
    assert_eq!(groups[0][0].len(), 8192);
    let bytes = |group: &Vec<ArrayRef>| group.iter().map(|column| size::bytes_of(column)).sum::<usize>();
    assert!(groups.len() > 5 && groups.iter().all(|group| bytes(group) <= 3 << 20), "{} groups", groups.len());
    let mut row = 0;
    let all = arrow::compute::concat_batches(&written[0].schema(), &written).unwrap();
    for group in &groups {
        for (column, found) in group.iter().enumerate() {
            assert_eq!(found.to_data(), all.column(column).slice(row, found.len()).to_data(), "column {column}");
        }
        row += group[0].len();
    }
    assert_eq!(row, 10_300);
}

#[test]
fn a_flip_of_any_byte_is_an_error_with_path_and_offset() {
    let fs = FaultFs::new();
    let meta = write(&fs, &[batch(0, 100, 8)]);
    let whole = read(&fs, &meta).unwrap();
    for byte in 0..meta.segment.bytes {
        fs.flip(Path::new(PATH), byte as usize);
        match read(&fs, &meta) {
            Err(Error::Corruption { path, offset, .. }) => {
                assert!(path == Path::new(PATH) && offset <= meta.segment.bytes, "byte {byte}: {offset}");
            }
            other => panic!("byte {byte}: {other:?}"),
        }
        fs.flip(Path::new(PATH), byte as usize);
    }
    assert_eq!(format!("{:?}", read(&fs, &meta).unwrap()), format!("{whole:?}"));
}

#[test]
fn events_come_back_and_a_flip_of_any_byte_is_noticed_before_a_filter_hides_a_row() {
    let fs = FaultFs::new();
    let rows = events(120);
    let meta = write(&fs, std::slice::from_ref(&rows));
    let groups = read(&fs, &meta).unwrap();
    assert_eq!(groups.len(), 1);
    for (column, found) in groups[0].iter().enumerate() {
        assert_eq!(found.to_data(), rows.column(column).to_data(), "column {column}");
    }
    let asked = |hint: &Hint| RecordSegment::open(&fs, Path::new(PATH), &meta)?.may_satisfy(0, hint);
    let hints = satisfied(120);
    for hint in &hints {
        assert!(asked(hint).unwrap(), "{hint:?}");
    }
    let rows_with = |words: &str| {
        let condition = RowFilter::Words { column: "body".into(), words: Arc::new(Words::of(words)) };
        let segment = RecordSegment::open(&fs, Path::new(PATH), &meta)?;
        let rows = segment.rows_with(0, &condition, &mut ColumnDecoder::default())?;
        Ok::<_, Error>(rows.map_or(0, |rows| rows.count_set_bits()))
    };
    for (id, count) in [(7u8, 1), (8, 1), (9, 0), (200, 0)] {
        let condition = RowFilter::Value { column: "id".into(), value: vec![id; 16] };
        let segment = RecordSegment::open(&fs, Path::new(PATH), &meta).unwrap();
        let rows = segment.rows_with(0, &condition, &mut ColumnDecoder::default()).unwrap();
        assert_eq!(rows.map_or(0, |rows| rows.count_set_bits()), count, "{id}");
    }
    let counts = [("took GET", 120), ("7ms took", 13), ("7MS item7", 1), ("item7 8ms", 0), ("nowhere", 0)];
    for (words, count) in counts {
        assert_eq!(rows_with(words).unwrap(), count, "{words}");
    }
    let absent = Hint::Value { column: "tags".into(), value: b"key4 of none".to_vec() };
    assert!(!asked(&absent).unwrap(), "filters leave something out");
    for byte in 0..meta.segment.bytes {
        fs.flip(Path::new(PATH), byte as usize);
        assert!(matches!(read(&fs, &meta), Err(Error::Corruption { .. })), "byte {byte}");
        // Some of them at each byte; all of them in turn.
        for hint in hints.iter().skip(byte as usize % 7).step_by(7) {
            match asked(hint) {
                Ok(may) => assert!(may, "byte {byte}: {hint:?} leaves a row out"),
                Err(error) => assert!(matches!(error, Error::Corruption { .. }), "byte {byte}: {error}"),
            }
        }
        let (words, count) = counts[byte as usize % counts.len()];
        match rows_with(words) {
            Ok(found) => assert_eq!(found, count, "byte {byte}: {words}"),
            Err(error) => assert!(matches!(error, Error::Corruption { .. }), "byte {byte}: {error}"),
        }
        fs.flip(Path::new(PATH), byte as usize);
    }
}

#[test]
fn a_file_of_any_other_length_is_an_error() {
    for len in 0..write(&FaultFs::new(), &[batch(0, 20, 8)]).segment.bytes {
        let fs = FaultFs::new();
        let meta = write(&fs, &[batch(0, 20, 8)]);
        fs.truncate(Path::new(PATH), len).unwrap();
        assert!(matches!(read(&fs, &meta), Err(Error::Corruption { .. })), "{len} bytes");
    }
}

#[test]
fn bytes_that_no_encoder_wrote_never_panic() {
    let rows = batch(0, 60, 8);
    let mut encoder = ColumnEncoder::new(Effort::Thorough).unwrap();
    let mut decoder = ColumnDecoder::default();
    for column in rows.columns() {
        let mut bytes = Vec::new();
        encoder.encode(column, &mut bytes).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                bytes[at] ^= flip;
                let mut input = Reader::new(&bytes, Path::new("x"), 0);
                let _ = decoder.decode(&mut input, column.data_type(), 60);
                bytes[at] ^= flip;
            }
        }
        let mut input = Reader::new(&bytes, Path::new("x"), 0);
        assert_eq!(decoder.decode(&mut input, column.data_type(), 60).unwrap().to_data(), column.to_data());
    }
}

#[test]
fn some_rows_are_those_of_all_rows() {
    let (mut encoder, mut decoder) = (ColumnEncoder::new(Effort::Thorough).unwrap(), ColumnDecoder::default());
    // Texts of each form: whole, a dictionary, split; with NULL and without.
    let text = |row: u32, kind: u32| match kind {
        0 => "x".repeat(row as usize % 7),
        1 => format!("entry {}", row % 9),
        _ => format!(
            "took {row} ms on {}",
            if row.is_multiple_of(50) { "\0".repeat(row as usize % 11) } else { "all".into() }
        ),
    };
    let texts = |kind: u32, every: u32| -> ArrayRef {
        Arc::new(StringArray::from_iter((0..400).map(|row| (row % every != 1).then(|| text(row, kind)))))
    };
    let columns = (0..3).flat_map(|kind| [texts(kind, 500), texts(kind, 3)]);
    for column in columns.chain(batch(0, 400, 8).columns().iter().map(Arc::clone)) {
        let mut bytes = Vec::new();
        encoder.encode(&column, &mut bytes).unwrap();
        for some in [&[0u32][..], &[399], &[1, 4], &[0, 1, 2, 50, 100, 101, 102, 103, 250, 398, 399], &[]] {
            let mut input = Reader::new(&bytes, Path::new("x"), 0);
            let found = decoder.decode_some(&mut input, column.data_type(), 400, Some(some)).unwrap();
            let expected = arrow::compute::take(&column, &UInt32Array::from(some.to_vec()), None).unwrap();
            assert_eq!(&found, &expected, "{some:?} of {}", column.data_type());
        }
    }
}

#[test]
fn types_come_back_and_cut_or_foreign_ones_are_errors() {
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let deep = (0..NESTING_MAX).fold(DataType::Utf8, |inner, _| DataType::List(item(inner)));
    let pair =
        DataType::Struct(vec![Field::new("k", DataType::Utf8, false), Field::new("v", deep.clone(), true)].into());
    let zone = DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, Some("Europe/Oslo".into()));
    for data_type in [DataType::UInt8, DataType::FixedSizeBinary(16), zone, deep.clone()] {
        let mut bytes = Vec::new();
        kind::put_type(&mut bytes, &data_type).unwrap();
        assert_eq!(kind::take_type(&mut Reader::new(&bytes, Path::new("x"), 0)).unwrap(), data_type);
        for cut in 0..bytes.len() {
            assert!(kind::take_type(&mut Reader::new(&bytes[..cut], Path::new("x"), 0)).is_err());
        }
    }
    for refused in
        [pair, DataType::List(item(deep)), DataType::Date32, DataType::LargeUtf8, DataType::FixedSizeBinary(0)]
    {
        assert!(kind::put_type(&mut Vec::new(), &refused).is_err(), "{refused}");
    }
}

#[test]
fn the_size_of_a_row_counts_only_its_own_items() {
    let rows = batch(0, 1000, 8);
    for column in rows.columns() {
        let each: usize = (0..1000).map(|row| size::bytes_of_rows(column, row, 1)).sum();
        let halves = size::bytes_of(&column.slice(0, 500)) + size::bytes_of(&column.slice(500, 500));
        let all = size::bytes_of(column);
        assert!(halves.abs_diff(all) <= 8 && each >= all && each <= all + 3000, "{each} {halves} {all}");
    }
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().value(11), 1000);
}

#[test]
fn groups_say_which_hints_no_row_of_theirs_can_satisfy() {
    // Longer than eight bytes: shorter ones have fewer bits.
    let id = |row: usize| [[row as u8, (row >> 8) as u8].as_slice(), &[7; 14]].concat();
    let rows = |from: usize| {
        let mut ids = FixedSizeBinaryBuilder::new(16);
        (from..from + 8192).for_each(|row| ids.append_value(id(row)).unwrap());
        let at = || from..from + 8192;
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("series", Arc::new(UInt64Array::from_iter_values(at().map(|_| 1))), false),
            ("ts", Arc::new(Int64Array::from_iter_values(at().map(|row| row as i64))), false),
            ("body", Arc::new(StringArray::from_iter_values(at().map(|row| format!("GET /user{row}?ok=Yes")))), true),
            ("id", Arc::new(ids.finish()), true),
            ("late", Arc::new(Int64Array::from_iter(at().map(|row| (row >= 8192).then_some(-5)))), true),
            ("n", Arc::new(Int64Array::from_iter(at().map(|row| (row % 2 == 0).then_some(row as i64 - 100)))), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let fs = FaultFs::new();
    let meta = write(&fs, &[rows(0), rows(8192)]);
    let segment = RecordSegment::open(&fs, Path::new(PATH), &meta).unwrap();
    assert_eq!(segment.groups(), 2);
    let may = |hint: &Hint| [0, 1].map(|group| segment.may_satisfy(group, hint).unwrap());
    let column = |name: &str| name.to_owned();
    let within = |low, high| Hint::Within { column: column("n"), low, high };
    assert_eq!(may(&within(-100, -100)), [true, false]);
    assert_eq!(may(&within(-200, -101)), [false, false]);
    assert_eq!(may(&within(8090, 8091)), [true, false], "the last even row of the first group");
    assert_eq!(may(&within(8092, i64::MAX)), [false, true]);
    let words =
        |words: &[&str]| Hint::Words { column: column("body"), words: words.iter().map(|&w| w.into()).collect() };
    assert_eq!(may(&words(&["USER9000", "get", "yes"])), [false, true]);
    assert_eq!(may(&words(&["user17"])), [true, false]);
    assert_eq!(may(&words(&["get"])), [true, true]);
    let value = |row: usize| Hint::Value { column: column("id"), value: id(row) };
    for row in (0..16_384).step_by(97) {
        assert!(may(&value(row))[row / 8192], "row {row}");
    }
    let wrong = (0..16_384).filter(|&row| may(&value(row))[1 - row / 8192]).count();
    assert!(wrong < 200, "{wrong} of 16,384");
    let present = |name: &str| Hint::Present { column: column(name) };
    assert_eq!(may(&present("late")), [false, true]);
    assert_eq!(may(&present("unheard of")), [false, false]);
    assert_eq!(may(&Hint::Any(vec![present("late"), within(0, 0)])), [true, true]);
    assert_eq!(may(&Hint::Any(vec![])), [false, false]);
    // A column whose zone says nothing of the kind is no reason to leave a group out.
    assert_eq!(may(&Hint::Value { column: column("body"), value: vec![1] }), [true, true]);
}

#[test]
fn few_bytes_that_claim_to_be_more_than_two_batches_are_not_believed() {
    let decode = |length: u64| {
        // All rows present, each text for itself, all lengths equal, all bytes equal.
        let mut bytes = vec![0, 0, 0];
        crate::format::put_varint(&mut bytes, length);
        bytes.extend([0, b'x']);
        ColumnDecoder::default().decode(&mut Reader::new(&bytes, Path::new("x"), 0), &DataType::Utf8, 1)
    };
    assert_eq!(decode(1 << 20).unwrap().as_string::<i32>().value(0).len(), 1 << 20);
    assert!(decode(2 * BATCH_BYTES_MAX as u64).is_ok());
    assert!(decode(2 * BATCH_BYTES_MAX as u64 + 1).is_err());
}
