//! Timestamps: pages of distinct sequences (*timelines*), and which slices of them (*spans*) a series has.
//!
//! ```text
//! page  = numbers(length - 1) {timelines}   sequences {timelines}
//! spans = numbers(rows - 1) {series}   numbers(spans - 1) {series}
//!         varint(first timeline)   numbers(zigzag(timeline - timeline before - 1)) {spans - 1}
//!         numbers(from) {spans}   numbers(rows - 1) {spans that are not the last of their series}
//! ```
//! The series of one scrape have the same timeline. Series of one metric stand side by side in a block, each mostly of the
//! target after the one before, hence the expected step of 1. What is found to be shared is the segment's business.
use super::ROWS_MAX;
use super::sequence::{SequencesDecoder, SequencesEncoder};
use super::stream::{Packer, Unpacker};
use crate::error::Result;
use crate::format::{Reader, put_varint, unzigzag, zigzag};

/// A slice of a timeline. The timestamps of a series in a block are those of its spans, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Number of the timeline in the segment.
    pub(crate) timeline: u32,
    /// First row of the timeline.
    pub(crate) from: u32,
    /// Rows, at least 1.
    pub(crate) rows: u32,
}

/// Collects the timelines of a page, at most [`ROWS_MAX`] rows together, then writes them.
#[derive(Default)]
pub(crate) struct TimelinesEncoder {
    lengths: Vec<u64>,
    sequences: SequencesEncoder,
    rows: usize,
}

impl TimelinesEncoder {
    /// Timelines so far.
    pub(crate) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a timeline of at least one row.
    pub(crate) fn push(&mut self, ts: &[i64]) {
        self.lengths.push(ts.len() as u64 - 1);
        self.sequences.push(ts);
        self.rows += ts.len();
    }

    /// Appends the page to `out` and forgets it.
    pub(crate) fn finish(&mut self, packer: &mut Packer, out: &mut Vec<u8>) {
        packer.pack(&self.lengths, out);
        self.sequences.finish(packer, out);
        self.lengths.clear();
        self.sequences.clear();
        self.rows = 0;
    }
}

/// The timelines of a page, decoded.
#[derive(Debug)]
pub(crate) struct Timelines {
    /// Timeline `k` is `ts[bounds[k]..bounds[k + 1]]`.
    bounds: Vec<u32>,
    ts: Vec<i64>,
}

impl Timelines {
    /// Reads `count` timelines.
    pub(crate) fn decode(
        unpacker: &mut Unpacker,
        sequences: &mut SequencesDecoder,
        input: &mut Reader<'_>,
        count: usize,
    ) -> Result<Self> {
        if count > ROWS_MAX {
            return Err(input.corrupt(format!("at most {ROWS_MAX} timelines"), count.to_string()));
        }
        let mut lengths = Vec::new();
        unpacker.unpack(input, count, &mut lengths)?;
        let mut bounds = Vec::with_capacity(count + 1);
        bounds.push(0);
        let mut end = 0;
        for &length in &lengths {
            if length >= (ROWS_MAX - end) as u64 {
                return Err(input.corrupt(format!("timelines of at most {ROWS_MAX} rows"), length.to_string()));
            }
            end += length as usize + 1;
            bounds.push(end as u32);
        }
        let lengths = lengths.iter().map(|&length| length as usize + 1);
        sequences.start(unpacker, input, lengths.clone())?;
        let mut ts = Vec::with_capacity(end);
        for n in lengths {
            sequences.next_into(n, &mut ts);
        }
        Ok(Self { bounds, ts })
    }

    /// Rows of all of them.
    pub(crate) fn rows(&self) -> usize {
        self.ts.len()
    }

    /// The `k`-th.
    pub(crate) fn get(&self, k: usize) -> &[i64] {
        &self.ts[self.bounds[k] as usize..self.bounds[k + 1] as usize]
    }
}

/// Collects the spans of the series of a block, then writes them.
#[derive(Default)]
pub(crate) struct SpansEncoder {
    rows: Vec<u64>,
    counts: Vec<u64>,
    first: u32,
    before: u32,
    steps: Vec<u64>,
    froms: Vec<u64>,
    lengths: Vec<u64>,
}

impl SpansEncoder {
    /// Adds a series, whose `spans` are not empty.
    pub(crate) fn push(&mut self, spans: &[Span]) {
        self.rows.push(spans.iter().map(|span| u64::from(span.rows)).sum::<u64>() - 1);
        self.counts.push(spans.len() as u64 - 1);
        for (k, span) in spans.iter().enumerate() {
            if self.froms.is_empty() {
                self.first = span.timeline;
            } else {
                self.steps.push(zigzag(i64::from(span.timeline) - i64::from(self.before) - 1));
            }
            self.before = span.timeline;
            self.froms.push(u64::from(span.from));
            if k + 1 < spans.len() {
                self.lengths.push(u64::from(span.rows) - 1);
            }
        }
    }

