//! Whether a document is signed by whom it must be: minisign, detached, over the exact bytes.
//!
//! Must not live here: where a signature comes from.

use std::fmt;
use std::str::FromStr;

use minisign_verify::{PublicKey, Signature};

/// A minisign public key.
#[derive(Clone)]
pub struct TrustKey {
    text: String,
    key: PublicKey,
}

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a minisign public key is the line that begins with RW")]
pub struct TrustKeyError;

/// Why a document is not believed to be its author's.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("the signature is malformed")]
    Malformed(#[source] minisign_verify::Error),
    #[error("the signature is not over these bytes by the trust key")]
    Wrong(#[source] minisign_verify::Error),
}

impl TrustKey {
    /// As it was written: what a kept document is remembered to be signed with.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Checks the signature of a document.
    pub fn verify(&self, document: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature = String::from_utf8_lossy(signature);
        let signature = Signature::decode(&signature).map_err(SignatureError::Malformed)?;
        // Only what is signed over a hash: the older kind cannot be told from another file's signature as safely.
        self.key.verify(document, &signature, false).map_err(SignatureError::Wrong)
    }
}

impl FromStr for TrustKey {
    type Err = TrustKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = PublicKey::from_base64(text).map_err(|_| TrustKeyError)?;
        Ok(TrustKey { text: text.to_owned(), key })
    }
}

impl fmt::Debug for TrustKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustKey({})", self.text)
    }
}
