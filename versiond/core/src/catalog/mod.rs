//! The catalog: what should run, and what the host makes of it.
//!
//! Lives here: the document formats ([`parse`]), the artifact's identity, and the rules by which a
//! host follows a succession of documents ([`Tracker`]). Must not live here: where documents come
//! from, how they are kept, and the bytes they name.

mod address;
mod check;
mod checksum;
mod cosmovisor;
mod height;
mod json;
mod parse;
mod reader;
mod releases;
mod signature;
mod tracker;
mod url;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use supervisor_protocol::{Reason, ServiceName, Sha256, SlotId, VersionName};

pub use address::{Scope, scope};
pub use check::{check, doubts, parse_anywhere, shown};
pub use cosmovisor::{Info, Local, Plan, PlanError, Snapshot, Upgrade, folder_of, read_batch, read_info, read_plan};
pub use height::{HeightError, HeightReading, read_height};
pub use parse::{CatalogError, MAX_BYTES, MAX_SERVICES, MAX_VERSIONS, ParseContext, ServiceShape, Services, parse};
pub use releases::{Release, Releases};
pub use signature::{SignatureError, TrustKey, TrustKeyError};
pub use tracker::{Believed, CONFIRM_OVER, CONFIRM_SEEN, MAX_JUMP, Refused, Removals, Tracker};
pub use url::{UrlRefusal, UrlRules, is_local_name, is_loopback_url};

/// This machine, as catalogs name it.
pub const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// One document, as far as it concerns this platform.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    pub revision: Option<u64>,
    /// The greatest height that the document itself proves to be reached.
    pub reached: Option<u64>,
    /// A service whose route holds no `{version}` has one entry, under its own name.
    pub services: BTreeMap<ServiceName, BTreeMap<VersionName, Entry>>,
    /// Bytes that may not run any more, whatever names them.
    pub deny: BTreeSet<Sha256>,
}

impl Catalog {
    /// Every entry with the slot that it is for.
    pub fn entries(&self) -> impl Iterator<Item = (SlotId, &Entry)> {
        self.services.iter().flat_map(|(service, versions)| {
            versions.iter().map(|(name, entry)| (SlotId { service: service.clone(), name: name.clone() }, entry))
        })
    }

    /// Whether the document names no version at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.values().all(BTreeMap::is_empty)
    }
}

/// What a document says of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Run the one of these that is in effect.
    Releases(Releases),
    /// The entry is well-formed and cannot be served here: [`Reason::Unservable`]. What serves in the
    /// slot goes on serving.
    Blocked(Reason),
}

/// Bytes named by their hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Of the bytes as they are fetched: of the archive, when it is one. The artifact's whole identity.
    pub sha256: Sha256,
    /// Where the bytes may be had, in order of preference. Hints: another mirror is no other artifact.
    pub urls: Vec<String>,
    /// In bytes, when the catalog says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The member of an archive that is the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Its activation is more than a change of this host's bytes (a chain's height, an upgrade plan): it is never
    /// taken back without an operator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub irreversible: bool,
}

impl Artifact {
    /// Whether the two are the same bytes: what decides on a swap. `==` compares every field, and so
    /// documents: another URL is another document and the same artifact.
    #[must_use]
    pub fn is_same(&self, other: &Artifact) -> bool {
        self.sha256 == other.sha256
    }
}

/// What this host wants to run. A slot that is absent, since its name was removed or its bytes denied,
/// is to be unrouted and drained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// Of the document in force, when it carries one.
    pub revision: Option<u64>,
    /// The greatest height that is known to be reached.
    pub height: Option<u64>,
    pub slots: BTreeMap<SlotId, Intent>,
    /// Bytes that may not run, nor be gone back to.
    pub deny: BTreeSet<Sha256>,
}

/// What this host wants in one slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intent {
    /// `None` while the slot has been named and nothing that can run here with it: what serves goes on.
    pub artifact: Option<Artifact>,
    /// Why the slot is not what the latest document says, or not yet. May stand beside an artifact: the
    /// earlier one, which goes on.
    pub blocked: Option<Reason>,
    /// The height from which the artifact is in effect; `None` = from the beginning.
    pub since_height: Option<u64>,
    /// What is to come, the earliest first: fetched ahead, not started.
    pub staged: Vec<Staged>,
    /// The artifact is this file, by the operator's word and not the document's.
    pub override_file: Option<String>,
}

/// A release that is not in effect yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// From which it will be.
    pub height: u64,
    pub artifact: Artifact,
}
