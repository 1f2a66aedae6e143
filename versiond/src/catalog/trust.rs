//! Where the signature of a document is, and why one is not believed. What a signature is, the core says.

use camino::Utf8PathBuf;
use versiond_core::catalog::SignatureError;

use crate::config::CatalogSource;

/// What is put behind a source's address.
const SUFFIX: &str = ".minisig";
/// More than any signature has.
pub(super) const MAX_BYTES: u64 = 4 << 10;

/// Why a document is not believed to be its author's.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error("there is no signature")]
    Missing(#[source] Box<super::SourceError>),
    #[error(transparent)]
    Signature(SignatureError),
    #[error("a [catalog] trust_key is set, and no signature came with the document")]
    NotGiven,
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
