//! The names of things, checked once.
//!
//! Must not live here: what is done with them.

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
    #[error("a number has digits only, no zero before them, and is below 2^64")]
    Number,
}

impl IdError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            IdError::Escrow => "bad_escrow_id",
            IdError::Owner => "bad_owner_id",
            IdError::Number => "bad_number",
        }
    }
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

/// Whether a text is 1 to `max` bytes of letters, digits and `others`, and begins with a letter or a digit.
fn is_plain(text: &str, max: usize, others: &[u8]) -> bool {
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    let begins_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    begins_well && text.len() <= max && text.bytes().all(may_be)
}

macro_rules! texts {
    ($($name:ident, $error:ident: $fits:expr;)*) => {$(
        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.to_owned().try_into()
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                let fits: fn(&str) -> bool = $fits;
                if fits(&text) { Ok($name(text)) } else { Err(IdError::$error) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    )*};
}

macro_rules! numbers {
    ($($name:ident),*) => {$(
        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                // A number has one way to be written: what reads `7` and `+07` as the same compares no texts.
                let is_plain = text == "0" || !text.starts_with(['0', '+']);
                if is_plain { text.parse().map($name).map_err(|_| IdError::Number) } else { Err(IdError::Number) }
            }
        }
    )*};
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

texts! {
    EscrowId, Escrow: |text| is_plain(text, 64, b"._-");
    OwnerId, Owner: |text| !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
}
numbers!(Epoch, Nonce, InferenceId, Fence);
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
        for text in ["", "gpu-1 x", "a\n", "\u{e9}", &"a".repeat(129)] {
            assert_eq!(text.parse::<OwnerId>(), Err(IdError::Owner), "{text:?}");
        }
        assert_eq!("host/1#7".parse::<OwnerId>().map(|id| id.to_string()).as_deref(), Ok("host/1#7"));
    }

    #[test]
    fn a_number_has_one_way_to_be_written() {
        for text in ["0", "7", "18446744073709551615"] {
            assert_eq!(text.parse::<Nonce>().map(|nonce| nonce.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "-1", "+1", "01", "00", " 1", "1.0", "0x1", "18446744073709551616"] {
            assert_eq!(text.parse::<Nonce>(), Err(IdError::Number), "{text:?}");
        }
    }

    #[test]
    fn what_is_read_from_json_is_checked_too() {
        assert_eq!(serde_json::from_str::<EscrowId>(r#""7""#).unwrap().as_str(), "7");
        assert_eq!(serde_json::to_string(&"v1".parse::<EscrowId>().unwrap()).unwrap(), r#""v1""#);
        assert_eq!(serde_json::from_str::<Epoch>("7").unwrap(), Epoch(7));
        let said = serde_json::from_str::<EscrowId>(r#""../7""#).unwrap_err().to_string();
        assert!(said.starts_with(&IdError::Escrow.to_string()), "{said}");
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
