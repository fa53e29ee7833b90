//! Entropy coding of unsigned integers and of bytes, by trial.
//!
//! ```text
//! numbers = 0 value                             all equal
//!         | 1 width bytes{width}                plane k holds byte k of every number, low plane first
//!         | 2 varint(len) pco
//!         | 3 base divisor width bytes{width}   as 1, of (number - base) / divisor
//! bytes   = 0 byte                              all equal
//!         | 1 byte{n}                           plain
//!         | 2 varint(len) zstd
//! ```
//! The count of numbers is the caller's to know. Empty streams take no bytes.
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, data_types::Number};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound};

use super::huffman::Huffman;
use crate::error::{Error, Result};
use crate::format::{Reader, put_varint};
use crate::pool::Pool;

const EQUAL: u8 = 0;
const PLANES: u8 = 1;
const PCO: u8 = 2;
const SCALED: u8 = 3;

const PLAIN: u8 = 1;
const ZSTD: u8 = 2;

/// Shorter byte streams are never worth a zstd frame.
const ZSTD_BYTES_MIN: usize = 32;
/// Shorter number streams are never worth pco's tables.
const PCO_COUNT_MIN: usize = 64;
/// In shorter planes matches are looked for each time.
const PLANE_BYTES_MIN: usize = 1024;
/// Planes in which they are not, after they were of no use once, twice, and so on. The next trial is a prime number of planes later,
/// so that planes of two sorts that take turns are both tried.
const PASSES: [u8; 4] = [2, 6, 12, 30];

/// How hard to try. Both efforts write the same format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For a flush, which competes with ingest.
    Quick,
    /// For a merge, whose output is read for a long time.
    Thorough,
}

/// Compression contexts and buffers, reused from block to block.
pub(crate) struct Packer {
    effort: Effort,
    zstd: Compressor<'static>,
    huffman: Huffman,
    /// By the number of the plane, and the bits of a code on average.
    matches: [[Matches; 8]; 8],
    frame: Vec<u8>,
    plane: Vec<u8>,
    trial: Vec<u8>,
    config: ChunkConfig,
}

impl Packer {
    /// Contexts for `effort`.
    ///
    /// # Errors
    /// `Unavailable` when zstd cannot allocate its context.
    pub(crate) fn new(effort: Effort) -> Result<Self> {
        let pco_level = match effort {
            Effort::Quick => 6,
            Effort::Thorough => 8,
        };
        // Planes are mostly noise of few symbols: higher levels find matches that cost more than Huffman codes do.
        let mut zstd = Compressor::new(1).map_err(context)?;
        zstd.set_parameter(CParameter::ContentSizeFlag(false)).map_err(context)?;
        zstd.set_parameter(CParameter::ChecksumFlag(false)).map_err(context)?;
        Ok(Self {
            effort,
            zstd,
            huffman: Huffman::default(),
            matches: Default::default(),
            frame: Vec::new(),
            plane: Vec::new(),
            trial: Vec::new(),
            config: ChunkConfig::default().with_compression_level(pco_level),
        })
    }

    /// How hard it tries.
    pub(crate) fn effort(&self) -> Effort {
        self.effort
    }

