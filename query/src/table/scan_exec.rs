//! The physical node of every table over the engine.
//!
//! ```text
//!  partition 0: series 0..k  --blocking task a batch--> stream
//!  partition 1: series k..n  --blocking task a batch--> stream
//! ```
//!
//! Each batch is read by a task of its own on a blocking thread, because a page fault may wait for the disk. While one batch
//! is worked on the next one is read. No thread is held between batches: a plan of hundreds of scans that wait for each
//! other cannot run out of threads.
//!
//! On a thread that may block ([`may_block`]) the first batches are read there and then.
//!
//! What a scan holds is reserved in the pool that all queries share: before a reader is opened what that will take, then what
//! it has and the two batches that are on their way.
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties, SendableRecordBatchStream,
};
use datafusion::prelude::SessionConfig;
use futures::stream;

use crate::may_block::may_block;
use crate::memory::batch_bytes;

/// Batches of a scan that a thread that may block reads by itself.
const IN_PLACE_MAX: usize = 4;

/// Where a [`ScanExec`] gets its rows.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// Columns of the batches.
    fn schema(&self) -> SchemaRef;
    /// Number of independent parts, at least 1.
    fn partitions(&self) -> usize;
    /// Whether each combination of values of the columns `labels` is one series, whose rows come together and in the order of
    /// the column `time`.
    fn is_a_series_each(&self, _labels: &[usize], _time: usize) -> bool {
        false
    }
    /// About how many rows it reads, if that is known. It may return fewer.
    fn rows(&self) -> Option<usize> {
        None
    }
    /// Memory that opening `partition` takes, about.
    fn opening_bytes(&self, _partition: usize) -> usize {
        0
    }
    /// Starts to read `partition` in batches of about `rows` rows.
    fn open(&self, partition: usize, rows: usize) -> Result<Box<dyn Reader>>;
    /// What EXPLAIN shows.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// One partition being read.
pub(crate) trait Reader: Send {
    /// The next batch. Blocks.
    fn next(&mut self) -> Result<Option<RecordBatch>>;
    /// Memory it holds now, about, without the batches it has returned.
    fn bytes(&self) -> usize {
        0
    }
    /// Rows so far that an answer counts though they were not read.
    fn rows_unread(&self) -> u64 {
        0
    }
    /// Those of them that rollups answered for.
    fn rows_rolled_up(&self) -> u64 {
        0
    }
}

