//! The last values of a series, standardised, side by side: what windows are cut from.
use crate::Result;
use crate::state::{Put, Reader, malformed};

/// A value counts as no further away than this many spreads: one spike must not be all that a window consists of.
const FURTHEST: f64 = 16.0;

/// The last `kept` values, and up to as many before them until they are dropped together; all lie in one slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recent {
    values: Vec<f32>,
    /// Values seen.
    rows: u64,
    kept: usize,
}

impl Recent {
    pub(super) fn new(kept: usize) -> Self {
        Self { values: Vec::new(), rows: 0, kept }
    }

    /// Adds a value that is not NaN, in spreads.
    pub(super) fn push(&mut self, z: f64) {
        if self.values.len() >= 2 * self.kept {
            self.values.drain(..self.kept);
        }
        self.values.push(z.clamp(-FURTHEST, FURTHEST) as f32);
        self.rows += 1;
    }

    /// Values seen.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The last values, `kept` of them or all there were.
    pub(super) fn last(&self) -> &[f32] {
        &self.values[self.values.len().saturating_sub(self.kept)..]
    }

    /// The last `kept` values, at most, of the first `rows`; none of them may have been dropped.
    pub(super) fn until(&self, rows: u64, kept: usize) -> &[f32] {
        let end = self.values.len() - (self.rows - rows) as usize;
        &self.values[end.saturating_sub(kept)..end]
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u64(self.rows);
        for value in self.last() {
            out.put_f32(*value);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>, kept: usize) -> Result<Self> {
        let rows = from.u64()?;
        if rows > u64::MAX / 2 {
            return Err(malformed("the series is longer than can be"));
        }
        let n = rows.min(kept as u64) as usize;
        let values = (0..n).map(|_| from.finite_f32()).collect::<Result<Vec<f32>>>()?;
        if values.iter().any(|v| f64::from(v.abs()) > FURTHEST) {
            return Err(malformed("a value is further away than any is kept"));
        }
        Ok(Self { values, rows, kept })
    }
}
