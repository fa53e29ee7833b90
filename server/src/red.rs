//! Rates, errors and durations of services and of calls between them: continuous queries over `spans` that the configuration
//! switches on by name (`[continuous]`).
//!
//! They are continuous queries like any other: listed, and dropped by hand. What is taken out of the configuration stays until
//! it is dropped.
use std::sync::Arc;

use foretell_query::{Database, QueryRequest};

/// A query that the configuration can name; its table is called so too.
struct BuiltIn {
    name: &'static str,
    select: &'static str,
}

/// Requests that services answer, and calls that callers name the other side of.
const BUILT_IN: [BuiltIn; 2] = [
    BuiltIn {
        name: "red_services",
        select: "SELECT time_bucket('1m', ts) AS ts, service, count(*) AS requests, count(*) FILTER (WHERE status = 'error') AS errors, \
                 approx_percentile(duration, 0.5) AS p50, approx_percentile(duration, 0.95) AS p95, \
                 approx_percentile(duration, 0.99) AS p99 \
                 FROM spans WHERE kind IS NULL OR kind IN ('server', 'consumer') GROUP BY 1, 2",
    },
    BuiltIn {
        name: "red_edges",
        select: "SELECT time_bucket('1m', ts) AS ts, service AS caller, \
                 coalesce(attributes['peer.service'], attributes['server.address'], attributes['net.peer.name']) AS callee, \
                 count(*) AS requests, count(*) FILTER (WHERE status = 'error') AS errors, \
                 approx_percentile(duration, 0.5) AS p50, approx_percentile(duration, 0.95) AS p95, \
                 approx_percentile(duration, 0.99) AS p99 \
                 FROM spans WHERE kind IN ('client', 'producer') GROUP BY 1, 2, 3",
    },
];

/// Checks names of the configuration.
///
/// # Errors
/// The first that is unknown, with those that are known.
pub(crate) fn check<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    match names.find(|name| BUILT_IN.iter().all(|built_in| built_in.name != *name)) {
        None => Ok(()),
        Some(unknown) => {
            let known: Vec<&str> = BUILT_IN.iter().map(|built_in| built_in.name).collect();
            Err(format!("{unknown:?} is not built in; known are {}", known.join(", ")))
        }
    }
}

/// Whether the configuration can name a query.
pub(crate) fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|built_in| built_in.name == name)
}

/// Creates the queries called `names` unless they exist. One that cannot be created is in the log: the server serves all the same.
pub(crate) async fn switch_on(database: &Arc<Database>, names: &[String]) {
    for built_in in BUILT_IN.iter().filter(|built_in| names.iter().any(|name| name == built_in.name)) {
        let BuiltIn { name, select } = built_in;
        let sql = format!("CREATE CONTINUOUS QUERY IF NOT EXISTS {name} INTO {name} AS {select}");
        if let Err(error) = database.query(QueryRequest { sql, ..QueryRequest::default() }).await {
            tracing::error!(query = name, error = error.message, "cannot switch on a built-in continuous query");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_told_with_the_known_ones() {
        assert_eq!(check(["red_services", "red_edges"].into_iter()), Ok(()));
        let error = check(["red_services", "red"].into_iter()).unwrap_err();
        assert!(error.contains("\"red\"") && error.contains("red_services, red_edges"), "{error}");
    }
}
