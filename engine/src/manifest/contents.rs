//! What an edit can change, and the sum of all edits.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::format::{self, Reader};
use crate::layout::Layout;
use crate::records::{RecordMeta, put_table, take_table};
use crate::rollup::RollupMeta;
use crate::segment::SegmentMeta;
use crate::tombstone::{Deletion, Tombstone};
use crate::types::{Lsn, SeriesId};

const ADD_RECORDS: u8 = 20;
const REMOVE_RECORDS: u8 = 21;
const ADD_ROLLUP: u8 = 30;

/// A series file of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeriesFile {
    pub(crate) partition: i64,
    /// Number in the file's name.
    pub(crate) number: u64,
    /// Local ordinal of its first series.
    pub(crate) base: u32,
    /// How many series it holds.
    pub(crate) series: u32,
    /// The edit that added it.
    pub(crate) edit: u64,
}

/// One change of an edit.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    AddSegment(SegmentMeta),
    RemoveSegment {
        partition: i64,
        file: String,
    },
    /// A segment of the store has this rollup, and no other; it goes with the segment.
    AddRollup(RollupMeta),
    AddRecords(RecordMeta),
    RemoveRecords {
        partition: i64,
        file: String,
    },
    AddSeriesFile(SeriesFile),
    /// All commits up to here are in segments and the state file.
    Flushed(Lsn),
    /// The state file is now this one.
    StateFile(u64),
    /// Unreferenced files with this number or a higher one are left-overs of interrupted work.
    NextFile(u64),
    /// What consumers claim of the log, by name; replaces all claims.
    Claims(BTreeMap<String, Lsn>),
    /// This file (path inside the store) is no longer part of it and may be deleted.
    Removed(String),
    /// The series files of this partition are no longer part of the store.
    DropSeries(i64),
    /// This deletion concerns segments.
    AddTombstone(Tombstone),
    /// It concerns none any more.
    RemoveTombstone(Lsn, u32),
    /// Numbers below this one were given to series of this metric, some of which are dropped.
    Numbered {
        metric: u32,
        next: u32,
    },
}

/// Everything a store consists of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) segments: BTreeMap<(i64, String), SegmentMeta>,
    /// By the place of their segment.
    pub(crate) rollups: BTreeMap<(i64, String), RollupMeta>,
    pub(crate) records: BTreeMap<(i64, String), RecordMeta>,
    pub(crate) series_files: Vec<SeriesFile>,
    pub(crate) flushed: Lsn,
    pub(crate) state_file: Option<u64>,
    pub(crate) next_file: u64,
    pub(crate) claims: BTreeMap<String, Lsn>,
    pub(crate) removed: BTreeSet<String>,
    /// By position and number.
    pub(crate) tombstones: BTreeMap<(Lsn, u32), Tombstone>,
    /// The lowest number that a new series of a metric may have, where some of its series are dropped.
    pub(crate) numbered: BTreeMap<u32, u32>,
}

impl Contents {
    pub(super) fn apply(&mut self, change: &Change, edit: u64) {
        match change {
            Change::AddSegment(meta) => {
                self.segments.insert((meta.partition, meta.file.clone()), meta.clone());
            }
            Change::RemoveSegment { partition, file } => {
                let place = (*partition, file.clone());
                self.segments.remove(&place);
                self.rollups.remove(&place);
            }
            Change::AddRollup(meta) => {
                self.rollups.insert((meta.partition, meta.segment.clone()), meta.clone());
            }
            Change::AddRecords(meta) => {
                self.records.insert((meta.segment.partition, meta.segment.file.clone()), meta.clone());
            }
            Change::RemoveRecords { partition, file } => {
                self.records.remove(&(*partition, file.clone()));
            }
            Change::AddSeriesFile(file) => {
                let edit = if file.edit == 0 { edit } else { file.edit };
                self.series_files.push(SeriesFile { edit, ..file.clone() });
            }
            Change::Flushed(lsn) => self.flushed = *lsn,
            Change::StateFile(number) => self.state_file = Some(*number),
            Change::NextFile(number) => self.next_file = *number,
            Change::Claims(claims) => self.claims.clone_from(claims),
            Change::Removed(name) => {
                self.removed.insert(name.clone());
            }
            Change::DropSeries(partition) => self.series_files.retain(|file| file.partition != *partition),
            Change::AddTombstone(tombstone) => {
                self.tombstones.insert(tombstone.key(), tombstone.clone());
            }
            Change::RemoveTombstone(lsn, number) => {
                self.tombstones.remove(&(*lsn, *number));
            }
            Change::Numbered { metric, next } => drop(self.numbered.insert(*metric, *next)),
        }
    }

