//! One error shape for every endpoint: `{"status":"error","errorType":"...","error":"..."}` with the right status code.
use std::borrow::Cow;

use axum::http::header::{ALLOW, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use foretell_engine::{Error as EngineError, ErrorKind as EngineKind};
use foretell_query::{Error as QueryError, ErrorKind as QueryKind};

use crate::encode::Unencodable;
use crate::http::respond;

/// An answer that says no.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) message: Cow<'static, str>,
    retry_after_s: Option<u32>,
    allow: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, kind, message: message.into(), retry_after_s: None, allow: None }
    }

    pub(crate) fn bad_data(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_data", message)
    }

    pub(crate) fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(crate) fn unsupported_media(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(crate) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let mut error =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "bad_data", format!("this route answers {allow} only"));
        error.allow = Some(allow);
        error
    }

    /// Come back later.
    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).retry_after(1)
    }

    /// Send less, or later.
    pub(crate) fn too_many(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).retry_after(1)
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// After how many seconds a retry helps.
    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// An engine error on the write path. Whatever may pass is 429 or 503, never 500: the sender must keep its data.
    pub(crate) fn from_write(error: &EngineError) -> Self {
        let message = error.to_string();
        match error.kind() {
            EngineKind::Invalid => Self::bad_data(message),
            EngineKind::Limit => Self::too_many(message),
            EngineKind::Unavailable if error.is_disk_full() => Self::unavailable(message).retry_after(5),
            EngineKind::Unavailable => Self::unavailable(message),
            EngineKind::Io | EngineKind::Corruption => Self::unavailable(message).retry_after(5),
        }
    }

    /// Text of the JSON body.
    pub(crate) fn body(&self) -> String {
        serde_json::json!({ "status": "error", "errorType": self.kind, "error": self.message }).to_string()
    }
}

impl From<Unencodable> for ApiError {
    fn from(error: Unencodable) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", error.to_string())
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let message = error.message;
        match error.kind {
            QueryKind::Invalid => Self::bad_data(message),
            QueryKind::NotFound => Self::not_found(message),
            QueryKind::Execution => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", message),
            QueryKind::Timeout => Self::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message),
            QueryKind::Cancelled => Self::new(StatusCode::SERVICE_UNAVAILABLE, "canceled", message),
            QueryKind::Unavailable => Self::unavailable(message),
            QueryKind::Internal => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = respond::json(self.status, self.body());
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}
