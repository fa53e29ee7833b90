//! `rules` and `alerts`: groups, rules and alerts in the shape of Prometheus.
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use foretell_engine::LabelSet;
use foretell_query::ActiveAlert;
use foretell_query::promql::{self, LabelFilter};
use serde_json::{Map, Value, json};

use super::elsewhere;
use super::encode::exponent;
use super::params::Params;
use super::status::success;
use crate::app::App;
use crate::error::ApiError;
use crate::rules::{self, Alert, Group, Kind, RuleSpec, RuleState};

/// What JSON calls an instant that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";
const NS_PER_S: i64 = 1_000_000_000;
/// Bytes of the texts of all rules and alerts in an answer ..
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// .. and what a rule or an alert takes besides.
const ENTRY_BYTES: usize = 256;

/// `GET /api/v1/rules`
pub(in super::super) async fn rules(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    app.store()?;
    let filter = Filter::read(&params)?;
    elsewhere(move || page(&app.rules.groups(), &filter)).await?
}

/// The groups that `filter` leaves.
fn page(groups: &[Arc<Group>], filter: &Filter) -> Result<Response, ApiError> {
    let is_shown =
        |group: &&Arc<Group>| filter.has_group(group) && group.spec.rules.iter().any(|rule| filter.has_rule(rule));
    let mut shown: Vec<&Arc<Group>> = groups.iter().filter(is_shown).collect();
    let mut data = Map::new();
    if let Some(limit) = filter.limit {
        if let Some(first) = &filter.token {
            let at = shown.iter().position(|group| token(group) == *first).ok_or_else(|| {
                ApiError::bad_data(format!("invalid group_next_token '{first}'. were rule groups changed?"))
            })?;
            shown.drain(..at);
        }
        if shown.len() > limit {
            data.insert("groupNextToken".into(), json!(token(shown[limit])));
            shown.truncate(limit);
        }
    }
    let mut room = Room(ANSWER_BYTES_MAX);
    let groups = shown.into_iter().map(|group| group_json(group, filter, &mut room)).collect::<Result<Value, _>>()?;
    data.insert("groups".into(), groups);
    Ok(success(&Value::Object(data)))
}

/// `GET /api/v1/alerts`
pub(in super::super) async fn alerts(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let store = app.store()?;
    elsewhere(move || {
        let (mut alerts, mut room) = (Vec::new(), Room(ANSWER_BYTES_MAX));
        for alert in store.database.active_alerts() {
            alerts.push(created_json(app.rules.settings(), &alert, &mut room)?);
        }
        for group in app.rules.groups().iter() {
            let state = group.state.lock();
            for rule in &state.rules {
                alerts.extend(alerts_json(rule, &mut room)?);
            }
        }
        Ok(success(&json!({"alerts": alerts})))
    })
    .await?
}

/// Bytes of texts that an answer may still hold.
struct Room(usize);

impl Room {
    /// # Errors
    /// `execution` when nothing is left.
    fn take(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| {
            let message = format!(
                "the answer would have more than {ANSWER_BYTES_MAX} bytes of rules and alerts: ask /api/v1/rules for less, with \
                 group_limit, rule_group[], rule_name[] or exclude_alerts=true"
            );
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", message)
        })?;
        Ok(())
    }
}

