//! What a member thinks of a timeout that the owner asks it to vote for.
//!
//! Must not live here: the question to the executor, which is asked before a vote is given.

use prost::Message as _;

use super::State;
use super::inference::{Inference, Status};
use crate::auth::Key;
use crate::ids::InferenceId;
use crate::request::Payload;
use crate::wire::{Kind, Reason, TimeoutWords, Tx};

/// What comes of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is not so.
    No(No),
    /// It is so, unless the executor can show otherwise.
    AskExecutor,
}

/// Why a vote is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum No {
    #[error("the time is not up")]
    Early,
    #[error("its executor has said that it has it")]
    Confirmed,
    #[error("its executor has said that it is done")]
    Finished,
    #[error("the prompt is not the one that was asked for")]
    OtherPayload,
}

/// Why there is no judgement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
    #[error("inference {0} is not known, or sealed")]
    NotLive(InferenceId),
    #[error("inference {id} is {}: {} is what this reason is for", found.name(), expected.name())]
    Status { id: InferenceId, found: Status, expected: Status },
    #[error("payload: missing, and without it its executor cannot be asked")]
    NoPayload,
    #[error("a timeout has no such reason")]
    Reason,
}

/// Why a payload is not the one of an inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("prompt: its hash is another")]
    Prompt,
    #[error("model: another")]
    Model,
    #[error("input_length: another")]
    InputLength,
    #[error("max_tokens: another")]
    MaxTokens,
    #[error("started_at: another")]
    StartedAt,
}

impl No {
    /// As programs read it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            No::Early => "early",
            No::Confirmed => "confirmed",
            No::Finished => "finished",
            No::OtherPayload => "other_payload",
        }
    }
}

impl JudgeError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            JudgeError::NotLive(_) => "timeout_not_live",
            JudgeError::Status { .. } => "timeout_status",
            JudgeError::NoPayload => "timeout_no_payload",
            JudgeError::Reason => "timeout_reason",
        }
    }
}

impl PayloadError {
    /// As programs read it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            PayloadError::Prompt => "payload_prompt",
            PayloadError::Model => "payload_model",
            PayloadError::InputLength => "payload_input_length",
            PayloadError::MaxTokens => "payload_max_tokens",
            PayloadError::StartedAt => "payload_started_at",
        }
    }
}

impl Inference {
    /// Whether this is what its owner has signed for.
    pub fn is_asked_by(&self, payload: &Payload) -> Result<(), PayloadError> {
        if payload.prompt_hash()[..] != self.prompt_hash[..] {
            return Err(PayloadError::Prompt);
        }
        if payload.model != self.model {
            return Err(PayloadError::Model);
        }
        if payload.input_length != self.input_length {
            return Err(PayloadError::InputLength);
        }
        if u64::from(payload.max_tokens) != self.max_tokens {
            return Err(PayloadError::MaxTokens);
        }
        if payload.started_at != self.started_at {
            return Err(PayloadError::StartedAt);
        }
        Ok(())
    }
}

impl State {
    /// What this member thinks; `known` is what members have said and no step says yet, `now_s` seconds since 1970.
    pub fn judge(
        &self,
        id: InferenceId,
        reason: Reason,
        payload: Option<&Payload>,
        known: &[Tx],
        now_s: i64,
    ) -> Result<Judgement, JudgeError> {
        let inference = self.inference(id).ok_or(JudgeError::NotLive(id))?;
        let terms = &self.binding.terms;
        let (expected, since, within_s) = match reason {
            Reason::Refused => (Status::Pending, inference.started_at, terms.refusal_timeout_s),
            // By the clock of the executor: the owner's says nothing of when it began.
            Reason::Execution => (Status::Started, inference.confirmed_at, terms.execution_timeout_s),
            Reason::Unspecified => return Err(JudgeError::Reason),
        };
        if inference.status != expected {
            return Err(JudgeError::Status { id, found: inference.status, expected });
        }
        if now_s.saturating_sub(since) < i64::from(within_s) {
            return Ok(Judgement::No(No::Early));
        }
        for tx in known {
            match &tx.kind {
                Some(Kind::Finish(finish)) if finish.inference_id == id.0 => return Ok(Judgement::No(No::Finished)),
                Some(Kind::Confirm(confirm)) if confirm.inference_id == id.0 && reason == Reason::Refused => {
                    return Ok(Judgement::No(No::Confirmed));
                }
                _ => {}
            }
        }
        if reason == Reason::Refused {
            let payload = payload.ok_or(JudgeError::NoPayload)?;
            if inference.is_asked_by(payload).is_err() {
                return Ok(Judgement::No(No::OtherPayload));
            }
        }
        Ok(Judgement::AskExecutor)
    }

    /// This member's vote for a timeout.
    #[must_use]
    pub fn vote_for_timeout(&self, key: &Key, id: InferenceId, reason: Reason) -> [u8; 65] {
        let words = TimeoutWords {
            escrow_id: self.binding.escrow.to_string(),
            inference_id: id.0,
            reason: reason.into(),
            accept: true,
        };
        key.sign_message(&words.encode_to_vec())
    }
}
