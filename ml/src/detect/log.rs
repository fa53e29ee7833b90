//! The first rows of a series, while they are few: what has seen no more can be merged into an earlier state.
use super::Method;
use crate::Result;
use crate::state::{Put, Reader, malformed};

/// Rows kept beside a state of some hundred bytes, and beside one of some thousand.
const FEW: usize = 16;
const MANY: usize = 256;

/// All rows that were learnt, or nothing once there are more than are kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Log(Option<Vec<(i64, f64)>>);

/// How many rows are kept at most; none where the model has its first values at hand.
fn most(method: Method) -> usize {
    match method {
        Method::Mad | Method::SpectralResidual => 0,
        Method::Ewma | Method::Cusum | Method::Spot => FEW,
        _ => MANY,
    }
}

impl Log {
    pub(super) fn new(method: Method) -> Self {
        Self((most(method) > 0).then(Vec::new))
    }

    pub(super) fn push(&mut self, method: Method, ts: i64, value: f64) {
        if let Some(rows) = &mut self.0 {
            match rows.len() < most(method) {
                true => rows.push((ts, value)),
                false => self.0 = None,
            }
        }
    }

    /// All rows so far, unless there were too many.
    pub(super) fn rows(&self) -> Option<&[(i64, f64)]> {
        self.0.as_deref()
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.0.is_some()));
        if let Some(rows) = &self.0 {
            out.put_u16(rows.len() as u16);
            for &(ts, value) in rows {
                out.put_i64(ts);
                out.put_f64(value);
            }
        }
    }

    pub(super) fn load(method: Method, from: &mut Reader<'_>) -> Result<Self> {
        if !from.bool()? {
            return Ok(Self(None));
        }
        let n = usize::from(from.u16()?);
        if n > most(method) || most(method) == 0 {
            return Err(malformed("more first rows than are ever kept"));
        }
        Ok(Self(Some((0..n).map(|_| Ok((from.i64()?, from.finite()?))).collect::<Result<_>>()?)))
    }
}
