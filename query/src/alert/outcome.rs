//! What a look changes, and the record that says so.
use std::collections::BTreeMap;

use foretell_engine::clock::{Clock, SystemClock};
use foretell_engine::{LabelSet, METRIC_NAME, WriteBatch};

use super::definition::{Definition, NEXT, Notice, OUTBOX, Watched, notice_key, state_key};
use super::machine::{Active, Change, step};
use super::{Alert, Alerts};
use crate::error::{Error, Result};

/// Ends a series, as Prometheus writes it.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
const NS_PER_MS: i64 = 1_000_000;

/// What one look changes.
pub(super) struct Outcome {
    pub(super) watched: Watched,
    before: BTreeMap<LabelSet, Active>,
    pub(super) changes: Vec<(LabelSet, Change, i64)>,
}

impl Outcome {
    pub(super) fn new(watched: &Watched) -> Self {
        Self { watched: watched.clone(), before: watched.alerts.clone(), changes: Vec::new() }
    }

    /// Moves one alert on.
    pub(super) fn step(&mut self, definition: &Definition, labels: &LabelSet, at: i64, holds: bool, value: f64) {
        if let Some(change) = step(&mut self.watched.alerts, labels, at, holds, value, definition.policy()) {
            self.changes.push((labels.clone(), change, at));
        }
    }

    /// Ends everything.
    pub(super) fn end(&mut self, at: i64) {
        for (labels, alert) in std::mem::take(&mut self.watched.alerts) {
            if alert.fired_at.is_some() {
                self.changes.push((labels, Change::Resolved(alert), at.max(alert.last_at)));
            }
        }
    }

    pub(super) fn is_unchanged(&self) -> bool {
        self.before == self.watched.alerts && self.changes.is_empty()
    }

    /// What is written: state, notices, and samples of `ALERTS`.
    pub(super) fn record(&self, alerts: &Alerts, alert: &Alert) -> Result<(WriteBatch, Vec<Notice>)> {
        let definition = &alert.definition;
        let mut batch = WriteBatch::default();
        batch.state.push((state_key(&definition.name), Some(self.watched.encode())));
        let mut notices = Vec::new();
        for (of, change, at) in &self.changes {
            let (active, firing) = match change {
                Change::Fired(active) => (active, true),
                Change::Resolved(active) => (active, false),
            };
            for target in &definition.notify {
                notices.push(Notice {
                    seq: alerts.number(),
                    alert: definition.name.clone(),
                    target: target.clone(),
                    labels: alert.labels(of),
                    annotations: definition.annotations.clone(),
                    of: of.clone(),
                    firing,
                    value: active.value,
                    starts_at: active.fired_at.unwrap_or(*at),
                    ends_at: (!firing).then_some(*at),
                    made_at: SystemClock.now_ns(),
                    error: None,
                });
            }
        }
        batch.state.extend(notices.iter().map(|notice| (notice_key(OUTBOX, notice.seq), Some(notice.encode()))));
        if let Some(last) = notices.last() {
            batch.state.push((NEXT.to_vec(), Some((last.seq + 1).to_be_bytes().to_vec())));
        }
        self.samples(alerts, alert, &mut batch)?;
        Ok((batch, notices))
    }

    /// `ALERTS` and `ALERTS_FOR_STATE`, with an end for each series that goes.
    fn samples(&self, alerts: &Alerts, alert: &Alert, batch: &mut WriteBatch) -> Result<()> {
        let mut write = |metric: &str, state: Option<&str>, of: &LabelSet, at: i64, value: f64| -> Result<()> {
            let labels = alert.labels(of);
            let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let own = [(METRIC_NAME, metric)].into_iter().chain(state.map(|state| ("alertstate", state)));
            // Templates are expanded by who tells people.
            let plain = pairs.filter(|(name, value)| *name != "alertstate" && !value.contains("{{"));
            let set = LabelSet::from_pairs(own.chain(plain));
            let series = set.and_then(|set| alerts.engine.resolve(&set)).map_err(|e| Error::from_engine(&e))?;
            // Prometheus's samples have milliseconds.
            batch.push(series, at.div_euclid(NS_PER_MS) * NS_PER_MS, value);
            Ok(())
        };
        for (of, active) in &self.watched.alerts {
            let before = self.before.get(of);
            if before == Some(active) {
                continue;
            }
            if let Some(before) = before.filter(|before| before.state() != active.state()) {
                write("ALERTS", Some(before.state()), of, active.last_at, STALE)?;
            }
            write("ALERTS", Some(active.state()), of, active.last_at, 1.0)?;
            let since = (active.active_at / 1_000_000_000) as f64;
            write("ALERTS_FOR_STATE", None, of, active.last_at, since)?;
        }
        for (of, gone) in self.before.iter().filter(|(of, _)| !self.watched.alerts.contains_key(*of)) {
            let at = gone.last_at.max(self.watched.newest_at).saturating_add(NS_PER_MS);
            write("ALERTS", Some(gone.state()), of, at, STALE)?;
            write("ALERTS_FOR_STATE", None, of, at, STALE)?;
        }
        Ok(())
    }
}
