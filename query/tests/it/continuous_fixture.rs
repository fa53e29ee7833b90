//! A store that can be killed: each life has its own runtime, engine and database over one directory.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use foretell_engine::clock::{Clock, SystemClock};
use foretell_engine::fs::{Fs, OsFs};
use foretell_engine::{Engine, EngineConfig, LabelSet, WriteBatch};
use foretell_query::{Database, Error, Notice, QueryLimits, QueryRequest};
use futures::StreamExt;
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// 2026-01-01T00:00:00Z
pub(crate) const START: i64 = 1_767_225_600_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;
const TIMEOUT: Duration = Duration::from_secs(60);

/// A sample: labels without the metric, time, value.
pub(crate) type Sample = (Vec<(&'static str, &'static str)>, i64, f64);

struct Life {
    database: Arc<Database>,
    engine: Engine,
    runtime: Runtime,
}

/// A store over a directory, killed and opened at will.
pub(crate) struct Lives {
    life: Option<Life>,
    directory: TempDir,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    continuous_bytes_max: usize,
}

impl Lives {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(OsFs))
    }

    pub(crate) fn on(fs: Arc<dyn Fs>) -> Self {
        Self::with(fs, Arc::new(SystemClock))
    }

    pub(crate) fn with(fs: Arc<dyn Fs>, clock: Arc<dyn Clock>) -> Self {
        Self::begun(fs, clock, QueryLimits::default().continuous_bytes_max)
    }

    /// One whose continuous queries may hold so many bytes of detectors in memory.
    pub(crate) fn frugal(continuous_bytes_max: usize) -> Self {
        Self::begun(Arc::new(OsFs), Arc::new(SystemClock), continuous_bytes_max)
    }

    fn begun(fs: Arc<dyn Fs>, clock: Arc<dyn Clock>, continuous_bytes_max: usize) -> Self {
        let mut lives = Self { life: None, directory: tempfile::tempdir().unwrap(), fs, clock, continuous_bytes_max };
        lives.begin();
        lives
    }

    fn begin(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // A killed life may still be finishing a step of a query; a real process would be gone.
        let patience = Instant::now() + TIMEOUT;
        let engine = loop {
            let mut config = EngineConfig::new(self.directory.path());
            config.background = false;
            config.wal_segment_bytes = 64 << 10;
            match Engine::open_with(config, Arc::clone(&self.fs), Arc::clone(&self.clock)) {
                Ok(engine) => break engine,
                Err(error) if Instant::now() > patience => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let guard = runtime.enter();
        let limits = QueryLimits { continuous_bytes_max: self.continuous_bytes_max, ..QueryLimits::default() };
        let database = Database::open(engine.clone(), limits).unwrap();
        drop(guard);
        self.life = Some(Life { database, engine, runtime });
    }

    fn life(&self) -> &Life {
        self.life.as_ref().unwrap()
    }
    pub(crate) fn engine(&self) -> &Engine {
        &self.life().engine
    }

    /// Ends the process without any goodbye, then starts the next one.
    pub(crate) fn kill(&mut self) {
        self.kill_and(|| {});
    }

    /// The same, with something happening to the machine in between.
    pub(crate) fn kill_and(&mut self, between: impl FnOnce()) {
        let Life { database, engine, runtime } = self.life.take().unwrap();
        drop((database, engine));
        runtime.shutdown_background();
        between();
        self.begin();
    }

    /// Ends queries in good order and goes on with the same engine; `between` runs while no query does.
    pub(crate) fn reopen_database(&mut self, between: impl FnOnce(&Engine)) {
        let life = self.life.take().unwrap();
        life.runtime.block_on(life.database.close()).unwrap();
        drop(life.database);
        between(&life.engine);
        let guard = life.runtime.enter();
        let database = Database::open(life.engine.clone(), QueryLimits::default()).unwrap();
        drop(guard);
        self.life = Some(Life { database, engine: life.engine, runtime: life.runtime });
    }

    pub(crate) fn write(&self, metric: &str, samples: &[Sample]) {
        self.try_write(metric, samples).unwrap();
    }

    /// # Errors
    /// As the engine: the samples are not acknowledged.
    pub(crate) fn try_write(&self, metric: &str, samples: &[Sample]) -> foretell_engine::Result<()> {
        let mut batch = WriteBatch::default();
        for (labels, ts, value) in samples {
            let pairs = std::iter::once(("__name__", metric)).chain(labels.iter().copied());
            let series = self.engine().resolve(&LabelSet::from_pairs(pairs).unwrap())?;
            batch.push(series, *ts, *value);
        }
        self.engine().write(batch)?.wait().map(drop)
    }

    pub(crate) fn query(&self, sql: &str) -> Result<Vec<RecordBatch>, Error> {
        let life = self.life();
        life.runtime.block_on(async {
            let work = async {
                let mut response =
                    life.database.query(QueryRequest { sql: sql.to_owned(), ..QueryRequest::default() }).await?;
                let mut batches = Vec::new();
                while let Some(batch) = response.stream.next().await {
                    batches.push(batch.map_err(Error::from_datafusion)?);
                }
                Ok(batches)
            };
            tokio::time::timeout(TIMEOUT, work).await.unwrap()
        })
    }

    pub(crate) fn run(&self, sql: &str) {
        if let Err(error) = self.query(sql) {
            panic!("{sql}\n{error}");
        }
    }

    pub(crate) fn drain(&self) {
        self.try_drain().unwrap();
    }

    pub(crate) fn try_drain(&self) -> Result<(), Error> {
        let life = self.life();
        life.runtime.block_on(async { tokio::time::timeout(TIMEOUT, life.database.drain_continuous()).await.unwrap() })
    }

    /// Runs `work` over the database.
    pub(crate) fn with_database<T>(
        &self,
        work: impl FnOnce(Arc<Database>) -> BoxFuture<'static, Result<T, Error>>,
    ) -> T {
        let life = self.life();
        let work = work(Arc::clone(&life.database));
        life.runtime.block_on(async { tokio::time::timeout(TIMEOUT, work).await }).unwrap().unwrap()
    }

    /// Waits until every alert of a detector has looked at all rows.
    pub(crate) fn drain_alerts(&self) {
        self.with_database(|database| Box::pin(async move { database.drain_alerts().await }));
    }

    /// Notices that nobody has taken.
    pub(crate) fn notices(&self) -> Vec<Arc<Notice>> {
        self.life().database.notices()
    }

    /// The only column of a statement, as text.
    pub(crate) fn texts(&self, sql: &str) -> Vec<String> {
        let batches = self.query(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"));
        let text = |batch: &RecordBatch| cast(batch.column(0), &DataType::Utf8).unwrap();
        let rows = batches.iter().map(text).flat_map(|column| {
            let column = column.as_string::<i32>().clone();
            (0..column.len()).map(move |row| column.value(row).to_owned()).collect::<Vec<_>>()
        });
        rows.collect()
    }

    /// Waits until every model was shown all rows.
    pub(crate) fn drain_models(&self) {
        let life = self.life();
        let drained = async { tokio::time::timeout(TIMEOUT, life.database.drain_models()).await.unwrap() };
        life.runtime.block_on(drained).unwrap();
    }

    /// The rows of `sql` by `ts` and labels; columns that are not text are values, by name.
    pub(crate) fn table(&self, sql: &str) -> Table {
        let mut table = Table::new();
        for batch in self.query(sql).unwrap_or_else(|error| panic!("{sql}\n{error}")) {
            let schema = batch.schema();
            let texts: Vec<_> = batch.columns().iter().map(|column| cast(column, &DataType::Utf8).unwrap()).collect();
            for row in 0..batch.num_rows() {
                let (mut key, mut values) = (BTreeMap::new(), BTreeMap::new());
                for (index, field) in schema.fields().iter().enumerate() {
                    let column = batch.column(index);
                    let is_key =
                        field.name() == "ts" || matches!(field.data_type(), DataType::Dictionary(..) | DataType::Utf8);
                    if is_key {
                        let text = texts[index].as_string::<i32>();
                        if text.is_valid(row) {
                            key.insert(field.name().clone(), text.value(row).to_owned());
                        }
                    } else if column.is_valid(row) {
                        let value = match column.data_type() {
                            DataType::Float64 => Value::Double(column.as_primitive::<Float64Type>().value(row)),
                            other => Value::Exact(other.clone(), texts[index].as_string::<i32>().value(row).to_owned()),
                        };
                        values.insert(field.name().clone(), value);
                    }
                }
                let double = table.insert(key, values);
                assert!(double.is_none(), "two rows of one key: {double:?}");
            }
        }
        table
    }

    /// One column of `SHOW CONTINUOUS QUERIES` for the only query.
    pub(crate) fn status(&self, column: &str) -> String {
        let batches =
            self.query(&format!("SELECT CAST({column} AS VARCHAR) AS c FROM sys.continuous_queries")).unwrap();
        let column = batches.iter().find(|batch| batch.num_rows() == 1).unwrap().column(0);
        let text = cast(column, &DataType::Utf8).unwrap();
        let text = text.as_string::<i32>();
        if text.is_valid(0) { text.value(0).to_owned() } else { "NULL".to_owned() }
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        if let Some(Life { database, engine, runtime }) = self.life.take() {
            drop((database, engine));
            runtime.shutdown_background();
        }
    }
}

/// Rows by key.
pub(crate) type Table = BTreeMap<BTreeMap<String, String>, BTreeMap<String, Value>>;

/// A value column's cell. A NULL is no cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Double(f64),
    Exact(DataType, String),
}

/// Whether two tables are equal: bit by bit, but for the columns named `inexact`, whose sums may be rounded in another
/// order.
pub(crate) fn difference(got: &Table, expected: &Table, inexact: &[&str]) -> Option<String> {
    for (key, values) in expected {
        let Some(found) = got.get(key) else { return Some(format!("missing row {key:?}: {values:?}")) };
        let same = found.len() == values.len()
            && values.iter().all(|(name, value)| match (found.get(name), value) {
                (Some(Value::Double(a)), Value::Double(b)) if inexact.contains(&name.as_str()) => {
                    (a - b).abs() <= 1e-9 * b.abs().max(1.0)
                }
                (Some(Value::Double(a)), Value::Double(b)) => a.to_bits() == b.to_bits(),
                (Some(a), b) => a == b,
                (None, _) => false,
            });
        if !same {
            return Some(format!("row {key:?}: got {found:?}, expected {values:?}"));
        }
    }
    got.keys()
        .find(|key| !expected.contains_key(*key))
        .map(|key| format!("row that should not be: {key:?}: {:?}", got[key]))
}
