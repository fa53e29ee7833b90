//! A small prepared store, and how tests ask it.
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, MapBuilder, MapFieldNames,
    RecordBatch, StringBuilder, StructArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use foretell_engine::{Engine, EngineConfig, LabelSet, Records, WriteBatch};
use foretell_query::{Database, Error, MetricMetadata, MetricType, QueryLimits, QueryRequest, QueryResponse, native};
use futures::StreamExt;
use tempfile::TempDir;

/// 2026-01-01T00:00:00Z
pub(crate) const START: i64 = 1_767_225_600_000_000_000;
pub(crate) const MINUTE: i64 = 60_000_000_000;
/// SQL NULL in a derived table.
const NULL: u64 = 0x7ff8_f0e7_e11a_0001;
/// A row that is gone.
const GONE: u64 = 0x7ff8_f0e7_e11a_0002;

pub(crate) struct Store {
    pub(crate) database: Arc<Database>,
    pub(crate) engine: Engine,
    _directory: TempDir,
}

/// Samples of one series.
pub(crate) fn write(engine: &Engine, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
    let labels = LabelSet::from_pairs(labels.iter().copied()).unwrap();
    let series = engine.resolve(&labels).unwrap();
    let mut batch = WriteBatch::default();
    for &(ts, value) in samples {
        batch.push(series, ts, value);
    }
    engine.write(batch).unwrap().wait().unwrap();
}

impl Store {
    pub(crate) fn empty(limits: QueryLimits) -> Self {
        Self::with(limits, |_| ())
    }

    /// An empty one over an engine that is configured otherwise.
    pub(crate) fn with(limits: QueryLimits, change: impl FnOnce(&mut EngineConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = EngineConfig::new(directory.path());
        config.background = false;
        change(&mut config);
        Self::over(Engine::open(config).unwrap(), directory, limits)
    }

    /// Over an engine that keeps its files in `directory`.
    pub(crate) fn over(engine: Engine, directory: TempDir, limits: QueryLimits) -> Self {
        let database = Database::open(engine.clone(), limits).unwrap();
        Self { database, engine, _directory: directory }
    }

    /// What every test of SQL reads: half of it in segments, half in memory.
    pub(crate) fn prepared() -> Self {
        Self::prepared_with(QueryLimits::default())
    }

    pub(crate) fn prepared_with(limits: QueryLimits) -> Self {
        let store = Self::empty(limits);
        for half in 0..2 {
            let minutes = half * 30..half * 30 + 30;
            cpu(&store.engine, minutes.clone());
            requests(&store.engine, minutes.clone());
            latency(&store.engine, minutes);
            records(&store.engine, half == 1);
            if half == 0 {
                store.engine.flush().unwrap();
            }
        }
        odd_names(&store.engine);
        derived(&store.engine);
        metadata(&store.engine);
        store
    }

    pub(crate) async fn query(&self, sql: &str) -> Result<Vec<RecordBatch>, Error> {
        self.request(QueryRequest { sql: sql.to_owned(), ..QueryRequest::default() }).await
    }

    pub(crate) async fn request(&self, request: QueryRequest) -> Result<Vec<RecordBatch>, Error> {
        let work = async {
            let response = self.database.query(request).await?;
            gathered(response).await
        };
        tokio::time::timeout(Duration::from_secs(60), work).await.unwrap()
    }

    /// Rows as text.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, Error> {
        Ok(self.query(sql).await?.iter().flat_map(text).collect())
    }

    /// The one cell of an answer.
    pub(crate) async fn cell(&self, sql: &str) -> String {
        let rows = self.rows(sql).await.unwrap();
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}");
        rows[0][0].clone()
    }

    pub(crate) async fn error(&self, sql: &str) -> Error {
        match self.rows(sql).await {
            Ok(rows) => panic!("no error but {} rows: {}", rows.len(), &sql[..sql.len().min(200)]),
            Err(error) => error,
        }
    }
}

pub(crate) async fn gathered(mut response: QueryResponse) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    while let Some(batch) = response.stream.next().await {
        batches.push(batch.map_err(Error::from_datafusion)?);
    }
    Ok(batches)
}

pub(crate) fn text(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()).collect()
}

fn minute(i: i64) -> i64 {
    START + i * MINUTE
}

/// Three hosts, one of them without `region`; host `b` jumps at minute 50.
fn cpu(engine: &Engine, minutes: std::ops::Range<i64>) {
    for (number, labels) in [
        &[("__name__", "cpu_usage"), ("host", "a"), ("region", "eu")][..],
        &[("__name__", "cpu_usage"), ("host", "b"), ("region", "us")],
        &[("__name__", "cpu_usage"), ("host", "c")],
    ]
    .into_iter()
    .enumerate()
    {
        let value = |i: i64| {
            let jump = if number == 1 && i == 50 { 60.0 } else { 0.0 };
            (number as f64 + 1.0) * 10.0 + (i * 7 % 5) as f64 + jump
        };
        let samples: Vec<(i64, f64)> = minutes.clone().map(|i| (minute(i), value(i))).collect();
        write(engine, labels, &samples);
    }
}

fn requests(engine: &Engine, minutes: std::ops::Range<i64>) {
    for (code, step) in [("200", 50), ("500", 1)] {
        let labels = [("__name__", "http_requests_total"), ("code", code), ("instance", "web:80")];
        let samples: Vec<(i64, f64)> = minutes.clone().map(|i| (minute(i), (i * step) as f64)).collect();
        write(engine, &labels, &samples);
    }
}

