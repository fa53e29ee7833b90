//! Windows over whole series need no sort: a scan reads series after series, each in the order of time.
//!
//! ```text
//!  Window (PARTITION BY host ORDER BY ts)       Window
//!    Sort (host, ts)                              SeriesOrdered
//!      Repartition (hash of host)      ──>          Scan
//!        Scan
//! ```
//! A window asks that the rows of a partition come together and in the order of time; that partitions come in an order of their
//! own is nothing to it. So the rule applies when the columns of PARTITION BY are labels, each combination of their values is
//! **one** series, and nothing above the window wants rows sorted. Then a window goes along with its input and holds
//! no more than the rows of a series that it has not answered: sorting a hundred million rows takes gigabytes.
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputOrderMode, Partitioning, PhysicalExpr,
    PlanProperties, SendableRecordBatchStream,
};

use crate::table::scan_exec::ScanExec;

/// See the module.
#[derive(Debug)]
pub(super) struct SeriesWindows;

impl PhysicalOptimizerRule for SeriesWindows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        // An answer that is sorted comes in one partition. So does one of few rows, whose sort is not worth sparing.
        let is_unordered = plan.output_partitioning().partition_count() > 1;
        rewrite(plan, is_unordered)
    }

    fn name(&self) -> &str {
        "series_windows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `is_free`: nothing above wants the rows of `plan` in an order.
fn rewrite(plan: Arc<dyn ExecutionPlan>, is_free: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let is_window = plan.is::<BoundedWindowAggExec>() || plan.is::<WindowAggExec>();
    let frees = frees(plan.as_ref()) || (is_free && hands_on(plan.as_ref()));
    let mut inputs = Vec::new();
    for input in plan.children() {
        let unsorted = if is_window && is_free { unsorted(input)? } else { None };
        inputs.push(match unsorted {
            Some(unsorted) => unsorted,
            None => rewrite(Arc::clone(input), frees)?,
        });
    }
    replace_children_if_necessary(plan, inputs)
}

/// Whether a node makes an order of its own, or none, whatever that of its input.
fn frees(node: &dyn ExecutionPlan) -> bool {
    if let Some(repartition) = node.downcast_ref::<RepartitionExec>() {
        return !repartition.preserve_order();
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return *aggregate.input_order_mode() == InputOrderMode::Linear;
    }
    node.is::<SortExec>() || node.is::<CoalescePartitionsExec>()
}

/// Whether a node leaves rows in their order.
fn hands_on(node: &dyn ExecutionPlan) -> bool {
    node.is::<ProjectionExec>() || node.is::<FilterExec>()
}

/// The input of a window without its sort, if that is only there to bring series together.
fn unsorted(input: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = input.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_none()) else { return Ok(None) };
    let Some(Bare { plan, scan, columns }) = bare(sort.input())? else { return Ok(None) };
    let Some(scan) = scan.downcast_ref::<ScanExec>() else { return Ok(None) };
    let mut places = Vec::new();
    for key in sort.expr().iter() {
        let place = key.expr.downcast_ref::<Column>().and_then(|column| columns.get(column.index()).copied().flatten());
        let Some(place) = place else { return Ok(None) };
        places.push(place);
    }
    let Some((&time, labels)) = places.split_last() else { return Ok(None) };
    let descends = sort.expr().iter().last().is_some_and(|last| last.options.descending);
    if labels.is_empty() || descends || !scan.source().is_a_series_each(labels, time) {
        return Ok(None);
    }
    // What the window was planned on: it looks at the columns of the order and finds partitions by changes of value.
    let partitions = plan.output_partitioning().partition_count();
    let partitioning = match &sort.properties().partitioning {
        Partitioning::Hash(keys, _) => Partitioning::Hash(keys.clone(), partitions),
        _ => Partitioning::UnknownPartitioning(partitions),
    };
    let properties = PlanProperties::clone(sort.properties()).with_partitioning(partitioning);
    Ok(Some(Arc::new(SeriesOrdered { input: plan, properties: Arc::new(properties) })))
}

/// A plan without what spreads rows over partitions.
struct Bare {
    plan: Arc<dyn ExecutionPlan>,
    scan: Arc<dyn ExecutionPlan>,
    /// Where each column of the plan is in the scan.
    columns: Vec<Option<usize>>,
}

fn bare(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Bare>> {
    if plan.is::<ScanExec>() {
        let columns = (0..plan.schema().fields().len()).map(Some).collect();
        return Ok(Some(Bare { plan: Arc::clone(plan), scan: Arc::clone(plan), columns }));
    }
    let Some(input) = plan.children().first().copied() else { return Ok(None) };
    if plan.is::<RepartitionExec>() {
        return bare(input);
    }
    let projected: Option<Vec<Option<usize>>> = if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        Some(projection.expr().iter().map(|item| Some(item.expr.downcast_ref::<Column>()?.index())).collect())
    } else if plan.downcast_ref::<FilterExec>().is_some_and(|filter| filter.projection().is_none()) {
        Some((0..plan.schema().fields().len()).map(Some).collect())
    } else {
        None
    };
    let Some(projected) = projected else { return Ok(None) };
    let Some(Bare { plan: below, scan, columns }) = bare(input)? else { return Ok(None) };
    let columns = projected.into_iter().map(|place| columns.get(place?).copied().flatten()).collect();
    Ok(Some(Bare { plan: replace_children_if_necessary(Arc::clone(plan), vec![below])?, scan, columns }))
}

/// Hands rows on and says of them what the sort said that it stands for.
#[derive(Debug)]
struct SeriesOrdered {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for SeriesOrdered {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeriesOrderedExec: series after series, each in the order of time")
    }
}

impl ExecutionPlan for SeriesOrdered {
    fn name(&self) -> &str {
        "SeriesOrderedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
        Ok(Arc::new(Self { input, properties: Arc::clone(&self.properties) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
