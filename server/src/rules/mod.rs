//! Prometheus's rule files: recording rules and alerts.
//!
//! ```text
//!  rule files ─► checked specs ─► a task a group ─┬─► PromQL ─► samples ─► the write path of remote write
//!      ▲ reload: all or nothing                   └─► alerts ─► ALERTS series, Alertmanagers
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`file`] | YAML, and what is wrong with it |
//! | [`glob`], [`duration`] | names of files, spans of time |
//! | [`template`] | texts of labels and annotations |
//! | [`schedule`] | at which instants a group is evaluated; pure |
//! | [`alert`] | the life of alerts; pure |
//! | [`group`] | one evaluation of a group, and what has become of its rules |
//! | [`context`] | what groups ask and write to |
//! | [`manager`] | all groups, reload |
//! | [`notify`] | Alertmanagers |
//! | [`check`] | `foretell check rules` |
//!
//! Invariants: a file with a fault changes nothing; rules of a group run in order, and one group never waits for another's
//! files, queries or Alertmanagers beyond the places for queries; samples are durable before the next rule of the group runs.
mod alert;
pub mod check;
mod context;
mod duration;
mod file;
mod glob;
mod group;
mod manager;
mod notify;
mod schedule;
mod template;

use std::time::Duration;

pub(crate) use self::alert::{Alert, State};
pub(crate) use self::file::{Defaults, Kind, RuleSpec, load};
pub(crate) use self::group::{Group, RuleState};
pub(crate) use self::manager::Manager;
pub(crate) use self::notify::alertmanager_json;
pub(crate) use self::notify::post::{Refused, agent, alertmanager_url, post};
use self::template::Labels;
pub(crate) use self::template::{Data as TemplateData, Fault as TemplateFault, Template};
use crate::config::Config;

/// What the configuration says of rules.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Patterns of the rule files.
    pub(crate) files: Vec<String>,
    pub(crate) defaults: Defaults,
    /// Series of one expression's answer.
    series_max: usize,
    /// Alerts of all rules, resolved ones included.
    alerts_max: usize,
    /// Different queries of the templates of a rule in one evaluation.
    queries_max: usize,
    resend_ns: i64,
    for_outage_ns: i64,
    for_grace_ns: i64,
    alertmanagers: Vec<String>,
    queue_max: usize,
    timeout: Duration,
    external_labels: Labels,
    external_url: String,
}

impl Settings {
    /// How long who is told may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
    /// How often Alertmanagers are told again of what fires.
    pub(crate) fn resend(&self) -> Duration {
        Duration::from_nanos(self.resend_ns.unsigned_abs())
    }
    /// Added where an alert has no label of the name.
    pub(crate) fn external_labels(&self) -> &Labels {
        &self.external_labels
    }
    /// Where people find this server.
    pub(crate) fn external_url(&self) -> &str {
        &self.external_url
    }

    pub(crate) fn new(config: &Config) -> Self {
        let ns = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let (rules, alerting) = (&config.rules, &config.alerting);
        Self {
            files: config.rule_files.0.clone(),
            defaults: Defaults {
                interval_ns: ns(rules.evaluation_interval.0),
                query_offset_ns: ns(rules.query_offset.0),
                groups_max: rules.groups_max,
                rules_max: rules.rules_max,
                // Validated before.
                features: config.promql_features().unwrap_or_default(),
            },
            series_max: rules.series_max,
            alerts_max: rules.alerts_max,
            queries_max: rules.queries_max,
            resend_ns: ns(rules.resend_delay.0),
            for_outage_ns: ns(rules.for_outage_tolerance.0),
            for_grace_ns: ns(rules.for_grace_period.0),
            alertmanagers: alerting.alertmanagers.0.clone(),
            queue_max: alerting.queue_max,
            timeout: alerting.timeout.0,
            external_labels: alerting.external_labels().into_iter().collect(),
            external_url: alerting.external_url.clone().unwrap_or_else(|| format!("http://{}", config.listen_http)),
        }
    }
}
