//! How alerts look from outside: `sys.alerts`, `sys.notifications`, and small answers.
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use foretell_engine::Snapshot;

use super::definition::{DEAD, Notice};
use super::machine::Active;
use super::{Alert, Alerts};
use crate::duration;
use crate::error::{Error, Result};
use crate::table::sys::{Listed, batch, numbers, texts, times};

/// Every table about alerts, by name.
pub(crate) fn tables(alerts: &Arc<Alerts>) -> [(&'static str, Listed<Alerts>); 3] {
    let table = |rows| Listed::new(alerts, rows);
    [
        ("alerts", table(|alerts, _| instances(&alerts.all()))),
        ("notifications", table(notifications)),
        ("silences", table(|alerts, _| alerts.silences.rows())),
    ]
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

/// `{a="b", …}`
fn shown(labels: &[(String, String)]) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", labels.join(", "))
}

/// `SHOW ALERTS`: a row a definition.
pub(super) fn definitions(all: &[Arc<Alert>]) -> Result<RecordBatch> {
    let known: Vec<_> = all.iter().map(|alert| alert.known.read().clone()).collect();
    let of_state = |state: &'static str| {
        counts(
            known.iter().map(move |known| known.watched.alerts.values().filter(|a| a.state() == state).count() as u64),
        )
    };
    let length = |ns: i64| (ns > 0).then(|| duration::format(ns));
    let targets = |alert: &Arc<Alert>| {
        let targets = alert.definition.notify.iter().map(|target| format!("{} {}", target.kind(), target.url()));
        targets.collect::<Vec<_>>().join(", ")
    };
    let rows = batch(vec![
        ("name", texts(all.iter().map(|alert| Some(&*alert.definition.name)))),
        ("watches", texts(all.iter().map(|alert| Some(alert.definition.on.to_string())))),
        ("pending", of_state("pending")),
        ("firing", of_state("firing")),
        ("for", texts(all.iter().map(|alert| length(alert.definition.hold_ns)))),
        ("keep_firing_for", texts(all.iter().map(|alert| length(alert.definition.keep_ns)))),
        ("notify", texts(all.iter().map(|alert| Some(targets(alert))))),
        ("position", counts(known.iter().map(|known| known.read_to.0))),
        ("last_error", texts(known.iter().map(|known| known.error.clone()))),
        ("sql", texts(all.iter().map(|alert| Some(&*alert.definition.statement)))),
    ]);
    rows.map_err(Error::from_datafusion)
}

/// `sys.alerts`: a row for each that is pending or firing, and one for each definition of which none is.
fn instances(all: &[Arc<Alert>]) -> Result<RecordBatch> {
    type Row = (Arc<Alert>, Option<Vec<(String, String)>>, Option<Active>, Option<String>);
    let mut rows: Vec<Row> = Vec::new();
    for alert in all {
        let known = alert.known.read().clone();
        if known.watched.alerts.is_empty() {
            rows.push((Arc::clone(alert), None, None, known.error.clone()));
        }
        for (of, active) in known.watched.alerts {
            rows.push((Arc::clone(alert), Some(alert.labels(&of)), Some(active), known.error.clone()));
        }
    }
    let active = || rows.iter().map(|(_, _, active, _)| active.as_ref());
    let made = batch(vec![
        ("name", texts(rows.iter().map(|(alert, ..)| Some(&*alert.definition.name)))),
        ("state", texts(active().map(|active| Some(active.map_or("inactive", Active::state))))),
        ("labels", texts(rows.iter().map(|(_, labels, ..)| labels.as_ref().map(|labels| shown(labels))))),
        ("value", numbers(active().map(|active| active.map(|active| active.value)))),
        ("active_at", times(active().map(|active| active.map(|active| active.active_at)))),
        ("fired_at", times(active().map(|active| active.and_then(|active| active.fired_at)))),
        ("last_at", times(active().map(|active| active.map(|active| active.last_at)))),
        ("watches", texts(rows.iter().map(|(alert, ..)| Some(alert.definition.on.to_string())))),
        ("last_error", texts(rows.iter().map(|(.., error)| error.clone()))),
    ]);
    made.map_err(Error::from_datafusion)
}

/// `sys.notifications`: what waits to be taken, and what was given up.
fn notifications(alerts: &Alerts, snapshot: &Snapshot) -> Result<RecordBatch> {
    let dead = snapshot.state_prefix(DEAD)?.into_iter().map(|(_, bytes)| Notice::decode(&bytes).map(Arc::new));
    let mut all = alerts.notices();
    all.extend(dead.collect::<Result<Vec<_>>>()?);
    let rows = batch(vec![
        ("id", counts(all.iter().map(|notice| notice.seq))),
        ("alert", texts(all.iter().map(|notice| Some(&*notice.alert)))),
        ("state", texts(all.iter().map(|notice| Some(if notice.firing { "firing" } else { "resolved" })))),
        ("labels", texts(all.iter().map(|notice| Some(shown(&notice.labels))))),
        ("target", texts(all.iter().map(|notice| Some(notice.target.kind())))),
        ("url", texts(all.iter().map(|notice| Some(notice.target.url())))),
        ("starts_at", times(all.iter().map(|notice| Some(notice.starts_at)))),
        ("ends_at", times(all.iter().map(|notice| notice.ends_at))),
        ("made_at", times(all.iter().map(|notice| Some(notice.made_at)))),
        ("silenced_by", texts(alerts.held_by(&all).into_iter())),
        ("idempotency_key", texts(all.iter().map(|notice| Some(notice.idempotency_key())))),
        ("given_up", Arc::new(BooleanArray::from_iter(all.iter().map(|notice| Some(notice.error.is_some()))))),
        ("error", texts(all.iter().map(|notice| notice.error.clone()))),
    ]);
    rows.map_err(Error::from_datafusion)
}
