//! A small file written once: a header, a zstd body, one checksum over both.
//!
//! ```text
//!  magic [8] | version u32 | body length u64 | compressed length u64 | crc32c u32 | compressed body
//!  '--------------------- covered -----------------------------------'              '-- covered --'
//! ```
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{self, Reader};

const HEADER_LEN: usize = 32;
/// A body longer than this is not believed.
const BODY_LEN_MAX: u64 = 8 << 30;
const LEVEL: i32 = 3;

/// Wraps `body`.
pub(crate) fn seal(magic: [u8; 8], version: u32, body: &[u8]) -> Result<Vec<u8>> {
    let compressed = zstd::bulk::compress(body, LEVEL)
        .map_err(|e| Error::Invalid(format!("compressing {} bytes: {e}", body.len())))?;
    let mut out = Vec::with_capacity(HEADER_LEN + compressed.len());
    out.extend_from_slice(&magic);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&(compressed.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c_append(format::crc32c(&out), &compressed);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&compressed);
    Ok(out)
}

/// Checks and unwraps the file `path`.
pub(crate) fn open(magic: [u8; 8], version: u32, bytes: &[u8], path: &Path) -> Result<Vec<u8>> {
    let mut reader = Reader::new(bytes, path, 0);
    let at = reader.clone();
    let got = reader.bytes(8)?;
    if got != magic {
        return Err(at.corrupt(format!("magic {magic:02x?}"), format!("{got:02x?}")));
    }
    let at = reader.clone();
    let got = reader.u32()?;
    if got != version {
        return Err(at.corrupt(format!("version {version}"), got.to_string()));
    }
    let at = reader.clone();
    let (body_len, compressed_len) = (reader.u64()?, reader.u64()?);
    let crc_at = reader.clone();
    let crc = reader.u32()?;
    if compressed_len != reader.remaining() as u64 {
        return Err(at.corrupt(format!("{} compressed bytes", reader.remaining()), compressed_len.to_string()));
    }
    let compressed = reader.bytes(reader.remaining())?;
    let expected = crc32c::crc32c_append(format::crc32c(&bytes[..HEADER_LEN - 4]), compressed);
    if expected != crc {
        return Err(crc_at.corrupt(format!("checksum {expected:08x}"), format!("{crc:08x}")));
    }
    if body_len > BODY_LEN_MAX {
        return Err(at.corrupt(format!("a body of at most {BODY_LEN_MAX} bytes"), body_len.to_string()));
    }
    let body = zstd::bulk::decompress(compressed, body_len as usize).map_err(|e| at.corrupt("zstd", e.to_string()))?;
    if body.len() as u64 != body_len {
        return Err(at.corrupt(format!("a body of {body_len} bytes"), body.len().to_string()));
    }
    Ok(body)
}
