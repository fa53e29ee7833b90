//! Bytes of stored state: a version byte, then varints, zigzag integers and length-prefixed bytes.
use crate::error::{Error, ErrorKind, Result};

/// Appends fields to a versioned value.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new(version: u8) -> Self {
        Self(vec![version])
    }
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
    pub(crate) fn unsigned(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
    pub(crate) fn signed(&mut self, value: i64) -> &mut Self {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64)
    }
    pub(crate) fn flag(&mut self, value: bool) -> &mut Self {
        self.unsigned(u64::from(value))
    }
    /// All bits.
    pub(crate) fn double(&mut self, value: f64) -> &mut Self {
        self.0.extend_from_slice(&value.to_bits().to_le_bytes());
        self
    }
    /// Whether there is a value, then it.
    pub(crate) fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.flag(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
        self
    }
    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.unsigned(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }
}

/// Reads what an [`Encoder`] wrote. Every length is bounded by the bytes that remain.
pub(crate) struct Decoder<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Checks the version; `what` names the value in errors.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8], version: u8) -> Result<Self> {
        let decoder = Self { what, rest: bytes.get(1..).unwrap_or_default() };
        match bytes.first() {
            Some(&found) if found == version => Ok(decoder),
            Some(found) => Err(decoder.damaged(&format!("version {found}, this build reads {version}"))),
            None => Err(decoder.damaged("no bytes")),
        }
    }
    pub(crate) fn unsigned(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else { return Err(self.damaged("ends early")) };
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged("integer of more than 64 bits"))
    }
    pub(crate) fn signed(&mut self) -> Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.unsigned()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged("a flag that is neither 0 nor 1")),
        }
    }
    pub(crate) fn double(&mut self) -> Result<f64> {
        match self.rest.split_first_chunk() {
            Some((bits, rest)) => {
                self.rest = rest;
                Ok(f64::from_bits(u64::from_le_bytes(*bits)))
            }
            None => Err(self.damaged("ends early")),
        }
    }
    pub(crate) fn option<T>(&mut self, take: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { take(self).map(Some) } else { Ok(None) }
    }
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.unsigned()?;
        match usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)) {
            Some((value, rest)) => {
                self.rest = rest;
                Ok(value)
            }
            None => Err(self.damaged("ends early")),
        }
    }
    pub(crate) fn text(&mut self) -> Result<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("text that is not UTF-8"))
    }
    /// A count of things that take at least one byte each.
    pub(crate) fn count(&mut self) -> Result<usize> {
        let count = self.unsigned()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(self.damaged("count larger than the bytes that follow")),
        }
    }
    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// Refuses trailing bytes.
    pub(crate) fn end(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged("trailing bytes")) }
    }
    fn damaged(&self, how: &str) -> Error {
        Error { kind: ErrorKind::Internal, message: format!("stored {} is damaged: {how}", self.what) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_prefix_of_a_value_is_refused() {
        let mut encoder = Encoder::new(3);
        encoder.unsigned(u64::MAX).signed(i64::MIN).signed(-1).text("name").bytes(&[1, 2, 3]);
        let bytes = encoder.finish();
        let read = |bytes: &[u8]| -> Result<_> {
            let mut decoder = Decoder::new("thing", bytes, 3)?;
            let value = (
                decoder.unsigned()?,
                decoder.signed()?,
                decoder.signed()?,
                decoder.text()?.to_owned(),
                decoder.bytes()?.to_vec(),
            );
            decoder.end()?;
            Ok(value)
        };
        assert_eq!(read(&bytes).unwrap(), (u64::MAX, i64::MIN, -1, "name".to_owned(), vec![1, 2, 3]));
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "prefix of {length} bytes");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    }
}
