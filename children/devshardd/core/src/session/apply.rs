//! What each transaction does: one function for each of them. What fails is thrown away with the state that it was
//! tried on.
//!
//! Must not live here: what is charged and sealed beside the transactions.

use std::sync::Arc;

use prost::Message;

use super::inference::{Inference, Slots, Status};
use super::terms::Slot;
use super::{Phase, State, Trust};
use crate::auth::recover_message;
use crate::ids::{InferenceId, Nonce};
use crate::wire::{Confirm, Finish, Kind, Reason, Start, Timeout, TimeoutWords, Tx, Validation, Vote};

/// Why a transaction is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    #[error("it is of no kind that this build knows")]
    Unknown,
    #[error("the session takes no more of these: it is being finalized")]
    Finalizing,
    #[error("inference {0} is asked for, and an inference has the number of its step")]
    OtherNumber(InferenceId),
    #[error("its price cannot be counted")]
    Overflow,
    #[error("it may cost {price}, and {balance} are left")]
    Balance { price: u64, balance: u64 },
    #[error("inference {0} is not known, or sealed")]
    NotLive(InferenceId),
    #[error("inference {id} is {}", status.name())]
    Status { id: InferenceId, status: Status },
    #[error("slot {said} is not the executor, {executor} is")]
    NotExecutor { said: u32, executor: u32 },
    #[error("slot {0} is not in the group")]
    NoSlot(u32),
    #[error("it is not signed by slot {0}")]
    NotSigned(u32),
    #[error("it is of escrow {0}")]
    OtherEscrow(String),
    #[error("slot {0} executes it, and does not check itself")]
    Itself(u32),
    #[error("slot {0} has spoken before")]
    Twice(u32),
    #[error("more than {threshold} votes are needed, and there are {votes}")]
    TooFewVotes { threshold: u32, votes: u32 },
    #[error("a timeout has no such reason")]
    Reason,
}

impl TxError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            TxError::Unknown => "tx_unknown",
            TxError::Finalizing => "tx_finalizing",
            TxError::OtherNumber(_) => "tx_other_number",
            TxError::Overflow => "tx_overflow",
            TxError::Balance { .. } => "tx_balance",
            TxError::NotLive(_) => "tx_not_live",
            TxError::Status { .. } => "tx_status",
            TxError::NotExecutor { .. } => "tx_not_executor",
            TxError::NoSlot(_) => "tx_no_slot",
            TxError::NotSigned(_) => "tx_not_signed",
            TxError::OtherEscrow(_) => "tx_other_escrow",
            TxError::Itself(_) => "tx_itself",
            TxError::Twice(_) => "tx_twice",
            TxError::TooFewVotes { .. } => "tx_too_few_votes",
            TxError::Reason => "tx_reason",
        }
    }
}

/// As people read it.
pub(super) const fn name(tx: &Tx) -> &'static str {
    match &tx.kind {
        None => "unknown",
        Some(Kind::Start(_)) => "start",
        Some(Kind::Confirm(_)) => "confirm",
        Some(Kind::Finish(_)) => "finish",
        Some(Kind::Timeout(_)) => "timeout",
        Some(Kind::Validation(_)) => "validation",
        Some(Kind::Vote(_)) => "vote",
        Some(Kind::RevealSeed(_)) => "reveal seed",
        Some(Kind::Finalize(_)) => "finalize",
    }
}

impl State {
    pub(super) fn apply(&mut self, nonce: Nonce, tx: &Tx, trust: Trust) -> Result<(), TxError> {
        match tx.kind.as_ref().ok_or(TxError::Unknown)? {
            Kind::Start(start) => self.start(nonce, start),
            Kind::Confirm(confirm) => self.confirm(confirm, trust),
            Kind::Finish(finish) => self.finish(finish, trust),
            Kind::Timeout(timeout) => self.time_out(timeout, trust),
            Kind::Validation(validation) => self.validate(validation, trust),
            Kind::Vote(vote) => self.vote(vote, trust),
            Kind::RevealSeed(_) => Ok(()),
            Kind::Finalize(_) => self.finalize(nonce),
        }
    }

    fn start(&mut self, nonce: Nonce, start: &Start) -> Result<(), TxError> {
        self.is_active()?;
        let id = InferenceId(start.inference_id);
        // The numbers of steps only grow: no inference is asked for twice.
        if id.0 != nonce.0 {
            return Err(TxError::OtherNumber(id));
        }
        let price = self.price(start.input_length, start.max_tokens)?;
        let balance = self.balance;
        self.balance = balance.checked_sub(price).ok_or(TxError::Balance { price, balance })?;
        let inference = Inference {
            status: Status::Pending,
            executor: self.binding.group.executor(id),
            model: start.model.clone(),
            prompt_hash: start.prompt_hash.clone(),
            response_hash: Vec::new(),
            input_length: start.input_length,
            max_tokens: start.max_tokens,
            input_tokens: 0,
            output_tokens: 0,
            reserved_cost: price,
            actual_cost: 0,
            started_at: start.started_at,
            confirmed_at: 0,
            votes_valid: 0,
            votes_invalid: 0,
            validated_by: Slots::default(),
        };
        self.live.insert(id, Arc::new(inference));
        Ok(())
    }

