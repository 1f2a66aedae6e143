//! The messages that a session's parties sign and send each other, in the upstream's protobuf.
//!
//! Fields are written in the order of their numbers and defaults are left out, so that a message has one encoding.
//! [`Tx::read`] and [`Content::read`] refuse what has another, or fields that this build does not know: what is signed
//! is what was understood.
//!
//! Must not live here: what a message does to a session ([`crate::session`]).

use prost::{Enumeration, Message, Oneof};

/// What is wrong with the bytes of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("not a protobuf message of its kind")]
    Malformed(#[source] prost::DecodeError),
    #[error("it holds fields or transactions that this build does not know, or is not written in the one way it has")]
    NotCanonical,
}

impl WireError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            WireError::Malformed(_) => "wire_malformed",
            WireError::NotCanonical => "wire_not_canonical",
        }
    }
}

/// One step of a session, as its owner signs it.
#[derive(Clone, PartialEq, Message)]
pub struct Content {
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
    #[prost(message, repeated, tag = "2")]
    pub txs: Vec<Tx>,
    #[prost(string, tag = "3")]
    pub escrow_id: String,
    #[prost(bytes = "vec", tag = "4")]
    pub post_state_root: Vec<u8>,
}

/// One transaction of a step.
#[derive(Clone, PartialEq, Message)]
pub struct Tx {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub kind: Option<Kind>,
}

/// Which.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    #[prost(message, tag = "1")]
    Start(Start),
    #[prost(message, tag = "2")]
    Confirm(Confirm),
    #[prost(message, tag = "3")]
    Finish(Finish),
    #[prost(message, tag = "4")]
    Timeout(Timeout),
    #[prost(message, tag = "5")]
    Validation(Validation),
    #[prost(message, tag = "6")]
    Vote(Vote),
    /// Of earlier versions: it is read, and does nothing.
    #[prost(message, tag = "7")]
    RevealSeed(RevealSeed),
    #[prost(message, tag = "8")]
    Finalize(Finalize),
}

/// The owner asks for an inference; its number is the step's.
#[derive(Clone, PartialEq, Message)]
pub struct Start {
    #[prost(uint64, tag = "1")]
    pub inference_id: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub prompt_hash: Vec<u8>,
    #[prost(string, tag = "3")]
    pub model: String,
    #[prost(uint64, tag = "4")]
    pub input_length: u64,
    #[prost(uint64, tag = "5")]
    pub max_tokens: u64,
    /// Seconds since 1970, by the owner's clock.
    #[prost(int64, tag = "6")]
    pub started_at: i64,
}

/// The executor has it: its signature is that of a [`Receipt`].
#[derive(Clone, PartialEq, Message)]
pub struct Confirm {
    #[prost(uint64, tag = "1")]
    pub inference_id: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub executor_sig: Vec<u8>,
    /// Seconds since 1970, by the executor's clock.
    #[prost(int64, tag = "3")]
    pub confirmed_at: i64,
}

/// The executor is done. It signs this with an empty `proposer_sig`.
#[derive(Clone, PartialEq, Message)]
pub struct Finish {
    #[prost(uint64, tag = "1")]
    pub inference_id: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub response_hash: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub input_tokens: u64,
    #[prost(uint64, tag = "4")]
    pub output_tokens: u64,
    #[prost(uint32, tag = "5")]
    pub executor_slot: u32,
    #[prost(bytes = "vec", tag = "6")]
    pub proposer_sig: Vec<u8>,
    #[prost(string, tag = "7")]
    pub escrow_id: String,
}

/// The group says that an inference has been refused or not finished in time.
#[derive(Clone, PartialEq, Message)]
pub struct Timeout {
    #[prost(uint64, tag = "1")]
    pub inference_id: u64,
    #[prost(enumeration = "Reason", tag = "2")]
    pub reason: i32,
    #[prost(message, repeated, tag = "3")]
    pub votes: Vec<TimeoutVote>,
}

