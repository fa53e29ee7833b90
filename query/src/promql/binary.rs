//! Binary operators on scalars and between vectors and scalars. Between vectors: [`super::vector_match`].
use std::sync::Arc;

use super::annotation::{Note, Notes};
use super::arctangent::atan2;
use super::expr::{Binary, BinaryOp};
use super::histogram::{Histogram, Kept};
use super::labels::without_name;
use super::value::{ABSENT, Column, Columns, Sample, Value, is_absent};
use super::vector_match;
use super::window::Found;
use crate::error::{Error, ErrorKind, Result};

/// `lhs op rhs` at each step. `count` is told of values that are made beside the operands.
///
/// # Errors
/// `Execution` when series cannot be matched one to one, or results have the same labels; those of `count`.
pub(crate) fn evaluate(
    binary: &Binary,
    lhs: Value,
    rhs: Value,
    notes: &Notes,
    count: &dyn Fn(usize) -> Result<()>,
) -> Result<Value> {
    let op = binary.op;
    match (lhs, rhs) {
        (Value::Scalar(_), Value::Scalar(_)) if op.is_trim() => Err(Error::new(
            ErrorKind::Execution,
            format!("operator {:?} not allowed for Scalar operations: it trims native histograms", op.symbol()),
        )),
        (Value::Scalar(lhs), Value::Scalar(rhs)) => {
            let both = lhs.into_iter().zip(rhs);
            Ok(Value::Scalar(both.map(|(a, b)| arithmetic(op, a, b)).collect()))
        }
        (Value::Vector(columns), Value::Scalar(scalar)) => {
            with_scalar(binary, columns, &scalar, false, notes).map(Value::Vector)
        }
        (Value::Scalar(scalar), Value::Vector(columns)) => {
            with_scalar(binary, columns, &scalar, true, notes).map(Value::Vector)
        }
        (Value::Vector(lhs), Value::Vector(rhs)) if op.is_set() => {
            let filtered = if op == BinaryOp::Or { &rhs } else { &lhs };
            count(filtered.iter().map(|column| column.values.len()).sum())?;
            vector_match::set(op, &binary.matching, lhs, rhs).map(Value::Vector)
        }
        (Value::Vector(lhs), Value::Vector(rhs)) => {
            vector_match::evaluate(binary, &lhs, &rhs, notes, count).map(Value::Vector)
        }
        _ => Err(Error::invalid("binary expression must contain only scalar and instant vector types")),
    }
}

/// Whether the result no longer measures what its name says.
pub(crate) fn drops_name(binary: &Binary) -> bool {
    !(binary.op.is_comparison() || binary.op.is_trim()) || binary.returns_bool
}

/// The value of `a op b`, for comparisons 1 or 0.
pub(crate) fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => atan2(a, b),
        _ => f64::from(u8::from(holds(op, a, b))),
    }
}

/// Whether the comparison holds.
pub(crate) fn holds(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Equal => a == b,
        BinaryOp::NotEqual => a != b,
        BinaryOp::Less => a < b,
        BinaryOp::LessOrEqual => a <= b,
        BinaryOp::Greater => a > b,
        BinaryOp::GreaterOrEqual => a >= b,
        _ => false,
    }
}

/// What a step of the result holds: the value, or nothing where a filter does not hold. Of a number there is nothing to trim.
pub(crate) fn result(binary: &Binary, a: f64, b: f64, kept: f64) -> f64 {
    if binary.op.is_trim() {
        ABSENT
    } else if binary.op.is_comparison() && !binary.returns_bool {
        if holds(binary.op, a, b) { kept } else { ABSENT }
    } else {
        arithmetic(binary.op, a, b)
    }
}

/// As [`result`], where at least one side is a histogram: two can be added, subtracted and tested for equality, one can be
/// scaled and trimmed.
///
/// # Errors
/// What else is to be told instead of a result.
pub(crate) fn result_of_samples(
    binary: &Binary,
    a: Sample<'_>,
    b: Sample<'_>,
    kept: Sample<'_>,
) -> Result<Option<Found>, Note> {
    use BinaryOp::{Add, Div, Equal, Mul, NotEqual, Sub, TrimLower, TrimUpper};
    let op = binary.op;
    let made = |mut histogram: Histogram| {
        histogram.compact();
        Ok(Some(Found::Histogram(Arc::new(histogram))))
    };
    match (a, b) {
        (Sample::Histogram(a), Sample::Histogram(b)) if matches!(op, Add | Sub) => {
            let mut both = Histogram::clone(a);
            let combined = if op == Add { both.add(b) } else { both.subtract(b) };
            combined.map_err(|_| Note::IncompatibleLayouts(op.symbol()))?;
            made(both)
        }
        (Sample::Histogram(a), Sample::Histogram(b)) if matches!(op, Equal | NotEqual) => {
            let holds = a.equals(b) == (op == Equal);
            Ok(match kept {
                _ if binary.returns_bool => Some(Found::Value(f64::from(u8::from(holds)))),
                Sample::Histogram(kept) => holds.then(|| Found::Histogram(Arc::clone(kept))),
                Sample::Value(kept) => holds.then_some(Found::Value(kept)),
            })
        }
        (Sample::Histogram(histogram), Sample::Value(factor))
        | (Sample::Value(factor), Sample::Histogram(histogram))
            if op == Mul =>
        {
            let mut scaled = Histogram::clone(histogram);
            scaled.scale(factor);
            made(scaled)
        }
        (Sample::Histogram(histogram), Sample::Value(by)) if op == Div => {
            let mut scaled = Histogram::clone(histogram);
            scaled.divide(by);
            made(scaled)
        }
        (Sample::Histogram(histogram), Sample::Value(threshold)) if matches!(op, TrimUpper | TrimLower) => {
            let mut trimmed = Histogram::clone(histogram);
            trimmed.trim(threshold, if op == TrimUpper { Kept::Below } else { Kept::Above });
            made(trimmed)
        }
        _ => Err(Note::IncompatibleTypes(kind(a), op.symbol(), kind(b))),
    }
}

