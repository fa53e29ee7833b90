//! Bytes of saved states (detectors, template miners): little endian, no padding, every read checked.
use crate::{Error, Result};

/// Appends plain values.
pub(crate) trait Put {
    fn put_u8(&mut self, v: u8);
    fn put_u16(&mut self, v: u16);
    fn put_u32(&mut self, v: u32);
    fn put_u64(&mut self, v: u64);
    fn put_i64(&mut self, v: i64);
    fn put_f32(&mut self, v: f32);
    fn put_f64(&mut self, v: f64);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, v: u8) {
        self.push(v);
    }
    fn put_u16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn put_u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn put_u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn put_i64(&mut self, v: i64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn put_f32(&mut self, v: f32) {
        self.extend_from_slice(&v.to_bits().to_le_bytes());
    }
    fn put_f64(&mut self, v: f64) {
        self.extend_from_slice(&v.to_bits().to_le_bytes());
    }
}

/// Takes values off the front of untrusted bytes.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.take::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// The next `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.take()?))
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(malformed("a flag is neither 0 nor 1")),
        }
    }

    /// No statistic of finite values that we keep may be NaN or infinite.
    pub(crate) fn finite(&mut self) -> Result<f64> {
        let v = f64::from_bits(u64::from_le_bytes(self.take()?));
        v.is_finite().then_some(v).ok_or_else(|| malformed("a statistic is not finite"))
    }

    /// A value that may be missing.
    pub(crate) fn finite_or_nan(&mut self) -> Result<f64> {
        let v = f64::from_bits(self.u64()?);
        (!v.is_infinite()).then_some(v).ok_or_else(|| malformed("a value is infinite"))
    }

    /// A finite value that is not negative.
    pub(crate) fn positive(&mut self) -> Result<f64> {
        let v = self.finite()?;
        (v >= 0.0).then_some(v).ok_or_else(|| malformed("a spread is negative"))
    }

    pub(crate) fn finite_f32(&mut self) -> Result<f32> {
        let v = f32::from_bits(self.u32()?);
        v.is_finite().then_some(v).ok_or_else(|| malformed("a statistic is not finite"))
    }

    pub(crate) fn positive_f32(&mut self) -> Result<f32> {
        let v = f32::from_bits(self.u32()?);
        (v.is_finite() && v >= 0.0).then_some(v).ok_or_else(|| malformed("a spread is not a finite positive number"))
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed("bytes are left over")) }
    }
}

pub(crate) fn malformed(what: &str) -> Error {
    Error::Invalid(format!("saved state is malformed: {what}; start afresh without it"))
}
