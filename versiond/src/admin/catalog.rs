//! `/v1/catalog`: what is in force, reading the source now, and what another document would do.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use supervisor_protocol::catalog::{AcceptRequest, CatalogReport, CheckRequest};

use super::Admin;
use super::answer::refuse;
use crate::supervisor::chain;

/// The report, and the document besides.
#[derive(serde::Serialize)]
struct Body<'d> {
    #[serde(flatten)]
    report: CatalogReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<&'d serde_json::Value>,
}

pub(super) async fn report(State(admin): State<Arc<Admin>>) -> Response {
    let (report, document) = admin.catalog.report();
    Json(Body { report, document: document.as_deref() }).into_response()
}

pub(super) async fn accept(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    let request = if body.is_empty() { Ok(AcceptRequest::default()) } else { serde_json::from_slice(&body) };
    let AcceptRequest { reset } = match request {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "bad_body", error.to_string()),
    };
    tracing::info!(reset, "the catalog is read by an operator's word");
    match admin.catalog.accept(reset).await {
        Ok(None) => Json(admin.catalog.report().0).into_response(),
        Ok(Some(reason)) => refuse(StatusCode::CONFLICT, reason.code(), reason.to_string()),
        Err(error) => refuse(StatusCode::CONFLICT, "host_leaving", error.to_string()),
    }
}

pub(super) async fn check(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    let request: CheckRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "bad_body", error.to_string()),
    };
    match admin.catalog.check(request).await {
        Ok(check) => Json(check).into_response(),
        Err(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error.code(), chain(&error)),
    }
}
