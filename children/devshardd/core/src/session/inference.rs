//! One inference of a session, as its parties have agreed on it.
//!
//! Must not live here: what the model said.

use crate::ids::InferenceId;
use crate::session::terms::Slot;
use crate::wire::Receipt;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Its owner has asked for it.
    Pending,
    /// Its executor has it.
    Started,
    /// Its executor is done.
    Finished,
    /// A member has called it invalid.
    Challenged,
    /// More than enough of the others call it valid.
    Validated,
    /// More than enough call it invalid: it was not worth its price.
    Invalidated,
    /// Refused or not finished in time.
    TimedOut,
}

/// The record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inference {
    pub status: Status,
    pub executor: Slot,
    pub model: String,
    /// Of the prompt in canonical JSON.
    pub prompt_hash: Vec<u8>,
    /// Of what the model said; empty until it is finished.
    pub response_hash: Vec<u8>,
    pub input_length: u64,
    pub max_tokens: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// What is kept for it.
    pub reserved_cost: u64,
    /// What it has cost.
    pub actual_cost: u64,
    /// Seconds since 1970, by its owner's clock.
    pub started_at: i64,
    /// Seconds since 1970, by its executor's clock; 0 until it is started.
    pub confirmed_at: i64,
    pub votes_valid: u32,
    pub votes_invalid: u32,
    /// The slots that have said what they think of it.
    pub validated_by: Slots,
}

/// A set of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slots(u128);

impl Slots {
    pub fn insert(&mut self, slot: Slot) {
        self.0 |= 1_u128.checked_shl(slot.0).unwrap_or_default();
    }

    #[must_use]
    pub fn contains(self, slot: Slot) -> bool {
        1_u128.checked_shl(slot.0).is_some_and(|bit| self.0 & bit != 0)
    }

    /// A bit for each slot, 16 bytes, little end first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

impl Status {
    /// Whether nothing follows it any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        match self {
            Status::Validated | Status::Invalidated | Status::TimedOut => true,
            Status::Pending | Status::Started | Status::Finished | Status::Challenged => false,
        }
    }

    /// As it stands in the state.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Status::Pending => 0,
            Status::Started => 1,
            Status::Finished => 2,
            Status::Challenged => 3,
            Status::Validated => 4,
            Status::Invalidated => 5,
            Status::TimedOut => 6,
        }
    }

    /// As people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Started => "started",
            Status::Finished => "finished",
            Status::Challenged => "challenged",
            Status::Validated => "validated",
            Status::Invalidated => "invalidated",
            Status::TimedOut => "timed out",
        }
    }
}

impl Inference {
    /// What its executor signs when it has it, at this time.
    #[must_use]
    pub fn receipt(&self, escrow: &str, id: InferenceId, confirmed_at: i64) -> Receipt {
        Receipt {
            inference_id: id.0,
            prompt_hash: self.prompt_hash.clone(),
            model: self.model.clone(),
            input_length: self.input_length,
            max_tokens: self.max_tokens,
            started_at: self.started_at,
            escrow_id: escrow.to_owned(),
            confirmed_at,
        }
    }
}
