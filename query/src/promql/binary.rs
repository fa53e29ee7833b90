//! Binary operators on scalars and between vectors and scalars. Between vectors: [`super::vector_match`].
use super::expr::{Binary, BinaryOp};
use super::labels::without_name;
use super::value::{ABSENT, Column, Columns, Value, is_absent};
use super::vector_match;
use crate::error::{Error, Result};

/// `lhs op rhs` at each step. `count` is told of values that are made beside the operands.
///
/// # Errors
/// `Execution` when series cannot be matched one to one, or results have the same labels; those of `count`.
pub(crate) fn evaluate(binary: &Binary, lhs: Value, rhs: Value, count: &dyn Fn(usize) -> Result<()>) -> Result<Value> {
    let op = binary.op;
    match (lhs, rhs) {
        (Value::Scalar(lhs), Value::Scalar(rhs)) => {
            let both = lhs.into_iter().zip(rhs);
            Ok(Value::Scalar(both.map(|(a, b)| arithmetic(op, a, b)).collect()))
        }
        (Value::Vector(columns), Value::Scalar(scalar)) => {
            with_scalar(binary, columns, |value, step| (value, scalar[step])).map(Value::Vector)
        }
        (Value::Scalar(scalar), Value::Vector(columns)) => {
            with_scalar(binary, columns, |value, step| (scalar[step], value)).map(Value::Vector)
        }
        (Value::Vector(lhs), Value::Vector(rhs)) if op.is_set() => {
            let filtered = if op == BinaryOp::Or { &rhs } else { &lhs };
            count(filtered.iter().map(|column| column.values.len()).sum())?;
            vector_match::set(op, &binary.matching, lhs, rhs).map(Value::Vector)
        }
        (Value::Vector(lhs), Value::Vector(rhs)) => {
            vector_match::evaluate(binary, &lhs, &rhs, count).map(Value::Vector)
        }
        _ => Err(Error::invalid("binary expression must contain only scalar and instant vector types")),
    }
}

/// Whether the result no longer measures what its name says.
pub(crate) fn drops_name(binary: &Binary) -> bool {
    !binary.op.is_comparison() || binary.returns_bool
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
        BinaryOp::Atan2 => a.atan2(b),
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

/// What a step of the result holds: the value, or nothing where a filter does not hold.
pub(crate) fn result(binary: &Binary, a: f64, b: f64, kept: f64) -> f64 {
    if binary.op.is_comparison() && !binary.returns_bool {
        if holds(binary.op, a, b) { kept } else { ABSENT }
    } else {
        arithmetic(binary.op, a, b)
    }
}

fn with_scalar(
    binary: &Binary,
    columns: Vec<Column>,
    operands: impl Fn(f64, usize) -> (f64, f64),
) -> Result<Vec<Column>> {
    let mut results = Columns::default();
    for Column { labels, mut values } in columns {
        for (step, value) in values.iter_mut().enumerate().filter(|(_, value)| !is_absent(**value)) {
            let (a, b) = operands(*value, step);
            *value = result(binary, a, b, *value);
        }
        results.add(if drops_name(binary) { without_name(&labels) } else { labels }, values)?;
    }
    Ok(results.finish())
}