/// Which groups and rules are asked for.
struct Filter {
    /// Of alerts or of recordings alone.
    is_alert: Option<bool>,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    labels: Vec<LabelFilter>,
    excludes_alerts: bool,
    limit: Option<usize>,
    token: Option<String>,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let all = |name: &str| params.all(name).map(str::to_owned).collect::<Vec<_>>();
        let one = |name: &str| params.one(name).filter(|text| !text.is_empty());
        let is_alert = match one("type").map(str::to_lowercase).as_deref() {
            None => None,
            Some("alert") => Some(true),
            Some("record") => Some(false),
            Some(other) => {
                return Err(ApiError::bad_data(format!("invalid parameter \"type\": not supported value {other:?}")));
            }
        };
        let excludes_alerts = params.flag("exclude_alerts")?;
        let limit = match one("group_limit") {
            None => None,
            Some(text) => Some(text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| {
                ApiError::bad_data(format!("invalid parameter \"group_limit\": {text:?} is not a count above 0"))
            })?),
        };
        let token = one("group_next_token").map(str::to_owned);
        if token.is_some() && limit.is_none() {
            return Err(ApiError::bad_data(
                "invalid parameter \"group_limit\": group_limit needs to be present in order to paginate over the groups",
            ));
        }
        let limits = promql::Limits::default();
        let labels =
            params.all("match[]").map(|text| LabelFilter::parse(text, &limits)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            is_alert,
            names: all("rule_name[]"),
            groups: all("rule_group[]"),
            files: all("file[]"),
            labels,
            excludes_alerts,
            limit,
            token,
        })
    }

    fn has_group(&self, group: &Group) -> bool {
        let has = |wanted: &[String], name: &String| wanted.is_empty() || wanted.contains(name);
        has(&self.groups, &group.spec.name) && has(&self.files, &group.spec.file)
    }

    fn has_rule(&self, rule: &RuleSpec) -> bool {
        let is_alert = matches!(rule.kind, Kind::Alert(_));
        self.is_alert.is_none_or(|wanted| wanted == is_alert)
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.labels.is_empty() || self.labels.iter().any(|filter| filter.matches(&fixed_labels(rule))))
    }
}

/// Labels of a rule that are known without evaluating it.
fn fixed_labels(rule: &RuleSpec) -> LabelSet {
    let pairs: Vec<(&str, &str)> = match &rule.kind {
        Kind::Record { labels } => labels.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect(),
        Kind::Alert(alerting) => {
            let pairs = alerting.labels.iter().map(|(name, template)| (name.as_str(), template.source()));
            pairs.filter(|(_, source)| !source.contains("{{")).collect()
        }
    };
    LabelSet::from_pairs(pairs).unwrap_or_default()
}

/// Names a group for the next page.
fn token(group: &Group) -> String {
    let key = format!("{};{}", group.spec.file, group.spec.name);
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(key.as_bytes()))
}

/// A group with the rules that `filter` leaves.
fn group_json(group: &Group, filter: &Filter, room: &mut Room) -> Result<Value, ApiError> {
    let (spec, state) = (&group.spec, group.state.lock());
    let rules = spec.rules.iter().zip(&state.rules).filter(|(rule, _)| filter.has_rule(rule));
    let rules = rules.map(|(rule, state)| rule_json(rule, state, filter.excludes_alerts, room));
    let rules = rules.collect::<Result<Vec<Value>, ApiError>>()?;
    Ok(json!({
        "name": spec.name,
        "file": spec.file,
        "rules": rules,
        "interval": seconds(spec.interval_ns),
        "limit": spec.limit,
        "evaluationTime": state.duration.as_secs_f64(),
        "lastEvaluation": instant(state.evaluated_at_ns),
    }))
}

fn rule_json(rule: &RuleSpec, state: &RuleState, excludes_alerts: bool, room: &mut Room) -> Result<Value, ApiError> {
    room.take(ENTRY_BYTES + rule.name.len() + rule.expr.len())?;
    let mut json = json!({
        "name": rule.name,
        "query": rule.expr,
        "health": state.health(),
        "evaluationTime": state.duration.as_secs_f64(),
        "lastEvaluation": instant(state.evaluated_at_ns),
    });
    match &rule.kind {
        Kind::Record { labels } => {
            json["type"] = json!("recording");
            room.take(labels.iter().map(|(name, text)| name.len() + text.len()).sum())?;
            if !labels.is_empty() {
                json["labels"] = object(labels.iter().map(|(name, text)| (name.as_str(), text.as_str())));
            }
        }
        Kind::Alert(alerting) => {
            let sources = |pairs: &'_ [(String, rules::Template)]| -> Value {
                object(pairs.iter().map(|(name, template)| (name.as_str(), template.source())))
            };
            let texts = alerting.labels.iter().chain(&alerting.annotations);
            room.take(texts.map(|(name, template)| name.len() + template.source().len()).sum())?;
            json["type"] = json!("alerting");
            json["state"] = json!(state.state().name());
            json["duration"] = seconds(alerting.hold_ns);
            json["keepFiringFor"] = seconds(alerting.keep_firing_ns);
            json["labels"] = sources(&alerting.labels);
            json["annotations"] = sources(&alerting.annotations);
            json["alerts"] = if excludes_alerts { Value::Null } else { alerts_json(state, room)?.into() };
        }
    }
    if let Some(error) = &state.error {
        json["lastError"] = json!(error);
    }
    Ok(json)
}

