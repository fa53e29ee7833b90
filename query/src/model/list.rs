//! How models look from outside: the tables of schema `sys`, and small answers.
use std::iter::once;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::util::display::array_value_to_string;
use foretell_engine::Snapshot;
use foretell_ml::health::Health;

use super::definition::{ANOMALIES, Anomaly, Label, Phase, Reason, Version};
use super::lane::Role;
use super::training::Trained;
use super::{Known, Model, Models};
use crate::continuous::status::properties;
use crate::duration;
use crate::error::{Error, Result};
use crate::table::sys::{Listed, batch, numbers, texts, times};

/// Every table about models, by name.
pub(crate) fn tables(models: &Arc<Models>) -> [(&'static str, Listed<Models>); 4] {
    let table = |rows| Listed::new(models, rows);
    [
        ("models", table(|models, _| self::models(models))),
        ("model_versions", table(|models, _| versions(models))),
        ("model_health", table(health)),
        ("anomalies", table(|_, snapshot| anomalies(snapshot))),
    ]
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|value| i64::try_from(value).unwrap_or(i64::MAX))))
}
fn small(values: impl Iterator<Item = Option<u32>>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter(values))
}

/// "after …" of the first time of a phase.
pub(super) fn since(from: i64) -> String {
    let time = times(once(Some(from)));
    format!("from {}", array_value_to_string(&time, 0).unwrap_or_default())
}

/// `sys.models`
pub(super) fn models(models: &Models) -> Result<RecordBatch> {
    let all: Vec<(Arc<Model>, Known)> =
        models.all().into_iter().map(|model| (Arc::clone(&model), model.known.read().clone())).collect();
    of_models(&all.iter().map(|(model, known)| (model.as_ref(), known)).collect::<Vec<_>>())
}

fn of_models(all: &[(&Model, &Known)]) -> Result<RecordBatch> {
    let last = |known: &Known| known.journal.phases.last().cloned();
    let length = |ns: Option<i64>| ns.map(duration::format);
    let rule = |automatic: bool| Some(if automatic { "auto" } else { "manual" });
    let rows = batch(vec![
        ("name", texts(all.iter().map(|(model, _)| Some(&*model.definition.name)))),
        ("type", texts(all.iter().map(|_| Some("anomaly")))),
        ("method", texts(all.iter().map(|(model, _)| Some(model.definition.method.name())))),
        ("champion", small(all.iter().map(|(_, known)| last(known).map(|phase| phase.champion)))),
        ("challenger", small(all.iter().map(|(_, known)| last(known).and_then(|phase| phase.challenger)))),
        ("fallback", small(all.iter().map(|(_, known)| last(known).and_then(|phase| phase.fallback)))),
        ("boundary", numbers(all.iter().map(|(_, known)| last(known).map(|phase| phase.boundary)))),
        ("champion_since", times(all.iter().map(|(_, known)| champion_since(known)))),
        ("watched_to", times(all.iter().map(|(_, known)| Some(known.journal.watched_to)))),
        ("versions", counts(all.iter().map(|(_, known)| known.versions.len() as u64))),
        ("keys", texts(all.iter().map(|(model, _)| Some(model.definition.keys.join(", "))))),
        ("time", texts(all.iter().map(|(model, _)| Some(&*model.definition.time)))),
        ("value", texts(all.iter().map(|(model, _)| Some(&*model.definition.value)))),
        ("season", texts(all.iter().map(|(model, _)| length(model.definition.season_ns)))),
        ("seed", Arc::new(UInt64Array::from_iter_values(all.iter().map(|(model, _)| model.definition.seed)))),
        ("last", texts(all.iter().map(|(model, _)| length(model.definition.last_ns)))),
        ("watermark", texts(all.iter().map(|(model, _)| length(Some(model.definition.watermark_ns))))),
        ("retrain_every", texts(all.iter().map(|(model, _)| length(model.definition.retrain_ns)))),
        ("promote", texts(all.iter().map(|(model, _)| rule(model.definition.promotes)))),
        ("rollback", texts(all.iter().map(|(model, _)| rule(model.definition.rolls_back)))),
        ("last_error", texts(all.iter().map(|(_, known)| known.error.clone()))),
        ("sql", texts(all.iter().map(|(model, _)| Some(&*model.definition.sql)))),
    ]);
    rows.map_err(Error::from_datafusion)
}

fn champion_since(known: &Known) -> Option<i64> {
    let phases = &known.journal.phases;
    let champion = phases.last()?.champion;
    phases.iter().rev().take_while(|phase| phase.champion == champion).last().map(|phase| phase.from)
}

