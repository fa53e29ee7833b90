//! Arrays to bytes.
use arrow::array::{Array, ArrowPrimitiveType, AsArray, BooleanArray, GenericByteArray};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::compute::filter;
use arrow::datatypes::{
    BinaryType, ByteArrayType, DataType, DurationNanosecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, Utf8Type,
};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::codec::sequence::SequencesEncoder;
use crate::codec::{Effort, Packer, ROWS_MAX, ValuesEncoder};
use crate::error::{Error, Result};
use crate::format::put_varint;

use super::{ALL_PRESENT, BYTES_MAX, DICTIONARY, EACH, ITEMS_MAX, SOME_PRESENT, SPLIT, skeleton};

/// Fewer values are not worth looking for equal ones.
const DICTIONARY_ROWS_MIN: usize = 8;
/// Contexts and buffers for writing arrays.
pub(crate) struct ColumnEncoder {
    packer: Packer,
    sequences: SequencesEncoder,
    values: ValuesEncoder,
    integers: Vec<i64>,
    numbers: Vec<u64>,
}

impl ColumnEncoder {
    /// Contexts for `effort`.
    ///
    /// # Errors
    /// `Unavailable` without memory for a compression context.
    pub(crate) fn new(effort: Effort) -> Result<Self> {
        Ok(Self {
            packer: Packer::new(effort)?,
            sequences: SequencesEncoder::default(),
            values: ValuesEncoder::default(),
            integers: Vec::new(),
            numbers: Vec::new(),
        })
    }

    /// Appends `array`.
    ///
    /// # Errors
    /// `Invalid` for a type that `put_type` would refuse.
    pub(crate) fn encode(&mut self, array: &dyn Array, out: &mut Vec<u8>) -> Result<()> {
        let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else {
            out.push(ALL_PRESENT);
            return self.encode_present(array, out);
        };
        out.push(SOME_PRESENT);
        self.bits(nulls.inner(), out);
        if nulls.null_count() == array.len() {
            return Ok(());
        }
        let present = filter(array, &BooleanArray::new(nulls.inner().clone(), None)).map_err(refused)?;
        self.encode_present(&present, out)
    }

