//! `checksum=sha256:<hex>` in the query of an address, as upstream's lists and upgrade plans carry it.

use supervisor_protocol::{NameError, Sha256};

/// An address without its checksum, and the checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) url: String,
    pub(super) sha256: Option<Sha256>,
}

/// Why an address's checksum cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChecksumError {
    #[error("two checksums in one URL")]
    Two,
    #[error("the checksum is {0}, and only sha256 is accepted")]
    Algorithm(String),
    #[error("the checksum is malformed")]
    Hash(#[source] NameError),
}

/// Takes the checksum out of an address.
pub(super) fn split(url: &str) -> Result<Split, ChecksumError> {
    let Some((base, query)) = url.split_once('?') else { return Ok(Split { url: url.to_owned(), sha256: None }) };
    let mut sha256 = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        let Some(checksum) = pair.strip_prefix("checksum=") else {
            rest.push(pair);
            continue;
        };
        let hex = checksum.strip_prefix("sha256:").or_else(|| checksum.strip_prefix("sha256%3A"));
        let hex = hex.ok_or_else(|| {
            let algorithm = checksum.split([':', '%']).next().unwrap_or_default();
            ChecksumError::Algorithm(algorithm.chars().take(32).collect())
        })?;
        if sha256.replace(hex.parse().map_err(ChecksumError::Hash)?).is_some() {
            return Err(ChecksumError::Two);
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok(Split { url, sha256 })
}