/// The voice of one member: its signature is that of a [`TimeoutWords`].
#[derive(Clone, PartialEq, Message)]
pub struct TimeoutVote {
    #[prost(uint32, tag = "1")]
    pub voter_slot: u32,
    #[prost(bool, tag = "2")]
    pub accept: bool,
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

/// Why an inference is over without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Reason {
    Unspecified = 0,
    /// Nobody has confirmed that it has it.
    Refused = 1,
    /// It was confirmed, and not finished.
    Execution = 2,
}

/// A member has checked an inference. It signs this with an empty `proposer_sig`.
#[derive(Clone, PartialEq, Message)]
pub struct Validation {
    #[prost(uint64, tag = "1")]
    pub inference_id: u64,
    #[prost(uint32, tag = "2")]
    pub validator_slot: u32,
    #[prost(bool, tag = "3")]
    pub valid: bool,
    #[prost(bytes = "vec", tag = "4")]
    pub proposer_sig: Vec<u8>,
    #[prost(string, tag = "5")]
    pub escrow_id: String,
}

/// A member has checked an inference that another has called invalid. Signed as a [`Validation`] is.
#[derive(Clone, PartialEq, Message)]
pub struct Vote {
    #[prost(uint64, tag = "1")]
    pub inference_id: u64,
    #[prost(uint32, tag = "2")]
    pub voter_slot: u32,
    #[prost(bool, tag = "3")]
    pub vote_valid: bool,
    #[prost(bytes = "vec", tag = "4")]
    pub proposer_sig: Vec<u8>,
    #[prost(string, tag = "5")]
    pub escrow_id: String,
}

/// See [`Kind::RevealSeed`].
#[derive(Clone, PartialEq, Message)]
pub struct RevealSeed {
    #[prost(uint32, tag = "1")]
    pub slot_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub proposer_sig: Vec<u8>,
    #[prost(string, tag = "4")]
    pub escrow_id: String,
}

/// The owner asks for nothing more.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Finalize {}

/// What an executor signs when it has an inference.
#[derive(Clone, PartialEq, Message)]
pub struct Receipt {
    #[prost(uint64, tag = "1")]
    pub inference_id: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub prompt_hash: Vec<u8>,
    #[prost(string, tag = "3")]
    pub model: String,
    #[prost(uint64, tag = "4")]
    pub input_length: u64,
    #[prost(uint64, tag = "5")]
    pub max_tokens: u64,
    #[prost(int64, tag = "6")]
    pub started_at: i64,
    #[prost(string, tag = "7")]
    pub escrow_id: String,
    #[prost(int64, tag = "8")]
    pub confirmed_at: i64,
}

/// What a member signs when it agrees to a timeout.
#[derive(Clone, PartialEq, Message)]
pub struct TimeoutWords {
    #[prost(string, tag = "1")]
    pub escrow_id: String,
    #[prost(uint64, tag = "2")]
    pub inference_id: u64,
    #[prost(enumeration = "Reason", tag = "3")]
    pub reason: i32,
    #[prost(bool, tag = "4")]
    pub accept: bool,
}

/// What a member signs of the state behind a step.
#[derive(Clone, PartialEq, Message)]
pub struct StateWords {
    #[prost(bytes = "vec", tag = "1")]
    pub state_root: Vec<u8>,
    #[prost(string, tag = "2")]
    pub escrow_id: String,
    #[prost(uint64, tag = "3")]
    pub nonce: u64,
}

impl Content {
    /// Reads the transactions of a diff, as they are sent: nonce and transactions alone.
    pub fn read(bytes: &[u8]) -> Result<Content, WireError> {
        canonical(bytes)
    }
}

impl Tx {
    #[must_use]
    pub const fn of(kind: Kind) -> Tx {
        Tx { kind: Some(kind) }
    }

    pub fn read(bytes: &[u8]) -> Result<Tx, WireError> {
        canonical(bytes)
    }
}

fn canonical<M: Message + Default>(bytes: &[u8]) -> Result<M, WireError> {
    let message = M::decode(bytes).map_err(WireError::Malformed)?;
    if message.encode_to_vec() == bytes { Ok(message) } else { Err(WireError::NotCanonical) }
}
