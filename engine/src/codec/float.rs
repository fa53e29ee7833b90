//! A column of values: the values of the series of a block, one series after another.
//!
//! ```text
//! values     = numbers(form of series)   sequences(decimal series)   numbers(bits of equal series)   raw   exceptions
//! form       = 0..15 decimal with that exponent | 16 raw | 17 equal bits
//! raw        = 0 f64{n}   little-endian
//!            | 1 varint(len) zstd
//!            | 2 varint(len) pco
//! exceptions = varint(count)   numbers(row - previous row)   numbers(bits)
//! ```
//! `raw` holds the values of all raw series together; it takes no bytes when there are none. Exceptions replace what the
//! forms gave: Prometheus's stale marker at the end of an integer series costs a few bytes, not the series' form.
use std::ops::Range;

use super::ROWS_MAX;
use super::decimal::{EXPONENT_MAX, from_integers, to_integers};
use super::sequence::{SequencesDecoder, SequencesEncoder};
use super::stream::{Packer, Unpacker, unpack_pco};
use crate::error::Result;
use crate::format::{Reader, put_varint};

const RAW: u64 = EXPONENT_MAX as u64 + 1;
const EQUAL: u64 = RAW + 1;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const PCO: u8 = 2;

/// One value in this many of a raw series may be a NaN kept as an exception, and one always may.
const ROWS_PER_EXCEPTION: usize = 16;

/// Writes the values of a block.
#[derive(Default)]
pub(crate) struct ValuesEncoder {
    forms: Vec<u64>,
    equals: Vec<u64>,
    raw: Vec<f64>,
    positions: Vec<u64>,
    bits: Vec<u64>,
    integers: Vec<i64>,
    rows: Vec<u32>,
    bytes: Vec<u8>,
    packed: Vec<u8>,
    sequences: SequencesEncoder,
}

impl ValuesEncoder {
    /// Appends `values`, where series `k` has rows `offsets[k]..offsets[k + 1]`, at least one each.
    pub(crate) fn encode(&mut self, packer: &mut Packer, values: &[f64], offsets: &[u32], out: &mut Vec<u8>) {
        self.forms.clear();
        self.equals.clear();
        self.raw.clear();
        self.positions.clear();
        self.bits.clear();
        self.sequences.clear();
        for bounds in offsets.windows(2) {
            let start = bounds[0] as usize;
            self.push(&values[start..bounds[1] as usize], start);
        }
        packer.pack(&self.forms, out);
        self.sequences.finish(packer, out);
        packer.pack(&self.equals, out);
        self.pack_raw(packer, out);
        put_varint(out, self.positions.len() as u64);
        let mut previous = 0;
        for position in &mut self.positions {
            *position -= std::mem::replace(&mut previous, *position);
        }
        packer.pack(&self.positions, out);
        packer.pack(&self.bits, out);
    }

    fn push(&mut self, own: &[f64], start: usize) {
        if let Some(e) = to_integers(own, &mut self.integers, &mut self.rows) {
            self.forms.push(u64::from(e));
            self.sequences.push(&self.integers);
        } else if own.iter().all(|v| v.to_bits() == own[0].to_bits()) {
            self.forms.push(EQUAL);
            self.equals.push(own[0].to_bits());
            self.rows.clear();
        } else {
            self.forms.push(RAW);
            self.push_raw(own);
        }
        self.positions.extend(self.rows.iter().map(|&row| start as u64 + u64::from(row)));
        self.bits.extend(self.rows.iter().map(|&row| own[row as usize].to_bits()));
    }

    /// Adds a raw series; a few NaNs become exceptions (`rows`) and repeat their neighbour.
    fn push_raw(&mut self, own: &[f64]) {
        self.rows.clear();
        self.raw.extend_from_slice(own);
        let nans = own.iter().filter(|v| v.is_nan()).count();
        if nans == 0 || nans > 1 + own.len() / ROWS_PER_EXCEPTION {
            return;
        }
        let start = self.raw.len() - own.len();
        let mut neighbour = own.iter().copied().find(|v| !v.is_nan()).unwrap_or(0.0);
        for (row, value) in self.raw[start..].iter_mut().enumerate() {
            if value.is_nan() {
                *value = neighbour;
                self.rows.push(row as u32);
            }
            neighbour = *value;
        }
    }

    fn pack_raw(&mut self, packer: &mut Packer, out: &mut Vec<u8>) {
        if self.raw.is_empty() {
            return;
        }
        self.bytes.clear();
        self.bytes.extend(self.raw.iter().flat_map(|v| v.to_bits().to_le_bytes()));
        self.packed.clear();
        let zstd = packer.try_zstd(&self.bytes, &mut self.packed);
        let best = if zstd { self.packed.len() } else { self.bytes.len() };
        if let Some(len) = packer.try_pco(&self.raw, best) {
            out.push(PCO);
            put_varint(out, len as u64);
            out.extend_from_slice(packer.trial());
        } else if zstd {
            out.push(ZSTD);
            put_varint(out, self.packed.len() as u64);
            out.extend_from_slice(&self.packed);
        } else {
            out.push(PLAIN);
            out.extend_from_slice(&self.bytes);
        }
    }
}

