//! What the owner of a session and the members of its group ask beside inferences.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use devshard_core::group::{self, Challenge, PayloadRequest, Signed as SignedState, TimeoutQuestion};
use devshard_core::ids::{InferenceId, Nonce};
use devshard_core::session::Status;
use devshard_core::session::judge::{Judgement, No};
use devshard_core::wire::{Kind, Reason, Tx};
use serde_json::json;
use supervisor_sdk::axum::extract::{Path, Query, State};
use supervisor_sdk::axum::http::{HeaderMap, StatusCode};
use supervisor_sdk::axum::response::{IntoResponse as _, Json};

use super::{Answer, App, Here, Named, Shared, Signed, Sound, header, since_1970};
use crate::host::coded;
use crate::ledger::Known;
use crate::members::{Heard, is_signed_state};
use crate::refusal::Refusal;
use crate::storage::Session;

/// Steps that are shown to an executor who is asked for an inference, at most.
const SHOWN: u64 = 999;
/// An execution that is begun for whoever doubts it is written down within this.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);

/// `POST …/verify-timeout`: the owner asks for this member's vote.
pub(super) async fn verify_timeout(State(app): Shared, _: Sound, signed: Signed) -> Answer {
    let Signed { escrow, signer, body, .. } = signed;
    let question = TimeoutQuestion::read(&body)?;
    let session = app.session(&escrow, &signer, None).await?;
    if session.binding.creator != signer {
        return Err(Refusal::NotOwner);
    }
    let state = app.take(&session, &question.diffs).await?;
    let slot = *app.ledger.mine(&state).first().ok_or(Refusal::NotInGroup)?;
    let no = app.judge(&session, &state, &question).await?;
    let vote = |accept: bool| json!({"accept": accept, "voter_slot": slot});
    let mut answer = vote(no.is_none());
    match no {
        None => {
            let signature = state.vote_for_timeout(app.ledger.key(), question.inference, question.reason);
            answer["signature"] = json!(STANDARD.encode(signature));
        }
        Some(no) => {
            answer["reason"] = json!(no.code());
            answer["mempool"] = json!(coded(&app.recovery(&session, question.inference).await?));
        }
    }
    Ok(Json(answer).into_response())
}

/// `POST …/challenge-receipt`: whoever doubts that this host has an inference shows it the prompt.
pub(super) async fn challenge_receipt(State(app): Shared, _: Here, signed: Signed) -> Answer {
    let Signed { escrow, signer, body, .. } = signed;
    let challenge = Challenge::read(&body)?;
    let session = app.session(&escrow, &signer, challenge.diffs.first()).await?;
    let state = app.ledger.state(&session).await?;
    if session.binding.creator != signer && !state.is_member(&signer) {
        return Err(Refusal::NotMember);
    }
    let state = app.take(&session, &challenge.diffs).await?;
    let id = challenge.inference;
    let receipt = app.challenged(&session, &state, challenge).await?;
    let mut answer = json!({"mempool": coded(&app.recovery(&session, id).await?)});
    if let Some(receipt) = receipt {
        answer["receipt"] = json!(STANDARD.encode(receipt));
    }
    Ok(Json(answer).into_response())
}

/// `POST …/gossip/nonce`: a member says what state it has signed.
pub(super) async fn gossip_nonce(State(app): Shared, _: Sound, signed: Signed) -> Answer {
    let (session, state, body) = app.members_word(signed).await?;
    let signed = SignedState::read(&body)?;
    if !is_signed_state(&state, &signed) {
        return Err(Refusal::NotSlots(signed.slot.0));
    }
    let (nonce, slot) = (signed.nonce, signed.slot.0);
    let (members, checks) = (app.members.clone(), app.checks.clone());
    let then = move |session: &Session, state: &Arc<Known>| {
        members.tell(state);
        checks.look(session, state);
    };
    match app.members.hear(&session, &state, signed, then).await? {
        Heard::Kept | Heard::Ahead => Ok(StatusCode::OK.into_response()),
        Heard::Other { said, here } => Err(Refusal::OtherState { nonce, slot, said, here }),
    }
}

/// `POST …/gossip/txs`: a member says what it has to say, by whoever brings it.
pub(super) async fn gossip_txs(State(app): Shared, _: Sound, signed: Signed) -> Answer {
    let (session, state, body) = app.members_word(signed).await?;
    let mut txs = group::read_txs(&body)?;
    txs.retain(|tx| state.is_open(tx) && state.is_members_word(tx));
    app.storage.keep_txs(&session, &txs).await?;
    Ok(Json(json!({"kept": txs.len()})).into_response())
}

