//! What surrounds every request: counting, refusal of cross-site requests, headers that tell browsers to be careful.
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY, UPGRADE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::app::App;
use crate::error::ApiError;

/// Times and counts a request by route, method and status; refuses one too many. Requests without a body are always
/// answered: whoever asks whether the server is healthy must hear it.
pub(crate) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let active = app.enter();
    let is_refused = request.method() == Method::POST && app.requests_active() > app.config.limits.connections_max;
    let started = Instant::now();
    let method = request.method().clone();
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let response = if is_refused {
        drop(request);
        ApiError::unavailable("too many requests at once (limits.connections_max); try again soon").into_response()
    } else {
        next.run(request).await
    };
    app.metrics.http_request(&route, &method, response.status(), started.elapsed());
    // A streamed answer is in flight until its last byte is taken: the body keeps the guard.
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, axum::body::Body::new(GuardedBody { body, _active: active }))
}

/// A body that keeps its request counted as active.
struct GuardedBody {
    body: axum::body::Body,
    _active: crate::app::ActiveRequest,
}

impl hyper::body::Body for GuardedBody {
    type Data = bytes::Bytes;
    type Error = axum::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// Refuses requests that another web site's page makes a browser send, and sets the protective headers.
pub(crate) async fn protect(request: Request, next: Next) -> Response {
    let mut response = if is_cross_site(request.method(), request.headers()) {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", "cross-site requests are refused").into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in PROTECTIVE {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

const PROTECTIVE: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// Without authentication, being on loopback is the only protection: a browser must not be a way around it.
fn is_cross_site(method: &Method, headers: &HeaderMap) -> bool {
    // No browser lets a page read answers of another site, except those of a WebSocket.
    if (method == Method::GET || method == Method::HEAD) && !headers.contains_key(UPGRADE) {
        return false;
    }
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site") {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return false;
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    origin.split_once("://").is_none_or(|(_, authority)| !authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_page_of_another_site_cannot_write() {
        let own = headers(&[("host", "127.0.0.1:8484"), ("origin", "http://127.0.0.1:8484")]);
        let other = headers(&[("host", "127.0.0.1:8484"), ("origin", "https://evil.example")]);
        let opaque = headers(&[("host", "127.0.0.1:8484"), ("origin", "null")]);
        let marked = headers(&[("host", "127.0.0.1:8484"), ("sec-fetch-site", "cross-site")]);
        assert!(!is_cross_site(&Method::POST, &own));
        assert!(!is_cross_site(&Method::POST, &headers(&[("host", "x")])));
        assert!(is_cross_site(&Method::POST, &other));
        assert!(is_cross_site(&Method::POST, &opaque));
        assert!(is_cross_site(&Method::POST, &marked));
        assert!(!is_cross_site(&Method::GET, &marked));
    }

    #[test]
    fn a_page_of_another_site_cannot_read_a_websocket() {
        let socket = |origin| headers(&[("host", "127.0.0.1:8484"), ("upgrade", "websocket"), ("origin", origin)]);
        assert!(!is_cross_site(&Method::GET, &socket("http://127.0.0.1:8484")));
        assert!(is_cross_site(&Method::GET, &socket("https://evil.example")));
        assert!(!is_cross_site(&Method::GET, &headers(&[("host", "x"), ("upgrade", "websocket")])), "no browser");
    }
}