/// Follows `cpu_usage` of host `a` two minutes later.
fn latency(engine: &Engine, minutes: std::ops::Range<i64>) {
    let value = |i: i64| 100.0 + ((i - 2) * 7).rem_euclid(5) as f64 + if i >= 40 { 50.0 } else { 0.0 };
    let samples: Vec<(i64, f64)> = minutes.map(|i| (minute(i), value(i))).collect();
    write(engine, &[("__name__", "latency_ms"), ("service", "checkout")], &samples);
}

fn odd_names(engine: &Engine) {
    write(engine, &[("__name__", "job:load:avg5m"), ("podName", "p1")], &[(START, 0.5)]);
    write(engine, &[("__name__", "hidden_names"), ("ts", "t"), ("value", "v")], &[(START, 1.0)]);
    write(engine, &[("__name__", "segments"), ("a", "x")], &[(START, 1.0)]);
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    write(
        engine,
        &[("__name__", "special_values")],
        &[
            (minute(0), f64::NAN),
            (minute(1), f64::INFINITY),
            (minute(2), f64::NEG_INFINITY),
            (minute(3), stale),
            (minute(4), -0.0),
        ],
    );
    write(engine, &[("__name__", "extreme_times")], &[(i64::MIN, 1.0), (0, 2.0), (i64::MAX, 3.0)]);
}

fn metadata(engine: &Engine) {
    let mut batch = WriteBatch::default();
    for (family, kind, help, unit) in [("latency_ms", 3, "", "ms"), ("cpu_usage", 2, "share of time", "")] {
        let kind = MetricType::from_number(kind);
        let metadata = MetricMetadata { kind, help: help.to_owned(), unit: unit.to_owned() };
        batch.state.push((MetricMetadata::key(family), Some(metadata.encode())));
    }
    engine.write(batch).unwrap().wait().unwrap();
}

/// A histogram and two exemplars of `latency_ms`: first with integers, later with floats and custom borders.
fn records(engine: &Engine, later: bool) {
    let labels = [("__name__", "latency_ms"), ("service", "checkout")];
    let series = engine.resolve(&LabelSet::from_pairs(labels).unwrap()).unwrap();
    let ts = if later { minute(40) } else { minute(10) };
    let spans = |offset, length| {
        let fields: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![offset])), Arc::new(UInt32Array::from(vec![length]))];
        list(Arc::new(StructArray::new(native::span_fields(), fields, None)), true)
    };
    // NULL where the histogram is not of the kind that has them.
    let integers = |values: Vec<i64>| list(Arc::new(Int64Array::from(values)), !later);
    let floats = |values: Vec<f64>| list(Arc::new(Float64Array::from(values)), later);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![if later { native::CUSTOM_SCHEMA } else { 0 }])),
        Arc::new(Int32Array::from(vec![if later { 3 } else { 2 }])),
        Arc::new(BooleanArray::from(vec![later])),
        Arc::new(UInt64Array::from(vec![if later { 2.5f64.to_bits() } else { (1 << 53) + 1 }])),
        Arc::new(UInt64Array::from(vec![u64::from(!later)])),
        Arc::new(Float64Array::from(vec![0.5])),
        Arc::new(Float64Array::from(vec![18.5])),
        spans(0, u32::from(!later)),
        integers(if later { vec![] } else { vec![1] }),
        floats(vec![]),
        spans(i32::from(!later), 2),
        integers(if later { vec![] } else { vec![3, 2] }),
        floats(if later { vec![0.5, 2.0] } else { vec![] }),
        floats(if later { vec![10.0] } else { vec![] }),
        Arc::new(Int64Array::from(vec![(!later).then_some(START / 1_000_000)])),
    ];
    let row = |table, schema, columns, rows: usize| {
        let columns = RecordBatch::try_new(schema, columns).unwrap();
        Arc::new(Records { table, series: vec![series; rows], ts: vec![ts; rows], columns })
    };
    let histogram = row(native::histogram_table().unwrap(), native::histogram_schema(), columns, 1);
    let mut traces = MapBuilder::new(
        Some(MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() }),
        StringBuilder::new(),
        StringBuilder::new(),
    );
    for trace in ["4bf9", "7ac1"] {
        traces.keys().append_value("trace_id");
        traces.values().append_value(trace);
        traces.append(true).unwrap();
    }
    let values = Arc::new(Float64Array::from(vec![99.0, 250.0]));
    let columns: Vec<ArrayRef> = vec![values, Arc::new(traces.finish())];
    let exemplars = row(native::exemplar_table().unwrap(), native::exemplar_schema(), columns, 2);
    let batch = WriteBatch { records: vec![histogram, exemplars], ..WriteBatch::default() };
    engine.write(batch).unwrap().wait().unwrap();
}

/// One row with all of `items`, or NULL.
fn list(items: ArrayRef, valid: bool) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let nulls = Some(NullBuffer::from(vec![valid]));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([items.len()]), items, nulls))
}

fn derived(engine: &Engine) {
    let field = |service: &'static str, field: &'static str| {
        [("__name__", "svc_1m"), ("service", service), ("__field__", field)]
    };
    write(engine, &field("web", "n"), &[(minute(0), 10.0), (minute(1), 20.0), (minute(2), f64::from_bits(GONE))]);
    write(
        engine,
        &field("web", "p99"),
        &[(minute(0), 0.5), (minute(1), f64::from_bits(NULL)), (minute(2), f64::from_bits(GONE))],
    );
    write(engine, &field("db", "n"), &[(minute(1), 7.0)]);
}
