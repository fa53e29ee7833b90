//! Unary calls of gRPC: one frame in, one frame and two trailers out.
//!
//! ```text
//!  POST /package.Service/Method   content-type: application/grpc   grpc-encoding: gzip
//!  frame: 1 byte compressed?, 4 bytes length (big endian), message
//!  answer: 200, frame, trailers { grpc-status: 0 }      error: 200, no body, grpc-status and grpc-message in the head
//! ```
//! The frames are read from the same bodies, through the same listener, limits and reservations as every other request. That is
//! why no gRPC library stands here: it would have read the message before any limit in flight is asked.
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request, Response as HttpResponse, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use super::http::{Format, grpc_code, malformed, response_message, store};
use crate::app::App;
use crate::error::ApiError;
use crate::remote_write::compression::{Compression, decompress};
use crate::remote_write::fault::Report;
use crate::remote_write::handler::receive;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const ENCODING: &str = "grpc-encoding";
const ACCEPTED: &str = "grpc-accept-encoding";
/// Compressed?, length.
const HEAD_BYTES: usize = 5;
/// Bytes of a message in a header; the rest is cut off.
const MESSAGE_BYTES_MAX: usize = 2 << 10;

pub(super) async fn metrics(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let (response, code) = match take(&app, request).await {
        Ok(report) => (success(&response_message(&report)), 0),
        Err(error) => {
            let code = grpc_code(error.status);
            (failure(code, &error.message), code)
        }
    };
    app.metrics.push_request("otlp", "grpc", &code.to_string(), started.elapsed());
    response
}

/// The answer to a call of something that is not here.
pub(super) fn unimplemented() -> Response {
    failure(12, "no such method; this port takes opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
}

async fn take(app: &Arc<App>, request: Request<Body>) -> Result<Report, ApiError> {
    let (parts, body) = request.into_parts();
    app.store()?;
    let content_type = parts.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if !content_type.starts_with(b"application/grpc") || content_type.starts_with(b"application/grpc-web") {
        return Err(ApiError::unsupported_media("this Content-Type is not supported; accepted: application/grpc"));
    }
    let encoding = parts.headers.get(ENCODING).map_or(&b""[..], |value| value.as_bytes());
    let compression = Compression::named(encoding)?;
    let (body, _wire) = receive(app, &parts.headers, body).await?;
    let wire_bytes = body.len();
    let (is_compressed, message) = frame(&body)?;
    let plain = decompress(app, if is_compressed { compression } else { Compression::Identity }, message).await?;
    store(app, Format::Protobuf, wire_bytes, plain).await
}

/// Whether the one message of a call is compressed, and its bytes.
fn frame(body: &Bytes) -> Result<(bool, Bytes), ApiError> {
    let Some((&[flag, a, b, c, d], message)) = body.split_first_chunk::<HEAD_BYTES>() else {
        return Err(malformed("a gRPC call without a message"));
    };
    if flag > 1 || u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(malformed("a gRPC call must have one message of the length that its frame says"));
    }
    Ok((flag == 1, body.slice(HEAD_BYTES..)))
}

fn success(message: &[u8]) -> Response {
    let mut framed = Vec::with_capacity(HEAD_BYTES + message.len());
    framed.push(0);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    let trailers = HeaderMap::from_iter([(axum::http::HeaderName::from_static(STATUS), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(framed)).with_trailers(async move { Some(Ok(trailers)) });
    head(Body::new(body))
}

fn failure(code: u8, message: &str) -> Response {
    let mut response = head(Body::empty());
    let headers = response.headers_mut();
    headers.insert(STATUS, HeaderValue::from(u16::from(code)));
    if let Ok(message) = HeaderValue::from_str(&escaped(message)) {
        headers.insert(MESSAGE, message);
    }
    response
}

fn head(body: Body) -> Response {
    let mut response = HttpResponse::new(body);
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert(ACCEPTED, HeaderValue::from_static("identity,gzip,zstd"));
    response
}

/// `message` with percent signs before the hexadecimal of what a header cannot have.
fn escaped(message: &str) -> String {
    use std::fmt::Write as _;
    message.bytes().take(MESSAGE_BYTES_MAX).fold(String::new(), |mut text, byte| {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_whole_message() {
        assert_eq!(frame(&Bytes::from_static(b"\x01\0\0\0\x02ab")).unwrap(), (true, Bytes::from_static(b"ab")));
        assert_eq!(frame(&Bytes::from_static(b"\0\0\0\0\0")).unwrap(), (false, Bytes::new()));
        for bad in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\0\0\0\0\0\0", b"\x02\0\0\0\0"] {
            assert!(frame(&Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(escaped("50 % ü\n"), "50 %25 %C3%BC%0A");
    }
}
