//! Where requests come in. Questions in PromQL, most of what is asked, go straight to their handlers; all others go to the router.
//!
//! What surrounds a request is the same on either way (`guard`). The router's (tables of routes, boxes in boxes, a copy of each
//! layer) is short but full of code and data that nothing else touches: of a small question that is asked after a while, a tenth.
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::handler::Handler as _;
use axum::http::Method;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::{guard, prometheus};
use crate::app::App;

/// See the module.
#[derive(Clone)]
pub(crate) struct Front {
    router: TowerToHyperService<Router>,
    /// Answers questions.
    app: Option<Arc<App>>,
}

impl Front {
    /// All requests go to `router`.
    pub(crate) fn of(router: Router) -> Self {
        Self { router: TowerToHyperService::new(router), app: None }
    }

    /// `app` answers questions in PromQL as `router` would.
    pub(super) fn with_questions(router: Router, app: Arc<App>) -> Self {
        Self { app: Some(app), ..Self::of(router) }
    }
}

impl Service<hyper::Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        match (&self.app, Question::of(request.method(), request.uri().path())) {
            (Some(app), Some(question)) => {
                let (app, own) = (Arc::clone(app), Arc::clone(app));
                let handle = move |request| question.handle(request, own);
                let request = request.map(Body::new);
                Box::pin(async move { Ok(guard::surround(app, question.route().into(), request, handle).await) })
            }
            _ => Box::pin(self.router.call(request)),
        }
    }
}

/// An answer on its way.
type Handling = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A question in PromQL.
#[derive(Clone, Copy)]
enum Question {
    Instant,
    Range,
}

impl Question {
    /// The one that a request is; its `HEAD` is the router's.
    fn of(method: &Method, path: &str) -> Option<Self> {
        let either = [Self::Instant, Self::Range];
        let asks = method == Method::GET || method == Method::POST;
        either.into_iter().find(|question| asks && question.route() == path)
    }

    fn route(self) -> &'static str {
        match self {
            Self::Instant => "/api/v1/query",
            Self::Range => "/api/v1/query_range",
        }
    }

    /// As the router's handler does.
    fn handle(self, request: Request, app: Arc<App>) -> Handling {
        match self {
            Self::Instant => prometheus::query.call(request, app),
            Self::Range => prometheus::query_range.call(request, app),
        }
    }
}
