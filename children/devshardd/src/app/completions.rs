//! Inferences: the owner's next steps, and the stream of what comes of them.

use std::sync::Arc;

use bytes::Bytes;
use devshard_core::events::{Cursor, Record, meta};
use devshard_core::ids::{InferenceId, Nonce};
use devshard_core::request::{Payload, Request, Sealed};
use devshard_core::session::judge::PayloadError;
use devshard_core::session::{State as SessionState, Status};
use supervisor_sdk::axum::body::Body;
use supervisor_sdk::axum::extract::State;
use supervisor_sdk::axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use supervisor_sdk::axum::http::{HeaderValue, Response};

use super::{Answer, App, Here, Shared, Signed, header, is_there};
use crate::engine::{Job, Purpose};
use crate::flight::{End, Flight};
use crate::host::{coded, receipt};
use crate::ledger::Known;
use crate::refusal::Refusal;
use crate::storage::Session;

/// `POST …/chat/completions`.
pub(super) async fn completions(State(app): Shared, _: Here, signed: Signed) -> Answer {
    app.complete(signed).await
}

/// `POST …/encrypted/chat/completions`: the model alone can read what is asked, and its owner what is answered.
pub(super) async fn sealed(State(app): Shared, _: Here, signed: Signed) -> Answer {
    app.sealed(signed).await
}

impl App {
    async fn sealed(&self, Signed { escrow, signer, body, .. }: Signed) -> Answer {
        if !self.host.takes_sealed() {
            return Err(Refusal::NotSealed);
        }
        let sealed = Sealed::read(&body, &escrow)?;
        let session = self.bound(&escrow).await?;
        if session.binding.creator != signer {
            return Err(Refusal::NotOwner);
        }
        self.held.touch(&escrow);
        let state = self.ledger.state(&session).await?;
        is_there(&state, sealed.nonce)?;
        let id = InferenceId(sealed.nonce.0);
        let inference = state.inference(id).ok_or(Refusal::NotStarted(sealed.nonce))?;
        if inference.prompt_hash != sealed.prompt_hash {
            return Err(Refusal::Payload(PayloadError::Prompt));
        }
        if !self.executes(&state, id) {
            return Err(Refusal::NotInGroup);
        }
        self.may_be_run(&session, &state, id).await?;
        let job = Job {
            key: session.key(id),
            model: inference.model.clone(),
            prompt: body,
            max_tokens: u32::try_from(inference.max_tokens).unwrap_or(u32::MAX),
            stream: false,
            within: self.within,
            purpose: Purpose::Sealed,
        };
        let (end, record) = self.host.open(job, session, Arc::clone(&state)).ended().await;
        match end {
            End::Whole => {
                let mut response = Response::new(Body::from(record.said().next().unwrap_or_default().to_vec()));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok(response)
            }
            End::Early(code, message) => Err(Refusal::Ended(code, message)),
        }
    }

    async fn complete(&self, Signed { escrow, signer, headers, body }: Signed) -> Answer {
        let request = Request::read(&body)?;
        let from = resumed_from(header(&headers, "last-event-id"), &request)?;
        let session = self.session(&escrow, &signer, None).await?;
        if session.binding.creator != signer {
            return Err(Refusal::NotOwner);
        }
        self.held.touch(&escrow);
        let state = self.take(&session, &request.diffs).await?;
        is_there(&state, request.nonce)?;
        if self.ledger.mine(&state).is_empty() {
            return Err(Refusal::NotInGroup);
        }
        let flight = match request.payload {
            Some(payload) if self.executes(&state, InferenceId(request.nonce.0)) => {
                let id = InferenceId(request.nonce.0);
                if let Some(inference) = state.inference(id) {
                    inference.is_asked_by(&payload).map_err(Refusal::Payload)?;
                }
                self.may_be_run(&session, &state, id).await?;
                self.open(session, state, id, payload, request.stream)
            }
            Some(_) | None => self.told(&session, &state, request.inference()).await?,
        };
        let mut response = Response::new(Body::from_stream(flight.follow(from)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// Whether an inference is this host's to execute.
    pub(super) fn executes(&self, state: &SessionState, id: InferenceId) -> bool {
        self.ledger.mine(state).contains(&state.binding().group.executor(id))
    }

    /// The flight of an inference that this host executes.
    pub(super) fn open(
        &self,
        session: Session,
        state: Arc<Known>,
        id: InferenceId,
        payload: Payload,
        stream: bool,
    ) -> Arc<Flight> {
        let job = Job {
            key: session.key(id),
            model: payload.model,
            prompt: Bytes::from(payload.prompt),
            max_tokens: payload.max_tokens,
            stream,
            within: self.within,
            purpose: Purpose::Answer,
        };
        self.host.open(job, session, state)
    }

    /// Whether the model may be asked for an inference, or its answer is stored. What the session holds the end of is
    /// never begun again, also where its answer is lost.
    async fn may_be_run(&self, session: &Session, state: &Known, id: InferenceId) -> Result<(), Refusal> {
        let status = state.inference(id).map(|inference| inference.status);
        let refusal = match status {
            Some(Status::Pending | Status::Started) => return Ok(()),
            Some(Status::TimedOut) => Refusal::TimedOut(Nonce(id.0)),
            Some(Status::Finished | Status::Challenged | Status::Validated | Status::Invalidated) => {
                Refusal::UnknownInference
            }
            // It is sealed into the state, or nobody has asked for it.
            None => Refusal::NotStarted(Nonce(id.0)),
        };
        if self.storage.is_completed(&session.key(id)).await? { Ok(()) } else { Err(refusal) }
    }

    /// The stream of a request that asks this host for nothing but its signature: the receipt and the meta event.
    async fn told(&self, session: &Session, state: &Known, id: InferenceId) -> Result<Arc<Flight>, Refusal> {
        let mut record = Record::default();
        record.push(&receipt(&self.ledger, state, None));
        record.push(&meta(&coded(&self.ledger.owed(session, state, None).await?)));
        let flight = Flight::new(id);
        flight.whole(record);
        Ok(flight)
    }
}

/// The first event that the client has not.
fn resumed_from(cursor: Option<&str>, request: &Request) -> Result<u32, Refusal> {
    let Some(cursor) = cursor else { return Ok(0) };
    let cursor: Cursor = cursor.parse().map_err(Refusal::Cursor)?;
    if cursor.inference != request.inference() {
        return Err(Refusal::OtherInference { got: cursor.inference.0, asked: request.nonce.0 });
    }
    Ok(cursor.n.saturating_add(1))
}
