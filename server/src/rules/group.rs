//! A group at work: its rules in order, what each has become, and what it left behind.
//!
//! ```text
//!  ask ─► rows ─┬─ record: named, labelled ───────────────────────────────┐
//!               └─ alert: templates ─► alerts move on ─► ALERTS, tell ────┤
//!                                                                         ▼
//!                             written, with a stale marker for each series that the rule no longer has
//! ```
//! Only the group's own task changes its state; the API reads it between the steps of a rule.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foretell_engine::clock::{Clock as _, SystemClock};
use foretell_engine::{LabelSet, METRIC_NAME};
use foretell_proto::prometheus::STALE_NAN_BITS;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::alert::{self, Active, Policy, Seen, State};
use super::context::{ALERTS_FOR_STATE, Context, Failure, Rows};
use super::file::{Alerting, GroupSpec, Kind, RuleSpec};
use super::template::{Answers, Data, Fault, Labels, Sample, Template};

/// Pending and firing alerts of a rule.
const ALERTS_MAX: usize = 10_000;
/// Bytes of all labels and annotations that the templates of a rule make in one evaluation.
const TEXT_BYTES_MAX: usize = 16 << 20;
const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;
/// Ends a series.
pub(super) const STALE: f64 = f64::from_bits(STALE_NAN_BITS);
const ALERTS: &str = "ALERTS";

/// A group and what has become of it.
pub(crate) struct Group {
    pub(crate) spec: Arc<GroupSpec>,
    pub(crate) state: Mutex<GroupState>,
    /// Alerts of all its rules, resolved ones included.
    pub(super) alerts: AtomicUsize,
}

/// What has become of a group.
#[derive(Default)]
pub(crate) struct GroupState {
    /// One for each rule.
    pub(crate) rules: Vec<RuleState>,
    /// Series of rules that have gone, to be ended by the next evaluation.
    pub(super) left: BTreeSet<LabelSet>,
    /// When the last evaluation began.
    pub(crate) evaluated_at_ns: Option<i64>,
    pub(crate) duration: Duration,
    pub(crate) samples: u64,
    pub(crate) iterations: u64,
    pub(crate) missed: u64,
}

/// What has become of a rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleState {
    /// Why the last evaluation failed; `None` when it did not, or there was none.
    pub(crate) error: Option<String>,
    pub(crate) evaluated_at_ns: Option<i64>,
    pub(crate) duration: Duration,
    pub(crate) active: Active,
    pub(crate) evaluations: u64,
    pub(crate) failures: u64,
    /// Series that the last evaluation wrote, or may have written.
    pub(super) written: BTreeSet<LabelSet>,
    /// Until then alerts are not written: they would overwrite what a restart must remember.
    pub(super) restored: bool,
}

impl RuleState {
    /// As the API names it.
    pub(crate) fn health(&self) -> &'static str {
        match (&self.error, self.evaluated_at_ns) {
            (Some(_), _) => "err",
            (None, Some(_)) => "ok",
            (None, None) => "unknown",
        }
    }

    /// An evaluation that failed may have written these, too: the next one ends those that it does not write. There may be
    /// `series_max` of four evaluations.
    fn may_have_written(&mut self, series: BTreeSet<LabelSet>, series_max: usize) {
        let room = series_max.saturating_mul(4).saturating_sub(self.written.len());
        self.written.extend(series.into_iter().take(room));
    }

    /// Where its furthest alert stands.
    pub(crate) fn state(&self) -> State {
        self.active.values().map(|alert| alert.state).max().unwrap_or(State::Inactive)
    }
}

impl Group {
    /// A group that has not run yet; `restored` when there is nothing to remember.
    pub(super) fn new(spec: Arc<GroupSpec>, restored: bool) -> Self {
        let rules = spec.rules.iter().map(|_| RuleState { restored, ..RuleState::default() }).collect();
        let state = Mutex::new(GroupState { rules, ..GroupState::default() });
        Self { spec, state, alerts: AtomicUsize::new(0) }
    }

