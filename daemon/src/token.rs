//! The token that an admin API on a port asks for.

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

/// The hash of the token: a comparison of hashes tells nobody how far a guess was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of a token, without the blanks around it.
    #[must_use]
    pub fn of(token: &str) -> TokenHash {
        TokenHash(Sha256::digest(token.trim()).into())
    }
}

/// The token that a request shows.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
