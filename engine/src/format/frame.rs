//! What stands around the columns of a segment file, whichever they are.
//!
//! ```text
//!  magic [8] | version u16 | level u8 | 0 | partition i64 | crc32c u32        header
//!  columns
//!  footer | its length u32 | its crc32c u32 | version u16 | 0 u16 | magic [8]   trailer
//! ```
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{Reader, crc32c};

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 24;
/// Bytes of a trailer.
pub(crate) const TRAILER_BYTES: usize = 20;

/// What tells one kind of file from another.
pub(crate) struct Frame {
    /// For messages, such as "a segment".
    pub(crate) what: &'static str,
    pub(crate) header_magic: [u8; 8],
    pub(crate) trailer_magic: [u8; 8],
    pub(crate) version: u16,
}

impl Frame {
    /// The first bytes of a file.
    pub(crate) fn header(&self, partition: i64, level: u8) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&self.header_magic);
        header[8..10].copy_from_slice(&self.version.to_le_bytes());
        header[10] = level;
        header[12..20].copy_from_slice(&partition.to_le_bytes());
        let crc = crc32c(&header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Appends the trailer to the footer that begins at `start`.
    ///
    /// # Errors
    /// `Limit` for a footer beyond 4 GiB.
    pub(crate) fn put_trailer(&self, out: &mut Vec<u8>, start: usize) -> Result<()> {
        let crc = crc32c(&out[start..]);
        let len = u32::try_from(out.len() - start).map_err(|_| {
            Error::Limit(format!("the footer of {} would pass 4 GiB; write smaller segments", self.what))
        })?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.trailer_magic);
        Ok(())
    }

    /// Compares the header of a whole file, which is not shorter than one, with the partition and level of its footer.
    pub(crate) fn check_header(&self, file: &[u8], path: &Path, of_footer: (i64, u8)) -> Result<()> {
        let mut input = Reader::new(file, path, 0);
        let start = input.clone();
        self.expect(&mut input, &self.header_magic, "magic")?;
        self.check_version(&mut input)?;
        let level = input.u8()?;
        input.u8()?;
        let partition = input.i64()?;
        let (at, crc) = (input.clone(), input.u32()?);
        let got = crc32c(&file[..HEADER_BYTES - 4]);
        if got != crc {
            return Err(at.corrupt(format!("header crc {got:08x}"), format!("{crc:08x}")));
        }
        if of_footer != (partition, level) {
            let expected = format!("partition {} and level {}, as in the footer", of_footer.0, of_footer.1);
            return Err(start.corrupt(expected, format!("{partition} and {level}")));
        }
        Ok(())
    }

    /// What `body` makes of all of the footer, given where in the file it begins; the header may be damaged.
    pub(crate) fn decode_footer<T>(
        &self,
        file: &[u8],
        path: &Path,
        body: impl FnOnce(&mut Reader<'_>, u64) -> Result<T>,
    ) -> Result<T> {
        let mut input = self.footer(file, path)?;
        let footer_at = input.offset();
        let footer = body(&mut input, footer_at)?;
        input.finish()?;
        Ok(footer)
    }

    fn footer<'a>(&self, file: &'a [u8], path: &'a Path) -> Result<Reader<'a>> {
        let bytes_min = HEADER_BYTES + TRAILER_BYTES;
        if file.len() < bytes_min {
            let (expected, got) = (format!("at least {bytes_min} bytes"), file.len().to_string());
            return Err(Reader::new(file, path, 0).corrupt(expected, got));
        }
        let trailer_at = file.len() - TRAILER_BYTES;
        let mut trailer = Reader::new(&file[trailer_at..], path, trailer_at as u64);
        let start = trailer.clone();
        let (len, crc) = (trailer.u32()? as usize, trailer.u32()?);
        self.check_version(&mut trailer)?;
        self.expect(&mut trailer, &[0, 0], "two zero bytes")?;
        self.expect(&mut trailer, &self.trailer_magic, "trailing magic")?;
        let len_max = trailer_at - HEADER_BYTES;
        if len > len_max {
            return Err(start.corrupt(format!("a footer of at most {len_max} bytes"), len.to_string()));
        }
        let footer = &file[trailer_at - len..trailer_at];
        let input = Reader::new(footer, path, (trailer_at - len) as u64);
        let got = crc32c(footer);
        if got == crc { Ok(input) } else { Err(input.corrupt(format!("footer crc {crc:08x}"), format!("{got:08x}"))) }
    }

    fn expect(&self, input: &mut Reader<'_>, expected: &[u8], what: &str) -> Result<()> {
        let at = input.clone();
        let got = input.bytes(expected.len())?;
        if got == expected {
            Ok(())
        } else {
            Err(at.corrupt(format!("the {what} of {}", self.what), format!("{got:02x?}")))
        }
    }

    fn check_version(&self, input: &mut Reader<'_>) -> Result<()> {
        let at = input.clone();
        let version = u16::from_le_bytes([input.u8()?, input.u8()?]);
        if version == self.version {
            return Ok(());
        }
        let expected = format!("version {} of {}; read newer files with a newer release", self.version, self.what);
        Err(at.corrupt(expected, version.to_string()))
    }
}
