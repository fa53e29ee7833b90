//! Snappy block decompression with its caps checked before anything is allocated.
use super::decode::{DecodeError, DecodeLimits};

/// The decompressed length that `body` declares, if the limits allow it.
///
/// # Errors
/// [`DecodeError::TooLarge`] above the caps, [`DecodeError::Snappy`] when there is no header.
pub fn declared_len(body: &[u8], limits: &DecodeLimits) -> Result<usize, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Snappy("empty body".to_owned()));
    }
    if body.len() > limits.wire_bytes_max {
        return Err(DecodeError::TooLarge(format!(
            "body of {} bytes exceeds the limit of {}; send smaller requests",
            body.len(),
            limits.wire_bytes_max
        )));
    }
    let declared = snap::raw::decompress_len(body).map_err(|error| DecodeError::Snappy(error.to_string()))?;
    if declared > limits.decoded_bytes_max {
        return Err(DecodeError::TooLarge(format!(
            "body declares {declared} decompressed bytes, the limit is {}; send smaller requests",
            limits.decoded_bytes_max
        )));
    }
    if declared > body.len().saturating_mul(limits.ratio_max) {
        return Err(DecodeError::TooLarge(format!(
            "body of {} bytes declares {declared} decompressed bytes, more than {} times its size",
            body.len(),
            limits.ratio_max
        )));
    }
    Ok(declared)
}

/// Decompresses `body` into the front of `out`, which only ever grows, and returns the length.
///
/// # Errors
/// As [`declared_len`], and [`DecodeError::Snappy`] for damaged or truncated input.
pub fn decompress(body: &[u8], limits: &DecodeLimits, out: &mut Vec<u8>) -> Result<usize, DecodeError> {
    let declared = declared_len(body, limits)?;
    if out.len() < declared {
        out.resize(declared, 0);
    }
    snap::raw::Decoder::new()
        .decompress(body, &mut out[..declared])
        .map_err(|error| DecodeError::Snappy(error.to_string()))
}
