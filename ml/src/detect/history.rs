//! The whole past of a series at a resolution that halves whenever its 512 bins are full: what a season is looked for
//! in.
use crate::Result;
use crate::season::{self, Season};
use crate::state::{Put, Reader, malformed};

const BINS: usize = 512;
/// Searches happen when this many bins are used, and when all are.
const SEARCH_AT: [usize; 3] = [96, 256, 384];
/// After this many halvings (512 * 2^16 values) the search is given up.
const HALVINGS_MAX: u8 = 16;

/// Means of equal spans of time, as offsets from the first value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct History {
    start: i64,
    width: i64,
    base: f64,
    halvings: u8,
    bins: Vec<Bin>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Bin {
    mean: f32,
    count: u32,
}

/// What adding a value has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Added {
    /// Nothing to do.
    Kept,
    /// A good moment to search.
    Search,
    /// The past is as long as we care to look back: drop it.
    Full,
}

impl History {
    /// Bins of `width` ns (>= 1) from `start` on.
    pub(super) fn new(start: i64, width: i64, base: f64) -> Self {
        Self { start, width: width.max(1), base, halvings: 0, bins: Vec::new() }
    }

    /// Adds a value; one from before the start belongs to the first bin.
    pub(super) fn add(&mut self, ts: i64, value: f64) -> Added {
        let mut full = false;
        let mut index = self.index(ts);
        while index >= BINS as u64 {
            if self.halvings >= HALVINGS_MAX || self.width > i64::MAX / 2 {
                return Added::Full;
            }
            full |= self.bins.len() >= BINS / 2;
            self.halve();
            index = self.index(ts);
        }
        let index = index as usize;
        let grown = index >= self.bins.len();
        if grown {
            self.bins.resize(index + 1, Bin { mean: 0.0, count: 0 });
        }
        let bin = &mut self.bins[index];
        bin.count = bin.count.saturating_add(1);
        let offset = (value - self.base) as f32;
        let mean = bin.mean + (offset - bin.mean) / bin.count as f32;
        bin.mean = if mean.is_finite() { mean } else { 0.0 };
        if full || (grown && SEARCH_AT.contains(&index)) { Added::Search } else { Added::Kept }
    }

    fn index(&self, ts: i64) -> u64 {
        (ts.saturating_sub(self.start).max(0) / self.width) as u64
    }

    fn halve(&mut self) {
        let mut pairs = std::mem::take(&mut self.bins).into_iter();
        while let Some(a) = pairs.next() {
            let b = pairs.next().unwrap_or(Bin { mean: 0.0, count: 0 });
            let count = a.count.saturating_add(b.count);
            let share = if count == 0 { 0.0 } else { b.count as f32 / count as f32 };
            self.bins.push(Bin { mean: a.mean + (b.mean - a.mean) * share, count });
        }
        self.width *= 2;
        self.halvings += 1;
    }

    /// (start of the bin's middle, mean value, values in it) for every bin with values, in time order.
    pub(super) fn points(&self) -> impl Iterator<Item = (i64, f64, u32)> + '_ {
        self.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0).map(|(i, bin)| {
            let ts = self.start.saturating_add((i as i64).saturating_mul(self.width)).saturating_add(self.width / 2);
            (ts, self.base + f64::from(bin.mean), bin.count)
        })
    }

    /// Time from the first bin to the end of the last, ns.
    pub(super) fn span(&self) -> i64 {
        (self.bins.len() as i64).saturating_mul(self.width)
    }

    /// Time between bins.
    pub(super) fn width(&self) -> i64 {
        self.width
    }

    /// The season of what is known so far, the last, still open bin left out.
    pub(super) fn season(&self) -> Option<Season> {
        let (mut ts, mut values): (Vec<i64>, Vec<f64>) =
            self.points().map(|(ts, value, _)| (ts, value - self.base)).unzip();
        ts.pop();
        values.pop();
        season::find(&ts, &values)
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_i64(self.start);
        out.put_i64(self.width);
        out.put_f64(self.base);
        out.put_u8(self.halvings);
        out.put_u32(self.bins.len() as u32);
        for bin in &self.bins {
            out.put_f32(bin.mean);
            out.put_u32(bin.count);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let (start, width, base, halvings) = (from.i64()?, from.i64()?, from.finite()?, from.u8()?);
        let count = from.u32()? as usize;
        if width < 1 || count > BINS {
            return Err(malformed("the history is larger than it can be"));
        }
        let mut bins = Vec::with_capacity(count);
        for _ in 0..count {
            bins.push(Bin { mean: from.finite_f32()?, count: from.u32()? });
        }
        Ok(Self { start, width, base, halvings, bins })
    }
}
