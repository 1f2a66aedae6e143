//! The admin API of versiond, as far as it is about the catalog: bodies of `/v1/catalog` and below.

use serde::{Deserialize, Serialize};

use crate::admin::CatalogStatus;
use crate::names::{Sha256, SlotId};
use crate::reason::Reason;

/// `GET /v1/catalog`: what is in force, and what is known of its source. The answer holds the document itself
/// besides, as `document`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CatalogReport {
    pub schema: u32,
    #[serde(flatten)]
    pub status: CatalogStatus,
    pub origin: CatalogOrigin,
    /// Whether documents must bear the signature of a key.
    pub signed: bool,
    /// The next document is taken as if it were the first one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// The greatest height that is known to be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Why the height is not known now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height_unknown: Option<String>,
    pub slots: Vec<CatalogSlot>,
    pub deny: Vec<Sha256>,
}

/// Where what is in force comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CatalogOrigin {
    /// Nothing is known yet.
    None,
    /// Kept from before the start, and not confirmed since.
    Kept,
    /// Kept from another source, or by another key: what runs goes on, and no revision is known.
    KeptOfAnother,
    /// Read since the start.
    Read,
}

/// What is wanted in one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CatalogSlot {
    #[serde(flatten)]
    pub slot: SlotId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// The height from which it is in effect; absent = from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_height: Option<u64>,
    /// The file that an operator has put in the artifact's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_file: Option<String>,
    /// Why the slot is not what the document says, or not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<StagedRelease>,
}

/// A release that is not in effect yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StagedRelease {
    /// From which it will be.
    pub height: u64,
    pub sha256: Sha256,
    pub state: StagedState,
}

/// Whether a release to come is here already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StagedState {
    Waiting,
    Fetched,
    Failed { detail: String },
}

/// `POST /v1/catalog/accept`: read the source now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AcceptRequest {
    /// Take what it says as if it were the first document.
    pub reset: bool,
}

/// `POST /v1/catalog/check`: what a document would do here. Nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    #[serde(flatten)]
    pub document: CheckDocument,
    /// As the successor of what is in force, with its revision and its removals; else as a first document.
    #[serde(default)]
    pub against: bool,
}

/// The document to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum CheckDocument {
    Text {
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// The daemon reads it, by the rules by which it reads its source.
    Url { url: String },
}

/// What a document would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CatalogCheck {
    pub schema: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    pub slots: Vec<CheckedSlot>,
    pub deny: Vec<Sha256>,
    /// What is allowed and may surprise.
    pub warnings: Vec<String>,
}

/// What a document would do to one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckedSlot {
    #[serde(flatten)]
    pub after: CatalogSlot,
    /// What is wanted there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Sha256>,
    pub change: Change,
}

/// What becomes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Nothing runs under this name yet.
    Start,
    /// Other bytes replace what runs.
    Swap,
    Unchanged,
    /// The name is unrouted and drained.
    Remove,
    /// Nothing can be started here; what serves goes on.
    Blocked,
}

impl Change {
    /// The word for people, also the wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Change::Start => "start",
            Change::Swap => "swap",
            Change::Unchanged => "unchanged",
            Change::Remove => "remove",
            Change::Blocked => "blocked",
        }
    }
}
