//! `POST /api/v1/admin/backup`: a backup of the running store, written by the server below `storage.backup_dir`.
//!
//! The answer is NDJSON: progress until the last line, which says what was made or why nothing was.
use std::convert::Infallible;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use foretell_engine::Engine;
use foretell_engine::backup::{Begun, Made};
use foretell_engine::verify::Progress;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::{read_body, refuse_encoded, respond};
use crate::app::App;
use crate::backup::{made_json, now};
use crate::error::ApiError;

const BODY_BYTES_MAX: usize = 64 << 10;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Directory below `storage.backup_dir`.
    path: PathBuf,
}

pub(super) async fn run(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    refuse_encoded(&headers)?;
    let in_flight = app.reserve(BODY_BYTES_MAX)?;
    let body = read_body(body, BODY_BYTES_MAX, app.config.limits.body_timeout.0).await?;
    drop(in_flight);
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_data(format!("{error}; send {{\"path\": \"DIRECTORY\"}}")))?;
    let dest = resolve(app.config.storage.backup_dir.as_deref(), &request.path)?;
    let engine = app.store()?.engine;
    let turn = turn(&app)?;
    let (lines, answer) = mpsc::channel::<Bytes>(16);
    tokio::spawn(async move {
        tell(&app, engine, dest, &lines).await;
        drop(turn);
    });
    let stream = futures::stream::unfold(answer, |mut answer| async move {
        answer.recv().await.map(|line| (Ok::<_, Infallible>(line), answer))
    });
    Ok(respond::text(StatusCode::OK, "application/x-ndjson", Body::from_stream(stream)))
}

/// The turn to make a backup: one is made at a time.
///
/// # Errors
/// 503 while another one is made.
pub(super) fn turn(app: &App) -> Result<OwnedMutexGuard<()>, ApiError> {
    Arc::clone(&app.backup)
        .try_lock_owned()
        .map_err(|_| ApiError::unavailable("another backup is being made; try again when it has ended").retry_after(30))
}

/// Makes a backup on a thread of its own, and counts it.
pub(super) async fn make(app: &App, engine: Engine, dest: PathBuf, progress: Arc<Progress>) -> Result<Made, ApiError> {
    let (at_ns, label) = now();
    let making = tokio::task::spawn_blocking(move || engine.backup(&dest, &Begun { at_ns, label: &label }, &progress));
    let error = match making.await {
        Ok(Ok(made)) => {
            app.metrics.backup_made(&made);
            tracing::info!(backup = %made.backup.name, bytes_copied = made.bytes_copied, "backup made");
            return Ok(made);
        }
        Ok(Err(error)) => ApiError::from_write(&error),
        Err(error) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()),
    };
    app.metrics.backup_failed();
    tracing::warn!(error = %error.message, "a backup failed");
    Err(error)
}

/// Makes the backup whether anybody listens or not.
async fn tell(app: &App, engine: Engine, dest: PathBuf, lines: &mpsc::Sender<Bytes>) {
    let progress = Arc::new(Progress::default());
    let mut making = std::pin::pin!(make(app, engine, dest, Arc::clone(&progress)));
    let made = loop {
        tokio::select! {
            made = &mut making => break made,
            () = tokio::time::sleep(TICK) => {
                let line = json!({
                    "event": "progress",
                    "bytes_done": progress.done.load(Ordering::Relaxed),
                    "bytes_total": progress.total.load(Ordering::Relaxed),
                });
                // Whoever reads slowly gets less of it.
                let _ = lines.try_send(line_of(&line));
            }
        }
    };
    let last = match made {
        Ok(made) => line_of(&made_json(&made)),
        Err(error) => Bytes::from(error.body() + "\n"),
    };
    let _ = lines.send(last).await;
}

fn line_of(value: &serde_json::Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

/// The directory that `path` names: below `dir`, and nowhere else.
fn resolve(dir: Option<&Path>, path: &Path) -> Result<PathBuf, ApiError> {
    let forbidden = |message: String| ApiError::new(StatusCode::FORBIDDEN, "forbidden", message);
    let Some(dir) = dir else {
        return Err(forbidden(
            "this server may not write backups: set storage.backup_dir to the directory they may go to".to_owned(),
        ));
    };
    let below = path.strip_prefix(dir).unwrap_or(path);
    let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || below.as_os_str().is_empty() {
        return Err(forbidden(format!(
            "{} does not name a directory below storage.backup_dir; give a path without .. that is relative to it",
            path.display()
        )));
    }
    Ok(dir.join(below))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_configured_directory() {
        let dir = Path::new("/backups");
        for (path, resolved) in [("nightly", "/backups/nightly"), ("a/b", "/backups/a/b"), ("/backups/x", "/backups/x")]
        {
            assert_eq!(resolve(Some(dir), Path::new(path)).unwrap(), Path::new(resolved));
        }
        for path in ["", ".", "..", "a/../../etc", "/etc", "/backups", "/backups/../etc", "/backupsx"] {
            let error = resolve(Some(dir), Path::new(path)).unwrap_err();
            assert_eq!(error.status, StatusCode::FORBIDDEN, "{path}");
        }
        assert!(resolve(None, Path::new("nightly")).unwrap_err().message.contains("storage.backup_dir"));
    }
}
