//! `POST /api/v1/read`.
//!
//! | answer | when |
//! |---|---|
//! | 200 | the samples, in the first encoding of the request that we can write |
//! | 400 | the request is malformed, or the answer in one piece would be too large |
//! | 413 | the request is above a size limit |
//! | 429, 503 | too many bytes in flight, too many queries, opening, stopping |
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use foretell_query::promql::{RawReader, RawSelection};
use foretell_query::{Error as QueryError, ErrorKind, Result as QueryResult};
use futures::{Stream, stream};
use tokio::sync::mpsc;

use super::request::{Encoding, ReadRequest};
use super::{chunks, samples::Samples};
use crate::app::App;
use crate::error::ApiError;
use crate::http::{read_body, respond};
use crate::remote_write::{DecodeError, DecodeLimits, is_snappy, snappy};

/// Compressed bytes of a request.
const WIRE_BYTES_MAX: usize = 1 << 20;
/// Decompressed bytes of a request.
const DECODED_BYTES_MAX: usize = 4 << 20;
/// A stream is sent in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for a slow reader.
const PIECES_WAITING: usize = 4;
/// The part of the queries' memory that an answer in one piece may take; compressed it is there a second time.
const MEMORY_PART: usize = 8;

const STREAM_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// What the thread that reads hands over.
enum Piece {
    /// All there is, in one message.
    Whole(Bytes),
    /// A stream begins.
    Begin,
    /// More of it.
    More(Bytes),
}

type Pieces = mpsc::Sender<Result<Piece, ApiError>>;

pub(crate) async fn read(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let timer = app.metrics.query_timer();
    let request = match receive(&app, &headers, body).await {
        Ok(request) => request,
        Err(error) => {
            timer.finish(error.kind);
            return Err(error);
        }
    };
    let database = match app.store() {
        Ok(store) => store.database,
        Err(error) => {
            timer.finish(error.kind);
            return Err(error);
        }
    };
    let bytes_max = app.config.query.memory_bytes_max.as_usize() / MEMORY_PART;
    let (pieces, mut answer) = mpsc::channel(PIECES_WAITING);
    tokio::spawn(async move {
        let text = request.describe();
        let out = pieces.clone();
        let reading = database.read_raw(text, None, move |reader| send(reader, &request, bytes_max, &out));
        let done = tokio::select! {
            done = reading => done,
            // Nobody waits any more.
            () = pieces.closed() => return,
        };
        match done {
            Ok(()) => timer.finish("ok"),
            Err(error) => {
                let error = ApiError::from(error);
                timer.finish(error.kind);
                let _ = pieces.send(Err(error)).await;
            }
        }
    });
    match answer.recv().await {
        Some(Ok(Piece::Whole(body))) => {
            // Until the other side has ended as well: otherwise it would take the answer for abandoned.
            let _ = answer.recv().await;
            let mut response = respond::text(StatusCode::OK, "application/x-protobuf", body);
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            Ok(response)
        }
        Some(Ok(Piece::Begin | Piece::More(_))) => {
            Ok(respond::text(StatusCode::OK, STREAM_TYPE, Body::from_stream(rest(answer))))
        }
        Some(Err(error)) => Err(error),
        None => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the read ended without an answer")),
    }
}

/// The request that `body` holds.
async fn receive(app: &App, headers: &HeaderMap, body: Body) -> Result<ReadRequest, ApiError> {
    if !is_snappy(headers) {
        return Err(ApiError::unsupported_media("remote read takes bodies with Content-Encoding snappy only"));
    }
    let limits = DecodeLimits {
        wire_bytes_max: WIRE_BYTES_MAX,
        decoded_bytes_max: DECODED_BYTES_MAX,
        ..app.workers.limits().clone()
    };
    let _in_flight = app.reserve(WIRE_BYTES_MAX)?;
    let body = read_body(body, WIRE_BYTES_MAX, app.config.limits.body_timeout.0).await?;
    let mut decoded = Vec::new();
    let len = snappy::decompress(&body, &limits, &mut decoded).map_err(|error| match error {
        DecodeError::TooLarge(_) => ApiError::too_large(error.to_string()),
        error => ApiError::bad_data(error.to_string()),
    })?;
    ReadRequest::decode(&decoded[..len]).map_err(|error| ApiError::bad_data(error.to_string()))
}

/// What follows the begin of a stream; an error breaks the connection.
fn rest(answer: mpsc::Receiver<Result<Piece, ApiError>>) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold(answer, |mut answer| async move {
        let piece = match answer.recv().await? {
            Ok(Piece::Whole(bytes) | Piece::More(bytes)) => Ok(bytes),
            Ok(Piece::Begin) => Ok(Bytes::new()),
            Err(error) => {
                tracing::warn!(error = %error.message, "a remote read ended early");
                Err(std::io::Error::other(error.message))
            }
        };
        Some((piece, answer))
    })
}

/// Reads and hands over, on a thread that may block.
fn send(reader: &RawReader<'_>, request: &ReadRequest, bytes_max: usize, pieces: &Pieces) -> QueryResult<()> {
    let selected: Vec<RawSelection<'_>> =
        request.queries.iter().map(|query| reader.select(query)).collect::<QueryResult<_>>()?;
    match choose(&request.encodings, &selected)? {
        Encoding::Samples => {
            let mut samples = Samples::new(bytes_max);
            for selection in &selected {
                samples.result(|samples| selection.each(|series| samples.series(&series)))?;
            }
            hand_over(Piece::Whole(Bytes::from(samples.finish()?)), pieces)
        }
        Encoding::Chunks => {
            hand_over(Piece::Begin, pieces)?;
            let mut buffer = Vec::new();
            for (query, selection) in selected.iter().enumerate() {
                selection.each(|series| {
                    chunks::encode(query, &series, &mut buffer);
                    if buffer.len() < PIECE_BYTES {
                        return Ok(());
                    }
                    hand_over(Piece::More(Bytes::from(std::mem::take(&mut buffer))), pieces)
                })?;
            }
            if buffer.is_empty() { Ok(()) } else { hand_over(Piece::More(Bytes::from(buffer)), pieces) }
        }
    }
}

/// The best encoding that can hold what is selected: XOR chunks hold no histograms.
fn choose(encodings: &[Encoding], selected: &[RawSelection<'_>]) -> QueryResult<Encoding> {
    if encodings[0] == Encoding::Samples {
        return Ok(Encoding::Samples);
    }
    for selection in selected {
        if selection.has_histograms()? {
            return if encodings.contains(&Encoding::Samples) {
                Ok(Encoding::Samples)
            } else {
                Err(QueryError::invalid(
                    "some of these series have native histograms, which XOR chunks cannot hold; accept SAMPLES as well",
                ))
            };
        }
    }
    Ok(Encoding::Chunks)
}

fn hand_over(piece: Piece, pieces: &Pieces) -> QueryResult<()> {
    let gone = |_| QueryError::new(ErrorKind::Cancelled, "the client has gone away");
    pieces.blocking_send(Ok(piece)).map_err(gone)
}
