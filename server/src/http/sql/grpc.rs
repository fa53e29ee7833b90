//! `SUBSCRIBE` over gRPC: `foretell.v1.Subscriptions/Subscribe`.
//!
//! A call has one message, the answer as many as come: rows as Arrow, then the cursor that they reach. Rows are read when the client
//! has taken those before, by the flow control of HTTP/2: one that is slow holds up nobody.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use foretell_proto::foretell::v1::{SubscribeRequest, SubscribeResponse, subscribe_response};
use foretell_query::{Delivery, Subscribe, Subscription};
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::app::App;
use crate::clients::Client;
use crate::encode::{Encoder, Format, Stats};
use crate::error::ApiError;
use crate::otlp::grpc::{frame, is_call, status};
use crate::remote_write::handler::receive;

/// About the bytes of a message: clients take 4 MiB unless they say otherwise.
const MESSAGE_BYTES: usize = 1 << 20;
/// Bytes of a call.
const CALL_BYTES_MAX: usize = 1 << 20;

/// Answers a call.
pub(crate) async fn subscribe(Shared(app): Shared<Arc<App>>, request: Request<Body>) -> Response {
    if let Err(error) = is_call(request.headers()) {
        return error.into_response();
    }
    let state = match open(&app, request).await {
        Ok(state) => state,
        Err(error) => return fault(&error).into_http(),
    };
    let mut response = Response::new(Body::new(StreamBody::new(stream::unfold(Some(state), next))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A table that is not there is not found; elsewhere such an error speaks of the method.
fn fault(error: &ApiError) -> Status {
    match error.status {
        StatusCode::NOT_FOUND => Status::not_found(&*error.message),
        _ => status(error),
    }
}

async fn open(app: &Arc<App>, request: Request<Body>) -> Result<State, ApiError> {
    let (parts, body) = request.into_parts();
    let store = app.store()?;
    let (body, _wire) = receive(app, &parts.headers, body).await?;
    let (is_compressed, message) = frame(&body)?;
    if is_compressed || message.len() > CALL_BYTES_MAX {
        let what = "send the call of Subscribe without compression, with a statement of 1 MiB at most";
        return Err(ApiError::bad_data(what));
    }
    let call = SubscribeRequest::decode(message)
        .map_err(|error| ApiError::bad_data(format!("this is no foretell.v1.SubscribeRequest: {error}")))?;
    let statement = Subscribe::parse(&call.statement).unwrap_or_else(|| {
        Err(foretell_query::Error::invalid(
            "statement must be SUBSCRIBE table | (SELECT …) [FROM 'now' | 'start' | '<cursor>']",
        ))
    })?;
    let statement = if call.cursor.is_empty() { statement } else { statement.resumed(&call.cursor)? };
    let client = app.subscribers.enter(app.metrics.subscriptions())?;
    let subscription = Subscription::open(&store.database, &store.engine, statement).await?;
    Ok(State { subscription, app: Arc::clone(app), stopping: app.subscribers.stopping().clone(), _client: client })
}

struct State {
    subscription: Subscription,
    app: Arc<App>,
    stopping: CancellationToken,
    _client: Client,
}

/// The next messages, or the status at the end.
async fn next(state: Option<State>) -> Option<(Result<Frame<Bytes>, Infallible>, Option<State>)> {
    let mut state = state?;
    let delivered = tokio::select! {
        () = state.stopping.cancelled() => Err(Status::unavailable("the server stops: subscribe again from the last cursor")),
        delivered = state.subscription.next() => {
            let delivered = delivered.map_err(ApiError::from).and_then(|delivered| state.messages(delivered));
            delivered.map_err(|error| fault(&error))
        }
    };
    match delivered {
        Ok(messages) => Some((Ok(Frame::data(messages)), Some(state))),
        Err(end) => {
            let mut trailers = HeaderMap::new();
            if end.add_header(&mut trailers).is_err() {
                trailers.insert("grpc-status", HeaderValue::from_static("13"));
            }
            Some((Ok(Frame::trailers(trailers)), None))
        }
    }
}

impl State {
    fn messages(&self, delivered: Vec<Delivery>) -> Result<Bytes, ApiError> {
        let mut messages = BytesMut::new();
        for one in delivered {
            match one {
                Delivery::Rows(batch) => {
                    self.app.metrics.subscription_rows(batch.num_rows() as u64);
                    for part in parts(&batch) {
                        put(&mut messages, subscribe_response::Delivery::Rows(arrow(&part)?));
                    }
                }
                Delivery::Cursor(cursor) => put(&mut messages, subscribe_response::Delivery::Cursor(cursor)),
            }
        }
        Ok(messages.freeze())
    }
}

/// A batch in parts of about [`MESSAGE_BYTES`].
fn parts(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
    let rows = (MESSAGE_BYTES / row_bytes.max(1)).max(1);
    let starts = (0..batch.num_rows()).step_by(rows);
    starts.map(move |from| batch.slice(from, rows.min(batch.num_rows() - from)))
}

fn arrow(batch: &RecordBatch) -> Result<Vec<u8>, ApiError> {
    let (mut encoder, mut out) = (Encoder::new(Format::Arrow, &batch.schema())?, Vec::new());
    encoder.head(&mut out);
    encoder.batch(batch, &mut out)?;
    encoder.tail(&Stats { query_id: 0, rows: batch.num_rows() as u64, elapsed: Duration::ZERO }, &mut out)?;
    Ok(out)
}

/// Appends a message behind its head.
fn put(out: &mut BytesMut, delivery: subscribe_response::Delivery) {
    let message = SubscribeResponse { delivery: Some(delivery) }.encode_to_vec();
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.extend_from_slice(&message);
}
