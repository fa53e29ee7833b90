//! Bytes to arrays, whole or some of their rows, and which rows satisfy a condition.
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray, GenericByteArray,
    ListArray, MapArray, PrimitiveArray, StringArray, StructArray, UInt32Array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    BinaryType, ByteArrayType, DataType, DurationNanosecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, Utf8Type,
};
use arrow::error::ArrowError;

use crate::codec::sequence::SequencesDecoder;
use crate::codec::{ROWS_MAX, Unpacker, ValuesDecoder};
use crate::error::Result;
use crate::format::Reader;

use super::super::RowFilter;
use super::{ALL_PRESENT, BYTES_MAX, DICTIONARY, EACH, ITEMS_MAX, SOME_PRESENT, SPLIT, skeleton};

/// Contexts and buffers for reading arrays.
#[derive(Default)]
pub(crate) struct ColumnDecoder {
    unpacker: Unpacker,
    sequences: SequencesDecoder,
    values: ValuesDecoder,
    integers: Vec<i64>,
    numbers: Vec<u64>,
    floats: Vec<f64>,
}

impl ColumnDecoder {
    /// For streams that are no arrays.
    pub(crate) fn unpacker(&mut self) -> &mut Unpacker {
        &mut self.unpacker
    }

    /// The next array, of `rows` rows of `data_type`.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn decode(&mut self, input: &mut Reader<'_>, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
        self.decode_some(input, data_type, rows, None)
    }

    /// As [`ColumnDecoder::decode`], with `some` of its rows, increasing, and no others: texts of others are not put together.
    /// The array may not be read to its end.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn decode_some(
        &mut self,
        input: &mut Reader<'_>,
        data_type: &DataType,
        rows: usize,
        some: Option<&[u32]>,
    ) -> Result<ArrayRef> {
        let at = input.clone();
        match input.u8()? {
            ALL_PRESENT => self.decode_present(input, data_type, rows, some),
            SOME_PRESENT => {
                let mask = self.bits_of(input, rows)?;
                let count = mask.count_set_bits();
                let (present, mut places, valid) = match some {
                    None => {
                        let mut next = 0;
                        let places = (0..rows).map(|row| {
                            let place = next;
                            next += u32::from(mask.value(row));
                            place
                        });
                        (None, places.collect(), mask)
                    }
                    Some(some) => {
                        let (present, places, valid) = present_of(&mask, some);
                        (Some(present), places, valid)
                    }
                };
                let held = present.as_ref().map_or(count, Vec::len);
                if held == 0 {
                    return Ok(new_null_array(data_type, places.len()));
                }
                let array = self.decode_present(input, data_type, count, present.as_deref())?;
                // A NULL takes no place, but its number has to be one.
                places.iter_mut().for_each(|place| *place = (*place).min(held as u32 - 1));
                let places = UInt32Array::new(places.into(), Some(NullBuffer::new(valid)));
                take(&array, &places, None).map_err(|e| at.corrupt(format!("{rows} rows"), e.to_string()))
            }
            tag => Err(at.corrupt("an array tag of 0 or 1", tag.to_string())),
        }
    }

    /// The rows of the next array, of `rows` rows of `data_type`, that satisfy `condition`. Of equal texts one is looked at, and of
    /// split ones only what is the same in many, where that tells.
    ///
    /// # Errors
    /// `Invalid` for a column of another type; `Corruption` with path and offset.
    pub(crate) fn rows_with(
        &mut self,
        condition: &RowFilter,
        input: &mut Reader<'_>,
        data_type: &DataType,
        rows: usize,
    ) -> Result<BooleanBuffer> {
        if *data_type != DataType::Utf8 {
            return condition.rows(&self.decode(input, data_type, rows)?);
        }
        let at = input.clone();
        match input.u8()? {
            ALL_PRESENT => self.texts_with(condition, input, rows),
            SOME_PRESENT => {
                let mask = self.bits_of(input, rows)?;
                let mut has = BooleanBufferBuilder::new(rows);
                has.append_n(rows, false);
                let count = mask.count_set_bits();
                if count > 0 {
                    let present = self.texts_with(condition, input, count)?;
                    let present = mask.set_indices().zip(&present).filter(|(_, has)| *has);
                    present.for_each(|(row, _)| has.set_bit(row, true));
                }
                Ok(has.finish())
            }
            tag => Err(at.corrupt("an array tag of 0 or 1", tag.to_string())),
        }
    }

    fn texts_with(&mut self, condition: &RowFilter, input: &mut Reader<'_>, rows: usize) -> Result<BooleanBuffer> {
        let at = input.clone();
        match (input.u8()?, condition) {
            (DICTIONARY, _) => {
                let (ends, text) = self.dictionary_of(input, rows)?;
                let entries = StringArray::try_new(ends, Buffer::from(text), None);
                let entries: ArrayRef = Arc::new(entries.map_err(|e| at.corrupt("texts", e.to_string()))?);
                let has = condition.rows(&entries)?;
                Ok(BooleanBuffer::collect_bool(rows, |row| has.value(self.numbers[row] as usize)))
            }
            (SPLIT, RowFilter::Words { words, .. }) if skeleton::tells_of(words) => {
                skeleton::rows_with(words, input, rows, BYTES_MAX, &mut self.unpacker)
            }
            _ => {
                *input = at;
                condition.rows(&self.strings_of::<Utf8Type>(input, rows, None)?)
            }
        }
    }

    fn decode_present(
        &mut self,
        input: &mut Reader<'_>,
        data_type: &DataType,
        rows: usize,
        some: Option<&[u32]>,
    ) -> Result<ArrayRef> {
        let at = input.clone();
        match (data_type, some) {
            (DataType::Utf8, _) => self.strings_of::<Utf8Type>(input, rows, some),
            (DataType::Binary, _) => self.strings_of::<BinaryType>(input, rows, some),
            (_, None) => self.decode_all(input, data_type, rows),
            (_, Some(some)) => {
                let all = self.decode_all(input, data_type, rows)?;
                let some = UInt32Array::from(some.to_vec());
                take(&all, &some, None).map_err(|e| at.corrupt(format!("{rows} rows"), e.to_string()))
            }
        }
    }

    /// The next array, without NULL and no texts.
    fn decode_all(&mut self, input: &mut Reader<'_>, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
        let at = input.clone();
        let wrong = |e: ArrowError| at.corrupt(format!("{rows} values of {data_type}"), e.to_string());
        Ok(match data_type {
            DataType::Boolean => Arc::new(BooleanArray::new(self.bits_of(input, rows)?, None)),
            DataType::Int8 => self.primitive_of::<Int8Type>(input, data_type, rows, |v| v as i8)?,
            DataType::Int16 => self.primitive_of::<Int16Type>(input, data_type, rows, |v| v as i16)?,
            DataType::Int32 => self.primitive_of::<Int32Type>(input, data_type, rows, |v| v as i32)?,
            DataType::Int64 => self.primitive_of::<Int64Type>(input, data_type, rows, |v| v)?,
            DataType::UInt8 => self.primitive_of::<UInt8Type>(input, data_type, rows, |v| v as u8)?,
            DataType::UInt16 => self.primitive_of::<UInt16Type>(input, data_type, rows, |v| v as u16)?,
            DataType::UInt32 => self.primitive_of::<UInt32Type>(input, data_type, rows, |v| v as u32)?,
            DataType::UInt64 => self.primitive_of::<UInt64Type>(input, data_type, rows, |v| v as u64)?,
            DataType::Float32 => {
                self.primitive_of::<Float32Type>(input, data_type, rows, |v| f32::from_bits(v as u32))?
            }
            DataType::Float64 => self.floats_of(input, rows)?,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                self.primitive_of::<TimestampNanosecondType>(input, data_type, rows, |v| v)?
            }
            DataType::Duration(TimeUnit::Nanosecond) => {
                self.primitive_of::<DurationNanosecondType>(input, data_type, rows, |v| v)?
            }
            DataType::FixedSizeBinary(width) => {
                let bytes = rows as u64 * *width as u64;
                if bytes > BYTES_MAX {
                    return Err(at.corrupt(format!("at most {BYTES_MAX} bytes"), bytes.to_string()));
                }
                let mut values = Vec::new();
                self.unpacker.unpack_bytes(input, rows * *width as usize, &mut values)?;
                Arc::new(FixedSizeBinaryArray::try_new(*width, Buffer::from(values), None).map_err(wrong)?)
            }
            DataType::List(item) => {
                let (offsets, count) = self.offsets_of(input, rows, ITEMS_MAX)?;
                let items = self.decode(input, item.data_type(), count)?;
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, None).map_err(wrong)?)
            }
            DataType::Map(entry, sorted) => {
                let (offsets, count) = self.offsets_of(input, rows, ITEMS_MAX)?;
                let entries = self.decode(input, entry.data_type(), count)?;
                let entries = entries.as_struct().clone();
                Arc::new(MapArray::try_new(Arc::clone(entry), offsets, entries, None, *sorted).map_err(wrong)?)
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| self.decode(input, field.data_type(), rows));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new(fields.clone(), columns, None).map_err(wrong)?)
            }
            other => return Err(at.corrupt("a type that columns may have", other.to_string())),
        })
    }

    /// The next `n` integers.
    pub(crate) fn sequence(&mut self, input: &mut Reader<'_>, n: usize) -> Result<&[i64]> {
        self.integers.clear();
        if n > 0 {
            self.sequences.start(&mut self.unpacker, input, std::iter::once(n))?;
            self.sequences.next_into(n, &mut self.integers);
        }
        Ok(&self.integers)
    }

    fn primitive_of<T: ArrowPrimitiveType>(
        &mut self,
        input: &mut Reader<'_>,
        data_type: &DataType,
        rows: usize,
        value: impl Fn(i64) -> T::Native,
    ) -> Result<ArrayRef> {
        let values: Vec<T::Native> = self.sequence(input, rows)?.iter().map(|&integer| value(integer)).collect();
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), None).with_data_type(data_type.clone())))
    }

    fn floats_of(&mut self, input: &mut Reader<'_>, rows: usize) -> Result<ArrayRef> {
        let mut floats = Vec::with_capacity(rows);
        while floats.len() < rows {
            let piece = (rows - floats.len()).min(ROWS_MAX);
            self.values.decode(&mut self.unpacker, input, &[piece as u32], &mut self.floats)?;
            floats.extend_from_slice(&self.floats);
        }
        Ok(Arc::new(PrimitiveArray::<Float64Type>::new(floats.into(), None)))
    }

    fn bits_of(&mut self, input: &mut Reader<'_>, rows: usize) -> Result<BooleanBuffer> {
        let mut bytes = Vec::new();
        self.unpacker.unpack_bytes(input, rows.div_ceil(8), &mut bytes)?;
        Ok(BooleanBuffer::new(Buffer::from(bytes), 0, rows))
    }

    /// Offsets from the next `rows` lengths, and their sum, which is at most `sum_max`.
    fn offsets_of(&mut self, input: &mut Reader<'_>, rows: usize, sum_max: u64) -> Result<(OffsetBuffer<i32>, usize)> {
        let at = input.clone();
        self.unpacker.unpack(input, rows, &mut self.numbers)?;
        let mut end = 0u64;
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        for &length in &self.numbers {
            end = end.saturating_add(length);
            if end > sum_max {
                return Err(at.corrupt(format!("lengths of {sum_max} together"), end.to_string()));
            }
            offsets.push(end as i32);
        }
        Ok((OffsetBuffer::new(ScalarBuffer::from(offsets)), end as usize))
    }

    /// Where the distinct values end in their bytes, and which of them the next `rows` values are, in `numbers`.
    fn dictionary_of(&mut self, input: &mut Reader<'_>, rows: usize) -> Result<(OffsetBuffer<i32>, Vec<u8>)> {
        let at = input.clone();
        let count = input.varint()?;
        if count > rows as u64 {
            return Err(at.corrupt(format!("at most {rows} entries"), count.to_string()));
        }
        let (entries, bytes) = self.offsets_of(input, count as usize, BYTES_MAX)?;
        let mut text = Vec::new();
        self.unpacker.unpack_bytes(input, bytes, &mut text)?;
        self.unpacker.unpack(input, rows, &mut self.numbers)?;
        match self.numbers.iter().find(|number| **number >= count) {
            Some(number) => Err(at.corrupt(format!("one of {count} entries"), number.to_string())),
            None => Ok((entries, text)),
        }
    }

    fn strings_of<T: ByteArrayType<Offset = i32>>(
        &mut self,
        input: &mut Reader<'_>,
        rows: usize,
        some: Option<&[u32]>,
    ) -> Result<ArrayRef> {
        let at = input.clone();
        let (mut data, mut ends) = (Vec::new(), Vec::with_capacity(some.map_or(rows, <[u32]>::len) + 1));
        ends.push(0);
        let mut take = |text: &[u8]| {
            data.extend_from_slice(text);
            ends.push(data.len() as i32);
            match data.len() as u64 <= BYTES_MAX {
                true => Ok(()),
                false => Err(at.corrupt(format!("texts of {BYTES_MAX} bytes together"), data.len().to_string())),
            }
        };
        match input.u8()? {
            EACH => {
                let (offsets, bytes) = self.offsets_of(input, rows, BYTES_MAX)?;
                let mut text = Vec::new();
                self.unpacker.unpack_bytes(input, bytes, &mut text)?;
                match some {
                    None => (data, ends) = (text, offsets.to_vec()),
                    Some(some) => some.iter().try_for_each(|&row| {
                        let (from, to) = (offsets[row as usize], offsets[row as usize + 1]);
                        take(&text[from as usize..to as usize])
                    })?,
                }
            }
            DICTIONARY => {
                let (entries, text) = self.dictionary_of(input, rows)?;
                let mut entry = |number: u64| {
                    let (from, to) = (entries[number as usize], entries[number as usize + 1]);
                    take(&text[from as usize..to as usize])
                };
                match some {
                    None => self.numbers.iter().try_for_each(|&number| entry(number))?,
                    Some(some) => some.iter().try_for_each(|&row| entry(self.numbers[row as usize]))?,
                }
            }
            SPLIT => skeleton::decode(input, rows, some, BYTES_MAX, &mut self.unpacker, &mut data, &mut ends)?,
            tag => return Err(at.corrupt("a string tag of 0 to 2", tag.to_string())),
        };
        let array = OffsetBuffer::new(ScalarBuffer::from(ends));
        let array = GenericByteArray::<T>::try_new(array, Buffer::from(data), None);
        Ok(Arc::new(array.map_err(|e| at.corrupt(format!("{rows} values of {}", T::DATA_TYPE), e.to_string()))?))
    }
}

/// Of `some` rows: which of the values that are there they have, where each row's is among these, and whether it has one.
fn present_of(mask: &BooleanBuffer, some: &[u32]) -> (Vec<u32>, Vec<u32>, BooleanBuffer) {
    let (mut present, mut places) = (Vec::new(), Vec::with_capacity(some.len()));
    let (mut before, mut from) = (0, 0);
    for row in some.iter().map(|row| *row as usize) {
        before += mask.slice(from, row - from).count_set_bits();
        from = row;
        places.push(present.len() as u32);
        present.extend(mask.value(row).then_some(before as u32));
    }
    let valid = BooleanBuffer::collect_bool(some.len(), |i| mask.value(some[i] as usize));
    (present, places, valid)
}
