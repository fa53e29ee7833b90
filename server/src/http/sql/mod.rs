//! `POST /api/v1/sql`: one statement in, rows out in a format of [`crate::encode`].
//!
//! An answer is gathered up to [`BUFFERED_BYTES_MAX`]; an error until then gives a proper status. Beyond, it is streamed with
//! status 200, and an error ends the connection without the terminating chunk (HTTP/2: resets the stream), so that no
//! client can take a part for the whole; JSON and NDJSON say why as their last object, Arrow and Parquet lack their end.
//! `SUBSCRIBE` is answered by [`subscribe`].
pub(crate) mod grpc;
mod request;
pub(crate) mod subscribe;

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use foretell_query::{Error as QueryError, QueryResponse, Subscribe};
use futures::StreamExt as _;

use self::request::{SqlParams, parse_body};
use super::{read_body, refuse_encoded, respond};
use crate::app::App;
use crate::encode::{Encoder, Stats};
use crate::error::ApiError;
use crate::metrics::QueryTimer;

/// Up to here an answer can still turn into an error status.
const BUFFERED_BYTES_MAX: usize = 1 << 20;
/// JSON around the SQL text and its parameters.
const BODY_BYTES_MAX: usize = 1 << 20;
const QUERY_ID: HeaderName = HeaderName::from_static("x-foretell-query-id");

pub(super) async fn run(
    State(app): State<Arc<App>>,
    params: Result<Query<SqlParams>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let timer = app.metrics.query_timer();
    match answer(&app, params, &headers, body).await {
        Ok((response, None)) => {
            timer.finish("ok");
            Ok(response)
        }
        Ok((_, Some(rows))) => Ok(rows.stream(timer)),
        Err(error) => {
            timer.finish(error.kind);
            Err(error)
        }
    }
}

/// Names of tables and functions, for completion.
pub(super) async fn names(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let names = app.store()?.database.names();
    Ok(respond::json(StatusCode::OK, serde_json::json!({ "names": names }).to_string()))
}

/// Either a whole answer or the rows that remain to be streamed.
async fn answer(
    app: &Arc<App>,
    params: Result<Query<SqlParams>, QueryRejection>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Response, Option<Rows>), ApiError> {
    let Query(params) = params.map_err(|rejection| ApiError::bad_data(rejection.body_text()))?;
    refuse_encoded(headers)?;
    let format = params.format()?;
    let timeout = params.timeout()?;
    let store = app.store()?;
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    let mut in_flight = app.reserve(announced.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX))?;
    let body = read_body(body, BODY_BYTES_MAX, app.config.limits.body_timeout.0).await?;
    // What the statement and its parameters take while they wait for a place and are planned.
    let _waiting = in_flight.split(body.len());
    drop(in_flight);
    let mut request = parse_body(&body, is_json)?;
    drop(body);
    request.timeout = timeout;
    if let Some(statement) = Subscribe::parse(&request.sql) {
        return Ok((subscribe::subscribe(app, statement?, headers).await?, None));
    }

    let started = Instant::now();
    let response = store.database.query(request).await?;
    let id = response.id;
    let encoder = Encoder::new(format, &response.schema)?;
    let content_type = format.content_type();
    let mut rows = Rows { response, encoder, content_type, id, started, rows: 0, out: Vec::new(), done: false };
    rows.encoder.head(&mut rows.out);
    while !rows.done && rows.out.len() < BUFFERED_BYTES_MAX {
        rows.advance().await?;
    }
    if !rows.done {
        return Ok((Response::default(), Some(rows)));
    }
    let whole = std::mem::take(&mut rows.out);
    Ok((rows.respond(Body::from(whole)), None))
}

/// Rows on their way out.
struct Rows {
    response: QueryResponse,
    encoder: Encoder,
    content_type: &'static str,
    id: u64,
    started: Instant,
    rows: u64,
    out: Vec<u8>,
    done: bool,
}

impl Rows {
    /// Encodes the next batch, or the end, into `out`.
    async fn advance(&mut self) -> Result<(), ApiError> {
        match self.response.stream.next().await {
            Some(Ok(batch)) => self.batch(&batch),
            Some(Err(error)) => Err(QueryError::from_datafusion(error).into()),
            None => {
                let stats = Stats { query_id: self.id, rows: self.rows, elapsed: self.started.elapsed() };
                self.encoder.tail(&stats, &mut self.out)?;
                self.done = true;
                Ok(())
            }
        }
    }

    /// Advances until there is something to send; Parquet holds rows back.
    async fn fill(&mut self) -> Result<(), ApiError> {
        while self.out.is_empty() && !self.done {
            self.advance().await?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), ApiError> {
        self.rows += batch.num_rows() as u64;
        Ok(self.encoder.batch(batch, &mut self.out)?)
    }

    fn respond(&self, body: Body) -> Response {
        let mut response = respond::text(StatusCode::OK, self.content_type, body);
        response.headers_mut().insert(QUERY_ID, HeaderValue::from(self.id));
        response
    }

    fn stream(self, timer: QueryTimer) -> Response {
        let content_type = self.content_type;
        let id = self.id;
        let chunks = futures::stream::unfold(Streaming::Rows(Box::new(self), timer), Streaming::next);
        let mut response = respond::text(StatusCode::OK, content_type, Body::from_stream(chunks));
        response.headers_mut().insert(QUERY_ID, HeaderValue::from(id));
        response
    }
}

/// State of a streamed answer. Dropping it cancels the query.
enum Streaming {
    Rows(Box<Rows>, QueryTimer),
    /// The reason has been sent; what remains is to break the connection.
    Break(String),
    End,
}

impl Streaming {
    async fn next(self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        match self {
            Self::Rows(mut rows, timer) => {
                if let Err(error) = rows.fill().await {
                    tracing::warn!(query = rows.id, error = %error.message, "an answer ended early");
                    rows.out.clear();
                    rows.encoder.failed(&error.body(), &mut rows.out);
                    timer.finish(error.kind);
                    return Some((
                        Ok(Bytes::from(std::mem::take(&mut rows.out))),
                        Self::Break(error.message.into_owned()),
                    ));
                }
                let chunk = Bytes::from(std::mem::take(&mut rows.out));
                if rows.done {
                    timer.finish("ok");
                    return Some((Ok(chunk), Self::End));
                }
                Some((Ok(chunk), Self::Rows(rows, timer)))
            }
            Self::Break(why) => Some((Err(std::io::Error::other(why)), Self::End)),
            Self::End => None,
        }
    }
}
