//! Byte-level primitives that every persisted structure is built from: varints, zigzag, little-endian integers,
//! checksums, and a [`Reader`] that bounds every length by the bytes that remain.
//!
//! It knows no file format: those live beside the module that owns the file, each with a page in `docs/format/`.
use std::path::Path;

use crate::error::{Error, Result};

pub(crate) mod envelope;
pub(crate) mod frame;

#[cfg(test)]
mod tests;

/// CRC32C (Castagnoli) of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Maps small magnitudes of either sign to small unsigned numbers.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// Appends LEB128.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzagged LEB128.
#[inline]
pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// Appends a length-prefixed byte string.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Decodes LEB128 at `*at`, advancing it; `None` when the bytes end or the number does not fit 64 bits.
#[inline]
pub(crate) fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let rest = bytes.get(*at..)?;
    let first = *rest.first()?;
    if first < 0x80 {
        *at += 1;
        return Some(u64::from(first));
    }
    if let Some(word) = rest.first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        // The highest bit of each byte that may be the last.
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            let end = ends.trailing_zeros();
            *at += end as usize / 8 + 1;
            return Some(join_groups(word & (u64::MAX >> (63 - end))));
        }
    }
    take_long_varint(rest, at)
}

/// The number whose groups of seven bits lie in the bytes of `word`, the lowest first.
#[inline]
fn join_groups(word: u64) -> u64 {
    let sevens = word & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = (sevens & 0x007f_007f_007f_007f) | ((sevens & 0x7f00_7f00_7f00_7f00) >> 1);
    let quads = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
    (quads & 0x0fff_ffff) | ((quads & 0x0fff_ffff_0000_0000) >> 4)
}

/// As [`take_varint`], byte by byte: one of nine bytes or ten, or near the end of the bytes.
fn take_long_varint(rest: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().take(10).enumerate() {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *at += i + 1;
            return Some(value);
        }
    }
    None
}

/// A cursor over bytes of a file. Each failure is a [`Error::Corruption`] with the path and the offset in the file.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    path: &'a Path,
    base: u64,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which stand at offset `base` of the file `path`.
    pub(crate) fn new(bytes: &'a [u8], path: &'a Path, base: u64) -> Self {
        Self { bytes, at: 0, path, base }
    }
    /// Offset in the file of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }
    /// The file.
    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }
    /// Bytes left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }
    /// A corruption error at the next byte.
    pub(crate) fn corrupt(&self, expected: impl Into<String>, got: impl Into<String>) -> Error {
        Error::Corruption {
            path: self.path.to_owned(),
            offset: self.offset(),
            expected: expected.into(),
            got: got.into(),
        }
    }
    /// The next `n` bytes.
    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.remaining() {
            return Err(self.corrupt(format!("{n} more bytes"), format!("{} left", self.remaining())));
        }
        let bytes = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(bytes)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }
    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }
    /// Little-endian.
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Little-endian.
    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// Little-endian.
    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }
    /// LEB128.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64> {
        match take_varint(self.bytes, &mut self.at) {
            Some(value) => Ok(value),
            None => Err(self.not_a_varint()),
        }
    }
    #[cold]
    fn not_a_varint(&self) -> Error {
        self.corrupt("a varint of at most 64 bits", "a longer one or the end")
    }
    /// Zigzagged LEB128.
    #[inline]
    pub(crate) fn zigzag(&mut self) -> Result<i64> {
        Ok(unzigzag(self.varint()?))
    }
    /// Passes on `count` numbers that are stored as zigzagged differences, each from the one before, the first from 0.
    pub(crate) fn differences(&mut self, count: usize, mut each: impl FnMut(u64)) -> Result<()> {
        // In registers, not through `self`: a log has a difference for every sample.
        let (mut at, mut number) = (self.at, 0u64);
        for _ in 0..count {
            let Some(step) = take_varint(self.bytes, &mut at) else {
                self.at = at;
                return Err(self.not_a_varint());
            };
            number = number.wrapping_add(unzigzag(step) as u64);
            each(number);
        }
        self.at = at;
        Ok(())
    }
    /// A varint that counts things of at least `size_min` bytes each which follow: bounded by what remains, so it is
    /// safe to allocate for.
    pub(crate) fn count(&mut self, size_min: usize) -> Result<usize> {
        let count = self.varint()?;
        let fits = self.remaining() / size_min.max(1);
        if count > fits as u64 {
            return Err(self.corrupt(format!("a count of at most {fits}"), count.to_string()));
        }
        Ok(count as usize)
    }
    /// A length-prefixed byte string.
    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8]> {
        let len = self.count(1)?;
        self.bytes(len)
    }
    /// A length-prefixed UTF-8 string.
    pub(crate) fn string(&mut self) -> Result<&'a str> {
        let at = self.clone();
        std::str::from_utf8(self.prefixed()?).map_err(|e| at.corrupt("UTF-8", e.to_string()))
    }
    /// Everything must have been read.
    pub(crate) fn finish(self) -> Result<()> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(self.corrupt("the end", format!("{} more bytes", self.remaining())))
        }
    }
}
