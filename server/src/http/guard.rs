//! What surrounds every request: counting, refusal of cross-site requests, headers that tell browsers to be careful.
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY, UPGRADE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};

use crate::app::{ActiveRequest, App};
use crate::error::ApiError;

/// The routes of `router`, surrounded.
pub(crate) fn around(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    let surrounded = |State(app): State<Arc<App>>, request: Request, next: Next| {
        let matched = request.extensions().get::<MatchedPath>();
        let route = matched.map_or(Cow::Borrowed("other"), |path| Cow::Owned(path.as_str().to_owned()));
        surround(app, route, request, |request| next.run(request))
    };
    router.layer(from_fn_with_state(Arc::clone(&app), surrounded)).with_state(app)
}

/// The answer of `next` to a request of `route`, or that it is refused.
pub(super) async fn surround<F: Future<Output = Response>>(
    app: Arc<App>,
    route: Cow<'static, str>,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    if is_cross_site(request.method(), request.headers()) {
        let refused = ApiError::new(StatusCode::FORBIDDEN, "forbidden", "cross-site requests are refused");
        return protected(refused.into_response());
    }
    let watch = Watch::begin(app, route, request.method());
    let response = if watch.is_one_too_many() {
        drop(request);
        ApiError::unavailable("too many requests at once (limits.connections_max); try again soon").into_response()
    } else {
        next(request).await
    };
    protected(watch.end(response))
}

/// Times and counts a request by route, method and status.
struct Watch {
    app: Arc<App>,
    active: ActiveRequest,
    route: Cow<'static, str>,
    method: Method,
    started: Instant,
}

impl Watch {
    fn begin(app: Arc<App>, route: Cow<'static, str>, method: &Method) -> Self {
        Self { active: app.enter(), app, route, method: method.clone(), started: Instant::now() }
    }

    /// Requests without a body are always answered: whoever asks whether the server is healthy must hear it.
    fn is_one_too_many(&self) -> bool {
        self.method == Method::POST && self.app.requests_active() > self.app.config.limits.connections_max
    }

    /// A streamed answer is in flight until its last byte is taken: its body keeps the request active.
    fn end(self, response: Response) -> Response {
        self.app.metrics.http_request(&self.route, &self.method, response.status(), self.started.elapsed());
        response.map(|body| Body::new(GuardedBody { body, _active: self.active }))
    }
}

/// A body that keeps its request counted as active.
struct GuardedBody {
    body: Body,
    _active: ActiveRequest,
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

/// `response` with the protective headers that it does not have.
fn protected(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.reserve(PROTECTIVE.len());
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

/// Whether another web site's page made a browser send it. Without authentication, being on loopback is the only protection: a
/// browser must not be a way around it.
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
