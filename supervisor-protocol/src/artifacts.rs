//! The artifacts of a host, as the admin API shows them: bodies of `/v1/artifacts` and what is below it.

use serde::{Deserialize, Serialize};

use crate::names::{Sha256, SlotId};
use crate::reason::Reason;

/// `GET /v1/artifacts`: what the store holds, what is on its way there, and what could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArtifactList {
    pub schema: u32,
    pub artifacts: Vec<ArtifactStatus>,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArtifactStatus {
    pub sha256: Sha256,
    pub state: ArtifactState,
    /// Bytes that it takes on the disk.
    pub size: u64,
    /// Bytes that have been received, and how many there will be; of what is not installed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    pub used: Vec<ArtifactUse>,
    /// Why the last fetch failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// Where an artifact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ArtifactState {
    /// Two others are being fetched.
    Queued,
    Fetching,
    Unpacking,
    Installed,
    /// Received in part; the next fetch goes on from there.
    Partial,
    /// A folder without its record: what an interrupted run left.
    Incomplete,
    /// Not here; the last fetch failed.
    Failed,
    /// Not here.
    Absent,
}

impl ArtifactState {
    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ArtifactState::Queued => "queued",
            ArtifactState::Fetching => "fetching",
            ArtifactState::Unpacking => "unpacking",
            ArtifactState::Installed => "installed",
            ArtifactState::Partial => "partial",
            ArtifactState::Incomplete => "incomplete",
            ArtifactState::Failed => "failed",
            ArtifactState::Absent => "absent",
        }
    }
}

/// What an artifact is needed for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArtifactUse {
    #[serde(flatten)]
    pub slot: SlotId,
    pub how: ArtifactRole,
}

/// How an artifact is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ArtifactRole {
    /// It should serve.
    Desired,
    /// It is on its way to serve, or serves.
    Live,
    Draining,
    /// What served before, kept for the way back.
    Parked,
    /// What last served; after a restart it comes back.
    LastGood,
    /// A release that is not in force yet.
    Staged,
    Pinned,
}

impl ArtifactRole {
    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ArtifactRole::Desired => "desired",
            ArtifactRole::Live => "live",
            ArtifactRole::Draining => "draining",
            ArtifactRole::Parked => "parked",
            ArtifactRole::LastGood => "last_good",
            ArtifactRole::Staged => "staged",
            ArtifactRole::Pinned => "pinned",
        }
    }
}

/// `POST /v1/artifacts`: fetch this ahead. Either what a slot wants, or bytes of which the operator knows the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, deny_unknown_fields)]
pub enum FetchRequest {
    Slot {
        slot: String,
    },
    Address {
        url: String,
        sha256: Sha256,
        /// The member of an archive that is the program.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entry: Option<String>,
    },
}

/// `POST /v1/artifacts/gc[?dry_run=true]`: what was removed from the store, or would be, and why the rest stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GcReport {
    pub schema: u32,
    pub dry_run: bool,
    pub removed: Vec<GcRemoved>,
    pub kept: Vec<GcKept>,
}

/// One artifact that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GcRemoved {
    pub sha256: Sha256,
    pub bytes: u64,
    pub why: GcCause,
}

/// Why an artifact goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GcCause {
    /// Nothing needs it, and there are three newer ones of that kind.
    Unused,
    /// It was never finished, and is older than a day.
    Incomplete,
}

/// One artifact that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GcKept {
    pub sha256: Sha256,
    pub bytes: u64,
    pub why: Vec<KeptFor>,
}

/// Why an artifact stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum KeptFor {
    Use(ArtifactUse),
    /// One of the three newest that nothing needs.
    Newest,
    /// Unfinished, and younger than a day.
    Young {
        left_ms: u64,
    },
    /// It is being fetched, or was asked for while the uses were looked up.
    JustAsked,
    /// Another supervisor on the same store uses it.
    UsedElsewhere,
    /// It could not be removed.
    Stuck {
        detail: String,
    },
}
