//! `GET /v1/services/{service}/versions/{version}/recording`: what a slot's machine was told lately, one JSON object
//! a line, for `versionctl replay`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::answer::{parse_slot, refuse};

pub(super) async fn recording(
    State(admin): State<Arc<Admin>>,
    Path((service, version)): Path<(String, String)>,
) -> Response {
    let slot = match parse_slot(&format!("{service}/{version}")) {
        Ok(slot) => slot,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, "bad_slot", message),
    };
    match admin.board.flight(&slot) {
        Some(flight) => ([(header::CONTENT_TYPE, "application/x-ndjson")], flight.text()).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "unknown_slot", format!("there is no slot {slot}")),
    }
}