    /// A group that goes on where `old` ended: rules of the same name and labels keep their alerts and series, what other
    /// rules have left is ended.
    pub(super) fn following(spec: Arc<GroupSpec>, old: &Self) -> Self {
        let new = Self::new(spec, true);
        {
            let (mut state, mut from) = (new.state.lock(), old.state.lock());
            let mut taken = vec![false; from.rules.len()];
            for (rule, to) in new.spec.rules.iter().zip(&mut state.rules) {
                let same = (0..taken.len()).find(|&i| !taken[i] && rule.is_same(&old.spec.rules[i]));
                if let Some(i) = same {
                    taken[i] = true;
                    *to = std::mem::take(&mut from.rules[i]);
                    to.restored = true;
                }
            }
            let alerts = state.rules.iter().map(|rule| rule.active.len()).sum();
            new.alerts.store(alerts, Ordering::Relaxed);
            state.left = std::mem::take(&mut from.left);
            for (rule, _) in from.rules.iter_mut().zip(&taken).filter(|(_, taken)| !**taken) {
                state.left.append(&mut rule.written);
            }
        }
        new
    }

    /// Every series that the group has written and not ended.
    pub(super) fn series(&self) -> BTreeSet<LabelSet> {
        let state = self.state.lock();
        state.rules.iter().flat_map(|rule| &rule.written).chain(&state.left).cloned().collect()
    }

    /// Evaluates all rules in order as of `at_ns`; ends early, between two rules, when `stop` is cancelled.
    pub(super) async fn evaluate(&self, context: &Context, at_ns: i64, stop: &CancellationToken) {
        let (begun, begun_ns) = (Instant::now(), SystemClock.now_ns());
        let mut samples = 0;
        for (i, rule) in self.spec.rules.iter().enumerate() {
            let (begun, begun_ns) = (Instant::now(), SystemClock.now_ns());
            let outcome = self.rule(context, i, rule, at_ns, stop).await;
            let elapsed = begun.elapsed();
            let (written, error) = match outcome {
                Ok((written, error)) => (written, error),
                Err(Failure::Stopped) => return,
                Err(Failure::Failed(error)) => (0, Some(error)),
            };
            samples += written;
            context.seconds.observe(elapsed.as_secs_f64());
            if let Some(error) = &error {
                let GroupSpec { file, name: group, .. } = &*self.spec;
                tracing::warn!(%file, %group, rule = %rule.name, %error, "rule failed");
            }
            let mut state = self.state.lock();
            let state = &mut state.rules[i];
            state.evaluations += 1;
            state.failures += u64::from(error.is_some());
            state.error = error;
            state.evaluated_at_ns = Some(begun_ns);
            state.duration = elapsed;
        }
        self.end_left(context, self.written_at_ms(at_ns)).await;
        let mut state = self.state.lock();
        state.iterations += 1;
        state.samples = samples;
        state.evaluated_at_ns = Some(begun_ns);
        state.duration = begun.elapsed();
    }

    /// The instant that an evaluation at `at_ns` looks at, and writes its samples at.
    fn written_at_ms(&self, at_ns: i64) -> i64 {
        (at_ns - self.spec.query_offset_ns).div_euclid(NS_PER_MS)
    }

    /// Evaluates rule `i`; how many samples it wrote, and why some were refused.
    async fn rule(
        &self,
        context: &Context,
        i: usize,
        rule: &RuleSpec,
        at_ns: i64,
        stop: &CancellationToken,
    ) -> Result<(u64, Option<String>), Failure> {
        let at_ms = self.written_at_ms(at_ns);
        let (rows, histograms) = context.ask(&rule.source, at_ms, stop).await?;
        let (mut rows, left_out) = match &rule.kind {
            Kind::Record { .. } if histograms => {
                return Err(Failure::Failed(
                    "native histograms cannot be recorded: record histogram_sum, histogram_quantile or such of them"
                        .into(),
                ));
            }
            Kind::Record { labels } => (record(&rule.name, labels, rows, self.spec.limit)?, None),
            Kind::Alert(alerting) => {
                let seen = seen(context, &rule.name, alerting, rows, at_ns, stop).await?;
                self.alerts(context, i, rule, alerting, seen, at_ns)?
            }
        };
        let now: BTreeSet<LabelSet> = rows.iter().map(|(labels, _)| labels.clone()).collect();
        {
            let state = self.state.lock();
            let gone = state.rules[i].written.difference(&now);
            rows.extend(gone.map(|labels| (labels.clone(), STALE)));
        }
        let written = rows.len() as u64;
        match context.write(rows, at_ms).await {
            Ok(refused) => {
                self.state.lock().rules[i].written = now;
                Ok((written, left_out.or(refused)))
            }
            Err(error) => {
                if error.unclear {
                    self.state.lock().rules[i].may_have_written(now, context.settings.series_max);
                }
                Err(error.into())
            }
        }
    }