    pub(super) fn apply_encoded(&mut self, edit: u64, payload: &[u8], path: &Path, offset: u64) -> Result<()> {
        let mut reader = Reader::new(payload, path, offset);
        for _ in 0..reader.count(1)? {
            let change = Change::decode(&mut reader)?;
            self.apply(&change, edit);
        }
        reader.finish()
    }

    /// The changes that lead from nothing to here.
    pub(super) fn as_changes(&self) -> Vec<Change> {
        let mut changes = vec![Change::Flushed(self.flushed), Change::NextFile(self.next_file)];
        changes.extend(self.state_file.map(Change::StateFile));
        changes.push(Change::Claims(self.claims.clone()));
        changes.extend(self.series_files.iter().cloned().map(Change::AddSeriesFile));
        changes.extend(self.segments.values().cloned().map(Change::AddSegment));
        changes.extend(self.rollups.values().cloned().map(Change::AddRollup));
        changes.extend(self.records.values().cloned().map(Change::AddRecords));
        changes.extend(self.removed.iter().cloned().map(Change::Removed));
        changes.extend(self.tombstones.values().cloned().map(Change::AddTombstone));
        changes.extend(self.numbered.iter().map(|(&metric, &next)| Change::Numbered { metric, next }));
        changes
    }

    /// What is kept of every segment, of samples and of records.
    pub(crate) fn all_segments(&self) -> impl Iterator<Item = &SegmentMeta> {
        self.segments.values().chain(self.records.values().map(|meta| &meta.segment))
    }

    /// Every file that must be there, in the order of their kinds: whoever looks at all files of a store asks here.
    pub(crate) fn files(&self, layout: &Layout) -> Vec<PathBuf> {
        let segments = self.all_segments().map(|meta| layout.partition(meta.partition).join(&meta.file));
        let series = self.series_files.iter().map(|file| layout.series_file(file.partition, file.number));
        let state = self.state_file.map(|number| layout.state_file(number));
        segments.chain(series).chain(state).collect()
    }

    /// Every rollup that should be there, and may be missing.
    pub(crate) fn rollup_files(&self, layout: &Layout) -> Vec<PathBuf> {
        self.rollups.values().map(|meta| layout.rollup_of(meta.partition, &meta.segment)).collect()
    }

    /// Series in `partition`: the base of its next series file.
    pub(crate) fn series_in(&self, partition: i64) -> u32 {
        let files = self.series_files.iter().filter(|file| file.partition == partition);
        files.map(|file| file.base + file.series).max().unwrap_or(0)
    }

    /// Number of `partition`'s index in the catalogue: that of its first series file.
    pub(crate) fn index_of(&self, partition: i64) -> Option<u64> {
        self.series_files.iter().filter(|file| file.partition == partition).map(|file| file.number).min()
    }

    /// The index of each partition that has one.
    pub(crate) fn indexes(&self) -> BTreeMap<i64, u64> {
        let mut indexes = BTreeMap::new();
        for file in &self.series_files {
            let index = indexes.entry(file.partition).or_insert(file.number);
            *index = file.number.min(*index);
        }
        indexes
    }
}