/// One model as properties and values.
pub(super) fn description(model: &Model) -> Result<RecordBatch> {
    let known = model.known.read().clone();
    properties(&of_models(&[(model, &known)])?)
}

/// What a version is now.
fn state(known: &Known, version: u32) -> &'static str {
    let phases = &known.journal.phases;
    let has = |phase: &Phase| phase.roles().contains(&Some(version));
    let Some(last) = phases.last() else { return "retired" };
    if let Some(role) = Role::ALL.into_iter().find(|role| last.roles()[*role as usize] == Some(version)) {
        return role.name();
    }
    let end = phases.iter().rposition(has).map(|place| place + 1);
    match end.and_then(|place| phases.get(place)).map(|phase| phase.reason) {
        Some(Reason::RolledBack | Reason::RolledBackByRule) => "rolled back",
        Some(Reason::RejectedByRule) => "rejected",
        _ => "retired",
    }
}

/// `sys.model_versions`
fn versions(models: &Models) -> Result<RecordBatch> {
    let mut all: Vec<(String, &'static str, &'static str, Version)> = Vec::new();
    for model in models.all() {
        let known = model.known.read().clone();
        for version in known.versions.values() {
            let mut phases = known.journal.phases.iter();
            let since = phases.rfind(|phase| phase.roles().contains(&Some(version.number)));
            let reason = since.map_or("", |phase| phase.reason.name());
            all.push((model.definition.name.clone(), state(&known, version.number), reason, version.clone()));
        }
    }
    let training = |health: fn(&Health) -> Option<f64>| numbers(all.iter().map(move |row| health(&row.3.training)));
    let rows = batch(vec![
        ("model", texts(all.iter().map(|row| Some(&*row.0)))),
        ("version", small(all.iter().map(|row| Some(row.3.number)))),
        ("state", texts(all.iter().map(|row| Some(row.1)))),
        ("reason", texts(all.iter().map(|row| Some(row.2)))),
        ("trained_at", times(all.iter().map(|row| Some(row.3.trained_at)))),
        ("position", counts(all.iter().map(|row| row.3.position.0))),
        ("first_ts", times(all.iter().map(|row| Some(row.3.first_ts)))),
        ("last_ts", times(all.iter().map(|row| Some(row.3.last_ts)))),
        ("rows", counts(all.iter().map(|row| row.3.rows))),
        ("series", counts(all.iter().map(|row| row.3.keys))),
        ("bytes", counts(all.iter().map(|row| row.3.bytes))),
        ("code", texts(all.iter().map(|row| Some(&*row.3.code)))),
        ("hash", texts(all.iter().map(|row| Some(format!("{:032x}", row.3.hash))))),
        ("backtest_loss", training(Health::loss)),
        ("backtest_alarm_rate", training(Health::alarm_rate)),
    ]);
    rows.map_err(Error::from_datafusion)
}

