//! The height of a chain, read once: from a node's `/status`, or from a file.

use std::time::Duration;

use camino::Utf8PathBuf;
use versiond_core::catalog::{HeightError, HeightReading, UrlRules, is_loopback_url, read_height};

use super::http::{self, Client, FetchError};
use super::source::read_file;
use crate::config::{CatalogConfig, HeightSource};

/// How long one reading may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any status has.
const MAX_BYTES: u64 = 256 << 10;

/// Why the height is not known now.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnknownHeight {
    #[error("[catalog] height is not set")]
    NoSource,
    #[error("{place} cannot be read")]
    File { place: Utf8PathBuf, source: std::io::Error },
    #[error("{place} cannot be read")]
    Http { place: String, source: FetchError },
    #[error("{place} tells no height")]
    Malformed { place: String, source: HeightError },
    #[error("{place}: the node is at {height} and catching up")]
    CatchingUp { place: String, height: u64 },
}

/// Reads one source of heights, again and again.
#[derive(Debug)]
pub(super) struct HeightReader {
    source: Option<(HeightSource, Client)>,
    /// The node's own height is what counts, however far the others are.
    own_node: bool,
}

impl HeightReader {
    pub(super) fn new(config: &CatalogConfig, own_node: bool) -> Result<Self, FetchError> {
        let source = config.height.clone().map(|source| {
            let is_here = match &source {
                HeightSource::File(_) => false,
                HeightSource::Http(url) => is_loopback_url(url.as_str()),
            };
            let rules = UrlRules { loopback: is_here, ..config.url_rules() };
            Ok((source, Client::new(rules, TIMEOUT, Some(TIMEOUT))?))
        });
        Ok(Self { source: source.transpose()?, own_node })
    }

    pub(super) async fn read(&self) -> Result<u64, UnknownHeight> {
        let Some((source, client)) = &self.source else { return Err(UnknownHeight::NoSource) };
        let (place, bytes) = match source {
            HeightSource::File(path) => {
                let bytes = read_file(path.clone(), MAX_BYTES).await;
                let bytes = bytes.map_err(|source| UnknownHeight::File { place: path.clone(), source })?;
                (path.to_string(), bytes)
            }
            HeightSource::Http(url) => {
                let place = http::shown(url.as_str());
                let bytes = client.get_all(url.as_str(), MAX_BYTES).await;
                (place.clone(), bytes.map_err(|source| UnknownHeight::Http { place, source })?)
            }
        };
        match read_height(&bytes) {
            Ok(HeightReading { height, catching_up: true }) if !self.own_node => {
                Err(UnknownHeight::CatchingUp { place, height })
            }
            Ok(HeightReading { height, .. }) => Ok(height),
            Err(source) => Err(UnknownHeight::Malformed { place, source }),
        }
    }
}
