//! Bodies with gzip or zstd, for protocols that say nothing of the decompressed size beforehand: memory is reserved step by step
//! while a body grows, and its caps end it.
use std::io::Read;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::decode::{DecodeError, DecodeLimits};
use super::handler::decode_error;
use crate::app::App;
use crate::error::ApiError;

/// Bytes decompressed, and reserved, at a time.
const STEP_BYTES: usize = 256 << 10;
/// Larger compressed bodies are decompressed by a blocking thread.
const INLINE_BYTES_MAX: usize = 16 << 10;
/// The window that a zstd frame may ask for, as a power of two: 8 MiB, the most that the format's own text tells decoders to have.
const WINDOW_LOG_MAX: u32 = 23;
/// What a ratio is not asked of: small bodies may repeat themselves.
const SMALL_BYTES: usize = 1 << 20;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    Identity,
    /// RFC 1952, of one member or several.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What a `Content-Encoding` or a `grpc-encoding` names.
    ///
    /// # Errors
    /// 415 with a list of what is accepted.
    pub(crate) fn named(name: &[u8]) -> Result<Self, ApiError> {
        let known = [("identity", Self::Identity), ("", Self::Identity), ("gzip", Self::Gzip), ("zstd", Self::Zstd)];
        let named = known.into_iter().find(|(known, _)| name.trim_ascii().eq_ignore_ascii_case(known.as_bytes()));
        named.map(|named| named.1).ok_or_else(|| {
            ApiError::unsupported_media("this Content-Encoding is not supported; accepted: gzip, zstd, identity")
        })
    }

    /// What the headers of a request announce.
    ///
    /// # Errors
    /// As [`Compression::named`].
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
        let first = encodings.next().map_or(&b""[..], |value| value.as_bytes());
        if encodings.next().is_some() {
            return Err(ApiError::unsupported_media("more than one Content-Encoding; accepted: gzip, zstd, identity"));
        }
        Self::named(first)
    }
}

/// A body ready to be read, with the memory that is reserved for it.
pub(crate) struct Plain {
    pub(crate) bytes: Bytes,
    _reserved: Option<OwnedSemaphorePermit>,
}

impl Plain {
    /// Bytes whose memory is reserved elsewhere.
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self { bytes, _reserved: None }
    }
}

/// Decompresses `body` within the limits of write requests.
///
/// # Errors
/// 400 for what is not so compressed, 413 above a limit, 429 when there is no memory for it now.
pub(crate) async fn decompress(app: &Arc<App>, compression: Compression, body: Bytes) -> Result<Plain, ApiError> {
    if compression == Compression::Identity {
        return Ok(Plain::of(body));
    }
    if body.len() <= INLINE_BYTES_MAX {
        return inflate(app, compression, &body);
    }
    let app = Arc::clone(app);
    tokio::task::spawn_blocking(move || inflate(&app, compression, &body))
        .await
        .map_err(|error| ApiError::unavailable(format!("the request was not processed: {error}")))?
}

fn inflate(app: &App, compression: Compression, body: &[u8]) -> Result<Plain, ApiError> {
    let mut reserved = app.reserve(0)?;
    let reserve = |bytes: usize| -> Result<(), ApiError> {
        reserved.merge(app.reserve(bytes)?);
        Ok(())
    };
    let limits = app.workers.limits();
    let bytes = match compression {
        Compression::Zstd => {
            let _window = app.reserve(1 << WINDOW_LOG_MAX)?;
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(|error| bad(&error))?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(|error| bad(&error))?;
            read(decoder, body.len(), limits, reserve)?
        }
        Compression::Gzip | Compression::Identity => {
            read(flate2::bufread::MultiGzDecoder::new(body), body.len(), limits, reserve)?
        }
    };
    Ok(Plain { bytes: bytes.into(), _reserved: Some(reserved) })
}

/// Reads to the end, asking `reserve` before each step.
fn read(
    mut from: impl Read,
    wire_bytes: usize,
    limits: &DecodeLimits,
    mut reserve: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Vec<u8>, ApiError> {
    let by_ratio = wire_bytes.saturating_mul(limits.ratio_max).max(SMALL_BYTES);
    let bytes_max = limits.decoded_bytes_max.min(by_ratio);
    let mut bytes = Vec::new();
    loop {
        // One byte beyond the limit tells a body that ends there from a longer one.
        let step = STEP_BYTES.min(bytes_max + 1 - bytes.len());
        reserve(step)?;
        let before = bytes.len();
        bytes.reserve(step);
        from.by_ref().take(step as u64).read_to_end(&mut bytes).map_err(|error| bad(&error))?;
        if bytes.len() > bytes_max {
            return Err(decode_error(&DecodeError::TooLarge(format!(
                "body of {wire_bytes} bytes has more than {bytes_max} when decompressed (limits.decoded_bytes_max, \
                 limits.ratio_max); send smaller requests"
            ))));
        }
        if bytes.len() - before < step {
            return Ok(bytes);
        }
    }
}

fn bad(error: &std::io::Error) -> ApiError {
    decode_error(&DecodeError::Body(format!("cannot decompress the body: {error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(body: &[u8], limits: &DecodeLimits) -> (Result<Vec<u8>, u16>, usize) {
        let mut reserved = 0;
        let read = read(flate2::bufread::MultiGzDecoder::new(body), body.len(), limits, |bytes| {
            reserved += bytes;
            Ok(())
        });
        (read.map_err(|error| error.status.as_u16()), reserved)
    }

    #[test]
    fn a_body_ends_at_its_limits_and_memory_is_reserved_first() {
        let limits = DecodeLimits { decoded_bytes_max: 3 << 20, ..DecodeLimits::default() };
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(3 << 20)
        .collect();
        let (whole, reserved) = inflated(&gzip(&noise), &limits);
        assert_eq!(whole.unwrap(), noise);
        assert!(reserved > noise.len());
        assert_eq!(inflated(&gzip(&[&noise[..], b"x"].concat()), &limits).0, Err(413));
        let (bomb, reserved) = inflated(&gzip(&vec![0; 64 << 20]), &DecodeLimits::default());
        assert_eq!(bomb, Err(413));
        assert!(reserved <= DecodeLimits::default().decoded_bytes_max + 1, "{reserved}");
        assert_eq!(inflated(b"no gzip", &limits).0, Err(400));
        let whole = gzip(b"twice ");
        assert_eq!(inflated(&whole[..whole.len() - 4], &limits).0, Err(400), "truncated");
        assert_eq!(inflated(&[&whole[..], &whole].concat(), &limits).0.unwrap(), b"twice twice ");
    }
}