    fn encode_present(&mut self, array: &dyn Array, out: &mut Vec<u8>) -> Result<()> {
        match array.data_type() {
            DataType::Boolean => self.bits(array.as_boolean().values(), out),
            DataType::Int8 => self.primitive::<Int8Type>(array, i64::from, out),
            DataType::Int16 => self.primitive::<Int16Type>(array, i64::from, out),
            DataType::Int32 => self.primitive::<Int32Type>(array, i64::from, out),
            DataType::Int64 => self.primitive::<Int64Type>(array, |v| v, out),
            DataType::UInt8 => self.primitive::<UInt8Type>(array, i64::from, out),
            DataType::UInt16 => self.primitive::<UInt16Type>(array, i64::from, out),
            DataType::UInt32 => self.primitive::<UInt32Type>(array, i64::from, out),
            DataType::UInt64 => self.primitive::<UInt64Type>(array, |v| v as i64, out),
            DataType::Float32 => self.primitive::<Float32Type>(array, |v| i64::from(v.to_bits()), out),
            DataType::Float64 => {
                for piece in array.as_primitive::<Float64Type>().values().chunks(ROWS_MAX) {
                    self.values.encode(&mut self.packer, piece, &[0, piece.len() as u32], out);
                }
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                self.primitive::<TimestampNanosecondType>(array, |v| v, out);
            }
            DataType::Duration(TimeUnit::Nanosecond) => self.primitive::<DurationNanosecondType>(array, |v| v, out),
            DataType::Utf8 => self.strings(array.as_bytes::<Utf8Type>(), out)?,
            DataType::Binary => self.strings(array.as_bytes::<BinaryType>(), out)?,
            DataType::FixedSizeBinary(width) => {
                let values = array.as_fixed_size_binary().value_data();
                bounded(values.len() as u64, BYTES_MAX, "bytes")?;
                self.packer.pack_bytes(&values[..array.len() * *width as usize], out);
            }
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                self.items(lists.offsets(), lists.values(), out)?;
            }
            DataType::Map(..) => {
                let maps = array.as_map();
                self.items(maps.offsets(), maps.entries(), out)?;
            }
            DataType::Struct(_) => {
                for column in array.as_struct().columns() {
                    self.encode(column, out)?;
                }
            }
            other => return Err(Error::Invalid(format!("a column of records cannot be {other}"))),
        }
        Ok(())
    }

    /// The packer, for what only merges take the time to write.
    pub(crate) fn packer_of_merges(&mut self) -> Option<&mut Packer> {
        (self.packer.effort() == Effort::Thorough).then_some(&mut self.packer)
    }

    /// Appends integers, which may be none.
    pub(crate) fn sequence(&mut self, integers: &[i64], out: &mut Vec<u8>) {
        if !integers.is_empty() {
            self.sequences.clear();
            self.sequences.push(integers);
            self.sequences.finish(&mut self.packer, out);
        }
    }

    fn primitive<T: ArrowPrimitiveType>(
        &mut self,
        array: &dyn Array,
        integer: impl Fn(T::Native) -> i64,
        out: &mut Vec<u8>,
    ) {
        let mut integers = std::mem::take(&mut self.integers);
        integers.clear();
        integers.extend(array.as_primitive::<T>().values().iter().map(|&value| integer(value)));
        self.sequence(&integers, out);
        self.integers = integers;
    }

    fn bits(&mut self, bits: &BooleanBuffer, out: &mut Vec<u8>) {
        // Beyond the last row a shared buffer may hold anything.
        let own = BooleanBuffer::collect_bool(bits.len(), |i| bits.value(i));
        self.packer.pack_bytes(&own.values()[..bits.len().div_ceil(8)], out);
    }

    fn lengths(&mut self, lengths: impl Iterator<Item = usize>, out: &mut Vec<u8>) {
        self.numbers.clear();
        self.numbers.extend(lengths.map(|length| length as u64));
        self.packer.pack(&self.numbers, out);
    }

    fn items(&mut self, offsets: &OffsetBuffer<i32>, items: &dyn Array, out: &mut Vec<u8>) -> Result<()> {
        self.lengths(offsets.lengths(), out);
        let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
        bounded((last - first) as u64, ITEMS_MAX, "items of lists")?;
        self.encode(&items.slice(first, last - first), out)
    }

    fn strings<T: ByteArrayType<Offset = i32>>(
        &mut self,
        array: &GenericByteArray<T>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let (offsets, data) = (array.value_offsets(), array.value_data());
        bounded((offsets[offsets.len() - 1] - offsets[0]) as u64, BYTES_MAX, "bytes")?;
        let values = offsets.windows(2).map(|pair| &data[pair[0] as usize..pair[1] as usize]);
        let Some((entries, which)) = dictionary(values.clone()) else {
            if let Some(split) = skeleton::split(values) {
                out.push(SPLIT);
                split.encode(&mut self.packer, out);
                return Ok(());
            }
            out.push(EACH);
            self.lengths(array.offsets().lengths(), out);
            self.packer.pack_bytes(&data[offsets[0] as usize..offsets[offsets.len() - 1] as usize], out);
            return Ok(());
        };
        out.push(DICTIONARY);
        put_varint(out, entries.len() as u64);
        self.lengths(entries.iter().map(|entry| entry.len()), out);
        self.packer.pack_bytes(&entries.concat(), out);
        self.packer.pack(&which, out);
        Ok(())
    }
}

/// The distinct values in the order they appear, and which of them each value is; `None` when most are distinct.
fn dictionary<'a>(values: impl ExactSizeIterator<Item = &'a [u8]>) -> Option<(Vec<&'a [u8]>, Vec<u64>)> {
    let entries_max = values.len() / 2;
    if values.len() < DICTIONARY_ROWS_MIN {
        return None;
    }
    let (mut entries, mut numbers) = (Vec::new(), HashMap::new());
    let mut which = Vec::with_capacity(values.len());
    for value in values {
        let number = *numbers.entry(value).or_insert_with(|| {
            entries.push(value);
            entries.len() as u64 - 1
        });
        if entries.len() > entries_max {
            return None;
        }
        which.push(number);
    }
    Some((entries, which))
}

fn bounded(count: u64, count_max: u64, what: &str) -> Result<()> {
    if count <= count_max {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "a column has {count} {what} in 8,192 rows, at most {count_max} are allowed; split the batch"
    )))
}

fn refused(error: ArrowError) -> Error {
    Error::Invalid(format!("arrow refuses a column: {error}"))
}