/// An alert of `CREATE ALERT`.
fn created_json(settings: &rules::Settings, alert: &ActiveAlert, room: &mut Room) -> Result<Value, ApiError> {
    let pairs = (alert.labels.as_slice(), alert.annotations.as_slice());
    let (labels, annotations) = crate::alerts::texts(settings, &alert.alert, pairs, &alert.of, alert.value);
    let texts: usize = labels.iter().chain(&annotations).map(|(name, text)| name.len() + text.len()).sum();
    room.take(ENTRY_BYTES + texts)?;
    Ok(json!({
        "labels": labels,
        "annotations": annotations,
        "state": if alert.fired_at.is_some() { "firing" } else { "pending" },
        "activeAt": instant(Some(alert.active_at)),
        "value": scientific(alert.value),
    }))
}

/// The alerts of a rule that are not resolved.
fn alerts_json(state: &RuleState, room: &mut Room) -> Result<Vec<Value>, ApiError> {
    let active = state.active.iter().filter(|(_, alert)| alert.resolved_at_ns.is_none());
    let json = |(labels, alert): (&LabelSet, &Alert)| -> Result<Value, ApiError> {
        let texts: usize = alert.annotations.iter().map(|(name, text)| name.len() + text.len()).sum();
        room.take(ENTRY_BYTES + labels.as_bytes().len() + texts)?;
        let annotations = alert.annotations.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let mut json = json!({
            "labels": object(labels.iter()),
            "annotations": object(annotations.filter(|(_, text)| !text.is_empty())),
            "state": alert.state.name(),
            "activeAt": instant(Some(alert.active_at_ns)),
            "value": scientific(alert.value),
        });
        if let Some(since_ns) = alert.keep_firing_since_ns {
            json["keepFiringSince"] = json!(instant(Some(since_ns)));
        }
        Ok(json)
    };
    active.map(json).collect()
}

fn object<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    Value::Object(pairs.map(|(name, text)| (name.to_owned(), json!(text))).collect())
}

/// Seconds, without a point where they are whole.
fn seconds(ns: i64) -> Value {
    if ns % NS_PER_S == 0 { json!(ns / NS_PER_S) } else { json!(ns as f64 / NS_PER_S as f64) }
}

/// RFC 3339 with as many digits as it needs.
fn instant(ns: Option<i64>) -> String {
    let Some(ns) = ns else { return NEVER.to_owned() };
    let text = crate::timestamp::rfc3339(ns);
    format!("{}Z", text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'))
}

/// The value of an alert: always with an exponent.
fn scientific(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        exponent(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_too_many_alerts_is_refused() {
        let mut state = RuleState::default();
        for i in 0..10 {
            let labels = LabelSet::from_pairs([("alertname", "X"), ("i", &i.to_string())]).unwrap_or_default();
            let alert = Alert {
                annotations: vec![("text".into(), "x".repeat(1000))],
                state: rules::State::Firing,
                value: 1.0,
                active_at_ns: 0,
                fired_at_ns: Some(0),
                resolved_at_ns: None,
                keep_firing_since_ns: None,
                last_sent_ns: None,
                valid_until_ns: 0,
            };
            state.active.insert(labels, alert);
        }
        assert_eq!(alerts_json(&state, &mut Room(20_000)).unwrap().len(), 10);
        let refused = alerts_json(&state, &mut Room(10_000)).unwrap_err();
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn instants_and_values_are_written_as_go_writes_them() {
        assert_eq!(instant(None), NEVER);
        assert_eq!(instant(Some(0)), "1970-01-01T00:00:00Z");
        assert_eq!(instant(Some(1_500_000_000)), "1970-01-01T00:00:01.5Z");
        assert_eq!(instant(Some(10_000_000_000)), "1970-01-01T00:00:10Z");
        assert_eq!(scientific(1.0), "1e+00");
        assert_eq!(scientific(0.0), "0e+00");
        assert_eq!(scientific(-123.5), "-1.235e+02");
        assert_eq!(scientific(f64::INFINITY), "+Inf");
    }
}
