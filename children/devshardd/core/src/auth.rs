//! Who has signed a request: a recoverable secp256k1 signature over the escrow, the body and the time.
//!
//! The words are SHA-256 of the escrow's name, the body as it came, and the time in seconds since 1970 as eight bytes,
//! big end first; what is signed is SHA-256 of the words once more, since whoever signs in the upstream hashes what it
//! is given. The signature is `r ‖ s ‖ v`, 65 bytes in hex or base64.
//!
//! Must not live here: who owns a session, and where a key is kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};
use ripemd::Ripemd160;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ids::EscrowId;

/// The headers of a request.
pub const SIGNATURE: &str = "x-devshard-signature";
pub const TIMESTAMP: &str = "x-devshard-timestamp";
/// How far the clock of a client may be from ours, in seconds.
pub const DRIFT_S: u64 = 30;
/// What an address begins with.
const PREFIX: &str = "gonka";

/// An account of the chain, as it is written: `gonka1…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

/// Why a request is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("the header {0} is missing")]
    Missing(&'static str),
    #[error("{TIMESTAMP}: not a number of seconds since 1970")]
    Timestamp,
    #[error("{TIMESTAMP}: {by_s} s {direction} than this host's clock, and {may_s} s may be")]
    Drift { by_s: u64, direction: Direction, may_s: u64 },
    #[error("{SIGNATURE}: not 65 bytes in hex or base64")]
    Encoding,
    #[error("{SIGNATURE}: not a signature of this escrow, body and time")]
    Signature,
}

/// To which side a client's clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Earlier,
    Later,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 bytes in hex, and not zero")]
pub struct KeyError;

/// Signs. It never shows itself; its memory is overwritten in the end.
#[derive(Clone)]
pub struct Key(SigningKey);

impl AuthError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            AuthError::Missing(_) => "auth_missing",
            AuthError::Timestamp => "auth_bad_timestamp",
            AuthError::Drift { .. } => "auth_clock_drift",
            AuthError::Encoding => "auth_bad_encoding",
            AuthError::Signature => "auth_bad_signature",
        }
    }
}

impl KeyError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "bad_key"
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Direction::Earlier => "earlier",
            Direction::Later => "later",
        })
    }
}

impl Address {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it was written down before.
    #[must_use]
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    fn of(key: &VerifyingKey) -> Option<Self> {
        let account = Ripemd160::digest(Sha256::digest(key.to_encoded_point(true).as_bytes()));
        let prefix = bech32::Hrp::parse(PREFIX).ok()?;
        bech32::encode::<bech32::Bech32>(prefix, &account).ok().map(Address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(hidden)")
    }
}

impl Key {
    /// Reads one: 64 digits.
    pub fn from_hex(text: &str) -> Result<Key, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).map_err(|_| KeyError)?;
        Key::from_bytes(&bytes)
    }

    /// Of 32 bytes that nobody can guess.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Key, KeyError> {
        SigningKey::from_slice(bytes).map(Key).map_err(|_| KeyError)
    }

    /// For whoever keeps it in a file.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(Zeroizing::new(<[u8; 32]>::from(self.0.to_bytes()))))
    }

    /// Whose it is.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        Address::of(self.0.verifying_key())
    }

    /// The signature of a digest, `r ‖ s ‖ v`. The same digest has always the same one. `None` never happens for a
    /// digest of 32 bytes.
    #[must_use]
    pub fn sign(&self, digest: &[u8; 32]) -> Option<[u8; 65]> {
        let (signature, recovery) = self.0.sign_prehash_recoverable(digest).ok()?;
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = recovery.to_byte();
        Some(bytes)
    }

    /// The signature of a message: that of its SHA-256.
    #[must_use]
    pub fn sign_message(&self, message: &[u8]) -> [u8; 65] {
        // A digest of 32 bytes is always signed.
        self.sign(&Sha256::digest(message).into()).unwrap_or([0; 65])
    }

    /// The header values of a request: signature and time.
    #[must_use]
    pub fn sign_request(&self, escrow: &EscrowId, body: &[u8], now_s: u64) -> Option<(String, String)> {
        Some((hex::encode(self.sign(&digest(escrow, body, now_s))?), now_s.to_string()))
    }
}

/// Who has signed a request with these header values, as [`verify`] tells it, within [`DRIFT_S`].
pub fn signer(
    escrow: &EscrowId,
    body: &[u8],
    signature: Option<&str>,
    timestamp: Option<&str>,
    now_s: u64,
) -> Result<Address, AuthError> {
    verify(escrow, body, signature, timestamp, now_s, DRIFT_S)
}

/// Whether somebody can have signed a request with these header values now, whatever its body is.
pub fn is_signed(signature: Option<&str>, timestamp: Option<&str>, now_s: u64) -> Result<(), AuthError> {
    read(signature, timestamp, now_s, DRIFT_S).map(drop)
}

/// Who has signed a request with these header values; `now_s` is this host's time in seconds since 1970, and the
/// client's may be `may_s` seconds from it, to either side.
pub fn verify(
    escrow: &EscrowId,
    body: &[u8],
    signature: Option<&str>,
    timestamp: Option<&str>,
    now_s: u64,
    may_s: u64,
) -> Result<Address, AuthError> {
    let (at_s, bytes) = read(signature, timestamp, now_s, may_s)?;
    recover(&digest(escrow, body, at_s), &bytes).ok_or(AuthError::Signature)
}

/// The time and the signature, as they are sent.
fn read(
    signature: Option<&str>,
    timestamp: Option<&str>,
    now_s: u64,
    may_s: u64,
) -> Result<(u64, [u8; 65]), AuthError> {
    let signature = signature.ok_or(AuthError::Missing(SIGNATURE))?;
    let timestamp = timestamp.ok_or(AuthError::Missing(TIMESTAMP))?;
    let at_s: u64 = timestamp.trim().parse().map_err(|_| AuthError::Timestamp)?;
    let by_s = at_s.abs_diff(now_s);
    if by_s > may_s {
        let direction = if at_s < now_s { Direction::Earlier } else { Direction::Later };
        return Err(AuthError::Drift { by_s, direction, may_s });
    }
    Ok((at_s, decoded(signature.trim()).ok_or(AuthError::Encoding)?))
}

/// Whose signature of a digest this is; `v` is 0 or 1, or 27 or 28. One whose `s` is in the upper half is nobody's: it
/// would be a second signature of the same words.
#[must_use]
pub fn recover(digest: &[u8; 32], bytes: &[u8; 65]) -> Option<Address> {
    let (signature, v) = bytes.split_at(64);
    let signature = Signature::from_slice(signature).ok()?;
    if signature.normalize_s().is_some() {
        return None;
    }
    let is_y_odd = match v {
        [0 | 27] => false,
        [1 | 28] => true,
        _ => return None,
    };
    let recovery = RecoveryId::new(is_y_odd, false);
    Address::of(&VerifyingKey::recover_from_prehash(digest, &signature, recovery).ok()?)
}

/// Whose signature of a message this is: of its SHA-256.
#[must_use]
pub fn recover_message(message: &[u8], signature: &[u8]) -> Option<Address> {
    recover(&Sha256::digest(message).into(), signature.try_into().ok()?)
}

fn digest(escrow: &EscrowId, body: &[u8], at_s: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(escrow.as_str());
    hash.update(body);
    hash.update(at_s.to_be_bytes());
    Sha256::digest(hash.finalize()).into()
}

fn decoded(text: &str) -> Option<[u8; 65]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let bytes = hex::decode(digits).ok().or_else(|| STANDARD.decode(text).ok())?;
    bytes.try_into().ok()
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
