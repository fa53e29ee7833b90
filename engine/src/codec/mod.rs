//! Lossless column codecs on byte slices.
//!
//! ```text
//!  timestamps ── distinct sequences ─────────┐
//!                                            ├─> integer sequences ──> byte planes | pco ──> bytes
//!  values ──┬── decimals (integer / 10^e) ───┘    (order 0, 1, 2)
//!           └── other floats ──────────────────────────────────> pco | zstd | plain ──> bytes
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`stream`] | entropy coding of unsigned integers and bytes |
//! | [`huffman`] | zstd frames of bytes among which no matches are looked for |
//! | [`sequence`] | integer sequences: delta order, centre, common divisor, residual widths |
//! | [`decimal`] | floats that are an integer divided by a power of ten |
//! | [`timestamp`] | pages of distinct timestamp sequences, and which slices of them the series of a block have |
//! | [`float`] | the values of a block: decimals, equal bits, raw floats, exceptions |
//!
//! Every codec returns the exact bits it was given, for every bit pattern. Decoders never trust a length: each is
//! checked against what remains, or against a count the caller already knows, before anything is allocated. Bytes that
//! no encoder writes give `Corruption` with path and offset; callers compare a checksum first all the same, because pco
//! and zstd are only as careful as their authors. Checksums, files and series are not known here.
pub(crate) mod decimal;
pub(crate) mod float;
mod huffman;
pub(crate) mod sequence;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod timestamp;

pub(crate) use float::{ValuesDecoder, ValuesEncoder};
pub(crate) use sequence::SequencesDecoder;
pub(crate) use stream::{Effort, Packer, Unpacker};
pub(crate) use timestamp::{Span, Spans, SpansEncoder, Timelines, TimelinesEncoder};

/// Rows of the largest column that the codecs accept; a block is never larger.
pub(crate) const ROWS_MAX: usize = 8192;