    fn confirm(&mut self, confirm: &Confirm, trust: Trust) -> Result<(), TxError> {
        let (id, inference) = self.found(confirm.inference_id)?;
        in_status(id, inference, &[Status::Pending])?;
        let executor = inference.executor;
        let receipt = inference.receipt(self.binding.escrow.as_str(), id, confirm.confirmed_at);
        self.signed(executor, &receipt, &confirm.executor_sig, trust)?;
        let inference = self.at(id)?;
        inference.status = Status::Started;
        inference.confirmed_at = confirm.confirmed_at;
        Ok(())
    }

    fn finish(&mut self, finish: &Finish, trust: Trust) -> Result<(), TxError> {
        let (id, inference) = self.found(finish.inference_id)?;
        in_status(id, inference, &[Status::Started])?;
        let (executor, reserved) = (inference.executor, inference.reserved_cost);
        if finish.executor_slot != executor.0 {
            return Err(TxError::NotExecutor { said: finish.executor_slot, executor: executor.0 });
        }
        let words = Finish { proposer_sig: Vec::new(), ..finish.clone() };
        self.signed(executor, &words, &finish.proposer_sig, trust)?;
        self.is_of_this(&finish.escrow_id)?;
        let cost = self.price(finish.input_tokens, finish.output_tokens)?.min(reserved);
        self.balance = self.balance.saturating_add(reserved - cost);
        let inference = self.at(id)?;
        inference.status = Status::Finished;
        inference.response_hash.clone_from(&finish.response_hash);
        inference.input_tokens = finish.input_tokens;
        inference.output_tokens = finish.output_tokens;
        inference.actual_cost = cost;
        self.stats_of(executor, |stats| stats.cost = stats.cost.saturating_add(cost));
        Ok(())
    }

    fn validate(&mut self, validation: &Validation, trust: Trust) -> Result<(), TxError> {
        let (id, inference) = self.found(validation.inference_id)?;
        let (slot, executor, spoken) = (Slot(validation.validator_slot), inference.executor, inference.validated_by);
        let status = inference.status;
        self.is_in_group(slot)?;
        if slot == executor {
            return Err(TxError::Itself(slot.0));
        }
        if self.has_spoken(slot, spoken) {
            return Ok(());
        }
        match status {
            Status::Finished | Status::Challenged | Status::Validated | Status::Invalidated => {}
            Status::Pending | Status::Started | Status::TimedOut => return Err(TxError::Status { id, status }),
        }
        let words = Validation { proposer_sig: Vec::new(), ..validation.clone() };
        self.signed(slot, &words, &validation.proposer_sig, trust)?;
        self.is_of_this(&validation.escrow_id)?;
        let weight = self.binding.group.weight(slot);
        let inference = self.at(id)?;
        // Of a member with several slots the one that it names alone, where a vote takes them all: as upstream.
        inference.validated_by.insert(slot);
        match (status, validation.valid) {
            (Status::Finished, true) => inference.votes_valid = inference.votes_valid.saturating_add(weight),
            (Status::Finished, false) => {
                inference.votes_invalid = inference.votes_invalid.saturating_add(weight);
                inference.status = Status::Challenged;
            }
            // That it was checked is noted, and counts no more.
            _ => {}
        }
        Ok(())
    }

    fn vote(&mut self, vote: &Vote, trust: Trust) -> Result<(), TxError> {
        let (id, inference) = self.found(vote.inference_id)?;
        let (slot, spoken, status) = (Slot(vote.voter_slot), inference.validated_by, inference.status);
        self.is_in_group(slot)?;
        match status {
            Status::Challenged => {}
            // It has been decided meanwhile.
            Status::Validated | Status::Invalidated => return Ok(()),
            Status::Pending | Status::Started | Status::Finished | Status::TimedOut => {
                return Err(TxError::Status { id, status });
            }
        }
        if self.has_spoken(slot, spoken) {
            return Err(TxError::Twice(slot.0));
        }
        let words = Vote { proposer_sig: Vec::new(), ..vote.clone() };
        self.signed(slot, &words, &vote.proposer_sig, trust)?;
        self.is_of_this(&vote.escrow_id)?;
        let threshold = self.binding.vote_threshold();
        let (weight, beside): (_, Vec<_>) =
            (self.binding.group.weight(slot), self.binding.group.slots_beside(slot).collect());
        let inference = self.at(id)?;
        beside.into_iter().for_each(|slot| inference.validated_by.insert(slot));
        let votes = if vote.vote_valid { &mut inference.votes_valid } else { &mut inference.votes_invalid };
        *votes = votes.saturating_add(weight);
        if inference.votes_invalid > threshold {
            inference.status = Status::Invalidated;
            let (executor, cost) = (inference.executor, inference.actual_cost);
            self.stats_of(executor, |stats| {
                stats.invalid = stats.invalid.saturating_add(1);
                stats.cost = stats.cost.saturating_sub(cost);
            });
            self.balance = self.balance.saturating_add(cost);
        } else if inference.votes_valid > threshold {
            inference.status = Status::Validated;
        }
        Ok(())
    }

