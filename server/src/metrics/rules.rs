//! Rules and notifications: read when somebody asks, so that a group that has gone is no longer shown.
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::rules::{Manager, State};

type Labels = [(&'static str, String); 1];
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Seconds = Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// A registry of what `rules` are and have done.
pub(super) fn registry(rules: &Manager) -> Registry {
    let mut root = Registry::with_prefix("foretell");
    let (is_ok, at_ns) = rules.reloaded();
    root.register(
        "rules_last_reload_successful",
        "Whether the last reload of the rule files succeeded",
        ConstGauge::new(i64::from(is_ok)),
    );
    root.register(
        "rules_last_reload_success_timestamp_seconds",
        "When the rules in force were read",
        ConstGauge::new(at_ns.div_euclid(1_000_000_000)),
    );
    groups(rules, &mut root);
    notifications(rules, &mut root);
    root
}

fn groups(rules: &Manager, root: &mut Registry) {
    let groups = rules.groups();
    if groups.is_empty() {
        return;
    }
    let (evaluations, failures) = (Counters::default(), Counters::default());
    let (iterations, missed) = (Counters::default(), Counters::default());
    let (count, samples) = (Gauges::default(), Gauges::default());
    let (last, duration, interval) = (Seconds::default(), Seconds::default(), Seconds::default());
    let alerts = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    for state in [State::Pending, State::Firing] {
        drop(alerts.get_or_create(&[("state", state.name())]));
    }
    for group in groups.iter() {
        let state = group.state.lock();
        let labels = [("rule_group", format!("{};{}", group.spec.file, group.spec.name))];
        evaluations.get_or_create(&labels).inc_by(state.rules.iter().map(|rule| rule.evaluations).sum());
        failures.get_or_create(&labels).inc_by(state.rules.iter().map(|rule| rule.failures).sum());
        iterations.get_or_create(&labels).inc_by(state.iterations);
        missed.get_or_create(&labels).inc_by(state.missed);
        count.get_or_create(&labels).set(state.rules.len() as i64);
        samples.get_or_create(&labels).set(state.samples as i64);
        last.get_or_create(&labels).set(state.evaluated_at_ns.unwrap_or(0) as f64 / 1e9);
        duration.get_or_create(&labels).set(state.duration.as_secs_f64());
        interval.get_or_create(&labels).set(group.spec.interval_ns as f64 / 1e9);
        for alert in state.rules.iter().flat_map(|rule| rule.active.values()) {
            if alert.state != State::Inactive {
                alerts.get_or_create(&[("state", alert.state.name())]).inc();
            }
        }
    }
    root.register("rule_evaluations", "Evaluations of rules", evaluations);
    root.register("rule_evaluation_failures", "Evaluations of rules that failed", failures);
    root.register("rule_group_iterations", "Evaluations of a group", iterations);
    root.register("rule_group_iterations_missed", "Instants that passed while a group was evaluated", missed);
    root.register("rule_group_rules", "Rules of a group", count);
    root.register("rule_group_last_evaluation_samples", "Samples of the last evaluation of a group", samples);
    root.register("rule_group_last_evaluation_timestamp_seconds", "When it began", last);
    root.register("rule_group_last_duration_seconds", "How long it took", duration);
    root.register("rule_group_interval_seconds", "Interval of a group", interval);
    root.register("alerts", "Alerts by state", alerts);
}

fn notifications(rules: &Manager, root: &mut Registry) {
    let told = rules.told();
    if told.is_empty() {
        return;
    }
    let (sent, errors, dropped) = (Counters::default(), Counters::default(), Counters::default());
    let (length, capacity) = (Gauges::default(), Gauges::default());
    for one in told {
        let labels = [("alertmanager", one.url)];
        sent.get_or_create(&labels).inc_by(one.sent);
        errors.get_or_create(&labels).inc_by(one.failed);
        dropped.get_or_create(&labels).inc_by(one.dropped);
        length.get_or_create(&labels).set(one.queued as i64);
        capacity.get_or_create(&labels).set(one.queue_max as i64);
    }
    root.register("notifications_sent", "Alerts that an Alertmanager has taken", sent);
    root.register("notifications_errors", "Alerts in requests that failed, each attempt counted", errors);
    root.register("notifications_dropped", "Alerts given up", dropped);
    root.register("notifications_queue_length", "Alerts that wait", length);
    root.register("notifications_queue_capacity", "Alerts that may wait", capacity);
}
