#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, IntervalMonthDayNano, IntervalUnit, Schema, TimestampNanosecondType,
};
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

const STATS: Stats = Stats { query_id: 7, rows: 3, elapsed: Duration::from_millis(2) };

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<_> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

fn bytes(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
    let mut encoder = Encoder::new(format, &batches[0].schema()).unwrap();
    let mut out = Vec::new();
    encoder.head(&mut out);
    for batch in batches {
        encoder.batch(batch, &mut out).unwrap();
    }
    encoder.tail(&STATS, &mut out).unwrap();
    out
}

fn encoded(format: Format, columns: Vec<(&str, ArrayRef)>) -> String {
    String::from_utf8(bytes(format, &[batch(columns)])).unwrap()
}

fn columns() -> Vec<(&'static str, ArrayRef)> {
    let labels: DictionaryArray<Int32Type> = vec![Some("a,\"b\""), None, Some("")].into_iter().collect();
    vec![
        ("ts", Arc::new(TimestampNanosecondArray::from(vec![0, 1, -1]).with_timezone("UTC"))),
        ("value", Arc::new(Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY, -0.5]))),
        ("label", Arc::new(labels)),
        ("n", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(-1)]))),
    ]
}

#[test]
fn json_says_what_json_cannot_as_strings() {
    let text = encoded(Format::Json, columns());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        json["columns"],
        serde_json::json!([
            {"name":"ts","type":"TIMESTAMP"},{"name":"value","type":"DOUBLE"},{"name":"label","type":"VARCHAR"},{"name":"n","type":"BIGINT"}
        ])
    );
    assert_eq!(
        json["rows"],
        serde_json::json!([
            ["1970-01-01T00:00:00.000000000Z", "NaN", "a,\"b\"", i64::MAX],
            ["1970-01-01T00:00:00.000000001Z", "-Infinity", null, null],
            ["1969-12-31T23:59:59.999999999Z", -0.5, "", -1],
        ])
    );
    assert_eq!(json["stats"]["rows"], 3);
}

#[test]
fn csv_tells_null_from_empty_and_quotes() {
    let text = encoded(Format::Csv, columns());
    assert_eq!(
        text,
        "ts,value,label,n\n\
         1970-01-01T00:00:00.000000000Z,NaN,\"a,\"\"b\"\"\",9223372036854775807\n\
         1970-01-01T00:00:00.000000001Z,-Infinity,,\n\
         1969-12-31T23:59:59.999999999Z,-0.5,\"\",-1\n"
    );
}

#[test]
fn nested_values_are_objects_and_arrays() {
    let item = StructArray::from(vec![
        (Arc::new(Field::new("lag", DataType::Int64, true)), Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        (
            Arc::new(Field::new("r", DataType::Float64, true)),
            Arc::new(Float64Array::from(vec![0.5, f64::INFINITY])) as ArrayRef,
        ),
    ]);
    let list = ListArray::new(
        Arc::new(Field::new("item", item.data_type().clone(), true)),
        arrow::buffer::OffsetBuffer::new(vec![0, 2, 2].into()),
        Arc::new(item),
        None,
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("job");
    map.values().append_value("x\"y");
    map.append(true).unwrap();
    map.append(false).unwrap();
    let text = encoded(Format::Ndjson, vec![("l", Arc::new(list)), ("m", Arc::new(map.finish()))]);
    assert_eq!(
        text,
        "{\"l\":[{\"lag\":1,\"r\":0.5},{\"lag\":2,\"r\":\"Infinity\"}],\"m\":{\"job\":\"x\\\"y\"}}\n{\"l\":[],\"m\":null}\n"
    );
}

#[test]
fn a_failed_answer_is_still_json_and_an_error() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(Format::Json, &Arc::new(Schema::empty())).unwrap();
    encoder.head(&mut out);
    encoder.failed(&crate::error::ApiError::bad_data("broken").body(), &mut out);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["status"], "error");
    assert_eq!(json["error"], "broken");
    assert!(json.get("stats").is_none());
}

#[test]
fn an_answer_without_rows_is_complete() {
    let text = encoded(Format::Json, vec![("x", Arc::new(Int64Array::from(Vec::<i64>::new())))]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["rows"], serde_json::json!([]));
}

