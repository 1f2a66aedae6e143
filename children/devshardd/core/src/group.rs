//! What the owner of a session and the members of its group ask a host beside inferences: whether an inference is timed
//! out, whether its executor has it, what state others have signed, what others have to say, what was asked and
//! answered.
//!
//! Must not live here: who may ask, and what is answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::auth::{self, Address, Key};
use crate::diffs::Diff;
use crate::ids::{InferenceId, Nonce};
use crate::request::{Payload, RawDiff, RawPayload, RequestError, base64, bounds, json, read_diffs, required};
use crate::session::Slot;
use crate::wire::{Reason, Tx};

/// Transactions in one request, at most.
pub const TXS: usize = 4_096;

/// The body of `POST …/verify-timeout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeoutQuestion {
    pub inference: InferenceId,
    pub reason: Reason,
    pub payload: Option<Payload>,
    /// What the host may lack.
    pub diffs: Vec<Diff>,
}

/// The body of `POST …/challenge-receipt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub inference: InferenceId,
    /// Without one the host only says what it knows.
    pub payload: Option<Payload>,
    pub diffs: Vec<Diff>,
}

/// The body of `POST …/gossip/nonce`: a member's signature of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub nonce: Nonce,
    pub root: [u8; 32],
    pub signature: Vec<u8>,
    pub slot: Slot,
}

#[derive(Deserialize)]
struct RawQuestion {
    inference_id: Option<u64>,
    reason: Option<String>,
    payload: Option<RawPayload>,
    #[serde(default)]
    diffs: Vec<RawDiff>,
}

#[derive(Deserialize)]
struct RawSigned {
    nonce: Option<u64>,
    #[serde(default)]
    state_hash: String,
    #[serde(default)]
    state_sig: String,
    slot_id: Option<u32>,
}

#[derive(Deserialize)]
struct RawTxs {
    #[serde(default)]
    txs: Vec<String>,
}

impl TimeoutQuestion {
    pub fn read(body: &[u8]) -> Result<TimeoutQuestion, RequestError> {
        let raw: RawQuestion = json(body)?;
        let reason = match required("reason", raw.reason)?.as_str() {
            "refused" => Reason::Refused,
            "execution" => Reason::Execution,
            other => return Err(bounds("reason", format!("refused and execution are known: `{other}`"))),
        };
        Ok(TimeoutQuestion {
            inference: InferenceId(required("inference_id", raw.inference_id)?),
            reason,
            payload: raw.payload.map(RawPayload::read).transpose()?,
            diffs: read_diffs(&raw.diffs)?,
        })
    }
}

impl Challenge {
    pub fn read(body: &[u8]) -> Result<Challenge, RequestError> {
        let raw: RawQuestion = json(body)?;
        Ok(Challenge {
            inference: InferenceId(required("inference_id", raw.inference_id)?),
            payload: raw.payload.map(RawPayload::read).transpose()?,
            diffs: read_diffs(&raw.diffs)?,
        })
    }
}

impl Signed {
    pub fn read(body: &[u8]) -> Result<Signed, RequestError> {
        let raw: RawSigned = json(body)?;
        let root = base64("state_hash", &raw.state_hash)?;
        let root = root.try_into().map_err(|_| bounds("state_hash", "a state has 32 bytes".to_owned()))?;
        let signature = base64("state_sig", &raw.state_sig)?;
        if signature.len() != 65 {
            return Err(bounds("state_sig", "a signature has 65 bytes".to_owned()));
        }
        let nonce = Nonce(required("nonce", raw.nonce)?);
        Ok(Signed { nonce, root, signature, slot: Slot(required("slot_id", raw.slot_id)?) })
    }
}

/// The body of `POST …/gossip/txs`.
pub fn read_txs(body: &[u8]) -> Result<Vec<Tx>, RequestError> {
    let raw: RawTxs = json(body)?;
    if raw.txs.len() > TXS {
        return Err(bounds("txs", format!("{} of them, and {TXS} may be", raw.txs.len())));
    }
    let read = |(at, text): (usize, &String)| {
        let place = format!("txs[{at}]");
        Tx::read(&base64(&place, text)?).map_err(|error| bounds(&place, error.to_string()))
    };
    raw.txs.iter().enumerate().map(read).collect()
}

/// How old the request of a member for what was asked and answered may be, and how far ahead, in nanoseconds.
const OLD_NS: i64 = 60_000_000_000;
const AHEAD_NS: i64 = 10_000_000_000;

