//! How much memory rows take by themselves: slices of larger arrays count as slices, and dictionaries, which all batches of
//! a scan share, do not count.
use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::DataType;

/// Memory of the rows of `batch`.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| array_bytes(column)).sum()
}

fn array_bytes(array: &dyn Array) -> usize {
    let offsets = (array.len() + 1) * size_of::<i32>();
    // The part of the children that `array` shows.
    let within = |offsets: &[i32]| (offsets[0] as usize, (offsets[offsets.len() - 1] - offsets[0]) as usize);
    match array.data_type() {
        DataType::Dictionary(..) => array_bytes(array.as_any_dictionary().keys()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| array_bytes(column)).sum(),
        DataType::Map(..) => {
            let map = array.as_map();
            let (from, len) = within(map.value_offsets());
            offsets + array_bytes(&map.entries().slice(from, len))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, len) = within(list.value_offsets());
            offsets + array_bytes(&list.values().slice(from, len))
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn bytes(array: ArrayRef) -> usize {
        array_bytes(&array)
    }

    #[test]
    fn a_slice_counts_as_a_slice_and_a_dictionary_not_at_all() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..8192));
        assert_eq!(bytes(Arc::clone(&numbers)), 8192 * 8);
        assert_eq!(bytes(numbers.slice(100, 10)), 80);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["abc"; 1000]));
        assert!((30..200).contains(&bytes(text.slice(5, 10))), "{}", bytes(text.slice(5, 10)));
        let long = "x".repeat(1 << 20);
        let labels: DictionaryArray<Int32Type> = [long.as_str(), "b", long.as_str()].into_iter().collect();
        assert!(bytes(Arc::new(labels)) < 100);
    }
}
