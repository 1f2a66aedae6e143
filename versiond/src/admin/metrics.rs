//! `GET /metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Admin;

pub(super) async fn render(State(admin): State<Arc<Admin>>) -> Response {
    let text = admin.metrics.render(&admin.board, &admin.plane.counters(), admin.clock.now());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
