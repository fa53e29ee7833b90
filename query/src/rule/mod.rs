//! Optimizer rules of ours.
//!
//! | module | owns |
//! |---|---|
//! | [`attribute_keys`] | reads of attributes only the keys that a statement names |
//! | [`null_safe_lists`] | keeps NULL apart from false where DataFusion merges lists of values |
//! | [`distinct_projections`] | keeps DataFusion from dropping a projection that looks like the one above it |
//! | [`whole_orders`] | keeps DataFusion from sorting by less than was asked |
//! | [`series_windows`] | spares windows over whole series the sort |
//! | [`window_memory`] | counts the rows that window functions hold |
//! | [`partial_aggregates`] | lets the engine sum rows up below aggregations |
//!
//! DataFusion's `aggregate_statistics` is left out: of an estimated number of rows its `FilterExec` makes an exact number of
//! distinct values ([`physical`]).
//!
//! `null_safe_lists`, `distinct_projections` and `whole_orders` keep DataFusion 55.2 from wrong answers, `window_memory` from using memory that nobody counts; each names the bug
//! and goes when it is fixed there.
use std::sync::Arc;

use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

mod attribute_keys;
mod distinct_projections;
mod null_safe_lists;
mod partial_aggregates;
mod series_windows;
mod whole_orders;
mod window_memory;

/// DataFusion's rules between those of ours that must see a statement as it was written, and those that look at what
/// became of it.
pub(crate) fn all() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(attribute_keys::AttributeKeys),
        Arc::new(distinct_projections::DistinctProjections),
        Arc::new(null_safe_lists::NullSafeLists),
    ];
    rules.extend(Optimizer::new().rules.into_iter().map(|rule| match rule.name() {
        whole_orders::REPLACED => Arc::new(whole_orders::WholeOrders::default()),
        _ => rule,
    }));
    rules.push(Arc::new(partial_aggregates::PartialAggregates));
    rules
}

/// Rules on physical plans: DataFusion's, then ours.
pub(crate) fn physical() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    // Above `value = 1` and a scan of about 100 rows DataFusion 55.2 holds one distinct value for certain, joins pass that on,
    // and this rule answers `count(DISTINCT value)` with it even if no row is left. No scan of ours knows its rows exactly.
    rules.retain(|rule| rule.name() != "aggregate_statistics");
    // The second counts what goes into windows: it must see what the first makes of it.
    rules.push(Arc::new(series_windows::SeriesWindows));
    rules.push(Arc::new(window_memory::WindowMemory));
    rules
}
