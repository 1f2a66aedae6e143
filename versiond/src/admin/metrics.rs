//! `GET /metrics`: the daemon's own and its children's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Admin;
use crate::metrics::Elsewhere;

pub(super) async fn render(State(admin): State<Arc<Admin>>) -> Response {
    let elsewhere = Elsewhere {
        plane: admin.plane.counters(),
        waits: admin.plane.waits(),
        ledger_failures: admin.recorder.failures(),
        log_lines_lost: admin.logs.lost(),
        state_dir: admin.state_dir.clone(),
    };
    let text = admin.metrics.render(&admin.board, elsewhere, admin.clock.now()).await;
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