    /// Appends `bytes`.
    pub(crate) fn pack_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.pack_stream(bytes, None, out);
    }

    /// As [`Packer::pack_bytes`], of plane `k` of numbers: what was of use in such planes before is taken to be of use again.
    pub(super) fn pack_plane(&mut self, k: usize, bytes: &[u8], out: &mut Vec<u8>) {
        self.pack_stream(bytes, Some(k), out);
    }

    fn pack_stream(&mut self, bytes: &[u8], plane: Option<usize>, out: &mut Vec<u8>) {
        let Some(&first) = bytes.first() else { return };
        if bytes.iter().all(|&b| b == first) {
            out.extend([EQUAL, first]);
            return;
        }
        let mut frame = std::mem::take(&mut self.frame);
        if bytes.len() >= ZSTD_BYTES_MIN && self.try_frames(bytes, plane, &mut frame) {
            out.push(ZSTD);
            put_varint(out, frame.len() as u64);
            out.extend_from_slice(&frame);
        } else {
            out.push(PLAIN);
            out.extend_from_slice(bytes);
        }
        self.frame = frame;
    }

    /// As [`Packer::try_zstd`], or with a frame of codes without matches: unless matches make a frame clearly smaller, since they
    /// take longer to decode.
    fn try_frames(&mut self, bytes: &[u8], plane: Option<usize>, frame: &mut Vec<u8>) -> bool {
        // Texts repeat: where matches halve one, codes alone are hardly better, and not worth a look.
        let text = plane.is_none().then(|| self.try_zstd(bytes, frame));
        if text == Some(true) && frame.len() < bytes.len() / 2 {
            return true;
        }
        let codes_len = self.huffman.fit(bytes).filter(|&len| is_worth(len, bytes.len()));
        let Some(codes_len) = codes_len else { return text.unwrap_or_else(|| self.try_zstd(bytes, frame)) };
        // A merge's output is read for a long time, and what it tries is often of no use because pco is better.
        let known = plane.filter(|_| self.effort == Effort::Quick && bytes.len() >= PLANE_BYTES_MIN);
        let known = known.map(|k| (k % 8, self.huffman.bits_each().min(7)));
        if !known.is_some_and(|(k, bits)| self.matches[k][bits].pass()) {
            let with_matches = text.unwrap_or_else(|| self.try_zstd(bytes, frame));
            let is_smaller = with_matches && frame.len() < codes_len - codes_len / 32;
            if let Some((k, bits)) = known {
                self.matches[k][bits].tried(is_smaller);
            }
            if is_smaller {
                return true;
            }
        }
        frame.clear();
        self.huffman.write(bytes, frame);
        true
    }

    /// Replaces `frame` with a zstd frame of `bytes`; whether that is clearly smaller than plain bytes, which are free
    /// to decode.
    pub(super) fn try_zstd(&mut self, bytes: &[u8], frame: &mut Vec<u8>) -> bool {
        frame.clear();
        frame.reserve(compress_bound(bytes.len()));
        // A failed trial only means that the plain form is written.
        self.zstd.compress_to_buffer(bytes, frame).is_ok() && is_worth(frame.len(), bytes.len())
    }

    /// Appends `numbers`.
    pub(crate) fn pack(&mut self, numbers: &[u64], out: &mut Vec<u8>) {
        let Some(&first) = numbers.first() else { return };
        let (min, max) = numbers.iter().fold((first, first), |(min, max), &n| (min.min(n), max.max(n)));
        if min == max {
            out.push(EQUAL);
            put_varint(out, first);
            return;
        }
        let start = out.len();
        let divisor = divisor_of(numbers.iter().map(|n| n - min));
        let width = width_of((max - min) / divisor);
        if divisor == 1 && width == width_of(max) {
            out.extend([PLANES, width as u8]);
            self.pack_planes(width, numbers.iter().copied(), out);
        } else {
            out.push(SCALED);
            put_varint(out, min);
            put_varint(out, divisor);
            out.push(width as u8);
            self.pack_planes(width, numbers.iter().map(|n| (n - min) / divisor), out);
        }
        let planes_len = out.len() - start;
        if self.effort == Effort::Thorough
            && let Some(pco_len) = self.try_pco(numbers, planes_len)
        {
            out.truncate(start);
            out.push(PCO);
            put_varint(out, pco_len as u64);
            out.extend_from_slice(&self.trial);
        }
    }

    fn pack_planes(&mut self, width: usize, numbers: impl Iterator<Item = u64> + Clone, out: &mut Vec<u8>) {
        let mut plane = std::mem::take(&mut self.plane);
        for k in 0..width {
            plane.clear();
            plane.extend(numbers.clone().map(|n| (n >> (8 * k)) as u8));
            self.pack_plane(k, &plane, out);
        }
        self.plane = plane;
    }

    /// Packs `numbers` with pco into the trial buffer; `Some` if that is clearly smaller than `limit`.
    pub(super) fn try_pco<T: Number>(&mut self, numbers: &[T], limit: usize) -> Option<usize> {
        if numbers.len() < PCO_COUNT_MIN || limit < PCO_COUNT_MIN {
            return None;
        }
        self.trial.clear();
        let file = FileCompressor::default();
        // pco refuses only configurations, and ours is fixed: a refusal means that the other form is written.
        let mut chunk = file.chunk_compressor(numbers, &self.config).ok()?;
        file.write_header(&mut self.trial).ok()?;
        chunk.write_meta(&mut self.trial).ok()?;
        chunk.write_page(0, &mut self.trial).ok()?;
        (self.trial.len() + 3 < limit - limit / 16).then_some(self.trial.len())
    }

    /// What the last successful [`Packer::try_pco`] made.
    pub(super) fn trial(&self) -> &[u8] {
        &self.trial
    }
}

/// Whether matches were of use in planes of one sort.
#[derive(Clone, Copy, Default)]
struct Matches {
    /// Planes that are still to be passed.
    left: u8,
    /// Trials in a row that were of no use.
    useless: u8,
}

impl Matches {
    /// Whether they are not looked for this time.
    fn pass(&mut self) -> bool {
        let passes = self.left > 0;
        self.left = self.left.saturating_sub(1);
        passes
    }

    /// Notes whether they were of use.
    fn tried(&mut self, of_use: bool) {
        if of_use {
            *self = Self::default();
        } else {
            self.left = PASSES[usize::from(self.useless).min(PASSES.len() - 1)];
            self.useless = self.useless.saturating_add(1);
        }
    }
}

/// Whether a frame is clearly smaller than plain bytes, which are free to decode.
fn is_worth(frame_len: usize, bytes: usize) -> bool {
    frame_len + 3 < bytes - bytes / 32
}

fn context(e: std::io::Error) -> Error {
    Error::Unavailable(format!("no zstd context: {e}; free some memory"))
}

/// Bytes that hold `number`, at least one.
pub(crate) fn width_of(number: u64) -> usize {
    (8 - number.leading_zeros() as usize / 8).max(1)
}

