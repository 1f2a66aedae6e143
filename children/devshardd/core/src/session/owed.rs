//! What a member has to say of a session and no step says yet: its mempool.
//!
//! It is read from what is stored, every time: nothing that a crash could forget is gathered.
//!
//! Must not live here: storage.

use prost::Message as _;

use super::State;
use super::inference::Status;
use super::terms::Slot;
use crate::auth::Key;
use crate::ids::InferenceId;
use crate::wire::{Confirm, Finish, Kind, Tx, Validation, Vote};

/// How far an inference is that this member executes, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    pub id: InferenceId,
    /// Seconds since 1970.
    pub confirmed_at: i64,
    pub outcome: Option<Outcome>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub response_hash: [u8; 32],
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// An inference of another that this member has checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    pub id: InferenceId,
    pub is_valid: bool,
}

impl State {
    /// The receipt of an inference, signed by its executor; `None` unless it is one of `mine`.
    #[must_use]
    pub fn receipt(&self, key: &Key, id: InferenceId, confirmed_at: i64) -> Option<[u8; 65]> {
        let receipt = self.inference(id)?.receipt(self.binding.escrow.as_str(), id, confirmed_at);
        Some(key.sign_message(&receipt.encode_to_vec()))
    }

    /// What is owed of an inference that `key` executes.
    #[must_use]
    pub fn owed_of(&self, key: &Key, executed: &Executed) -> Vec<Tx> {
        let Some(inference) = self.inference(executed.id) else { return Vec::new() };
        let is_confirmed = match inference.status {
            Status::Pending => false,
            Status::Started => true,
            Status::Finished | Status::Challenged | Status::Validated | Status::Invalidated | Status::TimedOut => {
                return Vec::new();
            }
        };
        let mut owed = Vec::new();
        if !is_confirmed && let Some(signature) = self.receipt(key, executed.id, executed.confirmed_at) {
            owed.push(Tx::of(Kind::Confirm(Confirm {
                inference_id: executed.id.0,
                executor_sig: signature.to_vec(),
                confirmed_at: executed.confirmed_at,
            })));
        }
        if let Some(outcome) = &executed.outcome {
            let mut finish = Finish {
                inference_id: executed.id.0,
                response_hash: outcome.response_hash.to_vec(),
                input_tokens: outcome.input_tokens,
                output_tokens: outcome.output_tokens,
                executor_slot: inference.executor.0,
                proposer_sig: Vec::new(),
                escrow_id: self.binding.escrow.to_string(),
            };
            finish.proposer_sig = key.sign_message(&finish.encode_to_vec()).to_vec();
            owed.push(Tx::of(Kind::Finish(finish)));
        }
        owed
    }

    /// What is owed of an inference that `key` has checked, with the slot by which it speaks: its word, or its vote if
    /// another has called the inference invalid before.
    #[must_use]
    pub fn owed_of_check(&self, key: &Key, slot: Slot, checked: Checked) -> Option<Tx> {
        let inference = self.inference(checked.id)?;
        if self.binding.group.slots_beside(slot).any(|slot| inference.validated_by.contains(slot)) {
            return None;
        }
        let escrow_id = self.binding.escrow.to_string();
        match inference.status {
            Status::Finished => {
                let mut validation = Validation {
                    inference_id: checked.id.0,
                    validator_slot: slot.0,
                    valid: checked.is_valid,
                    proposer_sig: Vec::new(),
                    escrow_id,
                };
                validation.proposer_sig = key.sign_message(&validation.encode_to_vec()).to_vec();
                Some(Tx::of(Kind::Validation(validation)))
            }
            Status::Challenged => {
                let mut vote = Vote {
                    inference_id: checked.id.0,
                    voter_slot: slot.0,
                    vote_valid: checked.is_valid,
                    proposer_sig: Vec::new(),
                    escrow_id,
                };
                vote.proposer_sig = key.sign_message(&vote.encode_to_vec()).to_vec();
                Some(Tx::of(Kind::Vote(vote)))
            }
            Status::Pending | Status::Started | Status::Validated | Status::Invalidated | Status::TimedOut => None,
        }
    }

    /// Whether the next step could take this transaction of another member: whoever keeps it for the owner asks that.
    #[must_use]
    pub fn would_take(&self, tx: &Tx) -> bool {
        // A start and a finalization are the owner's own.
        let is_a_members = match tx.kind {
            Some(Kind::Confirm(_) | Kind::Finish(_) | Kind::Timeout(_) | Kind::Validation(_) | Kind::Vote(_)) => true,
            Some(Kind::Start(_) | Kind::RevealSeed(_) | Kind::Finalize(_)) | None => false,
        };
        let next = crate::ids::Nonce(self.latest.0.saturating_add(1));
        is_a_members && self.clone().apply(next, tx, super::Trust::Nobody).is_ok()
    }
}
