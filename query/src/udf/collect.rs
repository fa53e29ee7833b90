//! The accumulator of the aggregates here: keeps the rows of a group and sorts them by time at the end.
//!
//! State is one list a column, so that partial aggregates of several partitions merge by appending. The memory is reported,
//! so that the query's pool bounds it. Rows of equal time are averaged, in an order that does not depend on how they came.
use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::StateFieldsArgs;
use datafusion::logical_expr::utils::format_state_name;
use std::sync::Arc;

/// What an aggregate makes of its sorted rows: times and one slice a value column.
pub(crate) type Finish = Box<dyn Fn(&[i64], &[Vec<f64>]) -> Result<ScalarValue> + Send + Sync>;

/// Rows of one group.
pub(crate) struct Collect {
    ts: Vec<i64>,
    columns: Vec<Vec<f64>>,
    /// Where time and values stand among the arguments.
    time_argument: usize,
    value_arguments: Vec<usize>,
    /// Whether a row without a value is kept, as NaN.
    keep_missing: bool,
    finish: Finish,
}

impl fmt::Debug for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collect({} rows)", self.ts.len())
    }
}

/// The state of a [`Collect`] with `values` value columns.
pub(crate) fn state_fields(args: &StateFieldsArgs, values: usize) -> Vec<FieldRef> {
    let list = |name: String, kind: DataType| Arc::new(Field::new_list(name, Field::new_list_field(kind, true), true));
    let mut fields = vec![list(format_state_name(args.name, "ts"), DataType::Int64)];
    fields.extend((0..values).map(|i| list(format_state_name(args.name, &format!("value{i}")), DataType::Float64)));
    fields
}

impl Collect {
    pub(crate) fn new(time_argument: usize, value_arguments: Vec<usize>, keep_missing: bool, finish: Finish) -> Self {
        let columns = vec![Vec::new(); value_arguments.len()];
        Self { ts: Vec::new(), columns, time_argument, value_arguments, keep_missing, finish }
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.ts.len()
    }

    /// Sorted by time, equal times averaged.
    fn sorted(&self) -> (Vec<i64>, Vec<Vec<f64>>) {
        let mut order: Vec<u32> = (0..self.ts.len() as u32).collect();
        let strictly_rising = self.ts.windows(2).all(|w| w[0] < w[1]);
        if !strictly_rising {
            order.sort_unstable_by(|&a, &b| {
                let (a, b) = (a as usize, b as usize);
                let values = || self.columns.iter().map(|c| c[a].total_cmp(&c[b])).find(|o| o.is_ne());
                self.ts[a].cmp(&self.ts[b]).then_with(|| values().unwrap_or(std::cmp::Ordering::Equal))
            });
        }
        let mut ts: Vec<i64> = Vec::with_capacity(order.len());
        let mut columns: Vec<Vec<f64>> = vec![Vec::with_capacity(order.len()); self.columns.len()];
        for rows in order.chunk_by(|&a, &b| self.ts[a as usize] == self.ts[b as usize]) {
            ts.push(self.ts[rows[0] as usize]);
            for (column, out) in self.columns.iter().zip(&mut columns) {
                let present = rows.iter().map(|&r| column[r as usize]).filter(|v| !v.is_nan());
                let (sum, n) = present.fold((0.0, 0u32), |(sum, n), v| (sum + v, n + 1));
                out.push(if n == 0 { f64::NAN } else { sum / f64::from(n) });
            }
        }
        (ts, columns)
    }
}

impl Accumulator for Collect {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let ts = arguments[self.time_argument].as_primitive::<TimestampNanosecondType>();
        let values: Vec<&Float64Array> =
            self.value_arguments.iter().map(|&i| arguments[i].as_primitive::<Float64Type>()).collect();
        for row in 0..ts.len() {
            let present = |column: &&Float64Array| column.is_valid(row) && !column.value(row).is_nan();
            if ts.is_null(row) || (!self.keep_missing && !values.iter().all(present)) {
                continue;
            }
            self.ts.push(ts.value(row));
            for (out, column) in self.columns.iter_mut().zip(&values) {
                out.push(if column.is_valid(row) { column.value(row) } else { f64::NAN });
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (ts, columns) = self.sorted();
        (self.finish)(&ts, &columns)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.ts.capacity() * 8 + self.columns.iter().map(|c| c.capacity() * 8).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = vec![list(Arc::new(Int64Array::from(std::mem::take(&mut self.ts))))];
        state.extend(self.columns.iter_mut().map(|column| list(Arc::new(Float64Array::from(std::mem::take(column))))));
        Ok(state)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for ts in states[0].as_list::<i32>().iter().flatten() {
            self.ts.extend_from_slice(ts.as_primitive::<Int64Type>().values());
        }
        for (out, state) in self.columns.iter_mut().zip(&states[1..]) {
            for values in state.as_list::<i32>().iter().flatten() {
                out.extend_from_slice(values.as_primitive::<Float64Type>().values());
            }
        }
        Ok(())
    }
}

fn list(array: ArrayRef) -> ScalarValue {
    SingleRowListArrayBuilder::new(array).build_list_scalar()
}

/// The time zone of a type of time.
pub(crate) fn zone(kind: Option<&DataType>) -> Option<Arc<str>> {
    match kind {
        Some(DataType::Timestamp(_, zone)) => zone.clone(),
        _ => None,
    }
}

/// `LIST<STRUCT(fields)>`
pub(crate) fn list_of_structs(fields: arrow::datatypes::Fields) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), true)))
}

/// A `LIST<STRUCT>` value from columns.
pub(crate) fn struct_list(fields: arrow::datatypes::Fields, columns: Vec<ArrayRef>) -> Result<ScalarValue> {
    let rows = arrow::array::StructArray::try_new(fields, columns, None)?;
    Ok(list(Arc::new(rows)))
}
