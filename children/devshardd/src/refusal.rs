//! Why a request has no stream: a status, a code for programs, a sentence for people.

use supervisor_sdk::axum::body::Body;
use supervisor_sdk::axum::http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use supervisor_sdk::axum::response::IntoResponse;

use children_kit::log::chain;
use devshard_core::auth::AuthError;
use devshard_core::diffs::DiffError;
use devshard_core::events::EventError;
use devshard_core::ids::IdError;
use devshard_core::request::RequestError;

use crate::storage::{AppendError, StorageError};

/// Where the code stands beside the body.
pub const HEADER: &str = "x-devshard-error";

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the session cannot be named so")]
    Escrow(#[source] IdError),
    #[error("a body may have {0} bytes")]
    BodyTooLarge(usize),
    #[error("the body broke off")]
    BodyBrokenOff,
    #[error("the request is not understood")]
    Request(#[from] RequestError),
    #[error("Last-Event-ID")]
    Cursor(#[source] EventError),
    #[error("Last-Event-ID: inference {got}, and the request asks for {asked}")]
    OtherInference { got: u64, asked: u64 },
    #[error("the request is not signed")]
    Unsigned(#[source] AuthError),
    #[error("the request is nobody's")]
    Nobody(#[source] AuthError),
    #[error("no escrow is called so")]
    UnknownEscrow,
    #[error("the session is not the signer's")]
    NotOwner,
    #[error("the session has not begun")]
    UnknownSession,
    #[error("the session is bound to version {bound}, and this is {here}")]
    OtherVersion { bound: String, here: String },
    #[error("the session is of epoch {bound}, and its escrow of {escrow}")]
    OtherEpoch { bound: u64, escrow: u64 },
    #[error("the diffs do not follow what is stored")]
    Diff(#[source] DiffError),
    #[error("`{0}` is to be a whole number")]
    Parameter(&'static str),
    #[error("there is no such route")]
    NoRoute,
    #[error("this service does not rebuild that")]
    NotRebuilt,
    #[error("the place of record does not answer")]
    Storage(#[source] StorageError),
}

impl Refusal {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Refusal::Escrow(_) => "bad_session",
            Refusal::BodyTooLarge(_) => "body_too_large",
            Refusal::BodyBrokenOff => "body_broken_off",
            Refusal::Request(_) => "bad_request",
            Refusal::Cursor(_) | Refusal::OtherInference { .. } => "bad_cursor",
            Refusal::Unsigned(_) => "unsigned",
            Refusal::Nobody(_) => "bad_signature",
            Refusal::UnknownEscrow => "unknown_escrow",
            Refusal::NotOwner => "not_owner",
            Refusal::UnknownSession => "unknown_session",
            Refusal::OtherVersion { .. } => "version_conflict",
            Refusal::OtherEpoch { .. } => "epoch_conflict",
            Refusal::Diff(DiffError::Fork(_)) => "diff_fork",
            Refusal::Diff(DiffError::Gap { .. } | DiffError::Zero) => "diff_gap",
            Refusal::Parameter(_) => "bad_parameter",
            Refusal::NoRoute => "not_found",
            Refusal::NotRebuilt => "not_rebuilt",
            Refusal::Storage(_) => "storage_unavailable",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Refusal::Escrow(_)
            | Refusal::BodyBrokenOff
            | Refusal::Request(_)
            | Refusal::Cursor(_)
            | Refusal::OtherInference { .. }
            | Refusal::Parameter(_) => StatusCode::BAD_REQUEST,
            Refusal::Unsigned(_) | Refusal::Nobody(_) => StatusCode::UNAUTHORIZED,
            Refusal::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::NotOwner | Refusal::UnknownEscrow => StatusCode::FORBIDDEN,
            Refusal::UnknownSession | Refusal::NoRoute => StatusCode::NOT_FOUND,
            Refusal::OtherVersion { .. } | Refusal::OtherEpoch { .. } | Refusal::Diff(_) => StatusCode::CONFLICT,
            Refusal::NotRebuilt => StatusCode::NOT_IMPLEMENTED,
            Refusal::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Refusal {
        Refusal::Storage(error)
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Refusal {
        match error {
            AppendError::Diff(error) => Refusal::Diff(error),
            AppendError::Storage(error) => Refusal::Storage(error),
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Refusal {
        match error {
            AuthError::Missing(_) | AuthError::Timestamp | AuthError::Encoding => Refusal::Unsigned(error),
            AuthError::Drift { .. } | AuthError::Signature => Refusal::Nobody(error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let error = serde_json::json!({"error": {"code": self.code(), "message": chain(&self)}});
        let mut response = Response::new(Body::from(format!("{error}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HEADER, HeaderValue::from_static(self.code()));
        response
    }
}
