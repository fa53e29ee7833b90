//! `GET /loki/api/v1/tail`: lines as they come, over a WebSocket.
//!
//! ```text
//!  parameters -> place, memory -> upgrade -> newest lines of a snapshot -> feed of commits after it -> stages -> waiting -> messages
//!   400          429, 503                                                  |                                     |          |
//!                                                  woken by commits; a position in the log,            delay_for            buffer
//!                                                  so that no line is lost or comes twice                   full: dropped_entries
//! ```
//! | module | owns |
//! |---|---|
//! | `follow` | from commits to lines |
//! | `waiting` | lines that wait until others may have come |
//! | `outlet` | messages, their buffer, lines that found no room in it |
//!
//! One task has it all. Whatever of it ends first ends the rest: the client leaves or does not answer, reading fails, the server
//! stops.
mod follow;
mod outlet;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use foretell_engine::Snapshot;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::follow::follow;
use self::outlet::{BUFFER_BYTES, Outlet, Parcels};
use super::super::logql::LogQuery;
use super::lines::categorized;
use super::params::Params;
use crate::app::{App, Store};
use crate::clients::Clients;
use crate::error::ApiError;

/// Clients at once.
const TAILS_MAX: usize = 10;
/// Longest `delay_for`, s.
const DELAY_MAX_S: u64 = 5;
/// Bytes of what a client sends, which has nothing to say.
const HEARD_BYTES_MAX: usize = 4 << 10;
/// Bytes of each buffer of the protocol.
const SOCKET_BYTES: usize = 16 << 10;
/// A client is asked so often, while it may be silent, whether it is there.
const PINGS: u32 = 3;
/// How long a client may take to answer that the connection is to be closed.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Bytes of the reason of a close, as the protocol has it.
const REASON_BYTES_MAX: usize = 123;

/// The clients that are told of lines as they come.
pub(crate) fn clients() -> Clients {
    Clients::new(TAILS_MAX, "tail")
}

/// What a client wants.
struct Wish {
    query: LogQuery,
    text: String,
    /// How long lines wait for older ones.
    delay: Duration,
    /// Most lines of those that are there.
    limit: usize,
    /// Since when, ns UTC.
    start: i64,
    /// Whether it wants to be told where labels come from.
    categorized: bool,
}

impl Wish {
    fn of(params: &Params, headers: &HeaderMap) -> Result<Self, ApiError> {
        let delay = match params.one("delay_for") {
            None => 0,
            Some(text) => text.parse().ok().filter(|seconds| *seconds <= DELAY_MAX_S).ok_or_else(|| {
                let why = format!("invalid parameter \"delay_for\": {text:?} is not from 0 to {DELAY_MAX_S} seconds");
                ApiError::bad_data(why)
            })?,
        };
        Ok(Self {
            query: params.lines()?,
            text: params.one("query").unwrap_or_default().to_owned(),
            delay: Duration::from_secs(delay),
            limit: params.limit()?,
            start: params.since()?,
            categorized: categorized(headers),
        })
    }
}

/// `GET /loki/api/v1/tail`
pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(text): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let wish = Wish::of(&Params::of(text.as_deref()), &headers)?;
    let upgrade = upgrade.map_err(|error| {
        ApiError::bad_data(format!(
            "this route answers over a WebSocket (ws://…, HTTP/1.1) as lines come: ask query_range for what is there ({error})"
        ))
    })?;
    let store = app.store()?;
    let open = app.tails.enter(app.metrics.loki_tails())?;
    let memory = store.database.memory("messages of a tail");
    memory.resize(BUFFER_BYTES)?;
    // Before the answer: whatever is sent after it comes.
    let snapshot = store.engine.snapshot();
    let upgrade = upgrade.read_buffer_size(SOCKET_BYTES).write_buffer_size(SOCKET_BYTES);
    let upgrade = upgrade.max_message_size(HEARD_BYTES_MAX).max_frame_size(HEARD_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        run(&app, &store, &wish, snapshot, socket).await;
        drop((memory, open));
    }))
}

/// Why a client is told no more.
enum End {
    /// It went.
    Left,
    /// Nothing came from it for so long.
    Silent(Duration),
    Stopping,
    Failed(ApiError),
}

impl End {
    fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Left => return None,
            Self::Silent(patience) => {
                (close_code::POLICY, format!("nothing was read or answered for {} s", patience.as_secs_f64()))
            }
            Self::Stopping => (close_code::AWAY, "the server is stopping".to_owned()),
            Self::Failed(error) => (close_code::ERROR, error.message.into_owned()),
        };
        Some(CloseFrame { code, reason: reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into() })
    }
}

async fn run(app: &Arc<App>, store: &Store, wish: &Wish, snapshot: Snapshot, socket: WebSocket) {
    let patience = app.config.limits.write_stall_timeout.0;
    let (mut out, mut heard) = socket.split();
    let (outlet, parcels) = Outlet::new(Arc::clone(app), wish.categorized);
    let end = tokio::select! {
        biased;
        () = app.tails.stopping().cancelled() => End::Stopping,
        end = listen(&mut heard, patience) => end,
        end = send(app, &mut out, parcels, patience / PINGS) => end,
        failed = follow(app, store, wish, snapshot, outlet) => {
            let Err(error) = failed;
            End::Failed(error)
        }
    };
    let closing = async {
        if let Some(frame) = end.frame() {
            out.send(Message::Close(Some(frame))).await?;
        }
        // Sends the answer to a client that closes, or hears its own: bytes that nobody read would reset the connection.
        while heard.next().await.transpose()?.is_some() {}
        Ok::<(), axum::Error>(())
    };
    // Of a connection that is gone there is nothing to learn.
    let _ = timeout(CLOSE_MAX, closing).await;
}

/// Until the client leaves or is silent.
async fn listen(heard: &mut SplitStream<WebSocket>, patience: Duration) -> End {
    loop {
        match timeout(patience, heard.next()).await {
            Err(_) => return End::Silent(patience),
            Ok(None | Some(Err(_) | Ok(Message::Close(_)))) => return End::Left,
            Ok(Some(Ok(_))) => {}
        }
    }
}

/// Sends messages, and asks in between whether the client is there.
async fn send(app: &App, out: &mut SplitSink<WebSocket, Message>, mut parcels: Parcels, every: Duration) -> End {
    let mut pings = interval(every.max(Duration::from_millis(1)));
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let sent = tokio::select! {
            Some(parcel) = parcels.recv() => {
                let sent = out.send(Message::Text(parcel.text.into())).await;
                if sent.is_ok() {
                    app.metrics.loki_tail_lines(parcel.lines);
                }
                sent
            }
            _ = pings.tick() => out.send(Message::Ping(bytes::Bytes::new())).await,
        };
        if sent.is_err() {
            return End::Left;
        }
    }
}