    /// Moves the alerts of rule `i` on, tells those that are due, and returns what is written of them, and why some new ones
    /// are left out.
    fn alerts(
        &self,
        context: &Context,
        i: usize,
        rule: &RuleSpec,
        alerting: &Alerting,
        seen: BTreeMap<LabelSet, Seen>,
        at_ns: i64,
    ) -> Result<(Rows, Option<String>), Failure> {
        let (limit, alerts_max) = (self.spec.limit, context.settings.alerts_max);
        let (due, rows, left_out) = {
            // In this order: who answers from the state of a group keeps no other group from counting.
            let mut state = self.state.lock();
            let counting = context.counting.lock();
            let RuleState { active, restored, .. } = &mut state.rules[i];
            let others = self.alerts.load(Ordering::Relaxed).saturating_sub(active.len());
            let policy = Policy {
                hold_ns: alerting.hold_ns,
                keep_firing_ns: alerting.keep_firing_ns,
                limit,
                alerts_max: Some(alerts_max.saturating_sub(others.saturating_add(context.alerts_beside(self)))),
            };
            let stepped = alert::step(active, seen, at_ns, policy);
            self.alerts.store(others + active.len(), Ordering::Relaxed);
            drop(counting);
            let left_out = stepped.map_err(|count| format!("exceeded limit of {limit} with {count} alerts"))?;
            let due = alert::due(active, at_ns, context.settings.resend_ns, self.spec.interval_ns);
            (due, if *restored { samples(active)? } else { Rows::new() }, left_out)
        };
        context.notifier.tell(&rule.expr, &due);
        let why = (left_out > 0).then(|| {
            format!(
                "{left_out} alerts are left out: all rules together have {alerts_max} (rules.alerts_max), those that have \
                 resolved within 15 minutes included: aggregate, or raise it"
            )
        });
        Ok((rows, why))
    }

    /// Ends the series of rules that have gone.
    async fn end_left(&self, context: &Context, at_ms: i64) {
        let rows = {
            let state = self.state.lock();
            if state.left.is_empty() {
                return;
            }
            let current: BTreeSet<&LabelSet> = state.rules.iter().flat_map(|rule| &rule.written).collect();
            state.left.iter().filter(|labels| !current.contains(labels)).map(|labels| (labels.clone(), STALE)).collect()
        };
        match context.write(rows, at_ms).await {
            Ok(_) => self.state.lock().left.clear(),
            Err(error) => {
                tracing::warn!(error = %error.why, group = %self.spec.name, "series of rules that have gone are not ended")
            }
        }
    }

