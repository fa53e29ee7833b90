//! The life of the alerts of one rule: a pure function of what was, what the expression answers, and the instant.
//!
//! ```text
//!            seen                    seen for `for`
//!  (nothing) ────► pending ─────────────────────────► firing ──┐ gone: `keep_firing_for` passes first
//!      ▲             │ gone                                     ▼
//!      └─────────────┘◄──────────── 15 minutes ──────────── inactive (resolved, still told to Alertmanager)
//! ```
use std::collections::BTreeMap;

use foretell_engine::LabelSet;

/// How long a resolved alert is kept, so that it is told again if it was not heard.
const RESOLVED_KEPT_NS: i64 = 15 * 60 * 1_000_000_000;

/// Where an alert stands; a rule stands where its furthest alert does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Resolved.
    Inactive,
    /// Seen, not yet for long enough.
    Pending,
    /// Seen for long enough.
    Firing,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// An alert. Its labels are its key in [`Active`]. Instants are nanoseconds UTC.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alert {
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) state: State,
    pub(crate) value: f64,
    pub(crate) active_at_ns: i64,
    pub(crate) fired_at_ns: Option<i64>,
    pub(crate) resolved_at_ns: Option<i64>,
    pub(crate) keep_firing_since_ns: Option<i64>,
    pub(crate) last_sent_ns: Option<i64>,
    /// Until when who was told may believe that it goes on.
    pub(crate) valid_until_ns: i64,
}

/// The alerts of a rule by their labels, resolved ones included.
pub(crate) type Active = BTreeMap<LabelSet, Alert>;

/// What a series of the expression's answer becomes.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) value: f64,
}

/// What the rule and its group say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy {
    /// `for`
    pub(crate) hold_ns: i64,
    /// `keep_firing_for`
    pub(crate) keep_firing_ns: i64,
    /// Most alerts that may be pending or firing; 0: the server's limit only.
    pub(crate) limit: usize,
    /// Most alerts that there may be, resolved ones included: beyond that no new ones begin.
    pub(crate) alerts_max: Option<usize>,
}

/// Moves the alerts on to `now_ns`, at which the expression answers `seen`; answers how many new ones there is no room for.
///
/// # Errors
/// The number of alerts when it exceeds the limit: then all are forgotten, as in Prometheus.
pub(crate) fn step(
    active: &mut Active,
    seen: BTreeMap<LabelSet, Seen>,
    now_ns: i64,
    policy: Policy,
) -> Result<usize, usize> {
    let (mut count, mut left_out) = (0, 0);
    let alerts_max = policy.alerts_max.unwrap_or(usize::MAX);
    for (labels, alert) in active.iter_mut() {
        if !seen.contains_key(labels) && alert.state != State::Inactive && !keeps_firing(alert, now_ns, policy) {
            if alert.state == State::Pending {
                // Never told to anybody: forgotten below.
                alert.fired_at_ns = None;
            }
            alert.resolved_at_ns = Some(now_ns);
            alert.state = State::Inactive;
        }
    }
    active.retain(|_, alert| match (alert.state, alert.resolved_at_ns) {
        (State::Inactive, Some(at_ns)) => alert.fired_at_ns.is_some() && now_ns - at_ns <= RESOLVED_KEPT_NS,
        _ => true,
    });
    for (labels, new) in seen {
        let is_full = active.len() >= alerts_max && !active.contains_key(&labels);
        match active.get_mut(&labels).filter(|alert| alert.state != State::Inactive) {
            Some(alert) => {
                alert.value = new.value;
                alert.annotations = new.annotations;
                alert.keep_firing_since_ns = None;
            }
            None if is_full => left_out += 1,
            None => {
                active.insert(labels, Alert::pending(new, now_ns));
            }
        }
    }
    for alert in active.values_mut().filter(|alert| alert.state != State::Inactive) {
        count += 1;
        if alert.state == State::Pending && now_ns - alert.active_at_ns >= policy.hold_ns {
            alert.state = State::Firing;
            alert.fired_at_ns = Some(now_ns);
        }
    }
    if policy.limit > 0 && count > policy.limit {
        active.clear();
        return Err(count);
    }
    Ok(left_out)
}

/// Whether an alert that is no longer seen goes on because of `keep_firing_for`.
fn keeps_firing(alert: &mut Alert, now_ns: i64, policy: Policy) -> bool {
    if alert.state != State::Firing || policy.keep_firing_ns <= 0 {
        return false;
    }
    let since_ns = *alert.keep_firing_since_ns.get_or_insert(now_ns);
    now_ns - since_ns < policy.keep_firing_ns
}

