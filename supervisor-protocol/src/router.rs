//! What a router tells operators: bodies of its admin API.

pub mod events;

use serde::{Deserialize, Serialize};

use crate::class::ByClass;
use crate::contract::DrainMode;
use crate::host::HostState;
use crate::names::VersionName;

/// A code for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Worded {
    pub code: String,
    pub text: String,
}

/// The body of a router's `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouterReady {
    pub ready: bool,
}

/// The body of `GET /v1/pools`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pools {
    pub schema: u32,
    pub pools: Vec<PoolStatus>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolStatus {
    pub name: String,
    /// `sticky`, `least-inflight` or `round-robin`.
    pub policy: String,
    /// Every member has answered, or has had the time to.
    pub known: bool,
    /// Requests since the router was started.
    pub requests: u64,
    pub hosts: Vec<HostStatus>,
    /// Who may be chosen for each version that somebody names.
    pub versions: Vec<VersionStatus>,
    pub alarms: Vec<Worded>,
}

/// One version in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VersionStatus {
    pub version: VersionName,
    pub hosts: Vec<String>,
}

/// The body of `GET /v1/hosts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hosts {
    pub schema: u32,
    pub hosts: Vec<HostStatus>,
}

/// One member of one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostStatus {
    pub pool: String,
    /// What it calls itself, or what the configuration calls it; absent before it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub address: String,
    pub weight: u16,
    /// `unknown`, `answering` or `silent`.
    pub health: String,
    /// Its own state, where it has versiond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<HostState>,
    /// In which role it may be chosen for the whole pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Why it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<Worded>,
    /// Its part of all keys, in percent.
    pub share_percent: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<HostDrainSeen>,
    /// This router's own requests there.
    pub inflight: u64,
    pub by_class: ByClass<u64>,
    pub oldest_ms: u64,
    /// When this router's requests there are expected to be over, in milliseconds from now.
    pub forecast_ms: u64,
    /// This router's requests there, ever.
    pub admitted: u64,
}

/// A drain as a router sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostDrainSeen {
    pub mode: DrainMode,
    pub since_ms: u64,
    /// The router's own, of a host that cannot say it itself.
    pub of_router: bool,
}

/// The body of `GET /v1/lookup?path=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LookupReport {
    pub schema: u32,
    pub path: String,
    /// Absent where no route matches, or the path is the router's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionName>,
    /// Why nobody would be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Worded>,
    /// The first is chosen; the others are the next choices, in order.
    pub candidates: Vec<CandidateStatus>,
    pub out: Vec<OutStatus>,
    pub alarms: Vec<Worded>,
}

/// One who may be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CandidateStatus {
    pub id: String,
    pub address: String,
    pub role: String,
}

/// One who may not be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub address: String,
    pub reason: Worded,
}

/// The body of a router's `GET /drain/status`: every host that drains, and whether this router is done with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouterDrain {
    pub schema: u32,
    pub hosts: Vec<HostStatus>,
    /// No draining host has a request of this router.
    pub drained: bool,
}
