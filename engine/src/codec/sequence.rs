//! Integer sequences that lie one after another: the timestamps of groups, the integers of decimal values.
//!
//! Each sequence becomes the cheapest of five kinds; what is left over after the prediction is divided by its greatest
//! common divisor and stored as bytes, as wide as the sequence's largest.
//!
//! | kind | value i | parameters | residuals |
//! |---|---|---|---|
//! | 0 equal | base | base | 0 |
//! | 1 linear | base + i · centre | base, centre | 0 |
//! | 2 order 0 | base + r · divisor | base, divisor | n |
//! | 3 order 1 | previous + centre + r · divisor | base, centre, divisor | n - 1 |
//! | 4 order 2 | previous + previous step + r · divisor | base, centre = first step, divisor | n - 2 |
//!
//! ```text
//! sequences = numbers(head: kind | (width - 1) << 3)   numbers(zigzag base)   numbers(zigzag centre)   numbers(divisor)
//!             residuals
//! residuals = 0 bytes{8}        plane k: byte k of the residuals of every sequence wider than k
//!           | 1 varint(len) pco
//! ```
//! Arithmetic wraps, so every i64 is representable. Numbers of sequences and their lengths are the caller's to know.
use std::ops::Range;

use super::stream::{Effort, Packer, Unpacker, divisor_of, unpack_pco, width_of};
use crate::error::Result;
use crate::format::{Reader, put_varint, unzigzag, zigzag};

const EQUAL: u8 = 0;
const LINEAR: u8 = 1;
const ORDER_0: u8 = 2;
const ORDER_1: u8 = 3;
const ORDER_2: u8 = 4;

const PLANES: u8 = 0;
const PCO: u8 = 1;

/// Values looked at for a centre.
const SAMPLES: usize = 31;

/// Collects sequences, then writes them.
#[derive(Default)]
pub(crate) struct SequencesEncoder {
    heads: Vec<u64>,
    bases: Vec<u64>,
    centres: Vec<u64>,
    divisors: Vec<u64>,
    residuals: Vec<u64>,
    planes: [Vec<u8>; 8],
    steps: Vec<i64>,
}

impl SequencesEncoder {
    /// Forgets every sequence.
    pub(crate) fn clear(&mut self) {
        self.heads.clear();
        self.bases.clear();
        self.centres.clear();
        self.divisors.clear();
        self.residuals.clear();
        self.planes.iter_mut().for_each(Vec::clear);
    }

    /// Adds a sequence of at least one value.
    pub(crate) fn push(&mut self, values: &[i64]) {
        let first = values[0];
        let mut steps = std::mem::take(&mut self.steps);
        steps.clear();
        steps.extend(values.windows(2).map(|w| w[1].wrapping_sub(w[0])));
        match steps.first() {
            Some(&step) if steps.iter().all(|&s| s == step) => {
                if step == 0 {
                    self.head(EQUAL, 1, first);
                } else {
                    self.head(LINEAR, 1, first);
                    self.centres.push(zigzag(step));
                }
            }
            None => self.head(EQUAL, 1, first),
            Some(&step) => self.push_irregular(values, step, &mut steps),
        }
        self.steps = steps;
    }

    fn push_irregular(&mut self, values: &[i64], first_step: i64, steps: &mut [i64]) {
        let level = middle_of(values);
        let pace = middle_of(steps);
        let cost = |residuals: &mut dyn Iterator<Item = i64>| residuals.map(|r| u64::from(bits_of(r))).sum::<u64>();
        let cost_0 = cost(&mut values.iter().map(|v| v.wrapping_sub(level)));
        let cost_1 = cost(&mut steps.iter().map(|s| s.wrapping_sub(pace)));
        let cost_2 = cost(&mut steps.windows(2).map(|w| w[1].wrapping_sub(w[0]))) + values.len() as u64 / 4;
        if cost_0 <= cost_1 && cost_0 <= cost_2 {
            self.residuals_of(ORDER_0, level, values.iter().map(|v| v.wrapping_sub(level)));
        } else if cost_1 <= cost_2 {
            self.centres.push(zigzag(pace));
            self.residuals_of(ORDER_1, values[0], steps.iter().map(|s| s.wrapping_sub(pace)));
        } else {
            self.centres.push(zigzag(first_step));
            self.residuals_of(ORDER_2, values[0], steps.windows(2).map(|w| w[1].wrapping_sub(w[0])));
        }
    }

    fn head(&mut self, kind: u8, width: usize, base: i64) {
        self.heads.push(u64::from(kind) | ((width as u64 - 1) << 3));
        self.bases.push(zigzag(base));
    }

