//! Reading a request body with a size limit and a deadline.
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use futures::poll;
use http_body_util::BodyExt as _;

use crate::error::ApiError;

/// What is read of a refused body, and for how long, so that its sender gets to read the answer instead of a broken pipe.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
const DISCARDED_TIME_MAX: Duration = Duration::from_secs(2);

/// The whole body, if it arrives within `timeout` and has at most `bytes_max`.
pub(crate) async fn read(mut body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, ApiError> {
    let collected = {
        let mut collecting = pin!(collect(&mut body, bytes_max));
        // Most are there already.
        match poll!(&mut collecting) {
            Poll::Ready(collected) => Ok(collected),
            Poll::Pending => tokio::time::timeout(timeout, collecting).await,
        }
    };
    match collected {
        Ok(Err(error)) if error.status == StatusCode::PAYLOAD_TOO_LARGE => {
            discard(body).await;
            Err(error)
        }
        Ok(collected) => collected,
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            format!("the body did not arrive within {timeout:?} (limits.body_timeout)"),
        )),
    }
}

/// Refuses a body that is compressed, for routes that take none.
pub(crate) fn refuse_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(ApiError::unsupported_media(
            "compressed bodies are not accepted here; send it without Content-Encoding",
        )),
        _ => Ok(()),
    }
}

/// The answer to a body above `bytes_max`.
pub(crate) fn too_large(bytes_max: usize) -> ApiError {
    ApiError::too_large(format!("body exceeds the limit of {bytes_max} bytes; send smaller requests"))
}

/// Reads and drops what remains of `body`, within reason.
pub(crate) async fn discard(mut body: Body) {
    let _ = tokio::time::timeout(DISCARDED_TIME_MAX, async {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > DISCARDED_BYTES_MAX {
                return;
            }
        }
    })
    .await;
}

async fn collect(body: &mut Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    // Nothing for chunks.
    let announced = usize::try_from(hyper::body::Body::size_hint(body).lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(too_large(bytes_max));
    }
    // A body of one frame, the common case, is not copied.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_data(format!("cannot read the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + whole.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(announced.max(first.len() + data.len()));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}