/// `sys.model_health`
fn health(models: &Models, snapshot: &Snapshot) -> Result<RecordBatch> {
    struct Row {
        model: String,
        version: u32,
        role: Role,
        since: Health,
        training: Option<Health>,
        second_not_better: Option<f64>,
        /// True and false positives that somebody labelled.
        labels: (u64, u64),
        ns_per_row: Option<f64>,
    }
    let mut labels: std::collections::HashMap<(String, u32), (u64, u64)> = Default::default();
    for (_, bytes) in snapshot.state_prefix(ANOMALIES)? {
        let anomaly = Anomaly::decode(&bytes)?;
        let Some(label) = anomaly.label else { continue };
        let count = labels.entry((anomaly.model, anomaly.version)).or_default();
        match label {
            Label::TruePositive => count.0 += 1,
            Label::FalsePositive => count.1 += 1,
        }
    }
    let mut all = Vec::new();
    for model in models.all() {
        let known = model.known.read().clone();
        for (role, record) in Role::ALL.into_iter().zip(&known.records.roles) {
            let Some((version, record)) = record else { continue };
            let name = model.definition.name.clone();
            all.push(Row {
                labels: labels.get(&(name.clone(), *version)).copied().unwrap_or_default(),
                model: name,
                version: *version,
                role,
                since: record.since.clone(),
                training: known.versions.get(version).map(|version| version.training.clone()),
                second_not_better: record.duel.p_second_not_better().filter(|_| role != Role::Champion),
                ns_per_row: (known.records.rows > 0)
                    .then(|| known.records.took.as_nanos() as f64 / known.records.rows as f64),
            });
        }
    }
    let drift = |row: &Row| row.training.as_ref().and_then(|training| row.since.drift(training));
    // Laplace's rule: the mean of what the labels leave possible
    let precision =
        |(right, wrong): (u64, u64)| (right + wrong > 0).then(|| (right + 1) as f64 / (right + wrong + 2) as f64);
    let sound = |row: &Row| {
        let training = row.training.as_ref()?;
        Some(foretell_ml::health::Side { since: &row.since, training }.is_sound())
    };
    let rows = batch(vec![
        ("model", texts(all.iter().map(|row| Some(&*row.model)))),
        ("version", small(all.iter().map(|row| Some(row.version)))),
        ("role", texts(all.iter().map(|row| Some(row.role.name())))),
        ("rows", counts(all.iter().map(|row| row.since.scored()))),
        ("alarms", counts(all.iter().map(|row| row.since.alarms()))),
        ("alarm_rate", numbers(all.iter().map(|row| row.since.alarm_rate()))),
        ("training_alarm_rate", numbers(all.iter().map(|row| row.training.as_ref().and_then(Health::alarm_rate)))),
        (
            "calibration_p",
            numbers(all.iter().map(|row| row.training.as_ref().and_then(|training| row.since.calibration(training)))),
        ),
        ("drift_psi", numbers(all.iter().map(|row| drift(row).map(|drift| drift.psi)))),
        ("drift_p", numbers(all.iter().map(|row| drift(row).map(|drift| drift.p_value)))),
        ("loss", numbers(all.iter().map(|row| row.since.loss()))),
        ("better_than_champion_p", numbers(all.iter().map(|row| row.second_not_better))),
        ("labels", counts(all.iter().map(|row| row.labels.0 + row.labels.1))),
        ("precision", numbers(all.iter().map(|row| precision(row.labels)))),
        ("ns_per_row", numbers(all.iter().map(|row| row.ns_per_row))),
        ("sound", Arc::new(BooleanArray::from_iter(all.iter().map(sound)))),
    ]);
    rows.map_err(Error::from_datafusion)
}

/// `sys.anomalies`
fn anomalies(snapshot: &Snapshot) -> Result<RecordBatch> {
    let all = snapshot.state_prefix(ANOMALIES)?;
    let all: Vec<Anomaly> = all.iter().map(|(_, bytes)| Anomaly::decode(bytes)).collect::<Result<_>>()?;
    let key = |anomaly: &Anomaly| -> String {
        let values: Vec<&str> = anomaly.key.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
        values.join(", ")
    };
    let number = |of: fn(&Anomaly) -> Option<f64>| numbers(all.iter().map(of));
    let rows = batch(vec![
        ("id", Arc::new(UInt64Array::from_iter_values(all.iter().map(|anomaly| anomaly.id)))),
        ("model", texts(all.iter().map(|anomaly| Some(&*anomaly.model)))),
        ("version", small(all.iter().map(|anomaly| Some(anomaly.version)))),
        ("key", texts(all.iter().map(|anomaly| Some(key(anomaly))))),
        ("ts", times(all.iter().map(|anomaly| Some(anomaly.ts)))),
        ("value", number(|anomaly| Some(anomaly.value))),
        ("score", number(|anomaly| Some(anomaly.score))),
        ("expected", number(|anomaly| anomaly.expected)),
        ("lo", number(|anomaly| anomaly.lo)),
        ("hi", number(|anomaly| anomaly.hi)),
        ("label", texts(all.iter().map(|anomaly| anomaly.label.map(Label::name)))),
    ]);
    rows.map_err(Error::from_datafusion)
}

/// The answer of `RETRAIN … VERIFY`.
pub(super) fn verified(version: &Version, again: &Trained) -> Result<RecordBatch> {
    let same = version.hash == again.hash;
    let why = match () {
        () if same => None,
        () if version.code != env!("CARGO_PKG_VERSION") => Some("another version of Foretell trained it"),
        () if version.rows != again.rows => Some("rows of its time came or went since"),
        () => Some("values of its time have changed since"),
    };
    let rows = batch(vec![
        ("version", small(once(Some(version.number)))),
        ("reproduced", Arc::new(BooleanArray::from(vec![same]))),
        ("hash", texts(once(Some(format!("{:032x}", version.hash))))),
        ("hash_again", texts(once(Some(format!("{:032x}", again.hash))))),
        ("rows", counts(once(version.rows))),
        ("rows_again", counts(once(again.rows))),
        ("why", texts(once(why))),
    ]);
    rows.map_err(Error::from_datafusion)
}
