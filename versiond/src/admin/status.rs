//! `GET /v1/status`, `/v1/why` and `/v1/plan`: what the board shows.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use supervisor_protocol::SlotId;

use super::Admin;
use super::answer::{parse_slot, refuse};

pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.board.status(admin.clock.now())).into_response()
}

#[derive(Deserialize)]
pub(super) struct SlotQuery {
    slot: Option<String>,
}

impl SlotQuery {
    /// The slot that is asked about, which must be one; `None` for all.
    fn known(&self, admin: &Admin) -> Result<Option<SlotId>, Box<Response>> {
        let only = self.slot.as_deref().map(parse_slot).transpose();
        let only = only.map_err(|message| Box::new(refuse(StatusCode::BAD_REQUEST, "bad_slot", message)))?;
        let known = admin.board.slot_ids();
        match only {
            Some(slot) if !known.contains(&slot) => {
                let known: Vec<String> = known.iter().map(SlotId::to_string).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message = format!("there is no slot {slot}; known: {known}");
                Err(Box::new(refuse(StatusCode::NOT_FOUND, "unknown_slot", message)))
            }
            only => Ok(only),
        }
    }
}

pub(super) async fn why(State(admin): State<Arc<Admin>>, Query(query): Query<SlotQuery>) -> Response {
    match query.known(&admin) {
        Ok(only) => Json(admin.board.why(only.as_ref(), admin.clock.now())).into_response(),
        Err(refused) => *refused,
    }
}

pub(super) async fn plan(State(admin): State<Arc<Admin>>, Query(query): Query<SlotQuery>) -> Response {
    match query.known(&admin) {
        Ok(only) => Json(admin.board.plan(only.as_ref(), admin.clock.now())).into_response(),
        Err(refused) => *refused,
    }
}
