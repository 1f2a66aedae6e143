//! Reading the source once: a local file, or an address.

use std::io::Read;
use std::time::Duration;

use camino::Utf8PathBuf;
use versiond_core::catalog::MAX_BYTES;

use super::http::{Client, FetchError};
use crate::config::{CatalogConfig, CatalogSource};

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
}

/// Reads one source, again and again.
#[derive(Debug)]
pub(super) struct Reader {
    source: CatalogSource,
    client: Client,
}

impl Reader {
    pub(super) fn new(config: &CatalogConfig) -> Result<Self, SourceError> {
        let place = config.source.to_string();
        let client = Client::new(config.allow_http, TIMEOUT, Some(TIMEOUT));
        let client = client.map_err(|source| SourceError::Http { place, source })?;
        Ok(Self { source: config.source.clone(), client })
    }

    /// One reading: at most the largest document and one byte, which is enough to refuse it.
    pub(super) async fn read(&self) -> Result<Vec<u8>, SourceError> {
        let reading = async {
            match &self.source {
                CatalogSource::File(path) => read_file(path.clone()).await,
                CatalogSource::Http(url) => {
                    let place = super::http::shown(url.as_str());
                    let read = self.client.get_all(url.as_str(), MAX_BYTES as u64).await;
                    read.map_err(|source| SourceError::Http { place, source })
                }
            }
        };
        let timeout = SourceError::Timeout { place: super::http::shown(&self.source.to_string()) };
        tokio::time::timeout(TIMEOUT, reading).await.unwrap_or(Err(timeout))
    }
}

async fn read_file(path: Utf8PathBuf) -> Result<Vec<u8>, SourceError> {
    let read = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            let mut bytes = Vec::new();
            std::fs::File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        }
    });
    let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    read.map_err(|source| SourceError::File { path, source })
}