/// Reads a [`Source`].
#[derive(Debug)]
pub(crate) struct ScanExec {
    source: Arc<dyn Source>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanExec {
    /// Over `source`, at most `limit` rows a partition.
    pub(crate) fn new(source: Arc<dyn Source>, limit: Option<usize>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(source.schema()),
            Partitioning::UnknownPartitioning(source.partitions()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { source, limit, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// What it reads.
    pub(crate) fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match kind {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "ScanExec: ")?;
                self.source.describe(f)?;
                if let Some(limit) = self.limit {
                    write!(f, ", limit={limit}")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => self.source.describe(f),
        }
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let state = State {
            source: Arc::clone(&self.source),
            partition,
            batch_rows: context.session_config().batch_size().min(self.limit.unwrap_or(usize::MAX)),
            left: self.limit.unwrap_or(usize::MAX),
            rows_read: MetricBuilder::new(&self.metrics).output_rows(partition),
            memory: MemoryConsumer::new("a scan").register(context.memory_pool()),
            metrics: self.metrics.clone(),
            rows_unread: None,
            rows_rolled_up: None,
            ahead: Ahead::Unopened,
            in_place_left: IN_PLACE_MAX,
        };
        let stream =
            stream::try_unfold(state, |mut state| async move { Ok(state.next().await?.map(|batch| (batch, state))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _inputs: &[Arc<Statistics>], _args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        if let Some(rows) = self.source.rows().into_iter().chain(self.limit).min() {
            statistics.num_rows = Precision::Inexact(rows);
        }
        Ok(Arc::new(statistics))
    }
}

/// A reader and what it read.
type Step = Result<(Option<RecordBatch>, Box<dyn Reader>)>;

struct State {
    source: Arc<dyn Source>,
    partition: usize,
    batch_rows: usize,
    /// Rows that the limit still allows.
    left: usize,
    rows_read: Count,
    memory: MemoryReservation,
    metrics: ExecutionPlanMetricsSet,
    /// Only if there are some.
    rows_unread: Option<Count>,
    rows_rolled_up: Option<Count>,
    ahead: Ahead,
    /// Batches that a thread that may block may still read by itself: no more, because nobody else has a turn meanwhile.
    in_place_left: usize,
}

/// Where the next batch comes from.
enum Ahead {
    Unopened,
    Reader(Box<dyn Reader>),
    /// It is read while the last one is worked on.
    Reading(SpawnedTask<Step>),
}

impl State {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        let in_place = self.in_place_left > 0 && may_block();
        self.in_place_left -= usize::from(in_place);
        let (batch, reader) = match std::mem::replace(&mut self.ahead, Ahead::Unopened) {
            Ahead::Reading(task) => joined(task).await?,
            Ahead::Reader(reader) => read(in_place, move || step(reader)).await?,
            Ahead::Unopened => {
                let (source, partition, rows) = (Arc::clone(&self.source), self.partition, self.batch_rows);
                self.memory.try_resize(source.opening_bytes(partition))?;
                read(in_place, move || step(source.open(partition, rows)?)).await?
            }
        };
        let (metrics, partition) = (&self.metrics, self.partition);
        count(&mut self.rows_unread, metrics, "rows_unread", partition, reader.rows_unread());
        count(&mut self.rows_rolled_up, metrics, "rows_rolled_up", partition, reader.rows_rolled_up());
        let Some(batch) = batch else {
            self.memory.free();
            return Ok(None);
        };
        // This batch, and one like it that is read meanwhile.
        self.memory.try_resize(reader.bytes() + 2 * batch_bytes(&batch))?;
        let batch = if batch.num_rows() > self.left { batch.slice(0, self.left) } else { batch };
        self.left -= batch.num_rows();
        self.rows_read.add(batch.num_rows());
        if self.left > 0 {
            self.ahead = match in_place {
                true => Ahead::Reader(reader),
                false => Ahead::Reading(SpawnedTask::spawn_blocking(move || step(reader))),
            };
        }
        Ok(Some(batch))
    }
}

/// Does `work` here, or on a thread that may block.
async fn read(in_place: bool, work: impl FnOnce() -> Step + Send + 'static) -> Step {
    if in_place { work() } else { joined(SpawnedTask::spawn_blocking(work)).await }
}

async fn joined(task: SpawnedTask<Step>) -> Step {
    task.join_unwind().await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))?
}

/// Raises a counter to `rows`, once there are some.
fn count(
    counter: &mut Option<Count>,
    metrics: &ExecutionPlanMetricsSet,
    name: &'static str,
    partition: usize,
    rows: u64,
) {
    if rows > 0 {
        let count = counter.get_or_insert_with(|| MetricBuilder::new(metrics).counter(name, partition));
        count.add(rows as usize - count.value());
    }
}

fn step(mut reader: Box<dyn Reader>) -> Step {
    Ok((reader.next()?, reader))
}

/// Reads a batch that is there already.
pub(crate) struct OneBatch {
    batch: RecordBatch,
    /// The next row.
    at: usize,
    /// Of a batch.
    rows: usize,
}

impl OneBatch {
    /// In batches of `rows` rows.
    pub(crate) fn new(batch: RecordBatch, rows: usize) -> Self {
        Self { batch, at: 0, rows: rows.max(1) }
    }
}

impl Reader for OneBatch {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let rows = self.rows.min(self.batch.num_rows() - self.at);
        let batch = self.batch.slice(self.at, rows);
        self.at += rows;
        Ok((rows > 0).then_some(batch))
    }

    fn bytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }
}

/// Whether so many rows are not worth a second thread: DataFusion decides so, too.
pub(crate) fn is_few(rows: usize, config: &SessionConfig) -> bool {
    config.options().execution.use_row_number_estimates_to_optimize_partitioning && rows <= config.batch_size()
}

/// Engine errors on their way through DataFusion.
pub(crate) fn external(error: foretell_engine::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
