//! Floats that are an integer divided by a power of ten: what counters, sizes, percentages and rounded seconds are.
//!
//! A series qualifies when `(m as f64) / 10^e` gives back the bits of nearly every value, checked value by value. The
//! rest (a stale marker, a stray -0.0) are exceptions, kept as position and bits.

/// Largest exponent tried. Powers of ten up to 10^22 are exact as `f64`.
pub(crate) const EXPONENT_MAX: u8 = 15;

/// Magnitudes from here on are not tried with an exponent above zero: more digits than a decimal float prints.
const DECIMAL_LIMIT: f64 = 1e15;
/// Adding and subtracting this rounds magnitudes below 2^51 to the nearest integer, without a call.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

const POWERS: [f64; EXPONENT_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Values looked at before a whole series is.
const SAMPLES: usize = 12;
/// How often a whole series is tried with a larger exponent.
const RAISES_MAX: usize = 4;
/// One value in this many may be an exception, and one always may.
const ROWS_PER_EXCEPTION: usize = 16;

/// The integer that stands for `value` at exponent `e`, if it gives the exact bits back.
fn integer_of(value: f64, e: u8) -> Option<i64> {
    let power = POWERS[usize::from(e)];
    let scaled = (value * power).round();
    if e > 0 && scaled.abs() >= DECIMAL_LIMIT {
        return None;
    }
    let integer = scaled as i64;
    ((integer as f64 / power).to_bits() == value.to_bits()).then_some(integer)
}

/// The smallest exponent from `from` on that stands for `value`.
fn exponent_of(value: f64, from: u8) -> Option<u8> {
    (from..=EXPONENT_MAX).find(|&e| integer_of(value, e).is_some())
}

/// Turns `values` into `integers` (replaced) at one exponent; `exceptions` (replaced) lists the rows whose bits differ.
/// An exception's integer continues its neighbours, so that it costs nothing there. `None` if too many would be needed.
pub(crate) fn to_integers(values: &[f64], integers: &mut Vec<i64>, exceptions: &mut Vec<u32>) -> Option<u8> {
    let mut e = 0;
    let mut misses = 0;
    let step = (values.len() / SAMPLES).max(1);
    for &value in values.iter().step_by(step) {
        match exponent_of(value, e) {
            Some(larger) => e = larger,
            None => misses += 1,
        }
    }
    if misses > 1 + SAMPLES / 8 {
        return None;
    }
    for _ in 0..=RAISES_MAX {
        match fill(values, e, integers, exceptions) {
            Fill::Done => return Some(e),
            Fill::Raise(larger) => e = larger,
            Fill::TooMany => return None,
        }
    }
    None
}

enum Fill {
    Done,
    Raise(u8),
    TooMany,
}

fn fill(values: &[f64], e: u8, integers: &mut Vec<i64>, exceptions: &mut Vec<u32>) -> Fill {
    let power = POWERS[usize::from(e)];
    let exceptions_max = 1 + values.len() / ROWS_PER_EXCEPTION;
    integers.clear();
    exceptions.clear();
    for chunk in values.chunks(64) {
        let start = integers.len();
        let mut misfits = 0u64;
        integers.extend(chunk.iter().map(|&value| {
            let scaled = value * power;
            let integer = (scaled + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i64;
            misfits |= (integer as f64 / power).to_bits() ^ value.to_bits();
            misfits |= u64::from(scaled.abs() >= DECIMAL_LIMIT);
            integer
        }));
        if misfits == 0 {
            continue;
        }
        for (row, &value) in (start..).zip(chunk) {
            if let Some(integer) = integer_of(value, e) {
                integers[row] = integer;
            } else if let Some(larger) = exponent_of(value, e) {
                return Fill::Raise(larger);
            } else {
                integers[row] = continuation(&integers[..row]);
                exceptions.push(row as u32);
                if exceptions.len() > exceptions_max {
                    return Fill::TooMany;
                }
            }
        }
    }
    // Leading exceptions repeat the first real integer.
    if let Some(first) = (0u32..).zip(exceptions.iter()).position(|(row, &at)| row != at).or(Some(exceptions.len()))
        && first > 0
    {
        let neighbour = integers.get(first).copied().unwrap_or(0);
        integers[..first].fill(neighbour);
    }
    Fill::Done
}

/// What a steady series would hold next.
fn continuation(integers: &[i64]) -> i64 {
    match integers {
        [.., before, last] => last.wrapping_add(last.wrapping_sub(*before)),
        [last] => *last,
        [] => 0,
    }
}

/// Appends the floats that `integers` stand for at exponent `e`, at most [`EXPONENT_MAX`].
pub(crate) fn from_integers(integers: &[i64], e: u8, values: &mut [f64]) {
    if e == 0 {
        values.iter_mut().zip(integers).for_each(|(value, &i)| *value = i as f64);
    } else {
        let power = POWERS[usize::from(e)];
        values.iter_mut().zip(integers).for_each(|(value, &i)| *value = i as f64 / power);
    }
}
