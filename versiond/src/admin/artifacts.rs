//! `/v1/artifacts`: what the store holds and why, what is on its way, fetching ahead, and taking away.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use supervisor_protocol::admin::FetchRequest;

use super::Admin;
use super::answer::refuse;
use crate::keeper::NotFetched;
use crate::store::{Mode, StoreError};
use crate::supervisor::chain;

#[derive(Deserialize)]
pub(super) struct GcQuery {
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    match admin.keeper.list().await {
        Ok(list) => Json(list).into_response(),
        Err(error) => unreadable(&error),
    }
}

pub(super) async fn fetch(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    let request: FetchRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("expected {{\"slot\"}} or {{\"url\", \"sha256\"}}: {error}");
            return refuse(StatusCode::BAD_REQUEST, "bad_body", message);
        }
    };
    match admin.keeper.fetch(request).await {
        Ok(status) => Json(status).into_response(),
        Err(error @ NotFetched::Slot(_)) => refuse(StatusCode::BAD_REQUEST, "bad_slot", error.to_string()),
        Err(error @ NotFetched::Unknown(_)) => refuse(StatusCode::NOT_FOUND, "unknown_slot", error.to_string()),
        Err(error @ NotFetched::Address(_)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, "unservable", chain(&error)),
        Err(NotFetched::Store(error)) => unreadable(&error),
    }
}

pub(super) async fn collect(State(admin): State<Arc<Admin>>, Query(query): Query<GcQuery>) -> Response {
    let mode = if query.dry_run { Mode::DryRun } else { Mode::Remove };
    match admin.keeper.collect(mode).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &StoreError) -> Response {
    refuse(StatusCode::INSUFFICIENT_STORAGE, "store_unreadable", chain(error))
}