/// The alerts that have to be told now; they count as told.
pub(crate) fn due(active: &mut Active, now_ns: i64, resend_ns: i64, interval_ns: i64) -> Vec<(LabelSet, Alert)> {
    let mut due = Vec::new();
    for (labels, alert) in active.iter_mut().filter(|(_, alert)| alert.needs_sending(now_ns, resend_ns)) {
        alert.last_sent_ns = Some(now_ns);
        // Two evaluations or two attempts to tell may fail.
        alert.valid_until_ns = now_ns.saturating_add(resend_ns.max(interval_ns).saturating_mul(4));
        due.push((labels.clone(), alert.clone()));
    }
    due
}

/// Since when an alert counts as active that was active before a restart: `since_ns` until at least `until_ns`, the last that
/// is known of it.
///
/// Time in which nothing was evaluated does not count for `for`, and what remains of it is `grace_ns` at least.
pub(crate) fn restored_since(since_ns: i64, until_ns: i64, now_ns: i64, hold_ns: i64, grace_ns: i64) -> i64 {
    let remaining_ns = hold_ns - (until_ns - since_ns);
    if remaining_ns <= 0 {
        // It had fired: the next evaluation lets it fire again.
        since_ns
    } else if remaining_ns < grace_ns {
        now_ns + grace_ns - hold_ns
    } else {
        since_ns + (now_ns - until_ns)
    }
}

impl Alert {
    fn pending(seen: Seen, now_ns: i64) -> Self {
        Self {
            annotations: seen.annotations,
            state: State::Pending,
            value: seen.value,
            active_at_ns: now_ns,
            fired_at_ns: None,
            resolved_at_ns: None,
            keep_firing_since_ns: None,
            last_sent_ns: None,
            valid_until_ns: 0,
        }
    }

