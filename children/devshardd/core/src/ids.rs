//! The names of things, checked once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an escrow is named by 1 to 64 of A-Z a-z 0-9 . _ -, and begins with a letter or a digit")]
    Escrow,
    #[error("an owner is named by 1 to 128 visible characters of ASCII")]
    Owner,
}

/// An escrow, which pays for one session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EscrowId(String);

/// Who runs things: one process, for as long as it lives. Two processes never have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OwnerId(String);

/// An epoch of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// A step of a session; from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub u64);

/// An inference of a session: the step that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InferenceId(pub u64);

/// Grows with each claim of an inference, so that an earlier holder is known to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

/// What is run at most once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionKey {
    pub epoch: Epoch,
    pub escrow: EscrowId,
    pub inference: InferenceId,
}

impl EscrowId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl OwnerId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ExecutionKey {
    /// What a model is given to know a repetition by.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("devshard-{}-{}", self.escrow, self.inference)
    }

    /// The seed of the model: the lower half of the inference's number, as the upstream cuts it.
    #[must_use]
    pub fn seed(&self) -> i32 {
        let [_, _, _, _, a, b, c, d] = self.inference.0.to_be_bytes();
        i32::from_be_bytes([a, b, c, d])
    }
}

impl FromStr for EscrowId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        (begins_well && text.len() <= 64 && text.bytes().all(may_be))
            .then(|| EscrowId(text.to_owned()))
            .ok_or(IdError::Escrow)
    }
}

impl FromStr for OwnerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| OwnerId(text.to_owned())).ok_or(IdError::Owner)
    }
}

impl TryFrom<String> for EscrowId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl TryFrom<String> for OwnerId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<EscrowId> for String {
    fn from(id: EscrowId) -> String {
        id.0
    }
}

impl From<OwnerId> for String {
    fn from(id: OwnerId) -> String {
        id.0
    }
}

macro_rules! displayed {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )*};
}

displayed!(EscrowId, OwnerId, Epoch, Nonce, InferenceId, Fence);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_leave_a_path_or_a_header_is_no_name() {
        for text in ["", ".", "..", "-a", "a/b", "a b", "a\n", "é", &"a".repeat(65)] {
            assert_eq!(text.parse::<EscrowId>(), Err(IdError::Escrow), "{text:?}");
        }
        for text in ["1", "escrow-7", "a.b_c", &"a".repeat(64)] {
            assert_eq!(text.parse::<EscrowId>().map(|id| id.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("gpu-1 x".parse::<OwnerId>(), Err(IdError::Owner));
    }

    #[test]
    fn the_seed_is_the_lower_half_with_its_sign() {
        let of = |inference| ExecutionKey {
            epoch: Epoch(1),
            escrow: EscrowId("7".to_owned()),
            inference: InferenceId(inference),
        };
        assert_eq!(of(5).seed(), 5);
        assert_eq!(of(0xffff_ffff).seed(), -1);
        assert_eq!(of(0x1_8000_0000).seed(), i32::MIN);
        assert_eq!(of(5).idempotency_key(), "devshard-7-5");
    }
}