impl Change {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::AddSegment(meta) => {
                out.push(1);
                encode_segment(out, meta);
            }
            Self::RemoveSegment { partition, file } => {
                out.push(2);
                format::put_zigzag(out, *partition);
                format::put_bytes(out, file.as_bytes());
            }
            Self::AddRollup(meta) => {
                out.push(ADD_ROLLUP);
                format::put_zigzag(out, meta.partition);
                format::put_bytes(out, meta.segment.as_bytes());
                format::put_varint(out, meta.bytes);
                format::put_varint(out, meta.crc.into());
            }
            Self::AddRecords(meta) => {
                out.push(ADD_RECORDS);
                put_table(out, &meta.table);
                encode_segment(out, &meta.segment);
            }
            Self::RemoveRecords { partition, file } => {
                out.push(REMOVE_RECORDS);
                format::put_zigzag(out, *partition);
                format::put_bytes(out, file.as_bytes());
            }
            Self::AddSeriesFile(file) => {
                out.push(3);
                format::put_zigzag(out, file.partition);
                for number in [file.number, file.base.into(), file.series.into(), file.edit] {
                    format::put_varint(out, number);
                }
            }
            Self::Flushed(lsn) => {
                out.push(4);
                format::put_varint(out, lsn.0);
            }
            Self::StateFile(number) => {
                out.push(5);
                format::put_varint(out, *number);
            }
            Self::NextFile(number) => {
                out.push(6);
                format::put_varint(out, *number);
            }
            Self::Claims(claims) => {
                out.push(7);
                format::put_varint(out, claims.len() as u64);
                for (name, lsn) in claims {
                    format::put_bytes(out, name.as_bytes());
                    format::put_varint(out, lsn.0);
                }
            }
            Self::Removed(name) => {
                out.push(8);
                format::put_bytes(out, name.as_bytes());
            }
            Self::DropSeries(partition) => {
                out.push(9);
                format::put_zigzag(out, *partition);
            }
            Self::AddTombstone(tombstone) => {
                out.push(10);
                format::put_varint(out, tombstone.lsn.0);
                format::put_varint(out, tombstone.number.into());
                tombstone.deletion.encode(out);
            }
            Self::RemoveTombstone(lsn, number) => {
                out.push(11);
                format::put_varint(out, lsn.0);
                format::put_varint(out, (*number).into());
            }
            Self::Numbered { metric, next } => {
                out.push(12);
                format::put_varint(out, (*metric).into());
                format::put_varint(out, (*next).into());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let at = reader.clone();
        Ok(match reader.u8()? {
            1 => Self::AddSegment(decode_segment(reader)?),
            2 => Self::RemoveSegment { partition: reader.zigzag()?, file: reader.string()?.to_owned() },
            3 => Self::AddSeriesFile(SeriesFile {
                partition: reader.zigzag()?,
                number: reader.varint()?,
                base: narrow(reader)?,
                series: narrow(reader)?,
                edit: reader.varint()?,
            }),
            4 => Self::Flushed(Lsn(reader.varint()?)),
            5 => Self::StateFile(reader.varint()?),
            6 => Self::NextFile(reader.varint()?),
            7 => {
                let mut claims = BTreeMap::new();
                for _ in 0..reader.count(2)? {
                    claims.insert(reader.string()?.to_owned(), Lsn(reader.varint()?));
                }
                Self::Claims(claims)
            }
            8 => Self::Removed(reader.string()?.to_owned()),
            9 => Self::DropSeries(reader.zigzag()?),
            10 => Self::AddTombstone(Tombstone {
                lsn: Lsn(reader.varint()?),
                number: narrow(reader)?,
                deletion: Arc::new(Deletion::decode(reader)?),
            }),
            11 => Self::RemoveTombstone(Lsn(reader.varint()?), narrow(reader)?),
            12 => Self::Numbered { metric: narrow(reader)?, next: narrow(reader)? },
            ADD_ROLLUP => Self::AddRollup(RollupMeta {
                partition: reader.zigzag()?,
                segment: reader.string()?.to_owned(),
                bytes: reader.varint()?,
                crc: narrow(reader)?,
            }),
            ADD_RECORDS => {
                let table = take_table(reader)?;
                Self::AddRecords(RecordMeta { table, segment: decode_segment(reader)? })
            }
            REMOVE_RECORDS => Self::RemoveRecords { partition: reader.zigzag()?, file: reader.string()?.to_owned() },
            other => return Err(at.corrupt("a known change tag", other.to_string())),
        })
    }
}

fn narrow(reader: &mut Reader<'_>) -> Result<u32> {
    let at = reader.clone();
    let value = reader.varint()?;
    u32::try_from(value).map_err(|_| at.corrupt("a number below 2^32", value.to_string()))
}

fn encode_segment(out: &mut Vec<u8>, meta: &SegmentMeta) {
    format::put_zigzag(out, meta.partition);
    format::put_bytes(out, meta.file.as_bytes());
    out.push(meta.level);
    for number in [meta.rows, meta.series, meta.blocks, meta.bytes] {
        format::put_varint(out, number);
    }
    for ts in [meta.min_ts, meta.max_ts] {
        format::put_zigzag(out, ts);
    }
    for number in [meta.min_series.0, meta.max_series.0, meta.min_lsn.0, meta.max_lsn.0, meta.applied.0] {
        format::put_varint(out, number);
    }
}

fn decode_segment(reader: &mut Reader<'_>) -> Result<SegmentMeta> {
    Ok(SegmentMeta {
        partition: reader.zigzag()?,
        file: reader.string()?.to_owned(),
        level: reader.u8()?,
        rows: reader.varint()?,
        series: reader.varint()?,
        blocks: reader.varint()?,
        bytes: reader.varint()?,
        min_ts: reader.zigzag()?,
        max_ts: reader.zigzag()?,
        min_series: SeriesId(reader.varint()?),
        max_series: SeriesId(reader.varint()?),
        min_lsn: Lsn(reader.varint()?),
        max_lsn: Lsn(reader.varint()?),
        applied: Lsn(reader.varint()?),
    })
}
