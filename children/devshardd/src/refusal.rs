//! Why a request has no stream: a status, a code for programs, a sentence for people.

use supervisor_sdk::axum::body::Body;
use supervisor_sdk::axum::http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use supervisor_sdk::axum::response::IntoResponse;

use children_kit::log::chain;
use devshard_core::auth::AuthError;
use devshard_core::diffs::Fork;
use devshard_core::events::{EndCode, EventError};
use devshard_core::group::PayloadRequestError;
use devshard_core::ids::{IdError, Nonce};
use devshard_core::request::RequestError;
use devshard_core::session::StepError;
use devshard_core::session::judge::{JudgeError, PayloadError};

use crate::ledger::LedgerError;
use crate::storage::{AppendError, StorageError};

/// Where the code stands beside the body.
pub const HEADER: &str = "x-devshard-error";

/// The code of a refusal, for whoever counts responses.
#[derive(Debug, Clone, Copy)]
pub struct Code(pub &'static str);

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
    #[error("two histories are told for the session")]
    Fork(#[source] Fork),
    #[error("epoch {0} is over, and its sessions are forgotten")]
    EpochOver(u64),
    #[error("the steps do not follow what is stored")]
    Step(#[source] StepError),
    #[error("step {0} is not stored, and has not come with the request")]
    NoStep(Nonce),
    #[error("step {0} asks for no inference")]
    NotStarted(Nonce),
    #[error("inference {0} has been called off: its time was up")]
    TimedOut(Nonce),
    #[error("the payload is not the one that was signed for")]
    Payload(#[source] PayloadError),
    #[error("the signer is not in the group of the session")]
    NotMember,
    #[error("this host is not in the group of the session")]
    NotInGroup,
    #[error("there is no judgement")]
    Judge(#[source] JudgeError),
    #[error("the signature is not that of slot {0} and this state")]
    NotSlots(u32),
    #[error("slot {slot} says that the state behind step {nonce} is {said}, and here it is {here}")]
    OtherState { nonce: Nonce, slot: u32, said: String, here: String },
    #[error("the request of a member is not understood")]
    PayloadRequest(#[source] PayloadRequestError),
    #[error("of this inference nothing is stored")]
    UnknownInference,
    #[error("what is stored of the session cannot be read")]
    Replay(#[source] LedgerError),
    #[error("`{0}` is to be a whole number")]
    Parameter(&'static str),
    #[error("there is no such route")]
    NoRoute,
    #[error("the engine of this host opens nothing that is sealed")]
    NotSealed,
    #[error("{1}")]
    Ended(EndCode, String),
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
            Refusal::OtherEpoch { .. } | Refusal::EpochOver(_) => "epoch_conflict",
            Refusal::Fork(_) => "diff_fork",
            Refusal::Step(StepError::NotNext { .. }) | Refusal::NoStep(_) => "diff_gap",
            Refusal::Step(StepError::OtherRoot { .. }) | Refusal::OtherState { .. } => "state_conflict",
            Refusal::Step(_) => "bad_diff",
            Refusal::NotStarted(_) => "not_started",
            Refusal::TimedOut(_) => "timed_out",
            Refusal::Payload(_) => "payload_mismatch",
            Refusal::NotMember => "not_member",
            Refusal::NotInGroup => "not_in_group",
            Refusal::Judge(_) => "no_judgement",
            Refusal::NotSlots(_) => "bad_state_signature",
            Refusal::PayloadRequest(PayloadRequestError::Header(_)) => "unsigned",
            Refusal::PayloadRequest(PayloadRequestError::Time | PayloadRequestError::Signature) => "bad_signature",
            Refusal::UnknownInference => "unknown_inference",
            Refusal::Replay(_) => "session_damaged",
            Refusal::Parameter(_) => "bad_parameter",
            Refusal::NoRoute => "not_found",
            Refusal::NotSealed => "not_supported",
            Refusal::Ended(code, _) => code.code(),
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
            | Refusal::Payload(_)
            | Refusal::NotSlots(_)
            | Refusal::Parameter(_) => StatusCode::BAD_REQUEST,
            Refusal::Step(StepError::NotNext { .. } | StepError::OtherRoot { .. } | StepError::TooMany(..)) => {
                StatusCode::CONFLICT
            }
            Refusal::Step(_) => StatusCode::BAD_REQUEST,
            Refusal::Unsigned(_) | Refusal::Nobody(_) | Refusal::PayloadRequest(_) => StatusCode::UNAUTHORIZED,
            Refusal::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::NotOwner | Refusal::UnknownEscrow | Refusal::NotMember => StatusCode::FORBIDDEN,
            Refusal::UnknownSession | Refusal::UnknownInference | Refusal::NoRoute => StatusCode::NOT_FOUND,
            Refusal::OtherVersion { .. }
            | Refusal::OtherEpoch { .. }
            | Refusal::OtherState { .. }
            | Refusal::EpochOver(_)
            | Refusal::Fork(_)
            | Refusal::NoStep(_)
            | Refusal::NotStarted(_)
            | Refusal::TimedOut(_)
            | Refusal::NotInGroup
            | Refusal::Judge(_) => StatusCode::CONFLICT,
            Refusal::Replay(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::NotSealed => StatusCode::NOT_IMPLEMENTED,
            Refusal::Ended(code, _) => match code {
                EndCode::ModelUnavailable | EndCode::ModelFailed => StatusCode::BAD_GATEWAY,
                EndCode::ModelTimeout => StatusCode::GATEWAY_TIMEOUT,
                EndCode::StorageUnavailable | EndCode::StillRunning => StatusCode::SERVICE_UNAVAILABLE,
                EndCode::OutcomeUncertain | EndCode::UnknownCursor => StatusCode::CONFLICT,
            },
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
            AppendError::Fork(error) => Refusal::Fork(error),
            AppendError::Storage(error) => Refusal::Storage(error),
        }
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Refusal {
        match error {
            LedgerError::Step(error) => Refusal::Step(error),
            LedgerError::Append(error) => error.into(),
            LedgerError::Storage(error) => Refusal::Storage(error),
            damaged @ (LedgerError::Replay { .. } | LedgerError::OtherState(_)) => Refusal::Replay(damaged),
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
        response.extensions_mut().insert(Code(self.code()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HEADER, HeaderValue::from_static(self.code()));
        response
    }
}
