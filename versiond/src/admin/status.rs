//! `GET /v1/status` and `GET /v1/why`: what the board shows.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Admin;
use super::answer::{parse_slot, refuse};

pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.board.status(admin.clock.now())).into_response()
}

#[derive(Deserialize)]
pub(super) struct SlotQuery {
    slot: Option<String>,
}

pub(super) async fn why(State(admin): State<Arc<Admin>>, Query(query): Query<SlotQuery>) -> Response {
    let only = match query.slot.as_deref().map(parse_slot).transpose() {
        Ok(only) => only,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, "bad_slot", message),
    };
    let why = admin.board.why(only.as_ref(), admin.clock.now());
    match only {
        Some(slot) if why.slots.is_empty() => {
            let known: Vec<String> = admin.board.slots().iter().map(|(id, _)| id.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            refuse(StatusCode::NOT_FOUND, "unknown_slot", format!("there is no slot {slot}; known: {known}"))
        }
        Some(_) | None => Json(why).into_response(),
    }
}
