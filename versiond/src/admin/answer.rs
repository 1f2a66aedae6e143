//! Answers of the admin API that several routes give: refusals, and what a path names.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use supervisor_protocol::admin::ApiError;
use supervisor_protocol::{SlotId, SlotIdError};

use crate::supervisor::chain;

/// The code of a refusal, kept beside its body for the log and the metrics.
#[derive(Debug, Clone)]
pub(super) struct Code(pub(super) String);

/// An error with a stable code.
pub(super) fn refuse(status: StatusCode, code: &str, message: String) -> Response {
    let mut response = (status, Json(ApiError { code: code.to_owned(), message })).into_response();
    response.extensions_mut().insert(Code(code.to_owned()));
    response
}

/// A body that may be left out.
pub(super) fn body<T: Default + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Box<Response>> {
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Box::new(refuse(StatusCode::BAD_REQUEST, "bad_body", error.to_string())))
}

/// `SERVICE/VERSION`.
pub(crate) fn parse_slot(text: &str) -> Result<SlotId, String> {
    text.parse().map_err(|error: SlotIdError| chain(&error))
}
