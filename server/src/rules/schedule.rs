//! When a group is evaluated: at multiples of its interval, moved by an offset that its name and file decide, so that groups
//! with one interval do not all run at once, and the same group at the same instants after every restart. Prometheus
//! computes the same instants for a file of the same path.
use foretell_engine::LabelSet;

/// The instants of one group, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    interval_ns: i64,
    offset_ns: i64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is too early: wait so long.
    Wait(i64),
    /// Evaluate at this instant; so many before it were missed.
    Evaluate {
        /// Nanoseconds UTC.
        at_ns: i64,
        /// Instants that passed unused.
        missed: u64,
    },
}

impl Schedule {
    /// Of group `name` in `file`; `interval_ns` is positive.
    pub(crate) fn new(file: &str, name: &str, interval_ns: i64) -> Self {
        let interval_ns = interval_ns.max(1);
        let hash = LabelSet::from_pairs([("file", file), ("name", name)]).map_or(0, |labels| labels.prometheus_hash());
        Self { interval_ns, offset_ns: (hash % interval_ns.unsigned_abs()) as i64 }
    }

    /// The last instant at or before `now_ns`.
    pub(crate) fn before(self, now_ns: i64) -> i64 {
        let moved = now_ns - self.offset_ns;
        moved - moved % self.interval_ns + self.offset_ns
    }

    /// What to do at `now_ns` after an evaluation at `last_ns`.
    pub(crate) fn next(self, last_ns: i64, now_ns: i64) -> Next {
        if last_ns - now_ns > self.interval_ns {
            // The clock went back: instants begin anew from here.
            return Next::Evaluate { at_ns: self.before(now_ns), missed: 0 };
        }
        let passed = (now_ns - last_ns) / self.interval_ns;
        if passed < 1 {
            return Next::Wait(last_ns + self.interval_ns - now_ns);
        }
        Next::Evaluate { at_ns: last_ns + passed * self.interval_ns, missed: (passed - 1).unsigned_abs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn instants_are_aligned_and_never_in_the_future() {
        let schedule = Schedule::new("rules.yml", "a", 60 * S);
        for now in [1_700_000_000 * S, 1_700_000_000 * S + 1, 1_700_000_059 * S] {
            let at = schedule.before(now);
            assert!(at <= now && now - at < 60 * S, "{at} {now}");
            assert_eq!((at - schedule.offset_ns) % (60 * S), 0);
        }
        assert!(schedule.offset_ns < 60 * S);
    }

    #[test]
    fn groups_of_one_interval_do_not_run_at_once() {
        let offsets: std::collections::BTreeSet<i64> =
            (0..50).map(|i| Schedule::new("rules.yml", &format!("g{i}"), 60 * S).offset_ns).collect();
        assert!(offsets.len() > 45, "{offsets:?}");
    }

    #[test]
    fn a_late_evaluation_counts_what_it_missed_and_stays_aligned() {
        let schedule = Schedule::new("rules.yml", "a", 10 * S);
        let last = schedule.before(1_700_000_000 * S);
        assert_eq!(schedule.next(last, last + 4 * S), Next::Wait(6 * S));
        assert_eq!(schedule.next(last, last + 10 * S), Next::Evaluate { at_ns: last + 10 * S, missed: 0 });
        assert_eq!(schedule.next(last, last + 35 * S), Next::Evaluate { at_ns: last + 30 * S, missed: 2 });
    }

    #[test]
    fn a_clock_that_goes_back_does_not_stop_a_group() {
        let schedule = Schedule::new("rules.yml", "a", 10 * S);
        let last = schedule.before(1_700_000_000 * S);
        let now = last - 3600 * S;
        let Next::Evaluate { at_ns, missed } = schedule.next(last, now) else { panic!("waits for the old time") };
        assert!(at_ns <= now && now - at_ns < 10 * S && missed == 0);
        assert_eq!(schedule.next(last, last - 2 * S), Next::Wait(12 * S));
    }
}
