//! The timestamps of a block: each distinct sequence once, and which series has which.
//!
//! ```text
//! timestamps = numbers(code of series 1 ..)   0 as the series before, 1 the next new group, 2 + g group g
//!              numbers(length of group - 1)   sequences(groups)
//! ```
//! The first series always opens group 0 and has no code. A group's length is the row count of its series.
use std::ops::Range;

use hashbrown::HashMap;

use super::ROWS_MAX;
use super::sequence::{SequencesDecoder, SequencesEncoder};
use super::stream::{Packer, Unpacker};
use crate::error::Result;
use crate::format::Reader;

const SAME: u64 = 0;
const NEW: u64 = 1;
const EARLIER: u64 = 2;

/// Writes the timestamps of a block.
#[derive(Default)]
pub(crate) struct TimestampsEncoder {
    codes: Vec<u64>,
    lengths: Vec<u64>,
    groups: Vec<Range<usize>>,
    /// Group by a few of its numbers; whether it really is the same sequence is compared in full.
    found: HashMap<(usize, i64, i64, i64), usize>,
    sequences: SequencesEncoder,
}

impl TimestampsEncoder {
    /// Appends `ts`, where series `k` has rows `offsets[k]..offsets[k + 1]`, at least one each.
    pub(crate) fn encode(&mut self, packer: &mut Packer, ts: &[i64], offsets: &[u32], out: &mut Vec<u8>) {
        self.codes.clear();
        self.lengths.clear();
        self.groups.clear();
        self.found.clear();
        self.sequences.clear();
        let mut last = 0;
        for bounds in offsets.windows(2) {
            let rows = bounds[0] as usize..bounds[1] as usize;
            let own = &ts[rows.clone()];
            let is = |group: &Range<usize>| ts[group.clone()] == *own;
            if self.groups.get(last).is_some_and(is) {
                self.codes.push(SAME);
                continue;
            }
            let key = (own.len(), own[0], own[own.len() / 2], own[own.len() - 1]);
            if let Some(&group) = self.found.get(&key)
                && is(&self.groups[group])
            {
                last = group;
                self.codes.push(EARLIER + last as u64);
                continue;
            }
            last = self.groups.len();
            self.found.insert(key, last);
            self.codes.push(NEW);
            self.lengths.push(own.len() as u64 - 1);
            self.sequences.push(own);
            self.groups.push(rows);
        }
        packer.pack(&self.codes[1..], out);
        packer.pack(&self.lengths, out);
        self.sequences.finish(packer, out);
    }
}

/// Timestamps of a block, decoded.
#[derive(Default)]
pub(crate) struct Timestamps {
    codes: Vec<u64>,
    lengths: Vec<u64>,
    /// Group of each series.
    group_of: Vec<u32>,
    /// Group `g` is `pool[bounds[g]..bounds[g + 1]]`.
    bounds: Vec<u32>,
    pool: Vec<i64>,
    sequences: SequencesDecoder,
}

impl Timestamps {
    /// Replaces everything with the timestamps of `series` series.
    pub(crate) fn decode(&mut self, unpacker: &mut Unpacker, input: &mut Reader<'_>, series: usize) -> Result<()> {
        self.pool.clear();
        self.bounds.clear();
        self.bounds.push(0);
        self.group_of.clear();
        self.group_of.push(0);
        unpacker.unpack(input, series.saturating_sub(1), &mut self.codes)?;
        let (mut groups, mut last) = (1u32, 0u32);
        for &code in &self.codes {
            match code {
                SAME => {}
                NEW => {
                    last = groups;
                    groups += 1;
                }
                earlier if earlier - EARLIER < u64::from(groups) => last = (earlier - EARLIER) as u32,
                earlier => {
                    return Err(input.corrupt(format!("a group below {groups}"), (earlier - EARLIER).to_string()));
                }
            }
            self.group_of.push(last);
        }
        unpacker.unpack(input, groups as usize, &mut self.lengths)?;
        let mut end = 0usize;
        for &length in &self.lengths {
            if length >= ROWS_MAX as u64 || end + length as usize >= ROWS_MAX {
                return Err(input.corrupt(format!("groups of at most {ROWS_MAX} rows"), length.to_string()));
            }
            end += length as usize + 1;
            self.bounds.push(end as u32);
        }
        self.pool.reserve(end);
        let lengths = self.lengths.iter().map(|&length| length as usize + 1);
        self.sequences.start(unpacker, input, lengths)?;
        for &length in &self.lengths {
            self.sequences.next_into(length as usize + 1, &mut self.pool);
        }
        Ok(())
    }

    /// Rows of series `k`.
    pub(crate) fn rows_of(&self, k: usize) -> usize {
        let group = self.group_of[k] as usize;
        (self.bounds[group + 1] - self.bounds[group]) as usize
    }

    /// Timestamps of series `k`.
    pub(crate) fn of(&self, k: usize) -> &[i64] {
        let group = self.group_of[k] as usize;
        &self.pool[self.bounds[group] as usize..self.bounds[group + 1] as usize]
    }
}