    fn needs_sending(&self, now_ns: i64, resend_ns: i64) -> bool {
        if self.state == State::Pending {
            return false;
        }
        match (self.resolved_at_ns, self.last_sent_ns) {
            (_, None) => true,
            (Some(resolved_ns), Some(sent_ns)) if resolved_ns > sent_ns => true,
            (_, Some(sent_ns)) => sent_ns.saturating_add(resend_ns) < now_ns,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const M: i64 = 60 * S;

    fn labels(job: &str) -> LabelSet {
        LabelSet::from_pairs([("alertname", "Down"), ("job", job)]).unwrap()
    }

    fn seen(jobs: &[&str]) -> BTreeMap<LabelSet, Seen> {
        jobs.iter().map(|job| (labels(job), Seen { annotations: Vec::new(), value: 1.0 })).collect()
    }

    fn states(active: &Active) -> Vec<(&str, State)> {
        active.iter().map(|(labels, alert)| (labels.get("job").unwrap(), alert.state)).collect()
    }

    #[test]
    fn an_alert_is_pending_for_its_for_and_then_fires() {
        let policy = Policy { hold_ns: 2 * M, ..Policy::default() };
        let mut active = Active::new();
        for (minute, state) in [(0, State::Pending), (1, State::Pending), (2, State::Firing), (3, State::Firing)] {
            step(&mut active, seen(&["a"]), minute * M, policy).unwrap();
            assert_eq!(states(&active), [("a", state)], "minute {minute}");
        }
        assert_eq!(active[&labels("a")].active_at_ns, 0);
        assert_eq!(active[&labels("a")].fired_at_ns, Some(2 * M));
    }

    #[test]
    fn without_for_it_fires_at_once() {
        let mut active = Active::new();
        step(&mut active, seen(&["a"]), 5, Policy::default()).unwrap();
        assert_eq!(states(&active), [("a", State::Firing)]);
    }

    #[test]
    fn a_pending_alert_that_goes_is_forgotten_and_starts_anew() {
        let policy = Policy { hold_ns: 2 * M, ..Policy::default() };
        let mut active = Active::new();
        step(&mut active, seen(&["a"]), 0, policy).unwrap();
        step(&mut active, seen(&[]), M, policy).unwrap();
        assert!(active.is_empty());
        step(&mut active, seen(&["a"]), 2 * M, policy).unwrap();
        assert_eq!(active[&labels("a")].active_at_ns, 2 * M);
        assert_eq!(states(&active), [("a", State::Pending)]);
    }

    #[test]
    fn a_resolved_alert_is_kept_for_fifteen_minutes() {
        let mut active = Active::new();
        step(&mut active, seen(&["a"]), 0, Policy::default()).unwrap();
        step(&mut active, seen(&[]), M, Policy::default()).unwrap();
        assert_eq!(states(&active), [("a", State::Inactive)]);
        assert_eq!(active[&labels("a")].resolved_at_ns, Some(M));
        step(&mut active, seen(&[]), 16 * M, Policy::default()).unwrap();
        assert_eq!(states(&active), [("a", State::Inactive)]);
        step(&mut active, seen(&[]), 16 * M + 1, Policy::default()).unwrap();
        assert!(active.is_empty());
    }

    #[test]
    fn a_resolved_alert_that_comes_back_is_a_new_one() {
        let policy = Policy { hold_ns: M, ..Policy::default() };
        let mut active = Active::new();
        step(&mut active, seen(&["a"]), 0, policy).unwrap();
        step(&mut active, seen(&["a"]), M, policy).unwrap();
        step(&mut active, seen(&[]), 2 * M, policy).unwrap();
        step(&mut active, seen(&["a"]), 3 * M, policy).unwrap();
        assert_eq!(states(&active), [("a", State::Pending)]);
        assert_eq!(active[&labels("a")].resolved_at_ns, None);
    }

    #[test]
    fn keep_firing_for_bridges_a_gap_and_counts_from_its_start() {
        let policy = Policy { keep_firing_ns: 2 * M, ..Policy::default() };
        let mut active = Active::new();
        step(&mut active, seen(&["a"]), 0, policy).unwrap();
        step(&mut active, seen(&[]), M, policy).unwrap();
        assert_eq!(states(&active), [("a", State::Firing)]);
        step(&mut active, seen(&["a"]), 2 * M, policy).unwrap();
        assert_eq!(active[&labels("a")].keep_firing_since_ns, None);
        step(&mut active, seen(&[]), 3 * M, policy).unwrap();
        step(&mut active, seen(&[]), 4 * M, policy).unwrap();
        assert_eq!(states(&active), [("a", State::Firing)]);
        step(&mut active, seen(&[]), 5 * M, policy).unwrap();
        assert_eq!(states(&active), [("a", State::Inactive)]);
    }

    #[test]
    fn too_many_alerts_forget_all() {
        let policy = Policy { limit: 1, ..Policy::default() };
        let mut active = Active::new();
        assert_eq!(step(&mut active, seen(&["a", "b"]), 0, policy), Err(2));
        assert!(active.is_empty());
    }

    #[test]
    fn without_room_known_alerts_go_on_and_no_new_ones_begin() {
        let policy = Policy { alerts_max: Some(2), ..Policy::default() };
        let mut active = Active::new();
        assert_eq!(step(&mut active, seen(&["c"]), 0, policy), Ok(0));
        assert_eq!(step(&mut active, seen(&["a", "b", "c"]), M, policy), Ok(1));
        assert_eq!(states(&active), [("a", State::Firing), ("c", State::Firing)]);
        assert_eq!(step(&mut active, seen(&["b", "c"]), 2 * M, policy), Ok(1), "one that has resolved is kept");
        assert_eq!(step(&mut active, seen(&["a", "c"]), 3 * M, policy), Ok(0), "and may come back");
        assert_eq!(step(&mut active, seen(&["c"]), 4 * M, policy), Ok(0));
        assert_eq!(step(&mut active, seen(&["b", "c"]), 20 * M, policy), Ok(0), "until it is forgotten");
        assert_eq!(states(&active), [("b", State::Firing), ("c", State::Firing)]);
    }

    #[test]
    fn firing_is_told_at_once_then_every_resend_and_resolving_at_once() {
        let told = |active: &mut Active, now: i64| due(active, now, M, 10 * S).len();
        let policy = Policy { hold_ns: S, ..Policy::default() };
        let mut active = Active::new();
        step(&mut active, seen(&["a"]), 0, policy).unwrap();
        assert_eq!(told(&mut active, 0), 0, "a pending alert is nobody's business");
        step(&mut active, seen(&["a"]), S, policy).unwrap();
        assert_eq!(told(&mut active, S), 1);
        assert_eq!(active[&labels("a")].valid_until_ns, S + 4 * M);
        assert_eq!(told(&mut active, 30 * S), 0);
        assert_eq!(told(&mut active, 61 * S), 0);
        assert_eq!(told(&mut active, 61 * S + 1), 1);
        step(&mut active, seen(&[]), 70 * S, policy).unwrap();
        assert_eq!(told(&mut active, 70 * S), 1);
        assert_eq!(told(&mut active, 80 * S), 0);
        assert_eq!(told(&mut active, 140 * S), 1, "told again in case it was not heard");
    }

    #[test]
    fn after_a_restart_the_time_that_was_pending_counts_and_the_time_down_does_not() {
        // 20 of 30 minutes pending, then 5 minutes down: 10 minutes remain.
        assert_eq!(restored_since(0, 20 * M, 25 * M, 30 * M, 10 * M), 5 * M);
        // 25 of 30 minutes pending: the grace of 10 minutes remains.
        assert_eq!(restored_since(0, 25 * M, 26 * M, 30 * M, 10 * M), 6 * M);
        // It had fired before.
        assert_eq!(restored_since(0, 40 * M, 41 * M, 30 * M, 10 * M), 0);
    }
}
