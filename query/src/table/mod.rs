//! Tables: how a snapshot of the engine looks to SQL.
//!
//! | module | owns |
//! |---|---|
//! | [`call`] | table functions whose rows are made when they are wanted |
//! | [`catalog`] | schemas `public`, `metrics`, `sys` and how an unqualified name finds its table |
//! | [`metric`] | `metrics."<name>"` |
//! | [`samples`] | `samples`: every metric at once, labels as a map |
//! | [`records`] | `histograms` and `exemplars` |
//! | [`events`] | `logs` and `spans` |
//! | [`hints`] | which filters on them let groups be passed over |
//! | [`histogram`] | stored histograms to what SQL shows of them |
//! | [`derived`] | metrics that continuous queries wrote, with several value columns |
//! | [`sys`] | `sys.*`, open to other modules |
//! | [`promql`] | the table function `promql(…)` |
//! | [`correlate`] | the table function `correlate(metric => …, window => …)` |
//! | [`trace`] | the table functions `trace_tree(…)` and `critical_path(…)` |
//! | [`partial`] | plain series summed up by step, which `rule::partial_aggregates` puts below aggregations |
//! | [`plan`] | such tables as providers: from the arguments of a scan to its physical plan |
//! | [`pushdown`] | which filters the engine can answer, exactly |
//! | [`scan_exec`] | the physical node: splits series over partitions, reads off the async threads |
//! | [`columns`] | engine batches to Arrow batches |
//!
//! Invariant: all tables of a session read one snapshot.
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::TableProvider;
use hashbrown::HashSet;

pub(crate) mod call;
pub(crate) mod catalog;
pub(crate) mod columns;
pub(crate) mod correlate;
pub(crate) mod derived;
pub(crate) mod events;
pub(crate) mod hints;
pub(crate) mod histogram;
pub(crate) mod metric;
pub(crate) mod partial;
pub(crate) mod plan;
pub(crate) mod promql;
pub(crate) mod pushdown;
pub(crate) mod records;
pub(crate) mod samples;
pub(crate) mod scan_exec;
pub(crate) mod sys;
pub(crate) mod trace;

pub(crate) use catalog::Catalogs;
pub(crate) use sys::SysTables;

use self::metric::MetricTable;
use self::plan::Table;
use self::pushdown::Shape;
use self::samples::SamplesTable;

/// What a table shows of the engine's rows.
pub(crate) struct Stored<'a> {
    /// One metric, or all of them.
    pub(crate) metric: Option<&'a str>,
    /// How its columns show time and labels.
    pub(crate) shape: &'a dyn Shape,
}

/// `provider` as a table of stored rows, if it is one.
pub(crate) fn stored(provider: &dyn TableProvider) -> Option<Stored<'_>> {
    if let Some(Table(table)) = provider.downcast_ref::<Table<MetricTable>>() {
        return Some(Stored { metric: Some(table.metric()), shape: table });
    }
    if let Some(Table(table)) = provider.downcast_ref::<Table<derived::DerivedTable>>() {
        return Some(Stored { metric: Some(table.metric()), shape: table });
    }
    if let Some(table) = provider.downcast_ref::<events::EventsTable>() {
        return Some(Stored { metric: Some(table.stream_name()), shape: table });
    }
    provider.downcast_ref::<Table<SamplesTable>>().map(|Table(table)| Stored { metric: None, shape: table })
}

/// `provider`, a table of one metric, with no rows but those of the series with these numbers.
pub(crate) fn limited(provider: &dyn TableProvider, series: &Arc<HashSet<u32>>) -> Option<Arc<dyn TableProvider>> {
    if let Some(Table(table)) = provider.downcast_ref::<Table<MetricTable>>() {
        return Some(Arc::new(Table(table.limited(Arc::clone(series)))));
    }
    let Table(table) = provider.downcast_ref::<Table<derived::DerivedTable>>()?;
    Some(Arc::new(Table(table.limited(Arc::clone(series)))))
}

/// The one catalogue.
pub(crate) const CATALOG: &str = "foretell";
/// The default schema: everything whose name is unambiguous.
pub(crate) const PUBLIC: &str = "public";
/// One table per metric.
pub(crate) const METRICS: &str = "metrics";
/// Tables about the store itself.
pub(crate) const SYS: &str = "sys";
/// The table of all samples.
pub(crate) const SAMPLES: &str = "samples";

/// Type of every time column.
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(Arc::from("UTC")))
}

/// Type of a label column.
pub(crate) fn label_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// `name` in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name` as one would write it in SQL.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let name = if plain { name.to_owned() } else { quoted(name) };
    if schema == PUBLIC { name } else { format!("{schema}.{name}") }
}

/// The column that shows label `name`: itself, unless it would hide `ts` or `value`.
pub(crate) fn label_columns<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<(String, String)> {
    let taken: Vec<&str> = names.clone().collect();
    names
        .map(|name| {
            let mut column = name.to_owned();
            if name == "ts" || name == "value" {
                column = format!("label_{name}");
                while taken.contains(&column.as_str()) {
                    column.insert_str(0, "label_");
                }
            }
            (name.to_owned(), column)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_hide_a_column_are_renamed() {
        let columns = label_columns(["a", "label_ts", "ts", "value"].into_iter());
        let names: Vec<&str> = columns.iter().map(|c| c.1.as_str()).collect();
        assert_eq!(names, ["a", "label_ts", "label_label_ts", "label_value"]);
    }

    #[test]
    fn qualified_names_are_quoted_when_sql_needs_it() {
        assert_eq!(qualified(METRICS, "up"), "metrics.up");
        assert_eq!(qualified(METRICS, "a:b"), "metrics.\"a:b\"");
        assert_eq!(qualified(PUBLIC, "samples"), "samples");
    }
}