/// The headers of `GET …/payloads`.
pub const VALIDATOR: &str = "x-validator-address";
pub const AT: &str = "x-timestamp";
pub const EPOCH: &str = "x-epoch-id";

/// A member's request for what was asked and answered in an inference, by its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadRequest<'a> {
    pub inference: &'a str,
    pub validator: &'a str,
    /// Nanoseconds since 1970.
    pub at_ns: i64,
    pub epoch: u64,
}

/// Why it is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadRequestError {
    #[error("the header {0} is missing, or cannot be read")]
    Header(&'static str),
    #[error("{AT}: more than 60 s old, or 10 s ahead")]
    Time,
    #[error("authorization: not the signature of {VALIDATOR}")]
    Signature,
}

impl PayloadRequestError {
    /// As programs read it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            PayloadRequestError::Header(_) => "payload_request_header",
            PayloadRequestError::Time => "payload_request_time",
            PayloadRequestError::Signature => "payload_request_signature",
        }
    }
}

impl<'a> PayloadRequest<'a> {
    /// Reads the headers that [`VALIDATOR`], [`AT`] and [`EPOCH`] name.
    pub fn read(
        inference: &'a str,
        validator: Option<&'a str>,
        at: Option<&str>,
        epoch: Option<&str>,
    ) -> Result<PayloadRequest<'a>, PayloadRequestError> {
        let validator = validator.ok_or(PayloadRequestError::Header(VALIDATOR))?;
        let at_ns = at.and_then(|at| at.parse().ok()).ok_or(PayloadRequestError::Header(AT))?;
        let epoch = epoch.and_then(|epoch| epoch.parse().ok()).ok_or(PayloadRequestError::Header(EPOCH))?;
        Ok(PayloadRequest { inference, validator, at_ns, epoch })
    }

    /// The words that are signed.
    fn words(&self) -> String {
        let epoch = if self.epoch > 0 { self.epoch.to_string() } else { String::new() };
        let at = if self.at_ns > 0 { self.at_ns.to_string() } else { String::new() };
        format!("{}{epoch}{at}{}", self.inference, self.validator)
    }

    /// The header `authorization` of this request.
    #[must_use]
    pub fn sign(&self, key: &Key) -> String {
        compact(key, &self.words())
    }

    /// Whether it is now, and whose it says it is; `now_ns` nanoseconds since 1970.
    pub fn check(&self, authorization: Option<&str>, now_ns: i64) -> Result<Address, PayloadRequestError> {
        let age = now_ns.saturating_sub(self.at_ns);
        if !(-AHEAD_NS..=OLD_NS).contains(&age) {
            return Err(PayloadRequestError::Time);
        }
        let authorization = authorization.ok_or(PayloadRequestError::Header("authorization"))?;
        is_compact_of(self.validator, &self.words(), authorization).ok_or(PayloadRequestError::Signature)
    }
}

/// What an executor signs of what it answers with.
#[must_use]
pub fn sign_payloads(key: &Key, executor: &Address, inference: &str, prompt: &[u8], response: &[u8]) -> String {
    compact(key, &payload_words(executor, inference, prompt, response))
}

/// Whether it has.
#[must_use]
pub fn are_signed_payloads(
    executor: &Address,
    inference: &str,
    prompt: &[u8],
    response: &[u8],
    signature: &str,
) -> bool {
    is_compact_of(executor.as_str(), &payload_words(executor, inference, prompt, response), signature).is_some()
}

fn payload_words(executor: &Address, inference: &str, prompt: &[u8], response: &[u8]) -> String {
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    format!("{inference}{}{}{executor}", hash(prompt), hash(response))
}

/// As the chain's accounts sign: `r ‖ s` in base64, without the parity that tells whose it is.
fn compact(key: &Key, words: &str) -> String {
    STANDARD.encode(&key.sign_message(words.as_bytes())[..64])
}

fn is_compact_of(address: &str, words: &str, signature: &str) -> Option<Address> {
    let signature = STANDARD.decode(signature).ok().filter(|bytes| bytes.len() == 64)?;
    (0..2).find_map(|parity| {
        let signer = auth::recover_message(words.as_bytes(), &[signature.as_slice(), &[parity]].concat())?;
        (signer.as_str() == address).then_some(signer)
    })
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
