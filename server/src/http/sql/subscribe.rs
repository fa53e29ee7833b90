//! `SUBSCRIBE` over server-sent events.
//!
//! ```text
//!  event: row       data: {"ts":"…","host":"a",…}
//!  event: row       …
//!  id: 4711         event: cursor    data: {"cursor":"4711"}      everything up to here is delivered
//!  : alive                                                        when nothing comes for a while
//!  event: error     data: {"status":"error",…}                    then the end
//! ```
//! A client that connects again says with `Last-Event-ID`, as browsers do by themselves, or with FROM, what it had. Rows are read when
//! the client has taken those before: one that is slow holds up nobody.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use foretell_query::{Delivery, Subscribe, Subscription};
use futures::stream;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clients::{Client, Clients};
use crate::encode::{Encoder, Format};
use crate::error::ApiError;
use crate::http::respond;

/// Clients at once.
const SUBSCRIBERS_MAX: usize = 64;
/// Silence after which a client is told that the connection is alive.
const ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The clients that have subscribed.
pub(crate) fn clients() -> Clients {
    Clients::new(SUBSCRIBERS_MAX, "have subscribed")
}

/// Answers a statement that subscribes.
pub(super) async fn subscribe(app: &Arc<App>, statement: Subscribe, headers: &HeaderMap) -> Result<Response, ApiError> {
    let client = app.subscribers.enter(app.metrics.subscriptions())?;
    let last = headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok()).filter(|last| !last.is_empty());
    let statement = match last {
        Some(last) => statement.resumed(last)?,
        None => statement,
    };
    let store = app.store()?;
    let subscription = Subscription::open(&store.database, &store.engine, statement).await?;
    let state = State {
        subscription,
        app: Arc::clone(app),
        stopping: app.subscribers.stopping().clone(),
        ended: false,
        _client: client,
    };
    let mut response =
        respond::text(StatusCode::OK, "text/event-stream", Body::from_stream(stream::unfold(state, next)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

struct State {
    subscription: Subscription,
    app: Arc<App>,
    stopping: CancellationToken,
    ended: bool,
    _client: Client,
}

/// The next events.
async fn next(mut state: State) -> Option<(Result<Bytes, Infallible>, State)> {
    if state.ended {
        return None;
    }
    let delivered = tokio::select! {
        () = state.stopping.cancelled() => return None,
        () = tokio::time::sleep(ALIVE) => return Some((Ok(Bytes::from_static(b": alive\n\n")), state)),
        delivered = state.subscription.next() => delivered.map_err(ApiError::from),
    };
    let events = delivered.and_then(|delivered| state.events(&delivered));
    let events = events.unwrap_or_else(|error| {
        state.ended = true;
        format!("event: error\ndata: {}\n\n", error.body()).into_bytes()
    });
    Some((Ok(Bytes::from(events)), state))
}

impl State {
    fn events(&self, delivered: &[Delivery]) -> Result<Vec<u8>, ApiError> {
        let mut events = Vec::new();
        for one in delivered {
            match one {
                Delivery::Rows(batch) => {
                    self.app.metrics.subscription_rows(batch.num_rows() as u64);
                    let mut lines = Vec::new();
                    Encoder::new(Format::Ndjson, &batch.schema())?.batch(batch, &mut lines)?;
                    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                        events.extend_from_slice(b"event: row\ndata: ");
                        events.extend_from_slice(line);
                        events.extend_from_slice(b"\n\n");
                    }
                }
                Delivery::Cursor(cursor) => events.extend_from_slice(
                    format!("id: {cursor}\nevent: cursor\ndata: {{\"cursor\":\"{cursor}\"}}\n\n").as_bytes(),
                ),
            }
        }
        Ok(events)
    }
}
