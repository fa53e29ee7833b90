//! Which blocks, and buckets of a rollup, an aggregation need not read, because what is known of them says enough.
//!
//! A zone map answers for a block whose rows all lie in the wanted range and in one step of time, are all of wanted series
//! that belong together, are hidden by no delete, and whose values leave no doubt: no NaN if they are compared or added, and
//! no zero as smallest or largest value that may stand for one of the other sign. Whether another source has
//! rows in the middle of it, which may overwrite, is asked when its turn comes ([`super::cursor::Cursor::interferes`]). A
//! bucket answers by the same rule; it is always of one series, and it alone has a sketch.
use crate::rollup::Bucket;
use crate::segment::{Segment, ZoneMap};
use crate::snapshot::Statistics;
use crate::tombstone::Hidden;
use crate::types::{SeriesId, TimeRange};

use super::cursor::Want;
use super::fold::Step;

/// A block or bucket that need not be read if nobody interferes.
pub(super) struct Whole {
    /// Index of its first series among the wanted ones.
    pub(super) first: u32,
    /// Index of its last.
    pub(super) last: u32,
    /// First and last sample.
    pub(super) extent: TimeRange,
    pub(super) rows: u64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    /// Values of the first and of the last sample, if they are known.
    pub(super) ends: (f64, f64),
    /// Whether it is a bucket.
    pub(super) rolled: bool,
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
            && self.says_enough(zone.count == zone.rows, zone.min, zone.max)
            && !self.statistics.sketch
            && (!self.statistics.ends || zone.ends.is_some())
            && (zone.series == 1 || self.one_group(segment, zone, want.ids.get(wanted..=last)?, wanted))
            && !hidden.concerns(series(segment, zone), extent);
        whole.then(|| Whole {
            first: wanted as u32,
            last: last as u32,
            extent,
            rows: zone.rows.into(),
            min: zone.min,
            max: zone.max,
            sum: zone.sum,
            ends: zone.ends.unwrap_or_default(),
            rolled: false,
        })
    }

    /// Whether `bucket` of `series` says enough, if the rows in `range` are wanted.
    pub(super) fn bucket(&self, bucket: &Bucket, series: SeriesId, range: TimeRange, hidden: &Hidden) -> bool {
        let extent = bucket.extent;
        extent.start >= range.start
            && extent.end <= range.end
            && extent.end <= self.step.end(extent.start)
            && self.says_enough(bucket.count == bucket.rows, bucket.min, bucket.max)
            && !hidden.concerns(std::iter::once(series), extent)
    }

    /// Whether the statistics can be told, given that there is no NaN, the smallest and the largest value.
    fn says_enough(&self, no_nan: bool, min: f64, max: f64) -> bool {
        let Statistics { extremes, sum, .. } = self.statistics;
        // Zeros of both signs are equal, and which one is the smallest or largest value depends on who compares.
        let odd = |value: f64| value == 0.0 && value.is_sign_negative();
        let doubtful = odd(min) || odd(max) || max == 0.0 && min < 0.0;
        (!(extremes || sum) || no_nan) && !(extremes && doubtful)
    }

    /// Whether the block's series are exactly `ids`, the wanted ones from number `wanted` on, and of one group.
    fn one_group(&self, segment: &Segment, zone: &ZoneMap, ids: &[SeriesId], wanted: usize) -> bool {
        let Some(groups) = self.groups.get(wanted..wanted + ids.len()) else { return false };
        (ids.first(), ids.last()) == (Some(&zone.first), Some(&zone.last))
            && groups.iter().all(|group| *group == groups[0])
            && series(segment, zone).eq(ids.iter().copied())
    }
}

impl Whole {
    /// Bucket of the wanted series number `wanted`.
    pub(super) fn of_bucket(bucket: &Bucket, wanted: usize) -> Self {
        let &Bucket { extent, rows, min, max, sum, first, last, count: _ } = bucket;
        let (index, ends) = (wanted as u32, (first, last));
        Self { first: index, last: index, extent, rows, min, max, sum, ends, rolled: true }
    }
}

fn series(segment: &Segment, zone: &ZoneMap) -> impl Iterator<Item = SeriesId> {
    segment.series().iter_from(zone.first).take(zone.series as usize)
}