    fn residuals_of(&mut self, kind: u8, base: i64, residuals: impl Iterator<Item = i64> + Clone) {
        let divisor = i64::try_from(divisor_of(residuals.clone().map(i64::unsigned_abs))).unwrap_or(1);
        let start = self.residuals.len();
        if divisor == 1 {
            self.residuals.extend(residuals.map(zigzag));
        } else {
            self.residuals.extend(residuals.map(|r| zigzag(r / divisor)));
        }
        let added = &self.residuals[start..];
        let width = width_of(added.iter().fold(0, |all, r| all | r));
        for (k, plane) in self.planes.iter_mut().enumerate().take(width) {
            plane.extend(added.iter().map(|r| (r >> (8 * k)) as u8));
        }
        self.divisors.push(divisor as u64);
        self.head(kind, width, base);
    }

    /// Appends all sequences to `out`.
    pub(crate) fn finish(&mut self, packer: &mut Packer, out: &mut Vec<u8>) {
        packer.pack(&self.heads, out);
        packer.pack(&self.bases, out);
        packer.pack(&self.centres, out);
        packer.pack(&self.divisors, out);
        if self.residuals.is_empty() {
            return;
        }
        let start = out.len();
        out.push(PLANES);
        for (k, plane) in self.planes.iter().enumerate() {
            packer.pack_plane(k, plane, out);
        }
        // Against ingest, pco's few per cent are not worth three times the time.
        if packer.effort() == Effort::Thorough
            && let Some(len) = packer.try_pco(&self.residuals, out.len() - start)
        {
            out.truncate(start);
            out.push(PCO);
            put_varint(out, len as u64);
            out.extend_from_slice(packer.trial());
        }
    }
}

/// Bits that a residual takes, roughly.
fn bits_of(residual: i64) -> u32 {
    64 - zigzag(residual).leading_zeros()
}

/// A value in the middle of `values`, from a sample.
fn middle_of(values: &[i64]) -> i64 {
    let mut sample = [0; SAMPLES];
    let n = values.len().min(SAMPLES);
    for (k, slot) in sample[..n].iter_mut().enumerate() {
        *slot = values[k * values.len() / n];
    }
    *sample[..n].select_nth_unstable(n / 2).1
}

/// Reads sequences in the order they were pushed.
#[derive(Default)]
pub(crate) struct SequencesDecoder {
    heads: Vec<u64>,
    bases: Vec<u64>,
    centres: Vec<u64>,
    divisors: Vec<u64>,
    planes: [Vec<u8>; 8],
    planes_at: [usize; 8],
    residuals: Vec<u64>,
    residuals_at: usize,
    in_planes: bool,
    next: usize,
    next_centre: usize,
    next_divisor: usize,
}

impl SequencesDecoder {
    /// Reads the sequences whose lengths (each at least 1) are `lengths`.
    pub(crate) fn start(
        &mut self,
        unpacker: &mut Unpacker,
        input: &mut Reader<'_>,
        lengths: impl ExactSizeIterator<Item = usize>,
    ) -> Result<()> {
        (self.next, self.next_centre, self.next_divisor, self.residuals_at) = (0, 0, 0, 0);
        self.planes_at = [0; 8];
        unpacker.unpack(input, lengths.len(), &mut self.heads)?;
        let (mut centres, mut divisors, mut residuals) = (0, 0, 0);
        let mut plane_lens = [0usize; 8];
        for (&head, n) in self.heads.iter().zip(lengths) {
            let (kind, width) = split(head);
            if head > 63 || kind > ORDER_2 {
                return Err(input.corrupt("a sequence kind of 0 to 4", head.to_string()));
            }
            centres += usize::from(kind == LINEAR || kind >= ORDER_1);
            divisors += usize::from(kind >= ORDER_0);
            let count = residual_count(kind, n);
            residuals += count;
            plane_lens[..if count > 0 { width } else { 0 }].iter_mut().for_each(|len| *len += count);
        }
        unpacker.unpack(input, self.heads.len(), &mut self.bases)?;
        unpacker.unpack(input, centres, &mut self.centres)?;
        unpacker.unpack(input, divisors, &mut self.divisors)?;
        if residuals == 0 {
            self.in_planes = true;
            return Ok(());
        }
        match input.u8()? {
            PLANES => {
                self.in_planes = true;
                for (plane, len) in self.planes.iter_mut().zip(plane_lens) {
                    unpacker.unpack_bytes(input, len, plane)?;
                }
            }
            PCO => {
                self.in_planes = false;
                self.residuals.clear();
                self.residuals.resize(residuals, 0);
                unpack_pco(input, &mut self.residuals)?;
            }
            tag => return Err(input.corrupt("a residual tag of 0 or 1", tag.to_string())),
        }
        Ok(())
    }

