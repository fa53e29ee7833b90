//! A segment of samples or of records as far as its footer can be read, in one form.
use crate::error::Result;
use crate::fs::Fs;
use crate::records::{GroupZone, RecordSegment};
use crate::segment::Segment;
use crate::types::{SeriesId, TimeRange};
use crate::verify::SurveyedSegment;

/// See the module.
pub(super) enum Readable {
    Samples(Segment),
    Records(RecordSegment),
}

/// A block, or a group of records.
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) rows: u64,
    /// Distinct series, if that is known.
    pub(super) series: Option<u64>,
    pub(super) range: TimeRange,
    first: SeriesId,
    last: SeriesId,
}

impl Piece {
    /// Whether rows of `id` can be in it.
    pub(super) fn may_hold(&self, id: SeriesId) -> bool {
        self.first <= id && id <= self.last
    }
}

impl Readable {
    pub(super) fn open(fs: &dyn Fs, surveyed: &SurveyedSegment) -> Result<Self> {
        match surveyed.table {
            None => Segment::open_by_footer(fs, &surveyed.path).map(Self::Samples),
            Some(_) => RecordSegment::open_by_footer(fs, &surveyed.path).map(Self::Records),
        }
    }

    /// Every block or group, in order.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        match self {
            Self::Samples(segment) => {
                let blocks = segment.blocks().iter().map(|zone| Piece {
                    offset: zone.offset,
                    rows: u64::from(zone.rows),
                    series: Some(u64::from(zone.series)),
                    range: TimeRange { start: zone.min_ts, end: zone.max_ts },
                    first: zone.first,
                    last: zone.last,
                });
                blocks.collect()
            }
            Self::Records(segment) => segment.zones().map(Piece::of_group).collect(),
        }
    }

    /// Its series, increasing: of samples all, of records the first and the last of each group.
    pub(super) fn series(&self) -> Box<dyn Iterator<Item = SeriesId> + '_> {
        match self {
            Self::Samples(segment) => Box::new(segment.series().iter()),
            Self::Records(segment) => {
                let mut ids: Vec<SeriesId> = segment.zones().flat_map(|zone| [zone.first, zone.last]).collect();
                ids.dedup();
                Box::new(ids.into_iter())
            }
        }
    }
}

impl Piece {
    fn of_group(zone: GroupZone) -> Self {
        let GroupZone { rows, first, last, range, offset, .. } = zone;
        Self { offset, rows: rows as u64, series: None, range, first, last }
    }
}