/// Greatest common divisor of `numbers`, at least 1.
pub(super) fn divisor_of(numbers: impl Iterator<Item = u64>) -> u64 {
    let mut divisor = 0u64;
    for mut rest in numbers {
        while rest != 0 {
            (divisor, rest) =
                if divisor == 0 { (rest, 0) } else { (rest.min(divisor), rest.max(divisor) % rest.min(divisor)) };
        }
        if divisor == 1 {
            break;
        }
    }
    divisor.max(1)
}

/// Contexts of readers that have ended, each some 160 KB: making one takes as long as decoding a small block.
static CONTEXTS: Pool<Decompressor<'static>> = Pool::new(8);

/// Decompression contexts and buffers, reused from block to block.
#[derive(Default)]
pub(crate) struct Unpacker {
    /// From the first frame on: a context is larger than what many a scan reads.
    zstd: Option<Decompressor<'static>>,
    plane: Vec<u8>,
}

impl Unpacker {
    /// Replaces `out` with the next `n` bytes.
    pub(crate) fn unpack_bytes(&mut self, input: &mut Reader<'_>, n: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        if n == 0 {
            return Ok(());
        }
        match input.u8()? {
            EQUAL => out.resize(n, input.u8()?),
            PLAIN => out.extend_from_slice(input.bytes(n)?),
            ZSTD => self.unzstd(input, n, out)?,
            tag => return Err(input.corrupt("a byte stream tag of 0 to 2", tag.to_string())),
        }
        Ok(())
    }

    /// Replaces `out` with the `n` bytes of a length and a zstd frame.
    pub(super) fn unzstd(&mut self, input: &mut Reader<'_>, n: usize, out: &mut Vec<u8>) -> Result<()> {
        let at = input.clone();
        let frame = input.prefixed()?;
        let failed = |got: String| at.corrupt(format!("a zstd frame of {n} bytes"), got);
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => {
                let known = CONTEXTS.take();
                none.insert(known.map_or_else(Decompressor::new, Ok).map_err(context)?)
            }
        };
        out.clear();
        out.reserve(n);
        // The buffer may have more room than asked for, so what came out is compared with `n` as well.
        zstd.decompress_to_buffer(frame, out).map_err(|e| failed(e.to_string()))?;
        if out.len() != n {
            return Err(failed(format!("one of {}", out.len())));
        }
        Ok(())
    }

    /// Replaces `out` with the next `n` numbers.
    pub(crate) fn unpack(&mut self, input: &mut Reader<'_>, n: usize, out: &mut Vec<u64>) -> Result<()> {
        out.clear();
        if n == 0 {
            return Ok(());
        }
        match input.u8()? {
            EQUAL => out.resize(n, input.varint()?),
            PLANES => self.unpack_planes(input, n, out)?,
            PCO => {
                out.resize(n, 0);
                unpack_pco(input, out)?;
            }
            SCALED => {
                let (base, divisor) = (input.varint()?, input.varint()?);
                self.unpack_planes(input, n, out)?;
                out.iter_mut().for_each(|n| *n = base.wrapping_add(n.wrapping_mul(divisor)));
            }
            tag => return Err(input.corrupt("a number stream tag of 0 to 3", tag.to_string())),
        }
        Ok(())
    }

    fn unpack_planes(&mut self, input: &mut Reader<'_>, n: usize, out: &mut Vec<u64>) -> Result<()> {
        let width = usize::from(input.u8()?);
        if !(1..=8).contains(&width) {
            return Err(input.corrupt("a width of 1 to 8 bytes", width.to_string()));
        }
        let mut plane = std::mem::take(&mut self.plane);
        self.unpack_bytes(input, n, &mut plane)?;
        out.extend(plane.iter().map(|&b| u64::from(b)));
        for k in 1..width {
            self.unpack_bytes(input, n, &mut plane)?;
            for (number, &b) in out.iter_mut().zip(&plane) {
                *number |= u64::from(b) << (8 * k);
            }
        }
        self.plane = plane;
        Ok(())
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        if let Some(zstd) = self.zstd.take() {
            CONTEXTS.give(zstd);
        }
    }
}

/// Fills `out` from a length and a pco chunk.
pub(super) fn unpack_pco<T: Number>(input: &mut Reader<'_>, out: &mut [T]) -> Result<()> {
    let at = input.clone();
    let bytes = input.prefixed()?;
    let n = out.len();
    let failed = |got: String| at.corrupt(format!("a pco chunk of {n} numbers"), got);
    let pco = |e: pco::errors::PcoError| failed(e.to_string());
    let (file, rest) = FileDecompressor::new(bytes).map_err(pco)?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest).map_err(pco)?;
    let mut page = chunk.page_decompressor(rest, n).map_err(pco)?;
    let progress = page.read(out).map_err(pco)?;
    if progress.n_processed != n || !progress.finished {
        return Err(failed(format!("one of {}", progress.n_processed)));
    }
    match page.into_src().len() {
        0 => Ok(()),
        more => Err(failed(format!("{more} more bytes"))),
    }
}