    /// Lets alerts that were pending before a restart go on as of `now_ns`, and writes them from now on.
    pub(super) async fn restore(&self, context: &Context, now_ns: i64) {
        let settings = &context.settings;
        for (i, rule) in self.spec.rules.iter().enumerate() {
            let Kind::Alert(alerting) = &rule.kind else { continue };
            let mut found = Vec::new();
            if alerting.hold_ns >= settings.for_grace_ns {
                let after_ms = (now_ns - settings.for_outage_ns).div_euclid(NS_PER_MS);
                found = context.for_state(&rule.name, after_ms, now_ns.div_euclid(NS_PER_MS)).await.unwrap_or_else(
                    |error| {
                        tracing::warn!(%error, rule = %rule.name, "the state of alerts before the restart is not known");
                        Vec::new()
                    },
                );
            }
            let mut state = self.state.lock();
            let state = &mut state.rules[i];
            for (labels, until_ms, since_s) in found.into_iter().filter(|found| found.2.is_finite()) {
                if let Some(alert) = state.active.get_mut(&labels) {
                    let (since_ns, until_ns) = ((since_s as i64).saturating_mul(NS_PER_S), until_ms * NS_PER_MS);
                    alert.active_at_ns =
                        alert::restored_since(since_ns, until_ns, now_ns, alerting.hold_ns, settings.for_grace_ns);
                }
            }
            state.restored = true;
        }
    }
}

impl RuleSpec {
    /// Whether a rule is the same as one before a reload: only expression, `for` and annotations may differ.
    fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
            && match (&self.kind, &other.kind) {
                (Kind::Record { labels: a }, Kind::Record { labels: b }) => a == b,
                (Kind::Alert(a), Kind::Alert(b)) => a.labels == b.labels,
                _ => false,
            }
    }
}

/// `labels` with `pairs` set over its own; an empty value removes.
fn with<'a>(labels: &'a LabelSet, pairs: &[(&'a str, &'a str)]) -> Result<LabelSet, Failure> {
    let kept = labels.iter().filter(|(name, _)| pairs.iter().all(|(set, _)| set != name));
    LabelSet::from_pairs(kept.chain(pairs.iter().copied())).map_err(|error| Failure::Failed(error.to_string()))
}

/// What a recording rule writes.
fn record(name: &str, labels: &[(String, String)], rows: Rows, limit: usize) -> Result<Rows, Failure> {
    let mut pairs = vec![(METRIC_NAME, name)];
    pairs.extend(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut seen = BTreeSet::new();
    let mut named = Rows::with_capacity(rows.len());
    for (labels, value) in rows {
        let labels = with(&labels, &pairs)?;
        if !seen.insert(labels.clone()) {
            return Err(Failure::Failed(
                "vector contains metrics with the same labelset after applying rule labels".into(),
            ));
        }
        named.push((labels, value));
    }
    if limit > 0 && named.len() > limit {
        return Err(Failure::Failed(format!("exceeded limit of {limit} with {} series", named.len())));
    }
    Ok(named)
}

/// What the rows of an alert's expression become: labels and annotations with their templates expanded.
async fn seen(
    context: &Context,
    name: &str,
    alerting: &Alerting,
    rows: Rows,
    at_ns: i64,
    stop: &CancellationToken,
) -> Result<BTreeMap<LabelSet, Seen>, Failure> {
    if rows.len() > ALERTS_MAX {
        let message = format!("exceeded limit of {ALERTS_MAX} with {} alerts: aggregate", rows.len());
        return Err(Failure::Failed(message));
    }
    let now_ms = at_ns.div_euclid(NS_PER_MS);
    let of = Describing { name, alerting, settings: &context.settings, now_ms };
    let (mut answers, mut rest) = (Answers::new(), rows.as_slice());
    let mut described = Described { seen: BTreeMap::new(), bytes: 0 };
    // All answers are kept until the last row is described.
    let (series_max, mut answered) = (context.settings.series_max, 0);
    loop {
        let work = || described.go_on(&of, &mut rest, &answers, stop);
        let Some(query) = context.compute(stop, work).await? else { return Ok(described.seen) };
        let answer = match context.ask(&query, now_ms, stop).await {
            Ok((rows, _)) if rows.len() > series_max.saturating_sub(answered) => Err(format!(
                "the answers to all queries have more than {series_max} series (rules.series_max): aggregate"
            )),
            Ok((rows, _)) => {
                answered += rows.len();
                Ok(rows.into_iter().map(sample).collect())
            }
            Err(Failure::Failed(message)) => Err(message),
            Err(Failure::Stopped) => return Err(Failure::Stopped),
        };
        answers.insert(query, answer);
    }
}

fn sample((labels, value): (LabelSet, f64)) -> Sample {
    Sample { labels: labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), value }
}

