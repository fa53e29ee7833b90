//! A small prepared store, and how tests ask it.
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use foretell_engine::{Engine, EngineConfig, LabelSet, WriteBatch};
use foretell_query::{Database, Error, MetricMetadata, MetricType, QueryLimits, QueryRequest};
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
        let directory = tempfile::tempdir().unwrap();
        let mut config = EngineConfig::new(directory.path());
        config.background = false;
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
            let mut response = self.database.query(request).await?;
            let mut batches = Vec::new();
            while let Some(batch) = response.stream.next().await {
                batches.push(batch.map_err(Error::from_datafusion)?);
            }
            Ok(batches)
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
