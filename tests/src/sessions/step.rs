//! The steps of a session in the upstream's protobuf, as much of it as an owner needs: written by hand, from the contract.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// In canonical JSON: its keys are in order.
const PROMPT: &str = r#"{"messages":[{"content":"one two three","role":"user"}]}"#;
const MODEL: &str = "echo";
const INPUT_LENGTH: u64 = 3;
/// What an owner asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inference {
    /// The step that asks for it, and its number.
    pub nonce: u64,
    pub tokens: u32,
    /// Seconds since 1970.
    pub started_at: u64,
}

/// What a transaction says, as far as an owner looks into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Confirm,
    Finish,
    /// Whether a member that has checked it calls it valid.
    Validation(bool),
    Vote(bool),
    Other,
}

impl Inference {
    /// As it is sent where the model alone can read it.
    pub fn sealed(&self, escrow: &str) -> Value {
        json!({
            "version": 1, "session_id": escrow, "nonce": self.nonce,
            "prompt_hash": STANDARD.encode(Sha256::digest(PROMPT)), "ciphertext": "c2VhbGVk",
        })
    }

    /// As it is sent.
    pub fn payload(&self) -> Value {
        json!({
            "prompt": STANDARD.encode(PROMPT), "model": MODEL, "input_length": INPUT_LENGTH,
            "max_tokens": self.tokens, "started_at": self.started_at,
        })
    }

    /// The transaction that asks for it.
    fn start(&self) -> Vec<u8> {
        let start = [
            proto::number(1, self.nonce),
            proto::bytes(2, &Sha256::digest(PROMPT)),
            proto::bytes(3, MODEL.as_bytes()),
            proto::number(4, INPUT_LENGTH),
            proto::number(5, self.tokens.into()),
            proto::number(6, self.started_at),
        ];
        proto::bytes(1, &start.concat())
    }
}

/// The content of a step: transactions of members, and the start of an inference; and what its owner signs.
pub fn content(escrow: &str, nonce: u64, owed: &[Vec<u8>], asked: Option<&Inference>) -> (Vec<u8>, Vec<u8>) {
    let mut content = proto::number(1, nonce);
    for tx in owed {
        content.extend(proto::bytes(2, tx));
    }
    if let Some(asked) = asked {
        content.extend(proto::bytes(2, &asked.start()));
    }
    let signed = [content.as_slice(), &proto::bytes(3, escrow.as_bytes())].concat();
    (content, signed)
}

/// The transaction by which a group calls an inference off; `votes`: the slot and the signature of each member.
pub fn timeout(inference: u64, reason: u64, votes: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut timeout = [proto::number(1, inference), proto::number(2, reason)].concat();
    for (slot, signature) in votes {
        let vote = [proto::number(1, *slot), proto::number(2, 1), proto::bytes(3, signature)].concat();
        timeout.extend(proto::bytes(3, &vote));
    }
    proto::bytes(4, &timeout)
}

/// What a transaction says of which inference. `None`: it cannot be read.
pub fn said(tx: &[u8]) -> Option<(Said, u64)> {
    let (kind, inner) = proto::fields(tx)?.into_iter().next()?;
    let proto::Field::Bytes(inner) = inner else { return None };
    let inner = proto::fields(inner)?;
    let number = |field: u64| {
        inner.iter().find_map(|(found, value)| match value {
            proto::Field::Number(value) if *found == field => Some(*value),
            proto::Field::Number(_) | proto::Field::Bytes(_) => None,
        })
    };
    let is_valid = number(3) == Some(1);
    let said = match kind {
        2 => Said::Confirm,
        3 => Said::Finish,
        5 => Said::Validation(is_valid),
        6 => Said::Vote(is_valid),
        _ => Said::Other,
    };
    Some((said, number(1).unwrap_or(0)))
}

/// As much of protobuf as a step needs.
mod proto {
    /// The value of a field.
    pub(super) enum Field<'a> {
        Number(u64),
        Bytes(&'a [u8]),
    }

    /// A number; 0 is left out.
    pub(super) fn number(field: u8, value: u64) -> Vec<u8> {
        if value == 0 { Vec::new() } else { [varint(u64::from(field) << 3), varint(value)].concat() }
    }

    pub(super) fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        [varint(u64::from(field) << 3 | 2), varint(length), value.to_vec()].concat()
    }

    /// The fields of a message that has numbers and bytes alone.
    pub(super) fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
        let mut fields = Vec::new();
        while !message.is_empty() {
            let tag = read(&mut message)?;
            let value = read(&mut message)?;
            match tag & 7 {
                0 => fields.push((tag >> 3, Field::Number(value))),
                2 => {
                    let (bytes, rest) = message.split_at_checked(usize::try_from(value).ok()?)?;
                    fields.push((tag >> 3, Field::Bytes(bytes)));
                    message = rest;
                }
                _ => return None,
            }
        }
        Some(fields)
    }

    fn read(message: &mut &[u8]) -> Option<u64> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let (byte, rest) = message.split_first()?;
            *message = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low | 0x80);
        }
    }
}