/// The rows of an alert's expression that are described already.
struct Described {
    seen: BTreeMap<LabelSet, Seen>,
    /// Of all texts that templates made for them.
    bytes: usize,
}

impl Described {
    /// Describes `rest` from its first row on, and takes away what is done; answers the query that the next row needs.
    fn go_on(
        &mut self,
        of: &Describing<'_>,
        rest: &mut &[(LabelSet, f64)],
        answers: &Answers,
        stop: &CancellationToken,
    ) -> Result<Option<String>, Failure> {
        while let Some(((labels, value), after)) = rest.split_first() {
            if stop.is_cancelled() {
                return Err(Failure::Stopped);
            }
            let (labels, one, bytes) = match of.row(labels, *value, answers)? {
                Row::Done(labels, seen, bytes) => (labels, seen, bytes),
                Row::Needs(query) => return Ok(Some(query)),
            };
            self.bytes += bytes;
            if self.bytes > TEXT_BYTES_MAX {
                return Err(Failure::Failed(format!(
                    "labels and annotations of more than {TEXT_BYTES_MAX} bytes: shorten them or aggregate"
                )));
            }
            if self.seen.insert(labels, one).is_some() {
                return Err(Failure::Failed(
                    "vector contains metrics with the same labelset after applying alert labels".into(),
                ));
            }
            *rest = after;
        }
        Ok(None)
    }
}

/// A row of an alert's expression, or what is needed to describe it.
enum Row {
    /// What it is, and the bytes of the texts that templates made for it.
    Done(LabelSet, Seen, usize),
    Needs(String),
}

/// What rows are described by.
struct Describing<'a> {
    name: &'a str,
    alerting: &'a Alerting,
    settings: &'a Settings,
    now_ms: i64,
}

impl Describing<'_> {
    fn row(&self, labels: &LabelSet, value: f64, answers: &Answers) -> Result<Row, Failure> {
        let all: Labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let data = Data {
            name: self.name,
            labels: &all,
            external_labels: &self.settings.external_labels,
            external_url: &self.settings.external_url,
            value,
            now_ms: self.now_ms,
            queries_max: self.settings.queries_max,
            answers,
        };
        let expanded = expand(&self.alerting.labels, &data)
            .and_then(|labels| Ok((labels, expand(&self.alerting.annotations, &data)?)));
        let (own, annotations) = match expanded {
            Ok(expanded) => expanded,
            Err(query) => return Ok(Row::Needs(query)),
        };
        let bytes = own.iter().chain(&annotations).map(|(name, text)| name.len() + text.len()).sum();
        let own = own.iter().filter(|(name, _)| name != "alertname");
        let mut pairs: Vec<(&str, &str)> = own.map(|(name, text)| (name.as_str(), text.as_str())).collect();
        pairs.extend([(METRIC_NAME, ""), ("alertname", self.name)]);
        Ok(Row::Done(with(labels, &pairs)?, Seen { annotations, value }, bytes))
    }
}

/// The texts of `templates`, or the query that one of them needs first.
fn expand(templates: &[(String, Template)], data: &Data<'_>) -> Result<Vec<(String, String)>, String> {
    let mut texts = Vec::with_capacity(templates.len());
    for (name, template) in templates {
        let text = match template.expand(data) {
            Ok(text) | Err(Fault::Failed(text)) => text,
            Err(Fault::Needs(query)) => return Err(query),
        };
        texts.push((name.clone(), text));
    }
    Ok(texts)
}

