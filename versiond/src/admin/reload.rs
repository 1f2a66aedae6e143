//! `POST /v1/reload`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::answer::refuse;
use crate::reload::ReloadError;
use crate::supervisor::chain;

pub(super) async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    match admin.reload.ask().await {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(error @ ReloadError::HostLeaving) => refuse(StatusCode::CONFLICT, "host_leaving", error.to_string()),
        Err(error @ (ReloadError::Config(_) | ReloadError::Program { .. })) => {
            refuse(StatusCode::UNPROCESSABLE_ENTITY, "reload_refused", chain(&error))
        }
    }
}
