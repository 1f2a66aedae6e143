//! Who has signed a request: a recoverable secp256k1 signature over the escrow, the body and the time.
//!
//! The digest is SHA-256 of the escrow's name, the body as it came, and the time in seconds since 1970 as eight bytes,
//! big end first. The signature is `r ‖ s ‖ v`, 65 bytes in hex or base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};
use ripemd::Ripemd160;
use sha2::{Digest as _, Sha256};

use crate::ids::EscrowId;

/// The headers of a request.
pub const SIGNATURE: &str = "x-devshard-signature";
pub const TIMESTAMP: &str = "x-devshard-timestamp";
/// How far the clock of a client may be from ours, in seconds.
pub const DRIFT_S: u64 = 30;
/// What an address begins with.
const PREFIX: &str = "gonka";

/// An account of the chain, as it is written: `gonka1…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(String);

/// Why a request is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("the header {0} is missing")]
    Missing(&'static str),
    #[error("{TIMESTAMP}: not a number of seconds since 1970")]
    Timestamp,
    #[error("{TIMESTAMP}: {by_s} s {direction} than this host's clock, and {DRIFT_S} s may be")]
    Drift { by_s: u64, direction: &'static str },
    #[error("{SIGNATURE}: not 65 bytes in hex or base64")]
    Encoding,
    #[error("{SIGNATURE}: not a signature of this escrow, body and time")]
    Signature,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 bytes in hex, and not zero")]
pub struct KeyError;

/// Signs. It never shows itself; its memory is overwritten in the end.
#[derive(Clone)]
pub struct Key(SigningKey);

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
    /// Reads one.
    pub fn from_hex(text: &str) -> Result<Key, KeyError> {
        let bytes = hex::decode(text.trim()).map_err(|_| KeyError)?;
        SigningKey::from_slice(&bytes).map(Key).map_err(|_| KeyError)
    }

    /// Of 32 bytes that nobody can guess.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Key, KeyError> {
        SigningKey::from_slice(bytes).map(Key).map_err(|_| KeyError)
    }

    /// For whoever keeps it in a file.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0.to_bytes())
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

    /// The header values of a request: signature and time.
    #[must_use]
    pub fn sign_request(&self, escrow: &EscrowId, body: &[u8], now_s: u64) -> Option<(String, String)> {
        Some((hex::encode(self.sign(&digest(escrow, body, now_s))?), now_s.to_string()))
    }
}

/// Who has signed a request with these header values; `now_s` is this host's time.
pub fn signer(
    escrow: &EscrowId,
    body: &[u8],
    signature: Option<&str>,
    timestamp: Option<&str>,
    now_s: u64,
) -> Result<Address, AuthError> {
    let signature = signature.ok_or(AuthError::Missing(SIGNATURE))?;
    let timestamp = timestamp.ok_or(AuthError::Missing(TIMESTAMP))?;
    let at_s: u64 = timestamp.trim().parse().map_err(|_| AuthError::Timestamp)?;
    let by_s = at_s.abs_diff(now_s);
    if by_s > DRIFT_S {
        let direction = if at_s < now_s { "earlier" } else { "later" };
        return Err(AuthError::Drift { by_s, direction });
    }
    let bytes = decoded(signature.trim()).ok_or(AuthError::Encoding)?;
    recover(&digest(escrow, body, at_s), &bytes).ok_or(AuthError::Signature)
}

/// Whose signature of a digest this is. One whose `s` is in the upper half is nobody's: it would be a second signature
/// of the same words.
#[must_use]
pub fn recover(digest: &[u8; 32], bytes: &[u8; 65]) -> Option<Address> {
    let (signature, v) = bytes.split_at(64);
    let signature = Signature::from_slice(signature).ok()?;
    if signature.normalize_s().is_some() {
        return None;
    }
    let v = v.first()?;
    let recovery = RecoveryId::from_byte(v.checked_sub(27).unwrap_or(*v))?;
    Address::of(&VerifyingKey::recover_from_prehash(digest, &signature, recovery).ok()?)
}