    /// Appends the spans to `out` and forgets them.
    pub(crate) fn finish(&mut self, packer: &mut Packer, out: &mut Vec<u8>) {
        packer.pack(&self.rows, out);
        packer.pack(&self.counts, out);
        put_varint(out, u64::from(self.first));
        packer.pack(&self.steps, out);
        packer.pack(&self.froms, out);
        packer.pack(&self.lengths, out);
        for numbers in [&mut self.rows, &mut self.counts, &mut self.steps, &mut self.froms, &mut self.lengths] {
            numbers.clear();
        }
    }
}

/// The spans of a block, decoded.
#[derive(Default)]
pub(crate) struct Spans {
    /// Series `k` has `spans[bounds[k]..bounds[k + 1]]`.
    bounds: Vec<u32>,
    spans: Vec<Span>,
    rows: Vec<u64>,
    counts: Vec<u64>,
    steps: Vec<u64>,
    froms: Vec<u64>,
    lengths: Vec<u64>,
}

impl Spans {
    /// Memory they hold.
    pub(crate) fn bytes(&self) -> usize {
        let scratch = [&self.rows, &self.counts, &self.steps, &self.froms, &self.lengths];
        let words: usize = scratch.iter().map(|values| values.capacity()).sum();
        words * 8 + self.bounds.capacity() * 4 + self.spans.capacity() * size_of::<Span>()
    }

    /// Replaces everything with the spans of `series` series over `timelines` timelines. `offsets` (replaced) says that
    /// series `k` has rows `offsets[k]..offsets[k + 1]` of the block.
    pub(crate) fn decode(
        &mut self,
        unpacker: &mut Unpacker,
        input: &mut Reader<'_>,
        series: usize,
        timelines: u32,
        offsets: &mut Vec<u32>,
    ) -> Result<()> {
        self.bounds.clear();
        self.spans.clear();
        offsets.clear();
        if series > ROWS_MAX {
            return Err(input.corrupt(format!("at most {ROWS_MAX} series"), series.to_string()));
        }
        unpacker.unpack(input, series, &mut self.rows)?;
        unpacker.unpack(input, series, &mut self.counts)?;
        let (mut row, mut spans) = (0u32, 0u32);
        offsets.push(0);
        self.bounds.push(0);
        for (&rows, &count) in self.rows.iter().zip(&self.counts) {
            if rows >= u64::from(ROWS_MAX as u32 - row) || count > rows {
                return Err(input.corrupt(format!("{ROWS_MAX} rows"), format!("{count} more spans of {rows}")));
            }
            row += rows as u32 + 1;
            spans += count as u32 + 1;
            offsets.push(row);
            self.bounds.push(spans);
        }
        let (first, spans) = (input.varint()?, spans as usize);
        unpacker.unpack(input, spans.saturating_sub(1), &mut self.steps)?;
        unpacker.unpack(input, spans, &mut self.froms)?;
        unpacker.unpack(input, spans - series, &mut self.lengths)?;
        self.put_together(first, timelines).map_err(|got| input.corrupt("spans of timelines", got))
    }

    /// Makes spans of their columns; an error says what is out of bounds.
    fn put_together(&mut self, first: u64, timelines: u32) -> Result<(), String> {
        let mut columns = self.froms.iter().zip(std::iter::once(&0).chain(&self.steps));
        let mut lengths = self.lengths.iter();
        let mut timeline = (first as i64).wrapping_sub(1);
        for (&rows, &count) in self.rows.iter().zip(&self.counts) {
            let mut left = rows + 1;
            for k in 0..=count {
                let Some((&from, &step)) = columns.next() else { return Err("too few".into()) };
                let rows = if k == count { left } else { lengths.next().map_or(0, |length| length.saturating_add(1)) };
                timeline = timeline.wrapping_add(1).wrapping_add(unzigzag(step));
                let known = u32::try_from(timeline).is_ok_and(|timeline| timeline < timelines);
                if !known || rows == 0 || rows > left || from >= ROWS_MAX as u64 {
                    return Err(format!("{rows} rows from {from} of timeline {timeline}, of {timelines}"));
                }
                left -= rows;
                self.spans.push(Span { timeline: timeline as u32, from: from as u32, rows: rows as u32 });
            }
        }
        Ok(())
    }

    /// Spans of series `k`.
    pub(crate) fn of(&self, k: usize) -> &[Span] {
        &self.spans[self.bounds[k] as usize..self.bounds[k + 1] as usize]
    }
}
