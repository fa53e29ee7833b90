//! Schemas over one snapshot.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::TableType;
use foretell_engine::{MetricInfo, Snapshot};
use parking_lot::Mutex;

use super::derived::{self, DerivedTable};
use super::events::EventsTable;
use super::metric::MetricTable;
use super::plan::Table;
use super::records::{Kind, RecordsTable};
use super::samples::SamplesTable;
use super::sys::SysTables;
use super::{CATALOG, METRICS, PUBLIC, SAMPLES, SYS};
use crate::continuous::output::DerivedTable as Definition;
use crate::error::Error;
use crate::event::Signal;

/// What all schemas of one session share.
pub(crate) struct Tables {
    snapshot: Snapshot,
    sys: Arc<SysTables>,
    /// Tables of schema `sys` are made once a statement, however often it names them.
    made: Mutex<BTreeMap<String, Arc<MemTable>>>,
    /// Their memory.
    memory: Arc<MemoryReservation>,
    /// Whether tables of samples show the bits of the default detector.
    shows_bits: bool,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tables")
    }
}

impl Tables {
    fn metric(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.snapshot.metric(name) {
            Some(info) if info.series > 0 => Ok(Some(self.known_metric(&info)?)),
            _ if declared(&self.snapshot, name) => {
                Ok(Some(Arc::new(Table(DerivedTable::open(self.snapshot.clone(), name, None)?))))
            }
            info => Ok(info.map(|info| self.known_metric(&info)).transpose()?),
        }
    }

    fn known_metric(&self, info: &MetricInfo) -> Result<Arc<dyn TableProvider>> {
        match self.shows_bits && !is_derived(info) {
            true => Ok(Arc::new(Table(MetricTable::new(self.snapshot.clone(), info).with_bits()))),
            false => metric_table(&self.snapshot, info),
        }
    }

    fn samples(&self) -> Arc<dyn TableProvider> {
        let table = SamplesTable::new(self.snapshot.clone());
        Arc::new(Table(if self.shows_bits { table.with_bits() } else { table }))
    }

    fn records(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        if let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.table_name() == name) {
            return Some(Arc::new(EventsTable::new(self.snapshot.clone(), signal)));
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
        Some(Arc::new(Table(RecordsTable::new(self.snapshot.clone(), kind))))
    }

    fn sys(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let mut made = self.made.lock();
        if let Some(table) = made.get(name) {
            return Ok(Some(Arc::clone(table) as _));
        }
        let Some(rows) = self.sys.rows(name, &self.snapshot)? else { return Ok(None) };
        self.memory.try_grow(rows.get_array_memory_size())?;
        let table = Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?);
        made.insert(name.to_owned(), Arc::clone(&table));
        Ok(Some(table))
    }

    /// An unqualified name: `samples`, a metric or a `sys` table, if only one of them has it, or what a continuous query fills, whose
    /// name somebody chose here.
    fn public(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if declared(&self.snapshot, name) {
            return self.metric(name);
        }
        let mut found = Vec::new();
        if name == SAMPLES {
            found.push((PUBLIC, self.samples()));
        }
        if let Some(table) = self.records(name) {
            found.push((PUBLIC, table));
        }
        if let Some(table) = self.metric(name)? {
            found.push((METRICS, table));
        }
        if let Some(table) = self.sys(name)? {
            found.push((SYS, table));
        }
        if found.len() > 1 {
            let names: Vec<String> = found.iter().map(|(schema, _)| format!("{schema}.\"{name}\"")).collect();
            return Err(
                Error::invalid(format!("the table name '{name}' is ambiguous: write {}", names.join(" or "))).into()
            );
        }
        Ok(found.pop().map(|(_, table)| table))
    }
}

/// Whether a continuous query fills the table, or did.
fn declared(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.has_state(&Definition::key(name))
}

/// The table of one metric, derived or plain.
pub(crate) fn metric_table(snapshot: &Snapshot, info: &MetricInfo) -> Result<Arc<dyn TableProvider>> {
    if is_derived(info) {
        Ok(Arc::new(Table(DerivedTable::open(snapshot.clone(), &info.name, Some(info))?)))
    } else {
        Ok(Arc::new(Table(MetricTable::new(snapshot.clone(), info))))
    }
}

fn is_derived(info: &MetricInfo) -> bool {
    info.label_names.iter().any(|name| &**name == derived::FIELD_LABEL)
}

/// The list of the one catalogue.
#[derive(Debug)]
pub(crate) struct Catalogs(Arc<Tables>);

impl Catalogs {
    /// Over `snapshot`; `memory` reserves what is made for the statement, until its plan has run. Tables of samples have the column of
    /// bits if it `shows_bits`.
    pub(crate) fn new(
        snapshot: Snapshot,
        sys: Arc<SysTables>,
        memory: Arc<MemoryReservation>,
        shows_bits: bool,
    ) -> Self {
        Self(Arc::new(Tables { snapshot, sys, made: Mutex::default(), memory, shows_bits }))
    }
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }
    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }
    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(Catalog(Arc::clone(&self.0))) as _)
    }
}

#[derive(Debug)]
struct Catalog(Arc<Tables>);

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        [METRICS, PUBLIC, SYS].map(str::to_owned).to_vec()
    }
    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let name = [METRICS, PUBLIC, SYS].into_iter().find(|s| *s == name)?;
        Some(Arc::new(Schema { name, tables: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct Schema {
    name: &'static str,
    tables: Arc<Tables>,
}

#[async_trait]
impl SchemaProvider for Schema {
    /// `public` lists only what is at home there; the rest is listed under its own schema.
    fn table_names(&self) -> Vec<String> {
        match self.name {
            METRICS => self.tables.snapshot.metrics().iter().map(|m| m.name.to_string()).collect(),
            SYS => self.tables.sys.names(),
            _ => {
                let [logs, spans] = Signal::ALL.map(Signal::table_name);
                [Kind::Exemplars.name(), Kind::Histograms.name(), logs, SAMPLES, spans].map(str::to_owned).to_vec()
            }
        }
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.name {
            METRICS => self.tables.metric(name),
            SYS => self.tables.sys(name),
            _ => self.tables.public(name),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        let metric = || self.tables.snapshot.metric(name).is_some() || declared(&self.tables.snapshot, name);
        let sys = || self.tables.sys.contains(name);
        match self.name {
            METRICS => metric(),
            SYS => sys(),
            _ => name == SAMPLES || self.tables.records(name).is_some() || metric() || sys(),
        }
    }
}
