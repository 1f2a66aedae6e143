//! `GET /v1/events`: what changes in the pools.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{Admin, refuse};

pub(super) async fn events(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let streamed = daemon_kit::stream(&admin.router.events, &headers, &admin.readers);
    streamed.unwrap_or_else(|error| refuse(error.status(), error.code(), &error.to_string()))
}
