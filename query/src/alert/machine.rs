//! The life of the alerts of one definition: a pure function of what was, what holds at an instant, and the policy.
//!
//! ```text
//!             holds                   holds for FOR
//!  (nothing) ───────► pending ─────────────────────────► firing ──┐ does not hold: KEEP FIRING FOR passes first
//!      ▲                │ does not hold                           │
//!      └────────────────┘◄────────────── resolved ◄───────────────┘
//! ```
//! Instants are those of the rows, or of the evaluation. An instant that is not after the last one of an alert changes nothing: what
//! was told stays told.
use std::collections::BTreeMap;

use foretell_engine::LabelSet;

/// What the definition says of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// `FOR`, ns.
    pub(super) hold_ns: i64,
    /// `KEEP FIRING FOR`, ns.
    pub(super) keep_ns: i64,
}

/// An alert that is pending or firing. Instants are nanoseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Active {
    /// Since when the condition has held.
    pub(crate) active_at: i64,
    /// Since when it fires.
    pub(crate) fired_at: Option<i64>,
    /// Since when the condition no longer holds, while it fires on.
    pub(crate) gone_at: Option<i64>,
    /// The last instant that was looked at.
    pub(crate) last_at: i64,
    /// The value when the condition held last.
    pub(crate) value: f64,
}

impl Active {
    /// As Prometheus names it.
    pub(crate) fn state(&self) -> &'static str {
        if self.fired_at.is_some() { "firing" } else { "pending" }
    }
}

/// Alerts by their labels.
pub(super) type Alerts = BTreeMap<LabelSet, Active>;

/// What has to be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// It fires.
    Fired(Active),
    /// It has ended.
    Resolved(Active),
}

/// Moves one alert on to instant `at`, at which the condition `holds` or not.
pub(super) fn step(
    alerts: &mut Alerts,
    labels: &LabelSet,
    at: i64,
    holds: bool,
    value: f64,
    policy: Policy,
) -> Option<Change> {
    let Some(alert) = alerts.get_mut(labels) else {
        if holds {
            let fires = policy.hold_ns <= 0;
            let alert = Active { active_at: at, fired_at: fires.then_some(at), gone_at: None, last_at: at, value };
            alerts.insert(labels.clone(), alert);
            return fires.then_some(Change::Fired(alert));
        }
        return None;
    };
    if at <= alert.last_at {
        return None;
    }
    alert.last_at = at;
    if holds {
        (alert.value, alert.gone_at) = (value, None);
        if alert.fired_at.is_none() && at.saturating_sub(alert.active_at) >= policy.hold_ns {
            alert.fired_at = Some(at);
            return Some(Change::Fired(*alert));
        }
        return None;
    }
    if alert.fired_at.is_some() {
        let since = *alert.gone_at.get_or_insert(at);
        if policy.keep_ns > 0 && at.saturating_sub(since) < policy.keep_ns {
            return None;
        }
    }
    let ended = alerts.remove(labels)?;
    ended.fired_at.map(|_| Change::Resolved(ended))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn labels() -> LabelSet {
        LabelSet::from_pairs([("host", "a")]).unwrap()
    }

    /// `x`: holds, `.`: does not; a second each. `F` and `R` where it fires and resolves.
    fn run(rows: &str, policy: Policy) -> String {
        let mut alerts = Alerts::new();
        let told = rows.chars().enumerate().map(|(at, row)| {
            match step(&mut alerts, &labels(), at as i64, row == 'x', 1.0, policy) {
                Some(Change::Fired(_)) => 'F',
                Some(Change::Resolved(_)) => 'R',
                None => '-',
            }
        });
        told.collect()
    }

    #[test]
    fn it_fires_after_its_for_and_resolves_after_its_keep_firing_for() {
        let policy = |hold_ns, keep_ns| Policy { hold_ns, keep_ns };
        assert_eq!(run("..xx..x", policy(0, 0)), "--F-R-F");
        assert_eq!(run(".xx.xxxx.", policy(2, 0)), "------F-R");
        assert_eq!(run("x..x...x", policy(0, 2)), "F-----R F".replace(' ', ""));
        assert_eq!(run("x.x.x....", policy(0, 3)), "F-------R");
    }

    #[test]
    fn an_instant_that_was_is_not_looked_at_again() {
        let (mut alerts, policy) = (Alerts::new(), Policy::default());
        assert!(matches!(step(&mut alerts, &labels(), 5, true, 1.0, policy), Some(Change::Fired(_))));
        for at in [5, 4, i64::MIN] {
            assert_eq!(step(&mut alerts, &labels(), at, false, 0.0, policy), None);
        }
        assert!(matches!(step(&mut alerts, &labels(), 6, false, 0.0, policy), Some(Change::Resolved(_))));
    }

    proptest! {
        /// What is told alternates, and an alert that is told to fire has held for so long.
        #[test]
        fn firing_and_resolving_take_turns(rows in "[x.]{0,60}", hold_ns in 0i64..5, keep_ns in 0i64..5) {
            let told = run(&rows, Policy { hold_ns, keep_ns });
            let turns: String = told.chars().filter(|c| *c != '-').collect();
            prop_assert!(!turns.contains("FF") && !turns.contains("RR") && !turns.starts_with('R'));
            for (at, _) in told.match_indices('F') {
                let from = at - hold_ns as usize;
                prop_assert!(rows[from..=at].chars().all(|row| row == 'x'), "{rows} {told}");
            }
        }
    }
}
