//! The services over gRPC, served by tonic.
//!
//! ```text
//!  POST /package.Service/Method   content-type: application/grpc   grpc-encoding: gzip
//!    -> [`unpack`]: size, patience, gzip and zstd, each byte of memory reserved first
//!    -> tonic: the message of the call, as bytes ([`Raw`]) -> [`Export`] -> tonic: answer and trailers, or a status
//! ```
//! Bodies are read and decompressed in front of tonic, as those of every other protocol: tonic would hold a message before any
//! limit in flight is asked, would wait for a slow sender for ever, and lets zstd have a window of 128 MiB.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, BufMut as _, Bytes};
use futures::future::BoxFuture;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};

use super::http::{Format, Signal, grpc_code, malformed, response_message, store};
use crate::app::App;
use crate::error::ApiError;
use crate::remote_write::compression::{Compression, Plain, decompress};
use crate::remote_write::handler::receive;
use crate::sender::encode::{put_bytes, put_varint};

const ENCODING: &str = "grpc-encoding";
const ACCEPTED: &str = "grpc-accept-encoding";
/// Of a message: compressed?, length.
const HEAD_BYTES: usize = 5;
/// Bytes of a status's message, which is sent as a header; the rest is cut off.
const MESSAGE_BYTES_MAX: usize = 2 << 10;

pub(super) async fn metrics(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Metrics, request).await
}

pub(super) async fn logs(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Logs, request).await
}

pub(super) async fn traces(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Traces, request).await
}

/// Whether a request is a call of gRPC.
///
/// # Errors
/// 415 when it is not.
pub(crate) fn is_call(headers: &HeaderMap) -> Result<(), ApiError> {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    match content_type.starts_with(b"application/grpc") && !content_type.starts_with(b"application/grpc-web") {
        true => Ok(()),
        false => Err(ApiError::unsupported_media("this Content-Type is not supported; accepted: application/grpc")),
    }
}

async fn export(app: Arc<App>, signal: Signal, request: Request<Body>) -> Response {
    let started = Instant::now();
    if let Err(error) = is_call(request.headers()) {
        return error.into_response();
    }
    let response = match unpack(&app, signal, request).await {
        Ok(Call { request, message_bytes, export, reserved: _reserved }) => {
            let mut grpc = Grpc::new(Raw).max_decoding_message_size(message_bytes);
            grpc.unary(export, request).await.map(Body::new)
        }
        Err(error) => status(&error).into_http(),
    };
    let code = response.extensions().get::<Status>().map_or(Code::Ok, Status::code);
    app.metrics.push_request(signal.protocol(), "grpc", &(code as i32).to_string(), started.elapsed());
    accepting(response)
}

/// The answer to a call of something that is not here.
pub(super) fn unimplemented() -> Response {
    let what = "no such method; this port takes Export of MetricsService, LogsService and TraceService of \
                opentelemetry.proto.collector, and Subscribe of foretell.v1.Subscriptions";
    accepting(Status::unimplemented(what).into_http())
}

fn accepting(mut response: Response) -> Response {
    response.headers_mut().insert(ACCEPTED, HeaderValue::from_static("identity,gzip,zstd"));
    response
}

/// A call as tonic gets it.
struct Call {
    request: Request<StreamBody<Message>>,
    message_bytes: usize,
    export: Export,
    /// Memory of the body, and of tonic's copy of the message.
    reserved: [OwnedSemaphorePermit; 2],
}

/// Head and content of a message.
type Message = futures::stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>;

/// Reads the body of a call and decompresses the message in it.
async fn unpack(app: &Arc<App>, signal: Signal, request: Request<Body>) -> Result<Call, ApiError> {
    let (mut parts, body) = request.into_parts();
    app.store()?;
    let encoding = parts.headers.remove(ENCODING);
    let compression = Compression::named(encoding.as_ref().map_or(&b""[..], |value| value.as_bytes()))?;
    let (body, wire) = receive(app, &parts.headers, body).await?;
    let wire_bytes = body.len();
    let (mut is_compressed, message) = frame(&body)?;
    let mut plain = Plain::of(message);
    // What is compressed and does not say how is tonic's to refuse.
    if is_compressed && compression != Compression::Identity {
        plain = decompress(app, compression, plain.bytes).await?;
        is_compressed = false;
    }
    let message_bytes = plain.bytes.len();
    let message_bytes_max = app.workers.limits().decoded_bytes_max / 2;
    if message_bytes > message_bytes_max {
        return Err(ApiError::too_large(format!(
            "message of {message_bytes} bytes; over gRPC it may have {message_bytes_max}, half of \
             limits.decoded_bytes_max; send smaller requests"
        )));
    }
    let copy = app.reserve(message_bytes)?;
    let [a, b, c, d] = u32::try_from(message_bytes).unwrap_or(u32::MAX).to_be_bytes();
    let head = Bytes::copy_from_slice(&[u8::from(is_compressed), a, b, c, d]);
    let frames = [head, plain.bytes.clone()].map(|bytes| Ok(Frame::data(bytes)));
    let request = Request::from_parts(parts, StreamBody::new(futures::stream::iter(frames)));
    let export = Export { app: Arc::clone(app), signal, wire_bytes, unpacked: Some(plain) };
    Ok(Call { request, message_bytes, export, reserved: [wire, copy] })
}

