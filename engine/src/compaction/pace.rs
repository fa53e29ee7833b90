//! How fast a merge may go beside foreground work: a pure decision.
//!
//! A merge works in steps of a bounded number of rows. After each it sleeps in proportion to how long the step took, so
//! that it takes a share of one core and of the disk, not more, while others need them. It never stops altogether: merges
//! that starve make every query slower.
use std::time::Duration;

/// Samples committed each second from which on the store counts as busy: a tenth of what one core takes in.
const BUSY_SAMPLES_PER_SECOND: u64 = 50_000;
/// A merge never sleeps longer than this between two steps.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What else is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Samples committed since the last step.
    pub(crate) samples: u64,
    /// Memtables are full and wait for a flush, which needs the disk more than a merge does.
    pub(crate) flush_is_behind: bool,
}

/// How long to sleep after a step that took `busy`: half of the time is left to
/// others while much comes in, seven eighths while a flush is behind.
pub(crate) fn pause(load: Load, busy: Duration) -> Duration {
    let step_ns = busy.as_nanos().max(1);
    let per_second = u128::from(load.samples) * 1_000_000_000 / step_ns;
    let share = match load {
        Load { flush_is_behind: true, .. } => 7,
        _ if per_second >= u128::from(BUSY_SAMPLES_PER_SECOND) => 1,
        _ => 0,
    };
    busy.saturating_mul(share).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    fn load(samples: u64, flush_is_behind: bool) -> Load {
        Load { samples, flush_is_behind }
    }

    #[test]
    fn an_idle_store_merges_at_full_speed() {
        assert_eq!(pause(load(0, false), STEP), Duration::ZERO);
        assert_eq!(pause(load(999, false), STEP), Duration::ZERO, "49,950 samples a second");
        assert_eq!(pause(load(0, false), Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn half_the_time_is_left_to_ingest_and_more_to_a_flush_that_is_behind() {
        assert_eq!(pause(load(1000, false), STEP), STEP);
        assert_eq!(pause(load(0, true), STEP), 7 * STEP);
        assert_eq!(pause(load(1_000_000, true), STEP), 7 * STEP);
    }

    #[test]
    fn a_merge_never_starves() {
        for busy in [STEP, Duration::from_secs(60), Duration::MAX] {
            assert!(pause(load(u64::MAX, true), busy) <= PAUSE_MAX);
        }
    }
}
