//! What a footer says of one column of one group besides where it is, so that a scan can pass a group over.
//!
//! ```text
//! zone = 0                               nothing
//!      | 1 zigzag(min) varint(max - min) the smallest and the largest of integers and times, NULL left out
//!      | 2 varint(length) u32 crc        behind the chunk lies a filter of the words of all texts
//!      | 3 varint(length) u32 crc        behind the chunk lies a filter of the values, or of the keys of maps
//!      | 4 varint(length) u32 crc varint(length) u32 crc    as 2, and behind the filter lie postings of frequent words
//! ```
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{
    DataType, DurationNanosecondType, Int8Type, Int16Type, Int32Type, Int64Type, TimestampNanosecondType, UInt8Type,
    UInt16Type, UInt32Type,
};
use hashbrown::HashSet;

use crate::codec::Packer;
use crate::error::Result;
use crate::format::{Reader, put_varint, put_zigzag};
use crate::text::{fold, words};

use super::super::bloom;
use super::footer::Chunk;
use super::postings;

const NONE: u8 = 0;
const WITHIN: u8 = 1;
const WORDS: u8 = 2;
const VALUES: u8 = 3;
const POSTINGS: u8 = 4;

/// Bits for each distinct word of a group: about one wrong group in a hundred.
const WORD_BITS: usize = 10;
/// Bits for each distinct value: about one in four hundred; who asks for a trace wants few groups.
const VALUE_BITS: usize = 14;
/// For values of eight bytes and fewer, ids of spans, which are seldom asked for alone: about one in twenty.
const SHORT_VALUE_BITS: usize = 6;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Zone {
    #[default]
    None,
    Within {
        min: i64,
        max: i64,
    },
    Words {
        filter: Chunk,
        postings: Option<Chunk>,
    },
    Values(Chunk),
}

/// A zone before its filter has a place.
pub(super) enum Made {
    None,
    Within { min: i64, max: i64 },
    Words { filter: Vec<u8>, postings: Option<Vec<u8>> },
    Values(Vec<u8>),
}

impl Zone {
    /// What lies behind the chunk, in order.
    pub(super) fn places(&self) -> impl Iterator<Item = &Chunk> {
        let (filter, postings) = match self {
            Self::Words { filter, postings } => (Some(filter), postings.as_ref()),
            Self::Values(filter) => (Some(filter), None),
            Self::None | Self::Within { .. } => (None, None),
        };
        filter.into_iter().chain(postings)
    }

    /// Appends it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(NONE),
            Self::Within { min, max } => {
                out.push(WITHIN);
                put_zigzag(out, *min);
                put_varint(out, max.wrapping_sub(*min) as u64);
            }
            Self::Words { filter, postings: None } => filter.encode(WORDS, out),
            Self::Words { filter, postings: Some(postings) } => {
                filter.encode(POSTINGS, out);
                put_varint(out, postings.len.into());
                out.extend_from_slice(&postings.crc.to_le_bytes());
            }
            Self::Values(chunk) => chunk.encode(VALUES, out),
        }
    }

    /// Inverse of [`Zone::encode`]; a filter begins at `offset`.
    pub(super) fn decode(input: &mut Reader<'_>, offset: u64) -> Result<Self> {
        let at = input.clone();
        Ok(match input.u8()? {
            NONE => Self::None,
            WITHIN => {
                let min = input.zigzag()?;
                Self::Within { min, max: min.wrapping_add(input.varint()? as i64) }
            }
            WORDS => Self::Words { filter: Chunk::decode(input, offset)?, postings: None },
            POSTINGS => {
                let filter = Chunk::decode(input, offset)?;
                let len = input.varint()?;
                let len = u32::try_from(len).ok().filter(|len| *len > 0);
                let len = len.ok_or_else(|| at.corrupt("a length of postings of 32 bits", "another one"))?;
                let offset = offset + u64::from(filter.len);
                Self::Words { filter, postings: Some(Chunk { offset, len, crc: input.u32()? }) }
            }
            VALUES => Self::Values(Chunk::decode(input, offset)?),
            tag => return Err(at.corrupt("a zone of 0 to 4", tag.to_string())),
        })
    }
}

impl Chunk {
    fn encode(&self, tag: u8, out: &mut Vec<u8>) {
        out.push(tag);
        put_varint(out, self.len.into());
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    fn decode(input: &mut Reader<'_>, offset: u64) -> Result<Self> {
        let at = input.clone();
        let len = input.varint()?;
        match u32::try_from(len) {
            Ok(len) if bloom::is_length(len as usize) => Ok(Self { offset, len, crc: input.u32()? }),
            _ => Err(at.corrupt("the length of a filter", len.to_string())),
        }
    }
}

/// What is worth saying of `column`, which is not all NULL; postings if there is a `packer` for them.
pub(super) fn zone_of(column: &ArrayRef, packer: Option<&mut Packer>) -> Made {
    match column.data_type() {
        DataType::Int8 => within::<Int8Type>(column, i64::from),
        DataType::Int16 => within::<Int16Type>(column, i64::from),
        DataType::Int32 => within::<Int32Type>(column, i64::from),
        DataType::Int64 => within::<Int64Type>(column, |v| v),
        DataType::UInt8 => within::<UInt8Type>(column, i64::from),
        DataType::UInt16 => within::<UInt16Type>(column, i64::from),
        DataType::UInt32 => within::<UInt32Type>(column, i64::from),
        DataType::Timestamp(..) => within::<TimestampNanosecondType>(column, |v| v),
        DataType::Duration(_) => within::<DurationNanosecondType>(column, |v| v),
        DataType::Utf8 => {
            let texts: HashSet<&str> = column.as_string::<i32>().iter().flatten().collect();
            // Texts that repeat are a dictionary, which is quickly searched.
            if let Some(packer) = packer.filter(|_| texts.len() > column.len() / 2) {
                let (distinct, postings) = postings::build(column.as_string(), packer);
                return Made::Words { filter: bloom::build(distinct.into_iter(), WORD_BITS), postings };
            }
            let distinct: HashSet<u128> =
                texts.into_iter().flat_map(words).map(|word| bloom::hash(fold(word).as_bytes())).collect();
            Made::Words { filter: bloom::build(distinct.into_iter(), WORD_BITS), postings: None }
        }
        DataType::FixedSizeBinary(width) => {
            let distinct: HashSet<&[u8]> = column.as_fixed_size_binary().iter().flatten().collect();
            let bits = if *width <= 8 { SHORT_VALUE_BITS } else { VALUE_BITS };
            Made::Values(bloom::build(distinct.into_iter().map(bloom::hash), bits))
        }
        DataType::Map(..) => match column.as_map().keys().as_string_opt::<i32>() {
            Some(keys) => {
                let distinct: HashSet<&str> = keys.iter().flatten().collect();
                Made::Values(bloom::build(distinct.into_iter().map(|key| bloom::hash(key.as_bytes())), VALUE_BITS))
            }
            None => Made::None,
        },
        _ => Made::None,
    }
}

fn within<T: ArrowPrimitiveType>(column: &ArrayRef, integer: impl Fn(T::Native) -> i64) -> Made {
    let values = || column.as_primitive::<T>().iter().flatten().map(&integer);
    match (values().min(), values().max()) {
        (Some(min), Some(max)) => Made::Within { min, max },
        _ => Made::None,
    }
}
