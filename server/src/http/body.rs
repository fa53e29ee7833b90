//! Reading a request body with a size limit and a deadline.
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::error::ApiError;

/// The whole body, if it arrives within `timeout` and has at most `bytes_max`.
pub(crate) async fn read(body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, ApiError> {
    let collect = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(timeout, collect).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large(format!("body exceeds the limit of {bytes_max} bytes; send smaller requests")))
        }
        Ok(Err(error)) => Err(ApiError::bad_data(format!("cannot read the body: {error}"))),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            format!("the body did not arrive within {timeout:?} (limits.body_timeout)"),
        )),
    }
}
