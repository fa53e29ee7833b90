//! `cluster_series(TABLE t, ts => …, value => …, id => [host])` as a window function over the series of all groups.
use datafusion::sql::sqlparser::ast::{FunctionArg, Query, VisitMut};

use super::{Arguments, ROWS, Rows, TableForm, answer, fill, parse};
use crate::error::{Error, Result};
use crate::udf::named::call;

/// Columns after those of `id`.
const COLUMNS: [&str; 3] = ["cluster_id", "distance", "is_medoid"];

/// ```text
/// SELECT host, a['cluster_id'] AS cluster_id, … FROM (SELECT host, cluster_series(s, k) OVER (ORDER BY host) AS a FROM
///   (SELECT host, array_agg(named_struct('ts', ts, 'value', value)) AS s FROM t GROUP BY host))
/// ```
/// The order makes equal answers of equal data.
pub(super) fn subquery(form: &TableForm, args: Vec<FunctionArg>) -> Result<Box<Query>> {
    let call = call(form.name).ok_or_else(|| Error::internal(format!("{} has no parameters", form.name)))?;
    let mut args = args.into_iter();
    let rows = form.relation(args.next(), "first")?;
    let Arguments { ids, values } = form.arguments(call, &COLUMNS, args)?;
    if ids.is_empty() {
        return Err(form.fault("argument 'id' is missing"));
    }
    let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut query = parse(&format!(
        "SELECT {ids}, {} FROM (SELECT {ids}, {}(\"$series\", \"$clusters\") OVER (ORDER BY {ids}) AS \"$answer\" FROM (\
         SELECT {ids}, array_agg(named_struct('ts', \"$ts\", 'value', \"$value\")) AS \"$series\" \
         FROM \"{ROWS}\" AS \"{ROWS}\" GROUP BY {ids}))",
        COLUMNS.map(answer).join(", "),
        form.name
    ))?;
    fill(&mut query, |name| values.get(call.parameters.iter().position(|p| *p == name)?));
    let _ = query.visit(&mut Rows(ROWS, Some(rows)));
    Ok(query)
}
