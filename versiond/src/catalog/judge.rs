//! What is asked of the catalog without changing it: the report of what is in force, and what another
//! document would do. Pure but for reading that document.

use std::collections::BTreeSet;
use std::time::Duration;

use supervisor_protocol::catalog::{
    CatalogCheck, CatalogSlot, Change, CheckDocument, CheckRequest, CheckedSlot, StagedRelease, StagedState,
};
use supervisor_protocol::{SCHEMA, Sha256, SlotId, Tick};
use versiond_core::catalog::{CatalogError, Desired, Intent, ParseContext, Refused, Tracker, parse};

use super::http::{Client, FetchError};
use super::source::{self, SourceError};
use super::trust::{self, Untrusted};
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
                    trust::verify(key, text.as_bytes(), signature.as_bytes()).map_err(CheckError::Untrusted)?;
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
        let revision = document.revision;
        let fresh = self.fresh.at_height(self.tracker.height());
        let followed = if against { &self.tracker } else { &fresh };
        let after = followed.observe(document, now).map_err(CheckError::Refused)?.desired();
        let before = self.tracker.desired();
        let mut slots = BTreeSet::from_iter(after.slots.keys());
        if against {
            slots.extend(before.slots.keys());
        }
        let slots = slots.into_iter().map(|slot| checked(slot, &before, &after)).collect();
        let mut warnings = Vec::new();
        if self.trust.is_none() {
            warnings.push("documents are not signed: authority is whoever controls the source".to_owned());
        }
        if revision.is_none() {
            warnings
                .push("no revision: what it leaves out goes after three identical readings over a minute".to_owned());
        }
        Ok(CatalogCheck { schema: SCHEMA, revision, slots, deny: after.deny.into_iter().collect(), warnings })
    }
}

fn checked(slot: &SlotId, before: &Desired, after: &Desired) -> CheckedSlot {
    let hash = |desired: &Desired| desired.slots.get(slot)?.artifact.as_ref().map(|artifact| artifact.sha256);
    let (old, new) = (hash(before), hash(after));
    let change = match (after.slots.contains_key(slot), old, new) {
        (false, ..) => Change::Remove,
        (true, _, None) => Change::Blocked,
        (true, None, Some(_)) => Change::Start,
        (true, Some(old), Some(new)) if old == new => Change::Unchanged,
        (true, Some(_), Some(_)) => Change::Swap,
    };
    let intent = after.slots.get(slot).cloned().unwrap_or_default();
    CheckedSlot { after: shown(slot, &intent, |_| StagedState::Waiting), before: old, change }
}

/// A slot's intent as the API shows it.
pub(super) fn shown(slot: &SlotId, intent: &Intent, state: impl Fn(&Sha256) -> StagedState) -> CatalogSlot {
    let staged = intent.staged.iter().map(|staged| StagedRelease {
        height: staged.height,
        sha256: staged.artifact.sha256,
        state: state(&staged.artifact.sha256),
    });
    CatalogSlot {
        slot: slot.clone(),
        sha256: intent.artifact.as_ref().map(|artifact| artifact.sha256),
        since_height: intent.since_height,
        override_file: intent.override_file.clone(),
        reason: intent.blocked.clone(),
        staged: staged.collect(),
    }
}
