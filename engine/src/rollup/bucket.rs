//! Rows of a series in one bucket of time, summed up; and summing them up.
use crate::error::Result;
use crate::types::{SeriesId, TimeRange};

use super::Sketch;

/// A chunk is cut when it has so many buckets. Small, because whoever wants one series decodes the whole chunk.
pub(super) const CHUNK_BUCKETS_MAX: usize = 512;

/// What is known of the rows of one series in one bucket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bucket {
    /// First and last row.
    pub(crate) extent: TimeRange,
    /// Rows, at least 1.
    pub(crate) rows: u64,
    /// Values that are not NaN; the next three leave every NaN out, as a zone map does.
    pub(crate) count: u64,
    /// Smallest value in IEEE 754's total order; +infinity if `count` is 0.
    pub(crate) min: f64,
    /// Largest value likewise; -infinity if `count` is 0.
    pub(crate) max: f64,
    /// Sum of values, added to 0.0 in row order.
    pub(crate) sum: f64,
    /// Exact bits of the value of the first row.
    pub(crate) first: f64,
    /// The same of the last row.
    pub(crate) last: f64,
}

impl Bucket {
    fn at(ts: i64, value: f64) -> Self {
        let extent = TimeRange { start: ts, end: ts };
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { extent, rows: 0, count: 0, min, max, sum: 0.0, first: value, last: value }
    }

    fn add(&mut self, ts: i64, value: f64) {
        self.extent.end = ts;
        self.rows += 1;
        self.last = value;
        if value.is_nan() {
            return;
        }
        self.count += 1;
        self.min = if value.total_cmp(&self.min).is_lt() { value } else { self.min };
        self.max = if value.total_cmp(&self.max).is_gt() { value } else { self.max };
        self.sum += value;
    }

    /// Whether the two say the same, bit by bit. A sum that is no number has no certain bits.
    pub(super) fn same(&self, other: &Self) -> bool {
        let bits = |b: &Self| {
            let sum = if b.sum.is_nan() { f64::NAN } else { b.sum };
            [b.min, b.max, sum, b.first, b.last].map(f64::to_bits)
        };
        (self.extent, self.rows, self.count) == (other.extent, other.rows, other.count) && bits(self) == bits(other)
    }
}

/// Buckets of one width, of one series after another, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// Increasing.
    pub(crate) series: Vec<SeriesId>,
    /// Buckets of series `k` are `offsets[k]..offsets[k + 1]`.
    pub(crate) offsets: Vec<u32>,
    pub(crate) buckets: Vec<Bucket>,
    /// Of each bucket the sketch of its values; empty if they are not wanted.
    pub(crate) sketches: Vec<Sketch>,
}

impl Chunk {
    pub(super) fn clear(&mut self) {
        self.series.clear();
        self.offsets.clear();
        self.buckets.clear();
        self.sketches.clear();
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        let sketches: usize = self.sketches.iter().map(|sketch| sketch.bytes() + size_of::<Sketch>()).sum();
        self.series.capacity() * 8
            + self.offsets.capacity() * 4
            + self.buckets.capacity() * size_of::<Bucket>()
            + sketches
    }

    fn begin(&mut self, series: SeriesId, ts: i64, value: f64) {
        if self.series.last() == Some(&series) {
            self.offsets.pop();
        } else {
            if self.series.is_empty() {
                self.offsets.push(0);
            }
            self.series.push(series);
        }
        self.buckets.push(Bucket::at(ts, value));
        self.sketches.push(Sketch::default());
        self.offsets.push(self.buckets.len() as u32);
    }
}

/// Sums rows up into chunks, one width of bucket after the other.
pub(super) struct Summing {
    widths: Vec<Width>,
}

struct Width {
    ns: i64,
    /// Number of the last bucket.
    number: i64,
    chunk: Chunk,
}

impl Summing {
    /// For buckets of `widths` (ns, positive).
    pub(super) fn new(widths: &[i64]) -> Self {
        let width = |&ns: &i64| Width { ns, number: 0, chunk: Chunk::default() };
        Self { widths: widths.iter().map(width).collect() }
    }

    /// Adds rows of `series`, which follow all rows before. `full` gets each chunk that is full, with the index of its width.
    pub(super) fn push(
        &mut self,
        series: SeriesId,
        ts: &[i64],
        values: &[f64],
        full: &mut dyn FnMut(usize, &Chunk) -> Result<()>,
    ) -> Result<()> {
        for (index, width) in self.widths.iter_mut().enumerate() {
            for (&t, &value) in ts.iter().zip(values) {
                let number = t.div_euclid(width.ns);
                let goes_on = width.chunk.series.last() == Some(&series) && width.number == number;
                if !goes_on {
                    if width.chunk.buckets.len() >= CHUNK_BUCKETS_MAX {
                        full(index, &width.chunk)?;
                        width.chunk.clear();
                    }
                    width.chunk.begin(series, t, value);
                    width.number = number;
                }
                if let (Some(bucket), Some(sketch)) = (width.chunk.buckets.last_mut(), width.chunk.sketches.last_mut())
                {
                    bucket.add(t, value);
                    sketch.add(value);
                }
            }
        }
        Ok(())
    }

    /// Hands on what is left.
    pub(super) fn finish(self, full: &mut dyn FnMut(usize, &Chunk) -> Result<()>) -> Result<()> {
        let mut left = self.widths.iter().enumerate().filter(|(_, width)| !width.chunk.buckets.is_empty());
        left.try_for_each(|(index, width)| full(index, &width.chunk))
    }
}