    fn time_out(&mut self, timeout: &Timeout, trust: Trust) -> Result<(), TxError> {
        let (id, inference) = self.found(timeout.inference_id)?;
        let (executor, reserved) = (inference.executor, inference.reserved_cost);
        let expected = match Reason::try_from(timeout.reason) {
            Ok(Reason::Refused) => Status::Pending,
            Ok(Reason::Execution) => Status::Started,
            Ok(Reason::Unspecified) | Err(_) => return Err(TxError::Reason),
        };
        in_status(id, inference, &[expected])?;
        let (mut votes, mut spoken) = (0_u32, Slots::default());
        for vote in &timeout.votes {
            let slot = Slot(vote.voter_slot);
            self.is_in_group(slot)?;
            if spoken.contains(slot) {
                return Err(TxError::Twice(slot.0));
            }
            let beside: Vec<_> = self.binding.group.slots_beside(slot).collect();
            beside.into_iter().for_each(|slot| spoken.insert(slot));
            let words = TimeoutWords {
                escrow_id: self.binding.escrow.to_string(),
                inference_id: id.0,
                reason: timeout.reason,
                accept: vote.accept,
            };
            self.signed(slot, &words, &vote.signature, trust)?;
            if vote.accept {
                votes = votes.saturating_add(self.binding.group.weight(slot));
            }
        }
        let threshold = self.binding.vote_threshold();
        if votes <= threshold {
            return Err(TxError::TooFewVotes { threshold, votes });
        }
        self.at(id)?.status = Status::TimedOut;
        self.stats_of(executor, |stats| stats.missed = stats.missed.saturating_add(1));
        self.balance = self.balance.saturating_add(reserved);
        Ok(())
    }

    fn finalize(&mut self, nonce: Nonce) -> Result<(), TxError> {
        self.is_active()?;
        self.phase = Phase::Finalizing { since: nonce };
        Ok(())
    }

    fn is_active(&self) -> Result<(), TxError> {
        match self.phase {
            Phase::Active => Ok(()),
            Phase::Finalizing { .. } | Phase::Settlement => Err(TxError::Finalizing),
        }
    }

    fn price(&self, input: u64, output: u64) -> Result<u64, TxError> {
        let tokens = input.checked_add(output).ok_or(TxError::Overflow)?;
        tokens.checked_mul(self.binding.terms.token_price).ok_or(TxError::Overflow)
    }

    fn found(&self, id: u64) -> Result<(InferenceId, &Inference), TxError> {
        let id = InferenceId(id);
        self.inference(id).map(|inference| (id, inference)).ok_or(TxError::NotLive(id))
    }

    fn at(&mut self, id: InferenceId) -> Result<&mut Inference, TxError> {
        self.live.get_mut(&id).map(Arc::make_mut).ok_or(TxError::NotLive(id))
    }

    fn is_in_group(&self, slot: Slot) -> Result<(), TxError> {
        self.binding.group.member(slot).map(drop).ok_or(TxError::NoSlot(slot.0))
    }

    /// Whether the member of this slot has said by any of its slots what it thinks.
    fn has_spoken(&self, slot: Slot, spoken: Slots) -> bool {
        self.binding.group.slots_beside(slot).any(|slot| spoken.contains(slot))
    }

    fn is_of_this(&self, escrow: &str) -> Result<(), TxError> {
        if escrow == self.binding.escrow.as_str() { Ok(()) } else { Err(TxError::OtherEscrow(escrow.to_owned())) }
    }

    fn stats_of(&mut self, slot: Slot, change: impl FnOnce(&mut super::Stats)) {
        if let Some(stats) = usize::try_from(slot.0).ok().and_then(|at| self.stats.get_mut(at)) {
            change(stats);
        }
    }

    /// Whether the member of this slot has signed these words. Another key of a member is remembered with its first
    /// signature: it is part of the state, so that stored steps are asked for it too.
    fn signed(&mut self, slot: Slot, words: &impl Message, signature: &[u8], trust: Trust) -> Result<(), TxError> {
        match trust {
            Trust::Stored if !self.binding.group.has_warm_keys() => return Ok(()),
            Trust::Stored | Trust::Nobody => {}
        }
        let signer = recover_message(&words.encode_to_vec(), signature).ok_or(TxError::NotSigned(slot.0))?;
        if !self.speaks_for(&signer, slot) {
            return Err(TxError::NotSigned(slot.0));
        }
        let is_itself = self.binding.group.member(slot).is_some_and(|member| member.address == signer);
        if !is_itself {
            self.warm.entry(slot).or_insert(signer);
        }
        Ok(())
    }
}

fn in_status(id: InferenceId, inference: &Inference, expected: &[Status]) -> Result<(), TxError> {
    let status = inference.status;
    if expected.contains(&status) { Ok(()) } else { Err(TxError::Status { id, status }) }
}
