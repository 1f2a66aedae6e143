//! `/v1/drain`: the cordon of this host, and how far its drain has come.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use supervisor_protocol::admin::DrainRequest;
use supervisor_protocol::host::HostDrain;
use versiond_core::host::CordonError;

use super::Admin;
use super::answer::{body, refuse};
use crate::host::{Wait, long_poll};
use crate::supervisor::chain;

pub(super) async fn status(State(admin): State<Arc<Admin>>, Query(wait): Query<Wait>) -> Response {
    match long_poll(&admin.board, &admin.waiters, &wait).await {
        Ok(()) => Json(report(&admin)).into_response(),
        Err(message) => refuse(StatusCode::BAD_REQUEST, "bad_wait", message),
    }
}

/// The cordon is on the disk before it is in force, so that a restart keeps it.
pub(super) async fn drain(State(admin): State<Arc<Admin>>, bytes: Bytes) -> Response {
    let request: DrainRequest = match body(&bytes) {
        Ok(request) => request,
        Err(refused) => return *refused,
    };
    if let Some(refused) = refuse_when_leaving(&admin) {
        return refused;
    }
    if let Err(error) = admin.recorder.record(|state| state.cordon = Some(request.mode)).await {
        return refuse(StatusCode::INSUFFICIENT_STORAGE, "ledger_unwritable", chain(&error));
    }
    let now = admin.clock.now();
    changed(&admin, admin.board.host(|host| (host.set_cordon(request.mode, now), true)), "cordoned by an operator")
}

pub(super) async fn undrain(State(admin): State<Arc<Admin>>) -> Response {
    if let Some(refused) = refuse_when_leaving(&admin) {
        return refused;
    }
    if let Err(error) = admin.recorder.record(|state| state.cordon = None).await {
        return refuse(StatusCode::INSUFFICIENT_STORAGE, "ledger_unwritable", chain(&error));
    }
    changed(&admin, admin.board.host(|host| (host.clear_cordon(), true)), "the cordon is taken back")
}

/// What is refused must not be on the disk either.
fn refuse_when_leaving(admin: &Admin) -> Option<Response> {
    let leaving = admin.board.host(|host| (host.leaving_since().is_some(), false));
    leaving.then(|| refuse(StatusCode::CONFLICT, "host_leaving", CordonError::Leaving.to_string()))
}

fn changed(admin: &Admin, result: Result<(), CordonError>, what: &str) -> Response {
    match result {
        Ok(()) => {
            tracing::info!(state = admin.board.host_state().as_str(), "{what}");
            Json(report(admin)).into_response()
        }
        Err(error) => refuse(StatusCode::CONFLICT, "host_leaving", error.to_string()),
    }
}

fn report(admin: &Admin) -> HostDrain {
    admin.board.drain(admin.clock.now())
}