/// `GET …/payloads?inference_id=`: a member asks what was asked and answered.
pub(super) async fn payloads(
    State(app): Shared,
    Path(id): Path<String>,
    Query(named): Query<Named>,
    headers: HeaderMap,
) -> Answer {
    let inference = named.get("inference_id").ok_or(Refusal::Parameter("inference_id"))?;
    let number: InferenceId = inference.parse().map_err(|_| Refusal::Parameter("inference_id"))?;
    let (at, epoch) = (header(&headers, group::AT), header(&headers, group::EPOCH));
    let request = PayloadRequest::read(inference, header(&headers, group::VALIDATOR), at, epoch)
        .map_err(Refusal::PayloadRequest)?;
    let now_ns = i64::try_from(since_1970().as_nanos()).unwrap_or(i64::MAX);
    let validator = request.check(header(&headers, "authorization"), now_ns).map_err(Refusal::PayloadRequest)?;
    let session = app.named(&id).await?;
    if !app.ledger.state(&session).await?.is_member(&validator) {
        return Err(Refusal::NotMember);
    }
    let said = app.storage.said(&session.key(number)).await?.ok_or(Refusal::UnknownInference)?;
    let (me, response) = (app.ledger.me(), said.record.body());
    let signature = group::sign_payloads(app.ledger.key(), me, inference, &said.prompt, &response);
    let answer = json!({
        "inference_id": inference,
        "prompt_payload": STANDARD.encode(&said.prompt),
        "response_payload": STANDARD.encode(&response),
        "executor_signature": signature,
    });
    Ok(Json(answer).into_response())
}

impl App {
    /// A request that only members of the group may send, of a session that has begun.
    async fn members_word(&self, signed: Signed) -> Result<(Session, Arc<Known>, Bytes), Refusal> {
        let session = self.bound(&signed.escrow).await?;
        let state = self.ledger.state(&session).await?;
        if state.is_member(&signed.signer) { Ok((session, state, signed.body)) } else { Err(Refusal::NotMember) }
    }

    /// Why no vote is given for a timeout, if none is.
    async fn judge(
        &self,
        session: &Session,
        state: &Arc<Known>,
        question: &TimeoutQuestion,
    ) -> Result<Option<No>, Refusal> {
        let id = question.inference;
        let known = self.ledger.mempool(session).await?;
        let now = i64::try_from(super::now_s()).unwrap_or(i64::MAX);
        let payload = question.payload.as_ref();
        match state.judge(id, question.reason, payload, &known, now).map_err(Refusal::Judge)? {
            Judgement::No(no) => return Ok(Some(no)),
            Judgement::AskExecutor => {}
        }
        // Whoever is asked shows what it has by its own signature, or the vote is given.
        let shown = if self.executes(state, id) {
            let challenge = Challenge { inference: id, payload: question.payload.clone(), diffs: Vec::new() };
            self.challenged(session, state, challenge).await?;
            self.recovery(session, id).await?
        } else {
            let slot = state.binding().group.executor(id);
            match self.escrows.url(session.escrow(), slot) {
                Some(url) => {
                    // It may have heard of none of them. Of a long history the last are shown: it may have the others.
                    let first = Nonce(state.latest().0.saturating_sub(SHOWN).max(1));
                    let steps = self.storage.diffs(session, first, state.latest()).await?;
                    let steps: Vec<_> = steps.into_iter().map(|(diff, _)| diff).collect();
                    self.members.challenge(url, session.escrow(), id, payload, &steps).await
                }
                None => Vec::new(),
            }
        };
        let shown: Vec<Tx> = shown.into_iter().filter(|tx| state.is_open(tx) && state.is_members_word(tx)).collect();
        self.storage.keep_txs(session, &shown).await?;
        let is_of_this = |tx: &Tx| match (&tx.kind, question.reason) {
            (Some(Kind::Finish(finish)), _) => (finish.inference_id == id.0).then_some(No::Finished),
            (Some(Kind::Confirm(confirm)), Reason::Refused) => (confirm.inference_id == id.0).then_some(No::Confirmed),
            _ => None,
        };
        Ok(shown.iter().find_map(is_of_this))
    }

    /// What this host does when it is shown an inference of its own that it has not begun: it begins. Its receipt is
    /// given once it is written down.
    async fn challenged(
        &self,
        session: &Session,
        state: &Arc<Known>,
        challenge: Challenge,
    ) -> Result<Option<[u8; 65]>, Refusal> {
        let id = challenge.inference;
        let is_pending = state.inference(id).is_some_and(|inference| inference.status == Status::Pending);
        let payload = challenge.payload.filter(|payload| {
            is_pending && state.inference(id).is_some_and(|inference| inference.is_asked_by(payload).is_ok())
        });
        let (Some(payload), true) = (payload, self.executes(state, id)) else { return Ok(None) };
        let mut executed = self.storage.executed(session, id, id).await?;
        if executed.is_empty() {
            self.held.touch(session.escrow());
            let flight = self.open(session.clone(), Arc::clone(state), id, payload, true);
            // Whoever asks does not wait for ever; another process of this member may have it by now.
            let _ = tokio::time::timeout(BEGINS_WITHIN, flight.begun()).await;
            executed = self.storage.executed(session, id, id).await?;
        }
        Ok(executed.first().and_then(|claimed| state.receipt(self.ledger.key(), id, claimed.confirmed_at)))
    }

    /// What is owed of one inference.
    async fn recovery(&self, session: &Session, id: InferenceId) -> Result<Vec<Tx>, Refusal> {
        let state = self.ledger.state(session).await?;
        Ok(self.ledger.owed_of(session, &state, id).await?)
    }
}
