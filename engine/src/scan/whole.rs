//! Which blocks an aggregation need not read, because their zone map says enough.
//!
//! A zone map answers for a block whose rows all lie in the wanted range and in one step of time, are all of wanted series
//! that belong together, are hidden by no delete, and whose values leave no doubt: no NaN if they are compared or added, and
//! no zero as smallest or largest value that may stand for one of the other sign. Whether another source has
//! rows in the middle of it, which may overwrite, is asked when its turn comes ([`super::cursor::Cursor::interferes`]).
use crate::segment::{Segment, ZoneMap};
use crate::snapshot::Statistics;
use crate::tombstone::Hidden;
use crate::types::{SeriesId, TimeRange};

use super::cursor::Want;
use super::fold::Step;

/// A block that need not be read if nobody interferes.
pub(super) struct Whole {
    /// Index of its first series among the wanted ones.
    pub(super) first: u32,
    /// Index of its last.
    pub(super) last: u32,
    /// First and last sample of its zone map.
    pub(super) extent: TimeRange,
}

/// What an aggregation asks of zone maps.
pub(super) struct Answers {
    pub(super) step: Step,
    pub(super) statistics: Statistics,
    /// Of each wanted series the group whose rows may be added up; empty if only rows of one series may.
    pub(super) groups: Vec<u32>,
}

impl Answers {
    /// Whether rows of several series may be added up.
    pub(super) fn grouped(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Block `index` of `segment`, which holds wanted series from number `wanted` on, if its zone map says enough.
    pub(super) fn whole(
        &self,
        segment: &Segment,
        index: usize,
        want: &Want,
        wanted: usize,
        hidden: &Hidden,
    ) -> Option<Whole> {
        let zone = &segment.blocks()[index];
        let extent = TimeRange { start: zone.min_ts, end: zone.max_ts };
        let last = wanted + zone.series as usize - 1;
        let whole = zone.inside(want.range)
            && zone.max_ts <= self.step.end(zone.min_ts)
            && self.says_enough(zone)
            && (zone.series == 1 || self.one_group(segment, zone, want.ids.get(wanted..=last)?, wanted))
            && !hidden.concerns(series(segment, zone), extent);
        whole.then_some(Whole { first: wanted as u32, last: last as u32, extent })
    }

    fn says_enough(&self, zone: &ZoneMap) -> bool {
        let Statistics { extremes, sum, times: _, ends } = self.statistics;
        // Zeros of both signs are equal, and which one is the smallest or largest value depends on who compares.
        let odd = |value: f64| value == 0.0 && value.is_sign_negative();
        let doubtful = odd(zone.min) || odd(zone.max) || zone.max == 0.0 && zone.min < 0.0;
        (!(extremes || sum) || zone.count == zone.rows) && !(extremes && doubtful) && (!ends || zone.ends.is_some())
    }

    /// Whether the block's series are exactly `ids`, the wanted ones from number `wanted` on, and of one group.
    fn one_group(&self, segment: &Segment, zone: &ZoneMap, ids: &[SeriesId], wanted: usize) -> bool {
        let Some(groups) = self.groups.get(wanted..wanted + ids.len()) else { return false };
        (ids.first(), ids.last()) == (Some(&zone.first), Some(&zone.last))
            && groups.iter().all(|group| *group == groups[0])
            && series(segment, zone).eq(ids.iter().copied())
    }
}

fn series(segment: &Segment, zone: &ZoneMap) -> impl Iterator<Item = SeriesId> {
    segment.series().iter_from(zone.first).take(zone.series as usize)
}