    /// Appends the next sequence, of the length given to [`SequencesDecoder::start`].
    pub(crate) fn next_into(&mut self, n: usize, out: &mut Vec<i64>) {
        self.next_rows_into(n, 0..n, out);
    }

    /// Appends the values at `rows` (at least one) of the next sequence, of the length given to [`SequencesDecoder::start`].
    pub(crate) fn next_rows_into(&mut self, n: usize, rows: Range<usize>, out: &mut Vec<i64>) {
        let parameters = self.parameters();
        let Parameters { kind, width, base, centre, .. } = parameters;
        if kind == EQUAL {
            out.resize(out.len() + rows.len(), base);
            return;
        }
        if kind == LINEAR {
            out.extend(rows.map(|i| base.wrapping_add(centre.wrapping_mul(i as i64))));
            return;
        }
        let count = residual_count(kind, n);
        // Residuals before the rows, and those of the rows.
        let passed = rows.start.min(count);
        let own = passed..passed + residual_count(kind, rows.len());
        if !self.in_planes {
            self.residuals_at += count;
            let all = &self.residuals[self.residuals_at - count..self.residuals_at];
            let (passed, own) = (&all[..passed], &all[own]);
            parameters.predict(&rows, passed.iter().copied(), || sum(passed), own.iter().copied(), out);
            return;
        }
        // Most are narrow: their bytes need not be put together first.
        match width {
            1 => {
                let all = self.plane(0, count);
                let (passed, own) = (&all[..passed], &all[own]);
                parameters.predict(&rows, bytes(passed), || sum_of_bytes(passed), bytes(own), out);
            }
            2 => {
                let all = [self.plane(0, count), self.plane(1, count)];
                let (passed, own) = (all.map(|plane| &plane[..passed]), all.map(|plane| &plane[own.clone()]));
                parameters.predict(&rows, pairs(passed), || sum_of_pairs(passed), pairs(own), out);
            }
            _ => {
                self.gather(width, count);
                let (passed, own) = (&self.residuals[..passed], &self.residuals[own]);
                parameters.predict(&rows, passed.iter().copied(), || sum(passed), own.iter().copied(), out);
            }
        }
        self.planes_at[..width].iter_mut().for_each(|at| *at += count);
    }

    /// Passes the next sequence, of the length given to [`SequencesDecoder::start`].
    pub(crate) fn skip(&mut self, n: usize) {
        let Parameters { kind, width, .. } = self.parameters();
        let count = residual_count(kind, n);
        if self.in_planes {
            self.planes_at[..width].iter_mut().for_each(|at| *at += count);
        } else {
            self.residuals_at += count;
        }
    }

    /// Takes the parameters of the next sequence; those that its kind does not have are 0, its divisor then 1.
    fn parameters(&mut self) -> Parameters {
        let (kind, width) = split(self.heads[self.next]);
        let base = unzigzag(self.bases[self.next]);
        self.next += 1;
        let (mut centre, mut divisor) = (0, 1);
        if kind == LINEAR || kind >= ORDER_1 {
            centre = unzigzag(self.centres[self.next_centre]);
            self.next_centre += 1;
        }
        if kind >= ORDER_0 {
            divisor = self.divisors[self.next_divisor] as i64;
            self.next_divisor += 1;
        }
        Parameters { kind, width, base, centre, divisor }
    }

    /// The next `count` bytes of plane `k`.
    fn plane(&self, k: usize, count: usize) -> &[u8] {
        &self.planes[k][self.planes_at[k]..self.planes_at[k] + count]
    }

    /// Puts the next `count` residuals of `width` bytes together.
    fn gather(&mut self, width: usize, count: usize) {
        self.residuals.clear();
        self.residuals.resize(count, 0);
        for k in 0..width {
            let plane = &self.planes[k][self.planes_at[k]..self.planes_at[k] + count];
            for (residual, &b) in self.residuals.iter_mut().zip(plane) {
                *residual |= u64::from(b) << (8 * k);
            }
        }
    }
}

/// Of a sequence.
struct Parameters {
    kind: u8,
    /// Bytes of a residual.
    width: usize,
    base: i64,
    centre: i64,
    divisor: i64,
}

