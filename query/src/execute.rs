//! Runs a physical plan on the queries' own runtime and hands its batches over.
//!
//! ```text
//!  caller's runtime                      queries' runtime (own threads, larger stacks)
//!  Answer <--- channel(2) <------------- driver: plan's stream, deadline, cancellation, row limit
//!    | drop = cancel                       | panic = Internal error
//! ```
//! A statement of few rows ([`is_small`]) begins where it was planned, on a thread that may block: two changes of threads less,
//! which would take longer than itself. When it has to wait for something and has rows to show, or is done, the rest is as above.
//!
//! The ingest side never waits behind a query's arithmetic, and a caller gets its deadline even when an operator does not
//! yield: the answer watches the clock on its own side too.
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{RecordBatchStream, TaskContext};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::DropGuard;

use crate::error::{Error, ErrorKind, Result};
use crate::may_block::MayBlock;
use crate::planner::panicked;
use crate::running::{Listed, Running};
use crate::table::scan_exec::{ScanExec, is_few};

/// Stack of an execution thread: expressions are evaluated recursively, up to `terms_max` deep.
const STACK_BYTES: usize = 16 << 20;
/// How long after the deadline the answer stops waiting for a driver that does not yield.
const GRACE: Duration = Duration::from_millis(250);

/// The threads that queries run on.
pub(crate) struct QueryRuntime(Option<Runtime>);

impl QueryRuntime {
    /// As many threads as cores.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no threads.
    pub(crate) fn start() -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("foretell-query")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("cannot start query threads: {e}")))?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> Result<&Handle> {
        self.0.as_ref().map(Runtime::handle).ok_or_else(|| Error::internal("the query threads are gone"))
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        // Waiting here could block an async thread.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a running query holds until it ends.
pub(crate) struct Held {
    pub(crate) listed: Listed,
    pub(crate) _place: OwnedSemaphorePermit,
    /// Memory of what was made for it.
    pub(crate) memory: Arc<MemoryReservation>,
}

/// Starts `plan`. Call it where a thread may block.
pub(crate) fn start(
    runtime: &Handle,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    held: Held,
    deadline: Instant,
    rows_max: usize,
) -> Answer {
    let (sender, batches) = mpsc::channel(2);
    let schema = plan.schema();
    let query = Arc::clone(&held.listed.query);
    let outcome = Arc::new(Mutex::new(None));
    let cancel = query.cancel.clone();
    let driver_outcome = Arc::clone(&outcome);
    let small = is_small(plan.as_ref(), context.session_config());
    let mut driver = Box::pin(async move {
        let work = AssertUnwindSafe(drive(plan, context, &held.listed, sender.clone(), rows_max)).catch_unwind();
        let result = tokio::select! {
            biased;
            () = query.cancel.cancelled() => Err(cancelled()),
            () = sleep_until(deadline) => Err(timed_out()),
            result = work => result.unwrap_or_else(|panic| Err(panicked(&*panic))),
        };
        // First the error, for the answer looks for it when the channel ends; then what is held: whoever has seen the end of
        // an answer finds its query no longer listed and its place free.
        *driver_outcome.lock() = result.err();
        drop(held);
        drop(sender);
    });
    if !(small && runtime.block_on(begin(driver.as_mut(), &batches))) {
        runtime.spawn(driver);
    }
    Answer {
        schema,
        batches,
        outcome,
        ended: false,
        _cancel_on_drop: cancel.drop_guard(),
        late_at: deadline + GRACE,
        late: None,
    }
}

/// Whether `plan` reads few rows and does one thing after the other with them: no join, which could make many of few.
fn is_small(plan: &dyn ExecutionPlan, config: &SessionConfig) -> bool {
    if plan.output_partitioning().partition_count() != 1 {
        return false;
    }
    match plan.children().as_slice() {
        [] => rows_read(plan).is_some_and(|rows| is_few(rows, config)),
        [below] => is_small(below.as_ref(), config),
        _ => false,
    }
}

/// Rows that `leaf` reads, about, if that is known. How many it returns says nothing: it may have a limit.
fn rows_read(leaf: &dyn ExecutionPlan) -> Option<usize> {
    if let Some(scan) = leaf.downcast_ref::<ScanExec>() {
        return scan.source().rows();
    }
    leaf.statistics_from_inputs(&[], &StatisticsArgs::new()).ok()?.num_rows.get_value().copied()
}

/// Polls `driver` on this thread, which may block, until it is done (true) or waits although there are `batches`.
async fn begin(mut driver: Pin<&mut impl Future<Output = ()>>, batches: &mpsc::Receiver<RecordBatch>) -> bool {
    poll_fn(|cx| {
        let polled = {
            let _may = MayBlock::here();
            driver.as_mut().poll(cx)
        };
        match polled {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if !batches.is_empty() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn drive(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    listed: &Listed,
    sender: mpsc::Sender<RecordBatch>,
    rows_max: usize,
) -> Result<()> {
    let (query, running) = (&listed.query, &listed.running);
    let failed = |error| failed(error, running);
    let mut stream = execute_stream(plan, context).map_err(failed)?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        let rows = query.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed) + batch.num_rows() as u64;
        if rows > rows_max as u64 {
            return Err(Error::new(
                ErrorKind::Execution,
                format!("the answer has more than {rows_max} rows: aggregate, or add a LIMIT"),
            ));
        }
        if sender.send(batch).await.is_err() {
            return Err(cancelled());
        }
    }
    Ok(())
}

/// Why a query failed. Without memory it may be tried again, unless it was alone: then it needs more than there is.
pub(crate) fn failed(error: DataFusionError, running: &Running) -> Error {
    let exhausted = matches!(error.find_root(), DataFusionError::ResourcesExhausted(_));
    let error = Error::from_datafusion(error);
    if exhausted && running.count() > 1 {
        let message = format!("other queries use the memory, too: try again in a second; {}", error.message);
        return Error::new(ErrorKind::Unavailable, message);
    }
    error
}

/// Why a PromQL evaluation, which reads and makes samples, gets no more memory.
pub(crate) fn no_memory(error: DataFusionError, running: &Running) -> Error {
    let error = failed(error, running);
    let message =
        format!("query processing would load too many samples into memory in query execution: {}", error.message);
    Error::new(error.kind, message)
}

/// The error of a cancelled query.
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the query was cancelled")
}

/// The error of a query past its deadline.
pub(crate) fn timed_out() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the query took longer than its deadline: read less time or fewer series, or ask with a longer timeout",
    )
}

/// The batches of a running query. Dropping it cancels the query.
pub(crate) struct Answer {
    schema: SchemaRef,
    batches: mpsc::Receiver<RecordBatch>,
    outcome: Arc<Mutex<Option<Error>>>,
    ended: bool,
    _cancel_on_drop: DropGuard,
    late_at: Instant,
    /// On the clock of whoever waits, which goes on when the queries' threads are all busy.
    late: Option<Pin<Box<Sleep>>>,
}

impl Stream for Answer {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.batches.poll_recv(cx) {
            Poll::Ready(Some(batch)) => Poll::Ready(Some(Ok(batch))),
            Poll::Ready(None) => {
                self.ended = true;
                let error = self.outcome.lock().take();
                Poll::Ready(error.map(|e| Err(DataFusionError::from(e))))
            }
            Poll::Pending => {
                let late_at = self.late_at;
                let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(late_at)));
                if late.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.ended = true;
                Poll::Ready(Some(Err(timed_out().into())))
            }
        }
    }
}

impl RecordBatchStream for Answer {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
