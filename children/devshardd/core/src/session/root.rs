//! The hash of a state. The layouts of the messages are frozen: the chain computes them too.
//!
//! ```text
//!  root  = H(H(stats) ‖ fees ‖ rest ‖ H(protocol) ‖ phase)
//!  rest  = H(balance ‖ H(sealed ‖ H(live)) ‖ H(warm keys))
//!  H     = SHA-256; numbers are eight bytes, big end first, the phase is one
//! ```

use prost::Message;
use sha2::{Digest as _, Sha256};

use super::inference::Inference;
use super::{Phase, State};
use crate::ids::{InferenceId, Nonce};

#[derive(Clone, PartialEq, Message)]
struct HostStats {
    #[prost(uint32, tag = "1")]
    slot_id: u32,
    #[prost(uint32, tag = "2")]
    missed: u32,
    #[prost(uint32, tag = "3")]
    invalid: u32,
    #[prost(uint64, tag = "4")]
    cost: u64,
}

#[derive(Clone, PartialEq, Message)]
struct AllStats {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<HostStats>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint64, tag = "1")]
    inference_id: u64,
    #[prost(uint32, tag = "2")]
    status: u32,
    #[prost(uint32, tag = "3")]
    executor_slot: u32,
    #[prost(string, tag = "4")]
    model: String,
    #[prost(bytes = "vec", tag = "5")]
    prompt_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    response_hash: Vec<u8>,
    #[prost(uint64, tag = "7")]
    input_length: u64,
    #[prost(uint64, tag = "8")]
    max_tokens: u64,
    #[prost(uint64, tag = "9")]
    input_tokens: u64,
    #[prost(uint64, tag = "10")]
    output_tokens: u64,
    #[prost(uint64, tag = "11")]
    reserved_cost: u64,
    #[prost(uint64, tag = "12")]
    actual_cost: u64,
    #[prost(int64, tag = "13")]
    started_at: i64,
    #[prost(int64, tag = "14")]
    confirmed_at: i64,
    #[prost(uint32, tag = "15")]
    votes_valid: u32,
    #[prost(uint32, tag = "16")]
    votes_invalid: u32,
    #[prost(bytes = "vec", tag = "17")]
    validated_by: Vec<u8>,
}

impl State {
    /// What its parties sign.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let stats = (0..).zip(&self.stats).map(|(slot_id, stats)| HostStats {
            slot_id,
            missed: stats.missed,
            invalid: stats.invalid,
            cost: stats.cost,
        });
        let stats = Sha256::digest(AllStats { entries: stats.collect() }.encode_to_vec());
        let phase: u8 = match self.phase {
            Phase::Active => 0,
            Phase::Finalizing { .. } => 1,
            Phase::Settlement => 2,
        };
        let mut root = Sha256::new();
        root.update(stats);
        root.update(self.fees.to_be_bytes());
        root.update(self.rest());
        root.update(Sha256::digest(&self.binding.terms.protocol));
        root.update([phase]);
        root.finalize().into()
    }

    fn rest(&self) -> [u8; 32] {
        let mut live = Sha256::new();
        let mut buffer = Vec::new();
        for (id, inference) in self.live() {
            buffer.clear();
            // As a list of entries is encoded, without holding all of it.
            prost::encoding::message::encode(1, &entry(id, inference), &mut buffer);
            live.update(&buffer);
        }
        let mut inferences = Sha256::new();
        inferences.update(self.sealed);
        inferences.update(live.finalize());
        let mut warm = Sha256::new();
        for (slot, address) in &self.warm {
            warm.update(slot.0.to_be_bytes());
            warm.update(u32::try_from(address.as_str().len()).unwrap_or(u32::MAX).to_be_bytes());
            warm.update(address.as_str());
        }
        let mut rest = Sha256::new();
        rest.update(self.balance.to_be_bytes());
        rest.update(inferences.finalize());
        rest.update(warm.finalize());
        rest.finalize().into()
    }
}

/// What is sealed with one inference more.
pub(super) fn fold(sealed: [u8; 32], at: Nonce, id: InferenceId, inference: &Inference) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(sealed);
    hash.update(at.0.to_be_bytes());
    hash.update(id.0.to_be_bytes());
    hash.update(entry(id, inference).encode_to_vec());
    hash.finalize().into()
}

fn entry(id: InferenceId, inference: &Inference) -> Entry {
    Entry {
        inference_id: id.0,
        status: inference.status.number(),
        executor_slot: inference.executor.0,
        model: inference.model.clone(),
        prompt_hash: inference.prompt_hash.clone(),
        response_hash: inference.response_hash.clone(),
        input_length: inference.input_length,
        max_tokens: inference.max_tokens,
        input_tokens: inference.input_tokens,
        output_tokens: inference.output_tokens,
        reserved_cost: inference.reserved_cost,
        actual_cost: inference.actual_cost,
        started_at: inference.started_at,
        confirmed_at: inference.confirmed_at,
        votes_valid: inference.votes_valid,
        votes_invalid: inference.votes_invalid,
        validated_by: inference.validated_by.to_bytes().to_vec(),
    }
}
