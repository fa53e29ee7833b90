//! A column of lists while a request is read: one buffer of values and where each row ends.
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};

/// Rows of lists. The values of the row being read are those after the last end.
#[derive(Debug)]
pub(crate) struct Lists<T> {
    values: Vec<T>,
    ends: Vec<u32>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { values: Vec::new(), ends: Vec::new() }
    }
}

impl<T> Lists<T> {
    /// Adds to the row being read.
    pub(crate) fn push(&mut self, value: T) {
        self.values.push(value);
    }

    /// The row being read.
    pub(crate) fn open(&self) -> &[T] {
        &self.values[self.start(self.ends.len())..]
    }

    /// The values of a row that has ended.
    pub(crate) fn values_of(&self, row: usize) -> &[T] {
        &self.values[self.start(row)..self.ends[row] as usize]
    }

    /// Ends the row being read.
    pub(crate) fn end_row(&mut self) {
        self.ends.push(self.values.len() as u32);
    }

    /// Values of all rows.
    pub(crate) fn values(&self) -> usize {
        self.values.len()
    }

    /// Drops every row from `rows` on, the one being read as well.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.values.truncate(self.start(rows));
    }

    fn start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }
}

impl<T: Copy> Lists<T> {
    /// The rows of `picked`, as an Arrow column of the values that `array` makes; NULL where `absent` says so.
    pub(crate) fn array(
        &self,
        picked: &[usize],
        absent: impl Fn(usize) -> bool,
        array: impl FnOnce(Vec<T>) -> ArrayRef,
    ) -> ArrayRef {
        let mut offsets = Vec::with_capacity(picked.len() + 1);
        offsets.push(0i32);
        let mut values = Vec::with_capacity(self.values.len());
        for &row in picked {
            values.extend_from_slice(self.values_of(row));
            // Values of a request are bounded far below this.
            offsets.push(values.len() as i32);
        }
        let values = array(values);
        let field = Arc::new(list_item(values.data_type().clone()));
        let nulls = picked.iter().map(|&row| !absent(row)).collect();
        Arc::new(ListArray::new(field, OffsetBuffer::new(ScalarBuffer::from(offsets)), values, Some(nulls)))
    }
}

/// The item of every list that is made here.
fn list_item(of: DataType) -> Field {
    Field::new_list_field(of, true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{AsArray as _, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_end_vanish_and_are_picked() {
        let mut lists = Lists::default();
        for row in [&[1i64, 2][..], &[], &[3], &[4, 5]] {
            row.iter().for_each(|&value| lists.push(value));
            assert_eq!(lists.open(), row);
            lists.end_row();
        }
        lists.push(9);
        lists.truncate(4);
        assert_eq!((lists.open(), lists.values()), (&[][..], 5));
        lists.truncate(3);
        let array = lists.array(&[0, 2, 1], |row| row == 1, |values| Arc::new(Int64Array::from(values)));
        let array = array.as_list::<i32>();
        let row = |i: usize| array.value(i).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!((row(0), row(1), array.is_null(2)), (vec![1, 2], vec![3], true));
    }
}
