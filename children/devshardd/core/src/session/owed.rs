//! What a member has to say of a session and no step says yet: its mempool.
//!
//! It is read from what is stored, every time: nothing that a crash could forget is gathered.
//!
//! Must not live here: storage.

use prost::Message as _;

use super::State;
use super::inference::Status;
use super::terms::Slot;
use crate::auth::{Key, recover_message};
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

    /// The inferences of these slots that are not finished, in order.
    pub fn unfinished<'a>(&'a self, mine: &'a [Slot]) -> impl Iterator<Item = InferenceId> + 'a {
        let is_open = |status| match status {
            Status::Pending | Status::Started => true,
            Status::Finished | Status::Challenged | Status::Validated | Status::Invalidated | Status::TimedOut => false,
        };
        let open = self.live().filter(move |(_, inference)| is_open(inference.status));
        open.filter(|(_, inference)| mine.contains(&inference.executor)).map(|(id, _)| id)
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

    /// Whether this is what a member says, signed by it: whoever keeps it for the owner asks that. That it fits now is
    /// not asked, since the steps before it may not have come yet.
    #[must_use]
    pub fn is_members_word(&self, tx: &Tx) -> bool {
        let signed = |slot: Slot, words: &[u8], signature: &[u8]| {
            recover_message(words, signature).is_some_and(|signer| self.speaks_for(&signer, slot))
        };
        let is_of_this = |escrow: &str| escrow == self.binding.escrow.as_str();
        match tx.kind.as_ref() {
            Some(Kind::Confirm(confirm)) => {
                let id = InferenceId(confirm.inference_id);
                self.inference(id).is_some_and(|inference| {
                    let receipt = inference.receipt(self.binding.escrow.as_str(), id, confirm.confirmed_at);
                    signed(inference.executor, &receipt.encode_to_vec(), &confirm.executor_sig)
                })
            }
            Some(Kind::Finish(finish)) => {
                let words = Finish { proposer_sig: Vec::new(), ..finish.clone() }.encode_to_vec();
                let executor = self.binding.group.executor(InferenceId(finish.inference_id));
                is_of_this(&finish.escrow_id)
                    && executor.0 == finish.executor_slot
                    && signed(executor, &words, &finish.proposer_sig)
            }
            Some(Kind::Validation(validation)) => {
                let words = Validation { proposer_sig: Vec::new(), ..validation.clone() }.encode_to_vec();
                is_of_this(&validation.escrow_id)
                    && signed(Slot(validation.validator_slot), &words, &validation.proposer_sig)
            }
            Some(Kind::Vote(vote)) => {
                let words = Vote { proposer_sig: Vec::new(), ..vote.clone() }.encode_to_vec();
                is_of_this(&vote.escrow_id) && signed(Slot(vote.voter_slot), &words, &vote.proposer_sig)
            }
            // The owner's own, and what is gathered by the owner.
            Some(Kind::Start(_) | Kind::Timeout(_) | Kind::RevealSeed(_) | Kind::Finalize(_)) | None => false,
        }
    }

    /// Whether a step may still take what a member has said: it has not been taken, and nothing has made it void.
    #[must_use]
    pub fn is_open(&self, tx: &Tx) -> bool {
        let (id, slot) = match tx.kind.as_ref() {
            Some(Kind::Confirm(confirm)) => (confirm.inference_id, None),
            Some(Kind::Finish(finish)) => (finish.inference_id, None),
            Some(Kind::Validation(validation)) => (validation.inference_id, Some(Slot(validation.validator_slot))),
            Some(Kind::Vote(vote)) => (vote.inference_id, Some(Slot(vote.voter_slot))),
            Some(Kind::Start(_) | Kind::Timeout(_) | Kind::RevealSeed(_) | Kind::Finalize(_)) | None => return false,
        };
        let Some(inference) = self.inference(InferenceId(id)) else { return id > self.latest.0 };
        let has_spoken = slot.is_some_and(|slot| {
            self.binding.group.slots_beside(slot).any(|slot| inference.validated_by.contains(slot))
        });
        match (tx.kind.as_ref(), inference.status) {
            (Some(Kind::Confirm(_)), status) => status == Status::Pending,
            (Some(Kind::Finish(_)), status) => matches!(status, Status::Pending | Status::Started),
            (_, status) => !has_spoken && !status.is_over(),
        }
    }
}
