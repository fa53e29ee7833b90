//! One decoded request: columns, and where the labels of each series lie.
use foretell_engine::WriteBatch;

use super::exemplar::Exemplars;
use super::fault::Faults;
use super::histogram::Histograms;
use super::labels::WireLabels;
use super::metadata::Descriptions;
use super::symbols::Symbols;

/// Buffers above this size are given back rather than kept for the next request.
const RETAINED_BYTES_MAX: usize = 4 << 20;

/// Where the labels of a series lie: `Label` fields of 1.0, packed references of 2.0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LabelSection {
    /// In the decompressed body.
    Body { start: u32, end: u32 },
    /// Gathered, because other fields stood between them.
    Gathered { start: u32, end: u32 },
}

/// One decoded request: per series a key and a run length, per sample a row of two columns.
#[derive(Debug, Default)]
pub struct DecodedRequest {
    /// Seeded hash of each series' labels as sent.
    pub keys: Vec<u128>,
    /// Samples of each series: the next `runs[i]` rows are of series `i`. 0 for a series of nothing but
    /// histograms or exemplars.
    pub runs: Vec<u32>,
    /// Nanoseconds UTC of each row.
    pub ts: Vec<i64>,
    /// Value of each row, exact bits.
    pub values: Vec<f64>,
    /// Decompressed size, bytes.
    pub decoded_bytes: usize,
    /// What was dropped during the walk.
    pub faults: Faults,
    pub(crate) sections: Vec<LabelSection>,
    pub(crate) histograms: Histograms,
    pub(crate) exemplars: Exemplars,
    pub(crate) symbols: Symbols,
    pub(crate) descriptions: Descriptions,
    pub(crate) gathered: Vec<u8>,
    /// The decompressed body; longer than `decoded_bytes` when an earlier one was.
    pub(crate) body: Vec<u8>,
    /// Which point of its sender's each series is of; nothing for remote write.
    pub(crate) origins: Origins,
    /// Whether labels are references (2.0).
    pub(crate) by_reference: bool,
}

/// Where the series of a request come from, for senders whose points are not series.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// What such a point is called.
    pub(crate) word: &'static str,
    /// Number of the point of each series; never falls.
    pub(crate) of: Vec<u32>,
    /// Points of which something was dropped.
    pub(crate) dropped: u64,
}

impl Origins {
    /// "line 7, " for the point of series `i`.
    pub(crate) fn place(&self, i: usize) -> String {
        self.of.get(i).map(|number| format!("{} {number}, ", self.word)).unwrap_or_default()
    }

    /// Counts the points of the series `refused`, in order.
    pub(crate) fn refuse(&mut self, refused: &[usize]) {
        let mut last = None;
        for number in refused.iter().filter_map(|&i| self.of.get(i)) {
            self.dropped += u64::from(last != Some(number));
            last = Some(number);
        }
    }
}

impl DecodedRequest {
    /// The labels of series `i` as they came.
    pub fn labels(&self, i: usize) -> WireLabels<'_> {
        let bytes = match self.sections[i] {
            LabelSection::Body { start, end } => &self.body[start as usize..end as usize],
            LabelSection::Gathered { start, end } => &self.gathered[start as usize..end as usize],
        };
        if self.by_reference { WireLabels::refs(bytes, &self.symbols, &self.body) } else { WireLabels::fields(bytes) }
    }

    /// Moves the sample columns out; the next request starts with fresh ones of the same capacity.
    pub(crate) fn take_columns(&mut self) -> WriteBatch {
        let rows = self.ts.len();
        WriteBatch {
            ts: std::mem::replace(&mut self.ts, Vec::with_capacity(rows)),
            values: std::mem::replace(&mut self.values, Vec::with_capacity(rows)),
            ..WriteBatch::default()
        }
    }

    /// Empties everything but the body.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.runs.clear();
        self.ts.clear();
        self.values.clear();
        self.sections.clear();
        self.symbols.clear();
        self.descriptions.clear();
        self.gathered.clear();
        self.histograms.truncate(0);
        self.exemplars.truncate(0);
        self.origins.of.clear();
        self.origins.dropped = 0;
        self.decoded_bytes = 0;
        self.faults = Faults::default();
    }

    /// Gives back what an unusually large request has left behind.
    pub(crate) fn shrink(&mut self) {
        if self.body.capacity() > RETAINED_BYTES_MAX {
            self.body = Vec::new();
        }
        if self.ts.capacity() * size_of::<i64>() > RETAINED_BYTES_MAX {
            self.ts = Vec::new();
            self.values = Vec::new();
        }
        if self.keys.capacity() * size_of::<u128>() > RETAINED_BYTES_MAX {
            self.keys = Vec::new();
            self.runs = Vec::new();
            self.sections = Vec::new();
            self.origins.of = Vec::new();
        }
        self.gathered = Vec::new();
        if self.histograms.weight() > RETAINED_BYTES_MAX / size_of::<u64>() {
            self.histograms = Histograms::default();
        }
        if self.exemplars.weight() > RETAINED_BYTES_MAX {
            self.exemplars = Exemplars::default();
        }
        self.symbols.shrink();
        self.descriptions.shrink();
    }
}
