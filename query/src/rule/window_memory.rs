//! Window functions keep rows, and DataFusion 55.2 does not count them: a window over all rows holds the whole input, twice
//! while it computes. This rule puts each between two counters, so that the pool of all queries bounds them.
//!
//! ```text
//!  Counted { After }  gives back as many rows as come out
//!    window
//!      Counted { Before }  reserves what goes in
//! ```
//! A window that goes along with its input (`BoundedWindowAggExec`) thus counts the rows it has not answered yet; those that
//! it keeps for a frame of preceding rows are not counted.
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt as _;
use parking_lot::Mutex;

use crate::memory::batch_bytes;

/// See the module.
#[derive(Debug)]
pub(super) struct WindowMemory;

impl PhysicalOptimizerRule for WindowMemory {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let counted = plan.transform_up(|node| {
            let copies = if node.is::<WindowAggExec>() {
                2
            } else if node.is::<BoundedWindowAggExec>() {
                1
            } else {
                return Ok(Transformed::no(node));
            };
            let meters = Arc::<Meters>::default();
            let count = |input: &Arc<dyn ExecutionPlan>, side| -> Arc<dyn ExecutionPlan> {
                Arc::new(Counted { input: Arc::clone(input), side, meters: Arc::clone(&meters) })
            };
            let inputs = node.children().into_iter().map(|input| count(input, Side::Before { copies })).collect();
            let window = replace_children_if_necessary(node, inputs)?;
            Ok(Transformed::yes(count(&window, Side::After)))
        })?;
        Ok(counted.data)
    }

    fn name(&self) -> &str {
        "window_memory"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The rows that a window holds of one partition.
struct Meter {
    memory: MemoryReservation,
    /// All that went in.
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

impl Meter {
    fn new(context: &TaskContext) -> Arc<Self> {
        let memory = MemoryConsumer::new("a window").register(context.memory_pool());
        Arc::new(Self { memory, rows: AtomicUsize::new(0), bytes: AtomicUsize::new(0) })
    }

    fn enter(&self, batch: &RecordBatch, copies: usize) -> Result<()> {
        let bytes = copies * batch_bytes(batch);
        self.memory.try_grow(bytes)?;
        self.rows.fetch_add(batch.num_rows(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// As many bytes as `rows` rows of the input have on average.
    fn leave(&self, rows: usize) {
        let (all_rows, all_bytes) = (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let bytes = (rows as u128 * all_bytes as u128 / all_rows.max(1) as u128) as usize;
        self.memory.shrink(bytes.min(self.memory.size()));
    }
}

/// From the counter after a window to the one before it, by partition.
type Meters = Mutex<HashMap<usize, Arc<Meter>>>;

#[derive(Clone, Copy, Debug)]
enum Side {
    /// Rows go in; the window holds so many copies.
    Before { copies: usize },
    /// Rows come out.
    After,
}

/// Passes batches on and counts them.
struct Counted {
    input: Arc<dyn ExecutionPlan>,
    side: Side,
    meters: Arc<Meters>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted({:?})", self.side)
    }
}

impl DisplayAs for Counted {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Side::Before { copies } => write!(f, "CountedExec: rows in, {copies} copies"),
            Side::After => write!(f, "CountedExec: rows out"),
        }
    }
}

impl ExecutionPlan for Counted {
    fn name(&self) -> &str {
        "CountedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self { input, side: self.side, meters: Arc::clone(&self.meters) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (meter, stream) = match self.side {
            Side::After => {
                let meter = Meter::new(&context);
                // The window opens its input, the other counter, before it returns.
                self.meters.lock().insert(partition, Arc::clone(&meter));
                (meter, self.input.execute(partition, context)?)
            }
            Side::Before { .. } => {
                let meter = self.meters.lock().remove(&partition).unwrap_or_else(|| Meter::new(&context));
                (meter, self.input.execute(partition, context)?)
            }
        };
        let side = self.side;
        let counted = stream.map(move |batch| {
            let batch = batch?;
            match side {
                Side::Before { copies } => meter.enter(&batch, copies)?,
                Side::After => meter.leave(batch.num_rows()),
            }
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }
}
