//! Reading the source once: a local file, an address, or a Cosmovisor's folder; with its signature, where
//! one is asked for.

use std::io::Read;
use std::time::Duration;

use camino::Utf8PathBuf;
use versiond_core::catalog::{MAX_BYTES, Snapshot};

use super::cosmovisor::{CosmovisorError, Folder};
use super::http::{self, Client, FetchError};
use super::trust::{self, Untrusted};
use crate::config::{CatalogConfig, CatalogSource, TrustKey};

/// What stands for a catalog where there is none.
const NOTHING: &[u8] = br#"{"schema":1,"services":{}}"#;
/// How long one reading may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{path} cannot be read")]
    File { path: Utf8PathBuf, source: std::io::Error },
    #[error("{place} cannot be read")]
    Http { place: String, source: FetchError },
    #[error("{place} did not answer within 10 s")]
    Timeout { place: String },
    #[error("{place} cannot be followed")]
    Cosmovisor { place: String, source: CosmovisorError },
    #[error("{place}")]
    Untrusted { place: String, source: Untrusted },
}

/// What is known of the chain when a source is read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KnownHeights {
    /// As it was just read.
    pub(super) now: Option<u64>,
    /// The greatest that was ever known.
    pub(super) reached: Option<u64>,
}

/// Reads one source, again and again.
#[derive(Debug)]
pub(super) struct Reader {
    from: From,
    trust: Option<TrustKey>,
    client: Client,
    place: String,
}

#[derive(Debug)]
enum From {
    Bytes(CatalogSource),
    Folder(Folder),
}

impl Reader {
    /// `kept` is what a Cosmovisor's folder came to before a restart.
    pub(super) fn new(config: &CatalogConfig, kept: Option<Snapshot>) -> Result<Self, SourceError> {
        let place = http::shown(&config.source.to_string());
        let client = Client::new(config.url_rules(), TIMEOUT, Some(TIMEOUT));
        let client = client.map_err(|source| SourceError::Http { place: place.clone(), source })?;
        let from = match &config.source {
            CatalogSource::Cosmovisor(home) => From::Folder(Folder::new(home, config, kept)),
            source @ (CatalogSource::File(_) | CatalogSource::Http(_) | CatalogSource::Nowhere) => {
                From::Bytes(source.clone())
            }
        };
        Ok(Self { from, trust: config.trust_key.clone(), client, place })
    }

    /// One reading: at most the largest document and one byte, which is enough to refuse it.
    pub(super) async fn read(&mut self, heights: KnownHeights) -> Result<Vec<u8>, SourceError> {
        let Self { from, trust, client, place } = self;
        let reading = async {
            match from {
                From::Folder(folder) => {
                    let found = folder.read(client, heights).await;
                    found.map_err(|source| SourceError::Cosmovisor { place: place.clone(), source })
                }
                From::Bytes(source) => signed(client, source, trust.as_ref()).await,
            }
        };
        let silent = SourceError::Timeout { place: place.clone() };
        tokio::time::timeout(TIMEOUT, reading).await.unwrap_or(Err(silent))
    }
}

/// The document at a place, with its signature checked where there is a key.
pub(super) async fn signed(
    client: &Client,
    source: &CatalogSource,
    trust: Option<&TrustKey>,
) -> Result<Vec<u8>, SourceError> {
    let document = bytes(client, source, MAX_BYTES as u64).await?;
    if let (Some(key), Some(beside)) = (trust, trust::place_of(source)) {
        let place = http::shown(&beside.to_string());
        let signature = bytes(client, &beside, trust::MAX_BYTES).await;
        signature
            .map_err(|error| Untrusted::Missing(Box::new(error)))
            .and_then(|signature| key.verify(&document, &signature).map_err(Untrusted::Signature))
            .map_err(|source| SourceError::Untrusted { place, source })?;
    }
    Ok(document)
}

async fn bytes(client: &Client, source: &CatalogSource, cap: u64) -> Result<Vec<u8>, SourceError> {
    match source {
        CatalogSource::File(path) | CatalogSource::Cosmovisor(path) => {
            read_file(path.clone(), cap).await.map_err(|source| SourceError::File { path: path.clone(), source })
        }
        CatalogSource::Nowhere => Ok(NOTHING.to_vec()),
        CatalogSource::Http(url) => {
            let read = client.get_all(url.as_str(), cap).await;
            read.map_err(|source| SourceError::Http { place: http::shown(url.as_str()), source })
        }
    }
}

/// The first bytes of a file: one more than `cap`, which is enough to refuse it.
pub(super) async fn read_file(path: Utf8PathBuf, cap: u64) -> std::io::Result<Vec<u8>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(cap + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
