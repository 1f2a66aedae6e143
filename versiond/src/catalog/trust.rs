//! Whether a document is signed by whom it must be: minisign, detached, over the exact bytes.

use camino::Utf8PathBuf;
use minisign_verify::Signature;

use crate::config::{CatalogSource, TrustKey};

/// What is put behind a source's address.
const SUFFIX: &str = ".minisig";
/// More than any signature has.
pub(super) const MAX_BYTES: u64 = 4 << 10;

/// Why a document is not believed to be its author's.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error("there is no signature")]
    Missing(#[source] Box<super::SourceError>),
    #[error("the signature is malformed")]
    Malformed(#[source] minisign_verify::Error),
    #[error("the signature is not over these bytes by [catalog] trust_key")]
    Wrong(#[source] minisign_verify::Error),
    #[error("a [catalog] trust_key is set, and no signature came with the document")]
    NotGiven,
}

/// Checks the signature of a document.
pub(super) fn verify(key: &TrustKey, document: &[u8], signature: &[u8]) -> Result<(), Untrusted> {
    let signature = String::from_utf8_lossy(signature);
    let signature = Signature::decode(&signature).map_err(Untrusted::Malformed)?;
    // Only what is signed over a hash: the older kind cannot be told from another file's signature as safely.
    key.key.verify(document, &signature, false).map_err(Untrusted::Wrong)
}

/// Where the signature of a source's document is. An address keeps its query.
pub(super) fn place_of(source: &CatalogSource) -> Option<CatalogSource> {
    match source {
        CatalogSource::File(path) => Some(CatalogSource::File(Utf8PathBuf::from(format!("{path}{SUFFIX}")))),
        CatalogSource::Http(url) => {
            let mut url = url.clone();
            url.set_path(&format!("{}{SUFFIX}", url.path()));
            Some(CatalogSource::Http(url))
        }
        CatalogSource::Cosmovisor(_) | CatalogSource::Nowhere => None,
    }
}
