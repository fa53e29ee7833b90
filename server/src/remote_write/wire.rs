//! The protobuf wire format: varints, tags and lengths over borrowed bytes.
//!
//! Every length is compared with the bytes that remain before it is used; nothing here allocates.

/// Why bytes are not protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct Malformed {
    /// What was found.
    pub what: &'static str,
    /// Where, in the decompressed request or in the message that was being read.
    pub offset: usize,
}

impl Malformed {
    /// The same, told from the start of the message that holds this one at `base`.
    pub(crate) fn inside(self, base: usize) -> Self {
        Self { offset: self.offset + base, ..self }
    }
}

/// Wire type 0.
pub const VARINT: u32 = 0;
/// Wire type 1.
pub const FIXED64: u32 = 1;
/// Wire type 2.
pub const LENGTH_DELIMITED: u32 = 2;
/// Wire type 5.
pub const FIXED32: u32 = 5;

/// A position in borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether all bytes are consumed.
    #[inline]
    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The error for the current position.
    #[cold]
    pub fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, offset: self.at }
    }

    /// The next byte without consuming it.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Steps over the byte that [`Cursor::peek`] has shown.
    #[inline]
    pub fn advance_one(&mut self) {
        self.at += 1;
    }

    /// A varint of up to 64 bits.
    ///
    /// # Errors
    /// When it is truncated or longer than ten bytes.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            Some(_) => self.varint_long(),
            None => Err(self.malformed("truncated varint")),
        }
    }

    fn varint_long(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        let rest = &self.bytes[self.at..];
        for (i, &byte) in rest.iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                return Err(self.malformed("varint of more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.malformed(if rest.len() < 10 { "truncated varint" } else { "varint of more than 64 bits" }))
    }

    /// A field's number and wire type.
    ///
    /// # Errors
    /// When truncated, or the number is 0 or above 2^29 - 1.
    #[inline]
    pub fn tag(&mut self) -> Result<(u32, u32), Malformed> {
        let start = *self;
        let raw = self.varint()?;
        let number = raw >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(start.malformed("illegal field number"));
        }
        Ok((number as u32, (raw & 7) as u32))
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// When fewer remain.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        match self.bytes[self.at..].get(..len) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.malformed("length beyond the end of the message")),
        }
    }

    /// A length-delimited field's bytes, after its tag.
    ///
    /// # Errors
    /// When the length exceeds what remains.
    #[inline]
    pub fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.varint()?;
        match usize::try_from(len) {
            Ok(len) => self.take(len),
            Err(_) => Err(self.malformed("length beyond the end of the message")),
        }
    }

    /// Eight little-endian bytes.
    ///
    /// # Errors
    /// When fewer remain.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        match self.bytes[self.at..].first_chunk::<8>() {
            Some(bytes) => {
                self.at += 8;
                Ok(u64::from_le_bytes(*bytes))
            }
            None => Err(self.malformed("truncated 64-bit value")),
        }
    }

    /// Steps over a field of no interest.
    ///
    /// # Errors
    /// When it is truncated or of a wire type that is not in use (groups).
    pub fn skip(&mut self, wire_type: u32) -> Result<(), Malformed> {
        match wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            LENGTH_DELIMITED => self.delimited().map(drop),
            FIXED32 => self.take(4).map(drop),
            _ => Err(self.malformed("unsupported wire type")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_all_lengths_are_read() {
        for value in [0, 1, 127, 128, 300, 1 << 32, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            let mut rest: u64 = value;
            while rest >= 0x80 {
                bytes.push((rest as u8 & 0x7f) | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            assert_eq!(Cursor::new(&bytes).varint().unwrap(), value);
            assert!(Cursor::new(&bytes[..bytes.len() - 1]).varint().is_err());
        }
        assert!(Cursor::new(&[0xff; 10]).varint().is_err());
        assert!(Cursor::new(&[0x80; 11]).varint().is_err());
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        assert!(Cursor::new(&[5, 1, 2]).delimited().is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).delimited().is_err());
    }

    #[test]
    fn field_number_zero_and_groups_are_refused() {
        assert!(Cursor::new(&[0]).tag().is_err());
        assert!(Cursor::new(&[]).skip(3).is_err());
    }
}
