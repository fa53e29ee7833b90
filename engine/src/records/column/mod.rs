//! One Arrow array to bytes and back. The number of rows and the type are the caller's to know.
//!
//! ```text
//! array    = 0 present{rows}  |  1 bytes{mask, bit i: row i is not NULL} present{rows that are not NULL, if any}
//! present  = boolean             bytes{bits}
//!          | integer, time       a sequence of i64 (UInt64 by its bits; Float32 by its bits)
//!          | Float64             values, 8,192 at a time
//!          | Utf8, Binary        0 numbers{lengths} bytes     1 varint(entries) numbers{lengths} bytes numbers{which}
//!                                2 split, see [`skeleton`]
//!          | FixedSizeBinary     bytes
//!          | List, Map           numbers{lengths} array{items}
//!          | Struct              array{rows} of each field
//! ```
//! `numbers`, `bytes`, sequences and values are the codecs of samples, so that times, counters and gauges inside of
//! records cost what they cost as samples.
mod decode;
mod encode;
mod skeleton;

pub(crate) use decode::ColumnDecoder;
pub(crate) use encode::ColumnEncoder;

use super::BATCH_BYTES_MAX;

const ALL_PRESENT: u8 = 0;
const SOME_PRESENT: u8 = 1;
const EACH: u8 = 0;
const DICTIONARY: u8 = 1;
const SPLIT: u8 = 2;

/// Bytes that one array of strings may have, and items that one of lists may: more are neither written nor believed. A whole
/// batch has half as many bytes.
const BYTES_MAX: u64 = 2 * BATCH_BYTES_MAX as u64;
const ITEMS_MAX: u64 = BYTES_MAX / 8;
