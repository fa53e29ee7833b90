//! `admin/tsdb/*`: deletes by selector, carrying them out on disk, snapshots.
//!
//! They need no leave of their own: `DELETE` over SQL and `POST /api/v1/admin/backup` do the same.
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use foretell_engine::verify::Progress;
use serde_json::json;

use super::super::backup;
use super::params::Params;
use super::status::success;
use crate::app::App;
use crate::error::ApiError;

/// Directory below `storage.backup_dir` that snapshots go to.
const SNAPSHOTS: &str = "snapshots";

/// 204 when the rows are gone for every reader, for good.
pub(in super::super) async fn delete_series(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let selectors: Vec<String> = params.all("match[]").map(str::to_owned).collect();
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (start_ms, end_ms) = params.range()?;
    app.store()?.database.delete_series(selectors, start_ms, end_ms).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// 204 when what was deleted has left the disk, whoever waits for it.
pub(in super::super) async fn clean_tombstones(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let engine = app.store()?.engine;
    let turn = Arc::clone(&app.cleaning).try_lock_owned().map_err(|_| {
        ApiError::unavailable("deletes are being carried out already; try again when that has ended").retry_after(30)
    })?;
    let cleaning = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        engine.flush()?;
        engine.compact()
    });
    cleaning.await.map_err(|error| broken_off(&error))?.map_err(|error| ApiError::from_write(&error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A backup below `storage.backup_dir`, made whether anybody waits for it or not. It holds all that was acknowledged:
/// `skip_head` would leave out what is not in a segment yet, which here is nobody's wish.
pub(in super::super) async fn snapshot(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    params.flag("skip_head")?;
    let engine = app.store()?.engine;
    let Some(dir) = &app.config.storage.backup_dir else {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "this server may not write snapshots: set storage.backup_dir to the directory they may go to",
        ));
    };
    let dest = dir.join(SNAPSHOTS);
    let turn = backup::turn(&app)?;
    let making = tokio::spawn(async move {
        let made = backup::make(&app, engine, dest, Arc::new(Progress::default())).await;
        drop(turn);
        made
    });
    let made = making.await.map_err(|error| broken_off(&error))??;
    Ok(success(&json!({"name": made.backup.name})))
}

fn broken_off(error: &tokio::task::JoinError) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("the work ended early: {error}"))
}
