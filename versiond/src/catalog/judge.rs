//! What is asked of the catalog without changing it: the report of what is in force, and what another
//! document would do. Pure but for reading that document.

use std::time::Duration;

use supervisor_protocol::Tick;
use supervisor_protocol::catalog::{CatalogCheck, Change, CheckDocument, CheckRequest};
use versiond_core::catalog::{CatalogError, ParseContext, Refused, Tracker, check, parse};

use super::http::{Client, FetchError};
use super::source::{self, SourceError};
use super::trust::Untrusted;
use crate::config::{CatalogConfig, CatalogSource, TrustKey};

/// How long a document may take to come.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a document is judged by.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    pub(super) context: ParseContext,
    pub(super) trust: Option<TrustKey>,
    /// The state of following the source.
    pub(super) tracker: Tracker,
    /// Of a host that has read nothing.
    pub(super) fresh: Tracker,
}

/// Why a document would not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("it is neither a `file:`, `https:` nor `http:` address")]
    Address,
    #[error("it cannot be read")]
    Client(#[source] FetchError),
    #[error("it cannot be read")]
    Source(#[source] SourceError),
    #[error("it would not be trusted")]
    Untrusted(#[source] Untrusted),
    #[error("it would be refused")]
    Document(#[source] CatalogError),
    #[error("it would be refused")]
    Refused(#[source] Refused),
}

impl CheckError {
    /// The code of the error body.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            CheckError::Address | CheckError::Client(_) | CheckError::Source(_) => "unreadable_document",
            CheckError::Untrusted(_) => "untrusted",
            CheckError::Document(_) => "bad_document",
            CheckError::Refused(_) => "refused_document",
        }
    }
}

impl Judge {
    /// What the document would do here.
    pub(crate) async fn check(
        &self,
        config: &CatalogConfig,
        request: CheckRequest,
        now: Tick,
    ) -> Result<CatalogCheck, CheckError> {
        let bytes = match request.document {
            CheckDocument::Text { text, signature } => {
                if let Some(key) = &self.trust {
                    let signature = signature.ok_or(CheckError::Untrusted(Untrusted::NotGiven))?;
                    let verified = key.verify(text.as_bytes(), signature.as_bytes());
                    verified.map_err(|error| CheckError::Untrusted(Untrusted::Signature(error)))?;
                }
                text.into_bytes()
            }
            CheckDocument::Url { url } => {
                let from = match url.parse() {
                    Ok(from @ (CatalogSource::File(_) | CatalogSource::Http(_))) => from,
                    Ok(CatalogSource::Cosmovisor(_) | CatalogSource::Nowhere) | Err(_) => {
                        return Err(CheckError::Address);
                    }
                };
                let client = Client::new(config.url_rules(), TIMEOUT, Some(TIMEOUT)).map_err(CheckError::Client)?;
                source::signed(&client, &from, self.trust.as_ref()).await.map_err(|error| match error {
                    SourceError::Untrusted { source, .. } => CheckError::Untrusted(source),
                    other @ (SourceError::File { .. }
                    | SourceError::Http { .. }
                    | SourceError::Timeout { .. }
                    | SourceError::Cosmovisor { .. }) => CheckError::Source(other),
                })?
            }
        };
        self.judge(&bytes, request.against, now)
    }

    /// The same of a document that is here.
    pub(super) fn judge(&self, bytes: &[u8], against: bool, now: Tick) -> Result<CatalogCheck, CheckError> {
        let document = parse(bytes, &self.context).map_err(CheckError::Document)?;
        let fresh = self.fresh.at_height(self.tracker.height());
        let followed = if against { &self.tracker } else { &fresh };
        let mut checked = check(document, followed, &self.tracker.desired(), now).map_err(CheckError::Refused)?;
        if !against {
            checked.slots.retain(|slot| slot.change != Change::Remove);
        }
        if self.trust.is_none() {
            let unsigned = "documents are not signed: authority is whoever controls the source";
            checked.warnings.insert(0, unsigned.to_owned());
        }
        Ok(checked)
    }
}
