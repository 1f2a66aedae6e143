//! What changes in a router's pools, as its `GET /v1/events` tells it in [`crate::events::Event`].

use serde::{Deserialize, Serialize};

use super::Worded;
use crate::events::Happens;
use crate::names::VersionName;

/// What changed. The code is also the `event` field of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Change {
    /// An address belongs to the pool from now on.
    MemberAdded { pool: String, address: String },
    /// An address belongs to the pool no more.
    MemberRemoved { pool: String, address: String },
    /// A host may be chosen in another role, for the first time, or not any more.
    Role(RoleChange),
    /// Somebody should look.
    AlarmRaised(AlarmChange),
    /// What was to be looked at is over.
    AlarmOver(AlarmChange),
    /// Every member of the pool has answered, or has had the time to.
    ViewsKnown { pool: String },
    /// So many events are gone from the ring that a reader has asked for.
    Missed { events: u64 },
}

impl Happens for Change {
    fn as_str(&self) -> &'static str {
        match self {
            Change::MemberAdded { .. } => "member_added",
            Change::MemberRemoved { .. } => "member_removed",
            Change::Role(_) => "role",
            Change::AlarmRaised(_) => "alarm_raised",
            Change::AlarmOver(_) => "alarm_over",
            Change::ViewsKnown { .. } => "views_known",
            Change::Missed { .. } => "missed",
        }
    }

    fn missed(events: u64) -> Self {
        Change::Missed { events }
    }
}

/// A host in another role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RoleChange {
    pub pool: String,
    pub host: String,
    /// Of one version alone; absent for the whole pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionName>,
    /// Absent for a host that could not be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Absent for a host that cannot be chosen any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why it cannot; absent where the host is gone altogether.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Worded>,
}

/// An alarm of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AlarmChange {
    pub pool: String,
    /// Of one version alone; absent for the whole pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionName>,
    pub alarm: Worded,
}
