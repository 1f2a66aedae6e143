//! `/v1/deny`: bytes that may not run on this host, by an operator's word or the catalog's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use supervisor_protocol::Sha256;
use supervisor_protocol::admin::{DenyList, VerbRefused};

use super::answer::refuse;
use super::{Admin, verbs};

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    Json(denied(&admin).await).into_response()
}

pub(super) async fn deny(State(admin): State<Arc<Admin>>, Path(sha256): Path<String>) -> Response {
    match parse(&sha256) {
        Ok(sha256) => answered(&admin, admin.commands.deny(sha256).await).await,
        Err(refused) => *refused,
    }
}

pub(super) async fn allow(State(admin): State<Arc<Admin>>, Path(sha256): Path<String>) -> Response {
    match parse(&sha256) {
        Ok(sha256) => answered(&admin, admin.commands.allow(sha256).await).await,
        Err(refused) => *refused,
    }
}

fn parse(text: &str) -> Result<Sha256, Box<Response>> {
    text.parse().map_err(|error| Box::new(refuse(StatusCode::BAD_REQUEST, "bad_sha256", format!("{text:?}: {error}"))))
}

async fn answered(admin: &Admin, result: Result<(), VerbRefused>) -> Response {
    match result {
        Ok(()) => Json(denied(admin).await).into_response(),
        Err(refused) => refuse(verbs::status(&refused), refused.code(), refused.to_string()),
    }
}

async fn denied(admin: &Admin) -> DenyList {
    DenyList { operator: admin.recorder.denied().await, catalog: admin.catalog.report().0.deny }
}
