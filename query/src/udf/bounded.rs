//! DataFusion's functions whose result may be far larger than their arguments: `repeat('x', 2000000000)`.
//!
//! Functions allocate outside the memory pool, and constant calls are evaluated while planning. So the size of the answer is
//! computed from the arguments before the function runs, and bounded for each batch of rows.
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, FieldRef, Int64Type, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::constant;
use crate::error::{Error, ErrorKind};

/// Most bytes that one call makes of one batch of rows.
const RESULT_BYTES_MAX: u128 = 64 << 20;

/// How the size of the result follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// Length of the first argument times the second.
    Repeat,
    /// The second argument is the length.
    Pad,
    /// The last but `n` argument is the number of items.
    Items(usize),
    /// From, to, step.
    Range,
    /// The lengths of all arguments together.
    Concat,
    /// Each byte of the first argument may become the third.
    Replace,
}

const GROWING: [(&str, Growth); 11] = [
    ("repeat", Growth::Repeat),
    ("lpad", Growth::Pad),
    ("rpad", Growth::Pad),
    ("array_repeat", Growth::Items(1)),
    ("array_resize", Growth::Items(1)),
    ("range", Growth::Range),
    ("generate_series", Growth::Range),
    ("concat", Growth::Concat),
    ("concat_ws", Growth::Concat),
    ("replace", Growth::Replace),
    ("array_concat", Growth::Concat),
];

/// All `functions`, the growing ones bounded.
pub(crate) fn all(functions: Vec<Arc<ScalarUDF>>) -> impl Iterator<Item = Arc<ScalarUDF>> {
    functions.into_iter().map(|function| match GROWING.iter().find(|(name, _)| *name == function.name()) {
        Some(&(_, growth)) => Arc::new(ScalarUDF::from(Bounded { inner: function, growth })),
        None => function,
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl Bounded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let rows = args.number_rows;
        let bytes = match self.growth {
            Growth::Repeat => {
                pairs(&lengths(args.args.first(), rows)?, &integers(args.args.get(1), rows)?, |n, times| n * times)
            }
            Growth::Pad => integers(args.args.get(1), rows)?.iter().map(|n| 4 * n).sum(),
            Growth::Items(at) => {
                let item = args.args.first().map_or(0, |a| item_bytes(a) as u128) + 16;
                integers(args.args.get(at), rows)?.iter().map(|n| item * n).sum()
            }
            Growth::Range => range_items(&args.args, rows)? * 8,
            Growth::Concat => {
                let mut total = 0;
                for argument in &args.args {
                    total += lengths(Some(argument), rows)?.iter().sum::<u128>();
                }
                total
            }
            Growth::Replace => {
                let by = lengths(args.args.get(2), rows)?;
                pairs(&lengths(args.args.first(), rows)?, &by, |n, by| n * (by + 1))
            }
        };
        if bytes > RESULT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Execution,
                format!(
                    "{} would make more than {RESULT_BYTES_MAX} bytes of one batch of rows: ask for less",
                    self.inner.name()
                ),
            )
            .into());
        }
        Ok(())
    }
}

/// One number for all rows, or one a row; missing and negative ones count as 0.
enum Numbers {
    Same(u128, usize),
    Each(Vec<u128>),
}

impl Numbers {
    fn iter(&self) -> Box<dyn Iterator<Item = u128> + '_> {
        match self {
            Self::Same(n, rows) => Box::new(std::iter::repeat_n(*n, *rows)),
            Self::Each(numbers) => Box::new(numbers.iter().copied()),
        }
    }
}

fn pairs(a: &Numbers, b: &Numbers, f: impl Fn(u128, u128) -> u128) -> u128 {
    a.iter().zip(b.iter()).map(|(a, b)| f(a, b)).sum()
}

fn unsigned(number: Option<i64>) -> u128 {
    u128::from(number.unwrap_or(0).max(0).unsigned_abs())
}

fn integers(argument: Option<&ColumnarValue>, rows: usize) -> Result<Numbers> {
    Ok(match argument {
        None => Numbers::Same(0, rows),
        Some(ColumnarValue::Scalar(value)) => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(number)) => Numbers::Same(unsigned(number), rows),
            _ => Numbers::Same(0, rows),
        },
        Some(ColumnarValue::Array(array)) => match cast(array, &DataType::Int64) {
            Ok(numbers) => Numbers::Each(numbers.as_primitive::<Int64Type>().iter().map(unsigned).collect()),
            Err(_) => Numbers::Same(0, rows),
        },
    })
}

/// Bytes of each text, or items times their size of each list.
fn lengths(argument: Option<&ColumnarValue>, rows: usize) -> Result<Numbers> {
    let of = |array: &ArrayRef| -> Result<Vec<u128>> {
        let item = match array.data_type() {
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => 16,
            _ => 1,
        };
        let Ok(lengths) = length(array) else { return Ok(vec![0; array.len()]) };
        let lengths = cast(&lengths, &DataType::Int64)?;
        let lengths: &Int64Array = lengths.as_primitive();
        Ok(lengths.iter().map(|n| unsigned(n) * item).collect())
    };
    Ok(match argument {
        None => Numbers::Same(0, rows),
        Some(ColumnarValue::Scalar(value)) => {
            Numbers::Same(of(&value.to_array()?)?.first().copied().unwrap_or(0), rows)
        }
        Some(ColumnarValue::Array(array)) => Numbers::Each(of(array)?),
    })
}

fn item_bytes(argument: &ColumnarValue) -> usize {
    match argument {
        ColumnarValue::Scalar(value) => value.size(),
        ColumnarValue::Array(array) => array.get_array_memory_size() / array.len().max(1),
    }
}

/// Items of `range(to)`, `range(from, to)`, `range(from, to, step)` over numbers or times, all rows together.
fn range_items(args: &[ColumnarValue], rows: usize) -> Result<u128> {
    let signed = |argument: &ColumnarValue| -> Result<Vec<Option<i64>>> {
        let array = argument.to_array(rows)?;
        let array = match array.data_type() {
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
                cast(&array, &DataType::Timestamp(TimeUnit::Nanosecond, None))?
            }
            _ => array,
        };
        Ok(cast(&array, &DataType::Int64)
            .map_or_else(|_| vec![None; rows], |a| a.as_primitive::<Int64Type>().iter().collect()))
    };
    let (from, to) = match args {
        [to] => (vec![Some(0); rows], signed(to)?),
        [from, to, ..] => (signed(from)?, signed(to)?),
        [] => return Ok(0),
    };
    let step: Vec<Option<i64>> = match args.get(2) {
        None => vec![Some(1); rows],
        Some(step) if step.data_type().is_integer() => signed(step)?,
        Some(step) => {
            let array = step.to_array(rows)?;
            let nanos =
                |i: usize| constant::nanos(&ScalarValue::try_from_array(&array, i).ok()?, "range", "step").ok()?;
            // Months have no fixed length; 28 days is the least.
            (0..rows).map(|i| nanos(i).or(Some(28 * 86_400_000_000_000))).collect()
        }
    };
    let items = |((from, to), step): ((&Option<i64>, &Option<i64>), &Option<i64>)| match (from, to, step) {
        (Some(from), Some(to), Some(step)) => {
            u128::from(from.abs_diff(*to)) / u128::from(step.unsigned_abs().max(1)) + 1
        }
        _ => 0,
    };
    Ok(from.iter().zip(&to).zip(&step).map(items).sum())
}

/// `simplify` is left out on purpose: it answers with calls of the function inside.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