impl Parameters {
    /// Appends the values at `rows`: what `residuals` stand for, after those that are `passed`, which have a sum.
    #[inline(always)]
    fn predict(
        &self,
        rows: &Range<usize>,
        passed: impl Iterator<Item = u64>,
        sum: impl FnOnce() -> i64,
        residuals: impl ExactSizeIterator<Item = u64>,
        out: &mut Vec<i64>,
    ) {
        let divisor = self.divisor;
        let times = |r: u64| unzigzag(r).wrapping_mul(divisor);
        let (base, centre) = match rows.start {
            0 => (self.base, self.centre),
            start => self.after(start, passed.map(times), sum),
        };
        if divisor == 1 {
            predict(self.kind, base, centre, rows.len(), residuals.map(unzigzag), out);
        } else {
            predict(self.kind, base, centre, rows.len(), residuals.map(times), out);
        }
    }

    /// Base and centre of the sequence that is left after the first `rows`, whose residuals are `passed`.
    #[inline(always)]
    fn after(&self, rows: usize, passed: impl Iterator<Item = i64>, sum: impl FnOnce() -> i64) -> (i64, i64) {
        let &Self { kind, base, centre, divisor, .. } = self;
        match kind {
            ORDER_0 => (base, centre),
            ORDER_1 => {
                let steps = centre.wrapping_mul(rows as i64).wrapping_add(divisor.wrapping_mul(sum()));
                (base.wrapping_add(steps), centre)
            }
            _ => {
                let (mut value, mut step) = (base, centre);
                // The last row but one has a residual for each row before it, the last one lacks one.
                for r in passed.chain(std::iter::once(0)).take(rows) {
                    value = value.wrapping_add(step);
                    step = step.wrapping_add(r);
                }
                (value, step)
            }
        }
    }
}

/// Residuals of one byte.
fn bytes(plane: &[u8]) -> impl ExactSizeIterator<Item = u64> {
    plane.iter().map(|&low| u64::from(low))
}

/// Residuals of two bytes.
fn pairs([low, high]: [&[u8]; 2]) -> impl ExactSizeIterator<Item = u64> {
    low.iter().zip(high).map(|(&low, &high)| u64::from(low) | u64::from(high) << 8)
}

fn sum(residuals: &[u64]) -> i64 {
    residuals.iter().fold(0, |sum, &r| sum.wrapping_add(unzigzag(r)))
}

/// Sum of residuals of one byte: as narrow as they are, eight are added by one instruction.
fn sum_of_bytes(plane: &[u8]) -> i64 {
    let each = |&r: &u8| i16::from((r >> 1) as i8 ^ ((r & 1) as i8).wrapping_neg());
    // So many fit into 16 bits.
    let few = |bytes: &[u8]| i64::from(bytes.iter().map(each).fold(0, i16::wrapping_add));
    plane.chunks(128).map(few).sum()
}

/// Sum of residuals of two bytes, at most as many as a block has rows.
fn sum_of_pairs([low, high]: [&[u8]; 2]) -> i64 {
    let each = |(&low, &high): (&u8, &u8)| {
        let r = u16::from_le_bytes([low, high]);
        i32::from((r >> 1) as i16 ^ ((r & 1) as i16).wrapping_neg())
    };
    i64::from(low.iter().zip(high).map(each).fold(0, i32::wrapping_add))
}

fn split(head: u64) -> (u8, usize) {
    ((head & 7) as u8, (head >> 3) as usize + 1)
}

fn residual_count(kind: u8, n: usize) -> usize {
    match kind {
        ORDER_0 => n,
        ORDER_1 => n.saturating_sub(1),
        ORDER_2 => n.saturating_sub(2),
        _ => 0,
    }
}

#[inline(always)]
fn predict(
    kind: u8,
    base: i64,
    centre: i64,
    n: usize,
    residuals: impl ExactSizeIterator<Item = i64>,
    out: &mut Vec<i64>,
) {
    let mut value = base;
    match kind {
        ORDER_0 => out.extend(residuals.map(|r| base.wrapping_add(r))),
        ORDER_1 => {
            out.push(base);
            out.extend(residuals.map(|r| {
                value = value.wrapping_add(centre.wrapping_add(r));
                value
            }));
        }
        _ => {
            let mut step = centre;
            value = value.wrapping_add(step);
            out.push(base);
            if n > 1 {
                out.push(value);
            }
            out.extend(residuals.map(|r| {
                step = step.wrapping_add(r);
                value = value.wrapping_add(step);
                value
            }));
        }
    }
}