/// Reads the values of a block.
#[derive(Default)]
pub(crate) struct ValuesDecoder {
    forms: Vec<u64>,
    equals: Vec<u64>,
    raw: Vec<f64>,
    positions: Vec<u64>,
    bits: Vec<u64>,
    integers: Vec<i64>,
    bytes: Vec<u8>,
    sequences: SequencesDecoder,
}

impl ValuesDecoder {
    /// Replaces `values` with the values of series whose row counts (each at least 1) are `rows`.
    pub(crate) fn decode(
        &mut self,
        unpacker: &mut Unpacker,
        input: &mut Reader<'_>,
        rows: &[u32],
        values: &mut Vec<f64>,
    ) -> Result<()> {
        self.decode_some(unpacker, input, rows, |k| 0..rows[k] as usize, values)?;
        values.truncate(rows.iter().map(|&n| n as usize).sum());
        Ok(())
    }

    /// As [`ValuesDecoder::decode`], but rows of a series that are not `wanted` (asked in increasing order; rows inside the series)
    /// are left as they were, and `values` may be longer: of a large block one series costs little.
    pub(crate) fn decode_some(
        &mut self,
        unpacker: &mut Unpacker,
        input: &mut Reader<'_>,
        rows: &[u32],
        mut wanted: impl FnMut(usize) -> Range<usize>,
        values: &mut Vec<f64>,
    ) -> Result<()> {
        unpacker.unpack(input, rows.len(), &mut self.forms)?;
        let (mut equals, mut raw, mut total) = (0, 0, 0);
        // The lengths of the decimal series go through `positions`, which is filled with exceptions only later.
        self.positions.clear();
        for (&form, &n) in self.forms.iter().zip(rows) {
            match form {
                EQUAL => equals += 1,
                RAW => raw += n as usize,
                e if e < RAW => self.positions.push(u64::from(n)),
                form => return Err(input.corrupt("a form of 0 to 17", form.to_string())),
            }
            total += n as usize;
        }
        if total > ROWS_MAX {
            return Err(input.corrupt(format!("at most {ROWS_MAX} values"), total.to_string()));
        }
        self.sequences.start(unpacker, input, self.positions.iter().map(|&n| n as usize))?;
        unpacker.unpack(input, equals, &mut self.equals)?;
        self.unpack_raw(unpacker, input, raw)?;
        if values.len() < total {
            if values.capacity() < total {
                // What was there need not be copied, and the next block is often a little longer.
                *values = Vec::with_capacity(total.next_power_of_two().min(ROWS_MAX));
            }
            values.resize(total, 0.0);
        }
        let values = &mut values[..total];
        let (mut equals, mut raw, mut rest) = (self.equals.iter(), &self.raw[..], &mut *values);
        for (k, (&form, &n)) in self.forms.iter().zip(rows).enumerate() {
            let (own, others) = rest.split_at_mut(n as usize);
            rest = others;
            let wanted = wanted(k);
            match form {
                EQUAL => own[wanted].fill(f64::from_bits(*equals.next().unwrap_or(&0))),
                RAW => {
                    let (mine, others) = raw.split_at(own.len());
                    own[wanted.clone()].copy_from_slice(&mine[wanted]);
                    raw = others;
                }
                _ if wanted.is_empty() => self.sequences.skip(own.len()),
                e => {
                    self.integers.clear();
                    self.sequences.next_rows_into(own.len(), wanted.clone(), &mut self.integers);
                    from_integers(&self.integers, e as u8, &mut own[wanted]);
                }
            }
        }
        self.apply_exceptions(unpacker, input, values)
    }

    fn apply_exceptions(&mut self, unpacker: &mut Unpacker, input: &mut Reader<'_>, values: &mut [f64]) -> Result<()> {
        let count = input.varint()? as usize;
        if count > values.len() {
            return Err(input.corrupt(format!("at most {} exceptions", values.len()), count.to_string()));
        }
        unpacker.unpack(input, count, &mut self.positions)?;
        unpacker.unpack(input, count, &mut self.bits)?;
        let mut row = 0u64;
        for (&step, &bits) in self.positions.iter().zip(&self.bits) {
            row = row.saturating_add(step);
            match usize::try_from(row).ok().and_then(|row| values.get_mut(row)) {
                Some(value) => *value = f64::from_bits(bits),
                None => return Err(input.corrupt(format!("an exception below row {}", values.len()), row.to_string())),
            }
        }
        Ok(())
    }

    fn unpack_raw(&mut self, unpacker: &mut Unpacker, input: &mut Reader<'_>, n: usize) -> Result<()> {
        self.raw.clear();
        if n == 0 {
            return Ok(());
        }
        let from_bytes = |bytes: &[u8], raw: &mut Vec<f64>| {
            raw.extend(bytes.as_chunks::<8>().0.iter().map(|&eight| f64::from_bits(u64::from_le_bytes(eight))));
        };
        match input.u8()? {
            PLAIN => from_bytes(input.bytes(n * 8)?, &mut self.raw),
            ZSTD => {
                unpacker.unzstd(input, n * 8, &mut self.bytes)?;
                from_bytes(&self.bytes, &mut self.raw);
            }
            PCO => {
                self.raw.resize(n, 0.0);
                unpack_pco(input, &mut self.raw)?;
            }
            tag => return Err(input.corrupt("a raw tag of 0 to 2", tag.to_string())),
        }
        Ok(())
    }
}
