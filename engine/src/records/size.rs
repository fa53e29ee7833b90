//! How many bytes of memory rows take, shared buffers only in part.
use arrow::array::{Array, AsArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{BinaryType, DataType, Utf8Type};

/// Bytes of all rows of `array`.
pub(super) fn bytes_of(array: &dyn Array) -> usize {
    bytes_of_rows(array, 0, array.len())
}

/// Bytes of `rows` rows of `array` from row `from` on.
pub(super) fn bytes_of_rows(array: &dyn Array, from: usize, rows: usize) -> usize {
    let mask = if array.nulls().is_some() { rows.div_ceil(8) } else { 0 };
    let span = |offsets: &OffsetBuffer<i32>| (offsets[from] as usize, (offsets[from + rows] - offsets[from]) as usize);
    let items = |offsets: &OffsetBuffer<i32>, items: &dyn Array| {
        let (first, count) = span(offsets);
        4 * rows + bytes_of_rows(items, first, count)
    };
    mask + match array.data_type() {
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8 => 4 * rows + span(array.as_bytes::<Utf8Type>().offsets()).1,
        DataType::Binary => 4 * rows + span(array.as_bytes::<BinaryType>().offsets()).1,
        DataType::FixedSizeBinary(width) => rows * *width as usize,
        DataType::List(_) => items(array.as_list::<i32>().offsets(), array.as_list::<i32>().values()),
        DataType::Map(..) => items(array.as_map().offsets(), array.as_map().entries()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| bytes_of_rows(column, from, rows)).sum(),
        other => rows * other.primitive_width().unwrap_or(8),
    }
}
