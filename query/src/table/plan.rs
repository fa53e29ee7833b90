//! Tables of the engine's rows as DataFusion wants them: from the arguments of a scan to a physical plan that is right
//! whatever it passes.
//!
//! A filter that the provider took over may come back simplified to something else: `x != NULL` becomes the literal NULL
//! after push-down. Dropping what cannot be converted would change the answer, so it is applied above the scan.
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::pushdown::{Conditions, Shape, convert};
use super::scan_exec::{ScanExec, Source};

/// A kind of table of the engine's rows; [`Table`] makes a provider of it.
pub(crate) trait Rows: Shape + fmt::Debug + Send + Sync + 'static {
    /// All its columns.
    fn schema(&self) -> &SchemaRef;
    /// The rows that satisfy `conditions`, with those of its columns, which make `schema`.
    fn source(
        &self,
        session: &dyn Session,
        conditions: Conditions,
        schema: SchemaRef,
        columns: &[usize],
    ) -> Result<Arc<dyn Source>>;
}

/// A table of the engine's rows.
#[derive(Debug)]
pub(crate) struct Table<T>(pub(crate) T);

#[async_trait]
impl<T: Rows> TableProvider for Table<T> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Exact or not at all.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let supported = filters.iter().map(|filter| match convert(filter, &self.0) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        });
        Ok(supported.collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.0.schema();
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let projection = projection.map_or(all.as_slice(), Vec::as_slice);
        let mut conditions = Conditions::default();
        let mut rest = Vec::new();
        for filter in filters {
            match convert(filter, &self.0) {
                Some(more) => conditions = conditions.and(more),
                None => rest.push(filter.clone()),
            }
        }
        let Some(rest) = conjunction(rest) else {
            let source = self.0.source(session, conditions, Arc::new(schema.project(projection)?), projection)?;
            return Ok(Arc::new(ScanExec::new(source, limit)));
        };
        let scan = ScanExec::new(self.0.source(session, conditions, Arc::clone(schema), &all)?, None);
        filtered(session, scan, rest, schema, projection)
    }
}

/// The columns `projection` of the rows of `scan`, which has all of `schema`, that satisfy `rest`.
pub(super) fn filtered(
    session: &dyn Session,
    scan: ScanExec,
    rest: Expr,
    schema: &SchemaRef,
    projection: &[usize],
) -> Result<Arc<dyn ExecutionPlan>> {
    let predicate = session.create_physical_expr(rest, &DFSchema::try_from(Arc::clone(schema))?)?;
    let filtered = Arc::new(FilterExec::try_new(predicate, Arc::new(scan))?);
    let columns = projection.iter().map(|&i| {
        let name = schema.field(i).name();
        ProjectionExpr { expr: Arc::new(Column::new(name, i)), alias: name.clone() }
    });
    Ok(Arc::new(ProjectionExec::try_new(columns, filtered)?))
}
