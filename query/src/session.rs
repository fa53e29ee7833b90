//! What every query runs in: one memory pool, our functions, and a catalogue bound to one snapshot.
//!
//! Invariants: no object store, no file format, no table factory and no spill directory exists in a session, so that no
//! statement can reach a file even if it got past the checks on statements.
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryReservation, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::WindowUDF;
use datafusion::prelude::SessionConfig;
use foretell_engine::Snapshot;

use crate::default_detector::bits;
use crate::error::{Error, Result};
use crate::limits::QueryLimits;
use crate::model::Models;
use crate::model::list;
use crate::model::score::ModelScore;
use crate::rule;
use crate::table::{self, SysTables};
use crate::udf;
use crate::udf::log_template::{TemplateList, Templates};

/// Makes sessions. One per [`crate::Database`].
#[derive(Debug)]
pub(crate) struct Sessions {
    base: SessionState,
    sys: Arc<SysTables>,
    templates: Arc<Templates>,
}

impl Sessions {
    /// Sessions whose queries share one memory pool of `limits.memory_bytes_max` and know `models`.
    ///
    /// # Errors
    /// `Internal` when DataFusion refuses its configuration.
    pub(crate) fn new(limits: &QueryLimits, models: &Arc<Models>) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let consumers_named = std::num::NonZero::<usize>::MIN;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(
                FairSpillPool::new(limits.memory_bytes_max),
                consumers_named,
            )))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(internal)?;
        runtime
            .object_store_registry
            .deregister_store(ObjectStoreUrl::local_filesystem().as_ref())
            .map_err(internal)?;
        let mut config = SessionConfig::new()
            .with_target_partitions(cores)
            .with_default_catalog_and_schema(table::CATALOG, table::PUBLIC)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .with_extension(Arc::clone(models));
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        // Rows that fit in one batch are not worth a second thread.
        config.options_mut().execution.use_row_number_estimates_to_optimize_partitioning = !limits.spread_small;
        let templates = Arc::new(Templates::default());
        let mut planners = udf::expr_planners();
        planners.extend(SessionStateDefaults::default_expr_planners());
        let base = SessionStateBuilder::new()
            .with_config(config)
            .with_optimizer_rules(rule::all())
            .with_physical_optimizer_rules(rule::physical())
            .with_runtime_env(runtime)
            .with_expr_planners(planners)
            .with_scalar_functions(
                udf::bounded::all(SessionStateDefaults::default_scalar_functions())
                    .chain(udf::scalar_functions(&templates))
                    .collect(),
            )
            .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
            .with_aggregate_functions(
                SessionStateDefaults::default_aggregate_functions()
                    .into_iter()
                    .chain(udf::aggregate_functions())
                    .collect(),
            )
            .with_window_functions(
                SessionStateDefaults::default_window_functions()
                    .into_iter()
                    .chain(udf::window_functions())
                    .chain([Arc::new(WindowUDF::from(ModelScore::new(models)))])
                    .collect(),
            )
            .with_table_function_list(SessionStateDefaults::default_table_functions())
            .build();
        let sys = Arc::new(SysTables::default());
        sys.register("log_templates", Arc::new(TemplateList(Arc::clone(&templates))));
        for (name, table) in list::tables(models) {
            sys.register(name, Arc::new(table));
        }
        Ok(Self { base, sys, templates })
    }

    /// Memory of what is made for one statement.
    pub(crate) fn memory(&self) -> Arc<MemoryReservation> {
        Arc::new(self.reservation("tables of schema sys"))
    }

    /// Memory of `consumer`, nothing so far.
    pub(crate) fn reservation(&self, consumer: &str) -> MemoryReservation {
        MemoryConsumer::new(consumer).register(&self.base.runtime_env().memory_pool)
    }

    /// A session over `snapshot`: every table of a statement planned with it sees the same commits. `memory` must be held
    /// until the plan has run.
    pub(crate) fn state(&self, snapshot: &Snapshot, memory: &Arc<MemoryReservation>) -> SessionState {
        self.state_for("", snapshot, memory)
    }

    /// The same for the statement `sql`, which may name columns that no other sees.
    pub(crate) fn state_for(&self, sql: &str, snapshot: &Snapshot, memory: &Arc<MemoryReservation>) -> SessionState {
        let mut state = self.base.clone();
        let (sys, memory) = (Arc::clone(&self.sys), Arc::clone(memory));
        let catalogs = table::Catalogs::new(snapshot.clone(), sys, memory, bits::are_named(sql));
        state.register_catalog_list(Arc::new(catalogs));
        state.mark_start_execution();
        state
    }

    /// Bytes that running queries have reserved of their pool.
    pub(crate) fn memory_used_bytes(&self) -> usize {
        self.base.runtime_env().memory_pool.reserved()
    }

    /// The tables of schema `sys`, to add more.
    pub(crate) fn sys(&self) -> &Arc<SysTables> {
        &self.sys
    }

    /// What `log_template` knows.
    pub(crate) fn templates(&self) -> &Templates {
        &self.templates
    }

    /// Names of every function, for completion.
    pub(crate) fn function_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.base.scalar_functions().keys().cloned().collect();
        names.extend(self.base.aggregate_functions().keys().cloned());
        names.extend(self.base.window_functions().keys().cloned());
        names
    }
}

fn internal(error: DataFusionError) -> Error {
    Error::internal(format!("cannot set up the query session: {error}"))
}
