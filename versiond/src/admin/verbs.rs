//! `POST /v1/services/{service}/versions/{version}/{verb}`: an operator's order to one slot.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use supervisor_protocol::admin::{Verb, VerbRefused};

use super::Admin;
use super::answer::{body, parse_slot, refuse};

/// The body holds the verb's options, if it has any.
pub(super) async fn order(
    State(admin): State<Arc<Admin>>,
    Path((service, version, verb)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Response {
    let slot = match parse_slot(&format!("{service}/{version}")) {
        Ok(slot) => slot,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, "bad_slot", message),
    };
    let options: Map<String, Value> = match body(&bytes) {
        Ok(options) => options,
        Err(refused) => return *refused,
    };
    let verb = match Verb::read(&verb, options) {
        Ok(verb) => verb,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "bad_verb", error.to_string()),
    };
    match admin.commands.give(slot, verb).await {
        Ok(()) => Json(admin.board.status(admin.clock.now())).into_response(),
        Err(refused) => refuse(status(&refused), refused.code(), refused.to_string()),
    }
}

/// The status of a refused order.
pub(super) fn status(refused: &VerbRefused) -> StatusCode {
    match refused {
        VerbRefused::UnknownSlot => StatusCode::NOT_FOUND,
        VerbRefused::LedgerUnwritable { .. } => StatusCode::INSUFFICIENT_STORAGE,
        VerbRefused::HostLeaving
        | VerbRefused::NothingToDo { .. }
        | VerbRefused::RollbackUnsafe { .. }
        | VerbRefused::UnknownArtifact { .. } => StatusCode::CONFLICT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_verb_and_no_others() {
        let of = |verb: &str, options: Value| Verb::read(verb, options.as_object().unwrap().clone());
        assert_eq!(
            of("approve", serde_json::json!({"accept_downtime": true})).unwrap(),
            Verb::Approve { accept_downtime: true, force_order: false }
        );
        assert_eq!(of("hold", serde_json::json!({})).unwrap(), Verb::Hold);
        // The path decides, whatever the body says.
        assert_eq!(of("hold", serde_json::json!({"verb": "release"})).unwrap(), Verb::Hold);
        assert!(of("explode", serde_json::json!({})).unwrap_err().to_string().contains("rollback"));
        assert!(of("rollback", serde_json::json!({"forced": true})).is_err());
    }
}
