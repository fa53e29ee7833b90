//! Functions of Foretell in SQL. The maths is in `foretell-ml`; here are types, arguments and Arrow.
//!
//! | module | functions |
//! |---|---|
//! | [`anomaly`] | `anomaly_score(…) OVER`, `anomaly(…) OVER` |
//! | [`anomaly_rate`] | `anomaly_rate(anomalous)` |
//! | [`detect_anomalies`] | `detect_anomalies(ts, values, …)` |
//! | [`forecast`] | `forecast(ts, value, horizon, …)` |
//! | [`exhaustion`] | `time_to_exhaustion(ts, value, capacity, horizon, …)` |
//! | [`correlate`] | `correlate(a, b, max_lag ORDER BY ts)` |
//! | [`change_points`] | `change_points(ts, value)` |
//! | [`season`] | `seasonality(ts, value)`, `decompose(ts, value, season)` |
//! | [`table_form`] | the aggregates as tables: `forecast(TABLE t, …)`, `detect_anomalies(TABLE t, …)`, `time_to_exhaustion(TABLE t, …)` |
//! | [`explain_change`] | `explain_change(TABLE selected, TABLE baseline, dims => […])` |
//! | [`cluster_series`] | `cluster_series(TABLE t, id => […], clusters)` |
//! | [`time_bucket`] | `time_bucket(width, ts)` |
//! | [`match_words`] | `match(text, 'words')` |
//! | [`log_template`] | `log_template(body)`, `log_template_id(body)` |
//! | [`bounded`] | DataFusion's functions whose result may be far larger than their arguments |
//! | [`named`] | `name => value` arguments, checked against the known names |
//! | [`hooks`] | what is rewritten while an expression is planned: hidden time arguments, `first`, `last` |
//! | [`collect`] | the accumulator shared by the aggregates: rows of a group, sorted by time at the end |
//! | [`streaming`] | window functions that go along with their input |
//! | [`not_unique`] | `not_unique(x)`: keeps the key of a GROUP BY from being taken for unique after `unnest` |
//! | [`constant`] | constant arguments |
//!
//! Invariant: a function says at planning time what is wrong with its constant arguments, and lists what it knows.
use std::sync::Arc;

use datafusion::functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

pub(crate) mod anomaly;
pub(crate) mod anomaly_rate;
pub(crate) mod bounded;
pub(crate) mod change_points;
pub(crate) mod cluster_series;
pub(crate) mod collect;
pub(crate) mod constant;
pub(crate) mod correlate;
pub(crate) mod detect_anomalies;
pub(crate) mod exhaustion;
pub(crate) mod explain_change;
pub(crate) mod forecast;
pub(crate) mod hooks;
pub(crate) mod log_template;
pub(crate) mod match_words;
pub(crate) mod named;
pub(crate) mod not_unique;
pub(crate) mod relation;
pub(crate) mod season;
pub(crate) mod streaming;
pub(crate) mod table_form;
pub(crate) mod time_bucket;

/// To be asked before DataFusion's own planners.
pub(crate) fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(hooks::Hooks)]
}

/// Row by row; `templates` is what those of logs learn.
pub(crate) fn scalar_functions(templates: &Arc<log_template::Templates>) -> Vec<Arc<ScalarUDF>> {
    let [text, id] = log_template::LogTemplate::both(templates);
    let functions: [ScalarUDF; 5] = [
        match_words::MatchWords::default().into(),
        time_bucket::TimeBucket::default().into(),
        not_unique::NotUnique::default().into(),
        text.into(),
        id.into(),
    ];
    functions.map(Arc::new).into()
}

/// Many rows to one.
pub(crate) fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let aliased = |f: Arc<AggregateUDF>, name: &'static str| Arc::new(f.as_ref().clone().with_aliases([name]));
    vec![
        Arc::new(AggregateUDF::from(anomaly_rate::AnomalyRate::default())),
        Arc::new(AggregateUDF::from(forecast::Forecast::default())),
        Arc::new(AggregateUDF::from(detect_anomalies::DetectAnomalies::default())),
        Arc::new(AggregateUDF::from(exhaustion::TimeToExhaustion::default())),
        Arc::new(AggregateUDF::from(correlate::Correlate::default())),
        Arc::new(AggregateUDF::from(change_points::ChangePoints::default())),
        Arc::new(AggregateUDF::from(explain_change::ExplainChange::default())),
        Arc::new(AggregateUDF::from(season::Seasonality::default())),
        Arc::new(AggregateUDF::from(season::Decompose::default())),
        aliased(approx_percentile_cont_udaf(), "approx_percentile"),
        aliased(first_value_udaf(), "first"),
        aliased(last_value_udaf(), "last"),
    ]
}

/// In the order of a window.
pub(crate) fn window_functions() -> Vec<Arc<WindowUDF>> {
    vec![
        Arc::new(WindowUDF::from(anomaly::Anomaly::score())),
        Arc::new(WindowUDF::from(anomaly::Anomaly::whole())),
        Arc::new(WindowUDF::from(cluster_series::ClusterSeries::default())),
    ]
}
