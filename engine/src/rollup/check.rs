//! Comparing a rollup with the rows of its segment.
use crate::codec::{Unpacker, ValuesDecoder};
use crate::error::Result;
use crate::format::Reader;
use crate::segment::{Checker, Segment};
use crate::types::TimeRange;

use super::bucket::{Chunk, Summing};
use super::reader::Rollup;

/// Reads every chunk of `rollup`; and, if its `segment` is sound, sums the rows up again and compares.
///
/// # Errors
/// `Corruption` with path and offset of the first chunk that is damaged or says something else than the rows.
pub(crate) fn check(rollup: &Rollup, segment: Option<&Segment>) -> Result<()> {
    let (mut unpacker, mut values) = (Unpacker::default(), ValuesDecoder::default());
    let mut stored = Chunk::default();
    let mut metrics = Vec::new();
    for width in 0..rollup.widths().len() {
        for index in 0..rollup.chunks(width) {
            rollup.load((&mut unpacker, &mut values), (width, index), true, &mut stored)?;
            metrics.extend(stored.series.iter().map(|id| id.metric()));
            metrics.dedup();
        }
    }
    metrics.sort_unstable();
    metrics.dedup();
    let Some(segment) = segment else { return Ok(()) };
    let mut next = vec![0; rollup.widths().len()];
    let mut compare = |width: usize, expected: &Chunk| -> Result<()> {
        let index = next[width];
        next[width] += 1;
        let at = rollup.at(width, index);
        if index >= rollup.chunks(width) {
            return Err(at.corrupt("a chunk for all rows", "the end"));
        }
        rollup.load((&mut unpacker, &mut values), (width, index), true, &mut stored)?;
        let same = (&stored.series, &stored.offsets, &stored.sketches)
            == (&expected.series, &expected.offsets, &expected.sketches)
            && stored.buckets.iter().zip(&expected.buckets).all(|(stored, expected)| stored.same(expected));
        if same {
            return Ok(());
        }
        Err(at.corrupt("the sums of the rows of its segment", "others"))
    };
    let mut summing = Summing::new(rollup.widths());
    let mut checker = Checker::new(segment, TimeRange::ALL);
    for index in 0..segment.blocks().len() {
        checker.read(index)?;
        for (series, ts, values) in checker.rows() {
            if metrics.binary_search(&series.metric()).is_ok() {
                summing.push(series, ts, values, &mut compare)?;
            }
        }
    }
    summing.finish(&mut compare)?;
    for (width, &seen) in next.iter().enumerate() {
        if seen != rollup.chunks(width) {
            return Err(rollup.at(width, seen).corrupt("chunks of rows of its segment", "more"));
        }
    }
    Ok(())
}

impl Rollup {
    /// The place of a chunk, for errors; the end of the file beyond the last.
    fn at(&self, width: usize, index: usize) -> Reader<'_> {
        Reader::new(&[], self.path(), self.offset_of(width, index))
    }
}