/// Whether the one message of a call is compressed, and its bytes.
pub(crate) fn frame(body: &Bytes) -> Result<(bool, Bytes), ApiError> {
    let Some((&[flag, a, b, c, d], message)) = body.split_first_chunk::<HEAD_BYTES>() else {
        return Err(malformed("a gRPC call without a message"));
    };
    if flag > 1 || u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(malformed("a gRPC call must have one message of the length that its frame says"));
    }
    Ok((flag == 1, body.slice(HEAD_BYTES..)))
}

/// `Export` of one of the services.
struct Export {
    app: Arc<App>,
    signal: Signal,
    wire_bytes: usize,
    /// What the message is a copy of, until the call.
    unpacked: Option<Plain>,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        drop(self.unpacked.take());
        let (app, signal, wire_bytes) = (Arc::clone(&self.app), self.signal, self.wire_bytes);
        Box::pin(async move {
            let message = Plain::of(request.into_inner());
            match store(&app, signal, Format::Protobuf, wire_bytes, message).await {
                Ok(outcome) => Ok(tonic::Response::new(response_message(&outcome).into())),
                Err(error) => Err(status(&error)),
            }
        })
    }
}

/// Messages as the bytes they are: they are read straight from these.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// An error as a status; with the time after which a retry helps, if one does.
pub(crate) fn status(error: &ApiError) -> Status {
    let message = &error.message[..error.message.floor_char_boundary(MESSAGE_BYTES_MAX)];
    let code = grpc_code(error.status);
    let details = error.retry_after_seconds().map(|seconds| retry_info(code, message, seconds));
    Status::with_details(Code::from_i32(i32::from(code)), message, details.unwrap_or_default())
}

/// `google.rpc.Status` with a `google.rpc.RetryInfo` as its only detail.
fn retry_info(code: u8, message: &str, seconds: u32) -> Bytes {
    const TEXT: u8 = 2;
    let (mut delay, mut info, mut any, mut whole) = (vec![1 << 3], Vec::new(), Vec::new(), vec![1 << 3]);
    put_varint(&mut delay, u64::from(seconds));
    put_bytes(&mut info, 1 << 3 | TEXT, &delay);
    put_bytes(&mut any, 1 << 3 | TEXT, b"type.googleapis.com/google.rpc.RetryInfo");
    put_bytes(&mut any, 2 << 3 | TEXT, &info);
    put_varint(&mut whole, u64::from(code));
    put_bytes(&mut whole, 2 << 3 | TEXT, message.as_bytes());
    put_bytes(&mut whole, 3 << 3 | TEXT, &any);
    whole.into()
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
    }

    #[test]
    fn a_status_is_cut_between_characters_and_says_when_to_come_back() {
        let long = status(&ApiError::bad_data("ü".repeat(5_000) + "x"));
        assert_eq!((long.code(), long.message().len()), (Code::InvalidArgument, MESSAGE_BYTES_MAX));
        assert!(long.details().is_empty(), "no retry helps");
        let odd = status(&ApiError::bad_data("x".to_owned() + &"ü".repeat(5_000)));
        assert_eq!(odd.message().len(), MESSAGE_BYTES_MAX - 1);
        let busy = status(&ApiError::too_many("busy").retry_after(60));
        assert_eq!(busy.code(), Code::Unavailable);
        let name = b"type.googleapis.com/google.rpc.RetryInfo";
        assert!(busy.details().windows(name.len()).any(|window| window == name));
        // RetryInfo { retry_delay: Duration { seconds: 60 } }
        assert!(busy.details().ends_with(&[0x12, 4, 0x0a, 2, 0x08, 60]), "{:?}", busy.details());
    }
}