/// `ALERTS` and `ALERTS_FOR_STATE` of what is pending or firing.
fn samples(active: &Active) -> Result<Rows, Failure> {
    let mut rows = Rows::new();
    for (labels, alert) in active.iter().filter(|(_, alert)| alert.state != State::Inactive) {
        rows.push((with(labels, &[(METRIC_NAME, ALERTS), ("alertstate", alert.state.name())])?, 1.0));
        let since_s = alert.active_at_ns.div_euclid(NS_PER_S);
        rows.push((with(labels, &[(METRIC_NAME, ALERTS_FOR_STATE)])?, since_s as f64));
    }
    Ok(rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> LabelSet {
        LabelSet::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_recording_rule_names_and_labels_its_series() {
        let rows = vec![(labels(&[("__name__", "up"), ("job", "a"), ("x", "1")]), 1.0)];
        let set = [("job".to_owned(), "b".to_owned()), ("x".to_owned(), String::new())];
        let named = record("job:up", &set, rows, 0).unwrap();
        assert_eq!(named, [(labels(&[("__name__", "job:up"), ("job", "b")]), 1.0)]);
    }

    #[test]
    fn rows_that_become_the_same_series_and_too_many_rows_are_errors() {
        let rows = || vec![(labels(&[("job", "a")]), 1.0), (labels(&[("job", "b")]), 2.0)];
        let set = [("job".to_owned(), "c".to_owned())];
        let Err(Failure::Failed(error)) = record("r", &set, rows(), 0) else { panic!("accepted") };
        assert!(error.contains("same labelset after applying rule labels"), "{error}");
        let Err(Failure::Failed(error)) = record("r", &[], rows(), 1) else { panic!("accepted") };
        assert_eq!(error, "exceeded limit of 1 with 2 series");
    }

    #[test]
    fn alerts_are_written_with_their_state_and_the_second_they_became_active() {
        let mut active = Active::new();
        let alert = labels(&[("alertname", "Down"), ("job", "a")]);
        let one = Seen { annotations: Vec::new(), value: 0.0 };
        let policy = Policy { hold_ns: NS_PER_S, ..Policy::default() };
        alert::step(&mut active, [(alert, one)].into(), 5 * NS_PER_S + 7, policy).unwrap();
        let rows = samples(&active).unwrap();
        let alerts = [("__name__", "ALERTS"), ("alertname", "Down"), ("alertstate", "pending"), ("job", "a")];
        let since = [("__name__", "ALERTS_FOR_STATE"), ("alertname", "Down"), ("job", "a")];
        assert_eq!(rows, [(labels(&alerts), 1.0), (labels(&since), 5.0)]);
    }

    #[test]
    fn what_a_failed_evaluation_may_have_written_is_ended_by_a_later_one() {
        let series = |names: &[&str]| names.iter().map(|name| labels(&[("__name__", name)])).collect::<BTreeSet<_>>();
        let mut state = RuleState { written: series(&["a", "b"]), ..RuleState::default() };
        state.may_have_written(series(&["b", "c"]), 1);
        assert_eq!(state.written, series(&["a", "b", "c"]));
        state.may_have_written(series(&["d", "e", "f"]), 1);
        assert_eq!(state.written.len(), 4, "as many as four evaluations may write");
    }

    #[test]
    fn a_group_that_is_reloaded_keeps_the_same_rules_and_ends_the_series_of_the_others() {
        let rule = |name: &str, expr: &str| {
            let kind = Kind::Record { labels: Vec::new() };
            Arc::new(RuleSpec { name: name.into(), source: expr.into(), expr: expr.into(), kind })
        };
        let spec = |rules: Vec<Arc<RuleSpec>>| {
            let (file, name) = ("f".to_owned(), "g".to_owned());
            Arc::new(GroupSpec { file, name, interval_ns: 1, query_offset_ns: 0, limit: 0, rules })
        };
        let old = Group::new(spec(vec![rule("a", "1"), rule("b", "1")]), true);
        for (i, name) in ["a", "b"].iter().enumerate() {
            old.state.lock().rules[i].written.insert(labels(&[("__name__", name)]));
        }
        let new = Group::following(spec(vec![rule("c", "1"), rule("b", "2")]), &old);
        let state = new.state.lock();
        assert!(state.rules[0].written.is_empty());
        assert_eq!(state.rules[1].written, [labels(&[("__name__", "b")])].into());
        assert_eq!(state.left, [labels(&[("__name__", "a")])].into());
    }
}
