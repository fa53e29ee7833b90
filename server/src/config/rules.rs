//! `[rules]` and `[alerting]`: how rule files are evaluated, and where their alerts go.
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::list::List;
use super::{ConfigError, Span};

/// Most Alertmanagers: each may hold a thread while it is slow.
const ALERTMANAGERS_MAX: usize = 8;

/// `[rules]`: how rules are evaluated.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Of groups that name none.
    pub evaluation_interval: Span,
    /// How far before now rules look, of groups that do not say.
    pub query_offset: Span,
    /// How often an alert that goes on is told again.
    pub resend_delay: Span,
    /// How long the server may have been down for `for` to go on where it was.
    pub for_outage_tolerance: Span,
    /// The least that remains of `for` after a restart; rules with a shorter one start anew.
    pub for_grace_period: Span,
    /// Groups of all files.
    pub groups_max: usize,
    /// Rules of all groups.
    pub rules_max: usize,
    /// Series of one rule.
    pub series_max: usize,
    /// Alerts of all rules, those that have resolved within 15 minutes included.
    pub alerts_max: usize,
    /// Different queries that the templates of a rule ask in one evaluation.
    pub queries_max: usize,
}

/// `[alerting]`: where alerts go.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Alerting {
    /// URLs of Alertmanagers.
    pub alertmanagers: List,
    /// `name=value`, added to each alert that is told and lacks the label.
    pub external_labels: List,
    /// Where people find this server; not set: where it listens.
    pub external_url: Option<String>,
    /// Alerts that may wait for an Alertmanager.
    pub queue_max: usize,
    /// How long an Alertmanager may take.
    pub timeout: Span,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            evaluation_interval: Span(Duration::from_secs(60)),
            query_offset: Span(Duration::ZERO),
            resend_delay: Span(Duration::from_secs(60)),
            for_outage_tolerance: Span(Duration::from_secs(3600)),
            for_grace_period: Span(Duration::from_secs(600)),
            groups_max: 1000,
            rules_max: 10_000,
            series_max: 100_000,
            alerts_max: 100_000,
            queries_max: 1000,
        }
    }
}

impl Default for Alerting {
    fn default() -> Self {
        Self {
            alertmanagers: List::default(),
            external_labels: List::default(),
            external_url: None,
            queue_max: 10_000,
            timeout: Span(Duration::from_secs(10)),
        }
    }
}

impl Rules {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        // Milliseconds are the grid of samples.
        if self.evaluation_interval.0 < Duration::from_millis(1) {
            return Err(ConfigError("rules.evaluation_interval must be at least 1ms".to_owned()));
        }
        for (key, value) in [
            ("groups_max", self.groups_max),
            ("rules_max", self.rules_max),
            ("series_max", self.series_max),
            ("alerts_max", self.alerts_max),
            ("queries_max", self.queries_max),
        ] {
            if value == 0 {
                return Err(ConfigError(format!("rules.{key} must be more than 0")));
            }
        }
        Ok(())
    }
}

impl Alerting {
    /// Names and values of the external labels.
    pub fn external_labels(&self) -> BTreeMap<String, String> {
        let pairs = self.external_labels.0.iter().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.alertmanagers.0.len() > ALERTMANAGERS_MAX {
            return Err(ConfigError(format!("alerting.alertmanagers: at most {ALERTMANAGERS_MAX} are possible")));
        }
        for url in &self.alertmanagers.0 {
            let host = url.strip_prefix("http://").filter(|host| !host.is_empty() && !host.contains(['@', '?', '#']));
            if host.is_none() {
                return Err(ConfigError(format!(
                    "alerting.alertmanagers: {url:?} is no URL that can be used; write http://HOST:PORT, without credentials \
                     (for https put a proxy in front of the Alertmanager)"
                )));
            }
        }
        if let Some(bad) =
            self.external_labels.0.iter().find(|pair| pair.split_once('=').is_none_or(|p| p.0.is_empty()))
        {
            return Err(ConfigError(format!("alerting.external_labels: {bad:?} is no label; write name=value")));
        }
        if self.queue_max == 0 || self.timeout.0.is_zero() {
            return Err(ConfigError("alerting.queue_max and alerting.timeout must be more than 0".to_owned()));
        }
        Ok(())
    }
}