/// Values that only exact copies keep apart.
fn odd_values() -> Vec<f64> {
    let bits = [0x7ff0_0000_0000_0002, 0x7ff8_0000_0000_0001, 0xfff8_dead_beef_0001, 1, 0x8000_0000_0000_0000, 0];
    bits.into_iter().map(f64::from_bits).chain([f64::INFINITY, f64::MIN, 0.1]).collect()
}

fn read_parquet(file: Vec<u8>) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

fn bits(batches: &[RecordBatch]) -> Vec<(i64, u64)> {
    let of = |batch: &RecordBatch| {
        let ts = batch["ts"].as_primitive::<TimestampNanosecondType>().values().to_vec();
        let values = batch["value"].as_primitive::<Float64Type>().values().to_vec();
        ts.into_iter().zip(values.into_iter().map(f64::to_bits)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

#[test]
fn arrow_and_parquet_keep_every_bit_over_many_batches_and_row_groups() {
    let values = odd_values();
    let batches: Vec<RecordBatch> = (0..40)
        .map(|number: i64| {
            // Another dictionary in each batch, as partitions of a scan have.
            let labels: DictionaryArray<Int32Type> = (0..8_192)
                .map(|i| (i % 3 > 0).then(|| format!("host-{number}-{}", i % 7)))
                .collect::<Vec<_>>()
                .iter()
                .map(|label| label.as_deref())
                .collect();
            batch(vec![
                (
                    "ts",
                    Arc::new(
                        TimestampNanosecondArray::from_iter_values((0..8_192).map(|i| number * 1_000_000 - i))
                            .with_timezone("UTC"),
                    ),
                ),
                ("value", Arc::new(Float64Array::from_iter_values(values.iter().copied().cycle().take(8_192)))),
                ("label", Arc::new(labels)),
            ])
        })
        .collect();
    let arrow: Vec<RecordBatch> =
        StreamReader::try_new(&*bytes(Format::Arrow, &batches), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(bits(&arrow), bits(&batches));
    assert_eq!(arrow[7]["label"].as_ref(), batches[7]["label"].as_ref());
    let file = bytes(Format::Parquet, &batches);
    let groups =
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.clone())).unwrap().metadata().num_row_groups();
    assert_eq!(groups, 3, "row groups are bounded");
    let read = read_parquet(file);
    assert_eq!(bits(&read), bits(&batches));
    assert_eq!(read[0].schema(), batches[0].schema());
}

#[test]
fn parquet_leaves_row_group_by_row_group() {
    let rows = 64 << 10;
    let one = batch(vec![("x", Arc::new(Int64Array::from_iter_values((0..rows).map(|i| i * i * 7_919 % 1_000_003))))]);
    let mut encoder = Encoder::new(Format::Parquet, &one.schema()).unwrap();
    let mut sizes = Vec::new();
    for _ in 0..6 {
        let mut out = Vec::new();
        encoder.batch(&one, &mut out).unwrap();
        sizes.push(out.len());
    }
    assert!(sizes[0] < 16 && sizes[1] > 10_000 && sizes[3] > 10_000 && sizes[5] > 10_000, "{sizes:?}");
}

#[test]
fn nested_values_and_no_rows_are_fine_in_columns() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("job");
    map.values().append_value("x");
    map.append(true).unwrap();
    map.append(true).unwrap();
    let nested = batch(vec![("m", Arc::new(map.finish()))]);
    let read = read_parquet(bytes(Format::Parquet, std::slice::from_ref(&nested)));
    assert_eq!(read[0]["m"].as_map().value_length(0), 1);
    assert_eq!(read[0]["m"].as_map().value_length(1), 0);
    let empty = nested.slice(0, 0);
    assert!(read_parquet(bytes(Format::Parquet, std::slice::from_ref(&empty))).is_empty());
    let stream = bytes(Format::Arrow, &[empty]);
    assert_eq!(StreamReader::try_new(&*stream, None).unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>(), 0);
}

#[test]
fn what_parquet_cannot_hold_is_said_before_the_first_byte() {
    let schema = Arc::new(Schema::new(vec![Field::new("i", DataType::Interval(IntervalUnit::MonthDayNano), true)]));
    let one = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3)]);
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(one)]).unwrap();
    let encoded = Encoder::new(Format::Parquet, &schema).and_then(|mut encoder| encoder.batch(&rows, &mut Vec::new()));
    let refused = encoded.unwrap_err();
    assert!(refused.to_string().starts_with("the answer cannot be written as parquet: "), "{refused}");
}
