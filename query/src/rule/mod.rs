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
//! `null_safe_lists`, `distinct_projections` and `whole_orders` keep DataFusion 55.2 from wrong answers, `window_memory` from using memory that nobody counts; each names the bug
//! and goes when it is fixed there.
use std::sync::Arc;

use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;

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

/// Rules on physical plans, after DataFusion's own.
pub(crate) fn physical() -> [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 2] {
    // The second counts what goes into windows: it must see what the first makes of it.
    [Arc::new(series_windows::SeriesWindows), Arc::new(window_memory::WindowMemory)]
}