fn digest(escrow: &EscrowId, body: &[u8], at_s: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(escrow.as_str());
    hash.update(body);
    hash.update(at_s.to_be_bytes());
    hash.finalize().into()
}

fn decoded(text: &str) -> Option<[u8; 65]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let bytes = hex::decode(digits).ok().or_else(|| STANDARD.decode(text).ok())?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn key() -> Key {
        Key::from_hex(&"11".repeat(32)).unwrap()
    }

    fn escrow() -> EscrowId {
        "7".parse().unwrap()
    }

    #[test]
    fn a_request_is_its_signers() {
        let (signature, time) = key().sign_request(&escrow(), b"{}", NOW).unwrap();
        let of = |signature: &str, body: &[u8]| signer(&escrow(), body, Some(signature), Some(&time), NOW);
        let me = key().address().unwrap();
        assert!(me.as_str().starts_with("gonka1"), "{me}");
        let bytes = hex::decode(&signature).unwrap();
        assert_eq!(of(&signature, b"{}"), Ok(me.clone()));
        assert_eq!(of(&format!("0x{signature}"), b"{}"), Ok(me.clone()));
        assert_eq!(of(&STANDARD.encode(&bytes), b"{}"), Ok(me.clone()));
        let mut older = bytes.clone();
        older[64] += 27;
        assert_eq!(of(&hex::encode(older), b"{}"), Ok(me.clone()));
        // Another body is signed by another, if by anybody: recovery finds some key.
        assert_ne!(of(&signature, b"{ }").ok(), Some(me));
    }

    #[test]
    fn the_same_words_have_one_signature() {
        let (signature, time) = key().sign_request(&escrow(), b"{}", NOW).unwrap();
        let bytes = hex::decode(signature).unwrap();
        let low = Signature::from_slice(&bytes[..64]).unwrap();
        let high = Signature::from_scalars(low.r().to_bytes(), (-*low.s()).to_bytes()).unwrap();
        let mirrored = [high.to_bytes().as_slice(), &[bytes[64] ^ 1]].concat();
        let said = signer(&escrow(), b"{}", Some(&hex::encode(mirrored)), Some(&time), NOW);
        assert_eq!(said, Err(AuthError::Signature));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (signature, time) = key().sign_request(&escrow(), b"{}", NOW).unwrap();
        let check = |signature: Option<&str>, time: Option<&str>, now, expected: &str| {
            let said = signer(&escrow(), b"{}", signature, time, now).unwrap_err();
            assert_eq!(said.to_string(), expected);
        };
        let (signature, time) = (Some(signature.as_str()), Some(time.as_str()));
        check(None, time, NOW, "the header x-devshard-signature is missing");
        check(signature, None, NOW, "the header x-devshard-timestamp is missing");
        check(signature, Some("soon"), NOW, "x-devshard-timestamp: not a number of seconds since 1970");
        let later = "x-devshard-timestamp: 31 s later than this host's clock, and 30 s may be";
        check(signature, time, NOW - 31, later);
        let earlier = "x-devshard-timestamp: 31 s earlier than this host's clock, and 30 s may be";
        check(signature, time, NOW + 31, earlier);
        check(Some("zz"), time, NOW, "x-devshard-signature: not 65 bytes in hex or base64");
        let none = "x-devshard-signature: not a signature of this escrow, body and time";
        check(Some(&"00".repeat(65)), time, NOW, none);
    }

    #[test]
    fn a_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", key()), "Key(hidden)");
        assert_eq!(Key::from_hex(&"00".repeat(32)).unwrap_err(), KeyError);
        assert_eq!(Key::from_hex("11").unwrap_err(), KeyError);
        // Of this key, by another implementation.
        assert_eq!(Key::from_hex(&key().to_hex()).unwrap().address(), key().address());
    }
}