/// What is told of two numbers instead of a result.
pub(crate) fn note_of_numbers(op: BinaryOp) -> Option<Note> {
    op.is_trim().then(|| Note::IncompatibleTypes("float", op.symbol(), "float"))
}

fn kind(sample: Sample<'_>) -> &'static str {
    match sample {
        Sample::Value(_) => "float",
        Sample::Histogram(_) => "histogram",
    }
}

/// Operates on each sample and the scalar of its step, which stands on the left if `swapped`.
fn with_scalar(
    binary: &Binary,
    columns: Vec<Column>,
    scalar: &[f64],
    swapped: bool,
    notes: &Notes,
) -> Result<Vec<Column>> {
    let mut results = Columns::default();
    for mut column in columns {
        if drops_name(binary) {
            column.labels = without_name(&column.labels);
        }
        let has_numbers = column.values.iter().any(|&value| !is_absent(value));
        if let Some(note) = note_of_numbers(binary.op).filter(|_| has_numbers) {
            notes.add(&note);
        }
        numbers_with_scalar(binary, &mut column.values, scalar, swapped);
        if column.histograms.is_some() {
            histograms_with_scalar(binary, &mut column, scalar, swapped, notes);
        }
        results.add(column)?;
    }
    Ok(results.finish())
}

/// [`result`] of each value and the scalar of its step, in its place.
fn numbers_with_scalar(binary: &Binary, values: &mut [f64], scalar: &[f64], swapped: bool) {
    // One loop for each of the most common, so that several steps are looked at at once.
    match (binary.op, swapped) {
        _ if !binary.op.is_comparison() || binary.returns_bool => {
            for (value, &scalar) in values.iter_mut().zip(scalar).filter(|(value, _)| !is_absent(**value)) {
                let (a, b) = if swapped { (scalar, *value) } else { (*value, scalar) };
                *value = result(binary, a, b, *value);
            }
        }
        (BinaryOp::Less, false) | (BinaryOp::Greater, true) => keep(values, scalar, |a, b| a < b),
        (BinaryOp::LessOrEqual, false) | (BinaryOp::GreaterOrEqual, true) => keep(values, scalar, |a, b| a <= b),
        (BinaryOp::Greater, false) | (BinaryOp::Less, true) => keep(values, scalar, |a, b| a > b),
        (BinaryOp::GreaterOrEqual, false) | (BinaryOp::LessOrEqual, true) => keep(values, scalar, |a, b| a >= b),
        (op, _) => keep(values, scalar, |a, b| holds(op, a, b)),
    }
}

/// Leaves the values that `holds` of them and the scalar of their step. What is absent is a NaN: it stays absent either way.
fn keep(values: &mut [f64], scalar: &[f64], holds: impl Fn(f64, f64) -> bool) {
    for (value, &scalar) in values.iter_mut().zip(scalar) {
        *value = if holds(*value, scalar) { *value } else { ABSENT };
    }
}

fn histograms_with_scalar(binary: &Binary, column: &mut Column, scalar: &[f64], swapped: bool, notes: &Notes) {
    for (step, &scalar) in scalar.iter().enumerate() {
        let Some(histogram) = column.histogram(step).map(Arc::clone) else { continue };
        let (histogram, scalar) = (Sample::Histogram(&histogram), Sample::Value(scalar));
        let (a, b) = if swapped { (scalar, histogram) } else { (histogram, scalar) };
        let found = result_of_samples(binary, a, b, histogram);
        column.clear(step);
        match found {
            Ok(None) => {}
            Ok(Some(Found::Value(value))) => column.values[step] = value,
            Ok(Some(Found::Histogram(histogram))) => column.put(step, histogram),
            Err(note) => notes.add(&note),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::expr::{Expr, Matching};

    #[test]
    fn numbers_in_their_place_are_the_results_of_each_with_the_scalar_on_either_side() {
        use BinaryOp::{Add, Atan2, Div, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Mod, Mul, NotEqual};
        use BinaryOp::{Pow, Sub, TrimLower, TrimUpper};
        let numbers = [1.0, 2.0, -1.5, 0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, ABSENT];
        let ops = [Add, Sub, Mul, Div, Mod, Pow, Atan2, TrimLower, TrimUpper].into_iter().chain([
            Equal,
            NotEqual,
            Less,
            LessOrEqual,
            Greater,
            GreaterOrEqual,
        ]);
        for (op, returns_bool, swapped) in
            ops.flat_map(|op| [(op, false), (op, true)]).flat_map(|(op, b)| [(op, b, false), (op, b, true)])
        {
            let (lhs, rhs, matching) = (Expr::Number(0.0), Expr::Number(0.0), Matching::default());
            let binary = Binary { op, lhs, rhs, returns_bool: returns_bool && op.is_comparison(), matching };
            for scalar in numbers {
                let mut values = numbers;
                numbers_with_scalar(&binary, &mut values, &[scalar; 9], swapped);
                let expect = numbers.map(|value| match (is_absent(value), swapped) {
                    (true, _) => ABSENT,
                    (false, false) => result(&binary, value, scalar, value),
                    (false, true) => result(&binary, scalar, value, value),
                });
                assert_eq!(values.map(f64::to_bits), expect.map(f64::to_bits), "{op:?} {scalar} {swapped}");
            }
        }
    }
}
