//! Telling Alertmanagers (API v2) about alerts.
//!
//! ```text
//!  alerts that are due ─► JSON, once ─► a queue for each Alertmanager ─► batches of 64 ─► POST /api/v2/alerts
//!                                       of an alert the newest state;      again, with pauses, while it is busy or away
//!                                       the oldest go when it is full
//! ```
//! A slow or absent Alertmanager delays neither rules nor the others: its queue is its own, and bounded.
pub(crate) mod post;
mod queue;
mod target;

use std::sync::Arc;
use std::time::Duration;

use foretell_engine::LabelSet;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::target::Target;
pub(crate) use self::target::Told;
use super::alert::Alert;
use super::template::{Labels, url_query};
use crate::timestamp::rfc3339;

/// How long the end of the server waits for what is queued.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What is said of every alert.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Added where the alert has no label of the name.
    pub(super) external_labels: Labels,
    /// Where people find this server.
    pub(super) external_url: String,
}

/// Tells all Alertmanagers.
pub(super) struct Notifier {
    origin: Origin,
    targets: Vec<Arc<Target>>,
    close: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Notifier {
    /// Starts a task for each of `urls`.
    pub(super) fn start(urls: &[String], queue_max: usize, timeout: Duration, origin: Origin) -> Self {
        let close = CancellationToken::new();
        let targets: Vec<Arc<Target>> = urls.iter().map(|url| Arc::new(Target::new(url, queue_max, timeout))).collect();
        let deliver = |target: &Arc<Target>| tokio::spawn(Arc::clone(target).deliver(close.clone()));
        let tasks = targets.iter().map(deliver).collect();
        Self { origin, targets, close, tasks: Mutex::new(tasks) }
    }

    /// Queues what is to be told of alerts of the rule with expression `expr`.
    pub(super) fn tell(&self, expr: &str, due: &[(LabelSet, Alert)]) {
        if self.targets.is_empty() {
            return;
        }
        for (labels, alert) in due {
            let text: Arc<str> = encode(&self.origin, expr, labels, alert).into();
            self.targets.iter().for_each(|target| target.push(labels.clone(), Arc::clone(&text)));
        }
    }

    /// What has been told to each.
    pub(super) fn told(&self) -> Vec<Told> {
        self.targets.iter().map(|target| target.told()).collect()
    }

    /// Sends what is queued, once and within five seconds, and ends.
    pub(super) async fn close(&self) {
        self.close.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let ended = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(CLOSE_MAX, ended).await.is_err() {
            tracing::warn!("an Alertmanager takes too long: alerts in its queue are not told");
        }
    }
}

/// An alert as the API takes it.
fn encode(origin: &Origin, expr: &str, labels: &LabelSet, alert: &Alert) -> String {
    let mut all = origin.external_labels.clone();
    all.extend(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    let annotations: Labels = alert.annotations.iter().filter(|(_, text)| !text.is_empty()).cloned().collect();
    let url = origin.external_url.trim_end_matches('/');
    let span = (alert.fired_at_ns.unwrap_or(alert.active_at_ns), alert.resolved_at_ns.unwrap_or(alert.valid_until_ns));
    alertmanager_json(&all, &annotations, span, &format!("{url}/graph?g0.expr={}&g0.tab=1", url_query(expr)))
}

/// An alert from when to when, as Alertmanager's API takes it.
pub(crate) fn alertmanager_json(
    labels: &Labels,
    annotations: &Labels,
    (starts_at, ends_at): (i64, i64),
    generator_url: &str,
) -> String {
    serde_json::json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": rfc3339(starts_at),
        "endsAt": rfc3339(ends_at),
        "generatorURL": generator_url,
    })
    .to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::alert::State;
    use super::*;

    #[test]
    fn an_alert_has_the_shape_that_alertmanager_takes() {
        let origin = Origin {
            external_labels: [("cluster".into(), "eu".into()), ("job".into(), "outer".into())].into(),
            external_url: "http://foretell:8484/".into(),
        };
        let mut alert = Alert {
            annotations: vec![("summary".into(), "it is \"down\"".into()), ("empty".into(), String::new())],
            state: State::Firing,
            value: 1.0,
            active_at_ns: 0,
            fired_at_ns: Some(1_000_000_000),
            resolved_at_ns: None,
            keep_firing_since_ns: None,
            last_sent_ns: None,
            valid_until_ns: 240_000_000_000,
        };
        let labels = LabelSet::from_pairs([("alertname", "Down"), ("job", "inner")]).unwrap();
        let json = |alert: &Alert| -> serde_json::Value {
            serde_json::from_str(&encode(&origin, "up == 0", &labels, alert)).unwrap()
        };
        let expected = serde_json::json!({
            "labels": {"alertname": "Down", "cluster": "eu", "job": "inner"},
            "annotations": {"summary": "it is \"down\""},
            "startsAt": "1970-01-01T00:00:01.000000000Z",
            "endsAt": "1970-01-01T00:04:00.000000000Z",
            "generatorURL": "http://foretell:8484/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
        });
        assert_eq!(json(&alert), expected);
        alert.resolved_at_ns = Some(60_000_000_000);
        assert_eq!(json(&alert)["endsAt"], "1970-01-01T00:01:00.000000000Z");
    }
}
