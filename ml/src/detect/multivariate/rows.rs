//! Rows of equal length in a saved state.
use crate::Result;
use crate::state::{Put, Reader, malformed};

pub(super) fn save_rows<'a>(rows: impl ExactSizeIterator<Item = &'a Vec<f64>>, out: &mut Vec<u8>) {
    out.put_u32(rows.len() as u32);
    for value in rows.flatten() {
        out.put_f64(*value);
    }
}

/// At most `most` rows of `columns` values, each finite or NaN.
pub(super) fn load_rows(from: &mut Reader<'_>, columns: usize, most: usize) -> Result<Vec<Vec<f64>>> {
    let n = from.u32()? as usize;
    if n > most {
        return Err(malformed("there are more rows than can be"));
    }
    (0..n).map(|_| (0..columns).map(|_| from.finite_or_nan()).collect()).collect()
}
