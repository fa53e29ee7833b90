//! The accept loop: bounded connections, bounded headers, bounded streams, bounded patience.
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Front;
use super::stall::StallGuard;
use crate::config::{CONNECTION_BYTES, Limits};

/// Bytes of a request's head, HTTP/1. It has at most 100 headers, by hyper's own limit: any other would have it clear room for
/// them before each request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of requests and of answers that HTTP/2 may hold of a connection: a quarter of its part of the memory each.
const WINDOW_BYTES: u32 = CONNECTION_BYTES / 4;
/// Bytes of a request's header list, HTTP/2.
const HEADER_LIST_BYTES_MAX: u32 = 32 << 10;
/// How long connections opened just before a drain have to bring their request: it is answered, instead of cut off.
const ARRIVING: Duration = Duration::from_millis(100);

/// The steps of a stop, in order.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// Connections finish what they do and close; new ones are still answered (by then with 503), so that a client or load
    /// balancer hears a reason instead of a refused connection.
    pub(crate) draining: CancellationToken,
    /// Set by the listener: all connections from before the drain have closed, their answers sent.
    pub(crate) drained: CancellationToken,
    /// Nothing is accepted any more.
    pub(crate) stopped: CancellationToken,
}

impl Stop {
    /// The same steps, with a `drained` for each listener.
    pub(crate) fn of_one_listener(&self) -> Self {
        Self { drained: CancellationToken::new(), ..self.clone() }
    }
}

/// Accepts connections until it is stopped.
pub(crate) async fn run(listener: TcpListener, front: Front, limits: &Limits, stop: Stop) {
    let Stop { draining, drained, stopped } = stop;
    let builder = builder(limits);
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut graceful = Some(GracefulShutdown::new());
    let (first_byte_max, write_stall_max) = (limits.header_timeout.0, limits.write_stall_timeout.0);
    loop {
        let stream = tokio::select! {
            biased;
            () = stopped.cancelled() => return,
            () = draining.cancelled(), if graceful.is_some() => {
                if let Some(graceful) = graceful.take() {
                    let drained = drained.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(ARRIVING).await;
                        graceful.shutdown().await;
                        drained.cancel();
                    });
                }
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = stream else { continue };
        let io = TokioIo::new(StallGuard::new(stream, first_byte_max, write_stall_max));
        let connection = builder.serve_connection_with_upgrades(io, front.clone()).into_owned();
        // A connection that becomes a WebSocket ends here; what it is used for counts and ends it (`loki::query::tail`).
        // Watching ends a keep-alive connection at the drain; a connection of the drain itself is closed by `stopped`.
        let watched = graceful.as_ref().map(|graceful| graceful.watcher());
        let stopped = stopped.clone();
        tokio::spawn(async move {
            let _place = place;
            let served = async move {
                match watched {
                    Some(watcher) => watcher.watch(connection).await,
                    None => connection.await,
                }
            };
            tokio::select! {
                served = served => {
                    if let Err(error) = served {
                        tracing::debug!(%error, "connection ended early");
                    }
                }
                () = stopped.cancelled() => {}
            }
        });
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // Above the limit the kernel's backlog does the waiting.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _peer)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            // Out of file descriptors, most likely: wait for some to come back instead of spinning.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout.0).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .max_send_buf_size(WINDOW_BYTES as usize)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
