//! From the arguments of `TableProvider::scan` to a physical plan that is right whatever DataFusion passes.
//!
//! A filter that the provider took over may come back simplified to something else: `x != NULL` becomes the literal NULL
//! after push-down. Dropping what cannot be converted would change the answer, so it is applied above the scan.
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::pushdown::{Conditions, Shape, convert};
use super::scan_exec::{ScanExec, Source};

/// The answer to `supports_filters_pushdown`: exact or not at all.
pub(crate) fn supports(filters: &[&Expr], shape: &dyn Shape) -> Vec<TableProviderFilterPushDown> {
    filters
        .iter()
        .map(|filter| match convert(filter, shape) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        })
        .collect()
}

/// What DataFusion asks of one scan.
pub(crate) struct Request<'a> {
    pub(crate) session: &'a dyn Session,
    pub(crate) projection: Option<&'a Vec<usize>>,
    pub(crate) filters: &'a [Expr],
    pub(crate) limit: Option<usize>,
}

impl Request<'_> {
    /// The plan over the source that `open` makes for conditions and a list of columns of `schema`.
    pub(crate) fn plan(
        &self,
        schema: &SchemaRef,
        shape: &dyn Shape,
        open: impl FnOnce(Conditions, SchemaRef, &[usize]) -> Result<Arc<dyn Source>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let projection = self.projection.map_or(all.as_slice(), Vec::as_slice);
        let mut conditions = Conditions::default();
        let mut rest = Vec::new();
        for filter in self.filters {
            match convert(filter, shape) {
                Some(more) => conditions = conditions.and(more),
                None => rest.push(filter.clone()),
            }
        }
        let Some(rest) = conjunction(rest) else {
            let source = open(conditions, Arc::new(schema.project(projection)?), projection)?;
            return Ok(Arc::new(ScanExec::new(source, self.limit)));
        };
        let scan = Arc::new(ScanExec::new(open(conditions, Arc::clone(schema), &all)?, None));
        let predicate = self.session.create_physical_expr(rest, &DFSchema::try_from(Arc::clone(schema))?)?;
        let filtered = Arc::new(FilterExec::try_new(predicate, scan)?);
        let columns = projection.iter().map(|&i| {
            let name = schema.field(i).name();
            ProjectionExpr { expr: Arc::new(Column::new(name, i)), alias: name.clone() }
        });
        Ok(Arc::new(ProjectionExec::try_new(columns, filtered)?))
    }
}
