//! What a host offers a router, and its own state. Bodies of `/healthz`, `/readyz?all=1` and
//! `/drain/status` on the data listener.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::class::ByClass;
use crate::contract::DrainMode;
use crate::names::{BootNonce, Generation, HostId, ServiceName, Sha256, VersionName};

/// starting → serving ⇄ cordoned; serving or cordoned → announcing → draining → stopping → stopped;
/// forcing from any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    Starting,
    Serving,
    /// Unready, so that routers move on, but still admitting what arrives.
    Cordoned,
    Announcing,
    Draining,
    Stopping,
    Stopped,
    Forcing,
}

impl HostState {
    /// The wire name, also the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            HostState::Starting => "starting",
            HostState::Serving => "serving",
            HostState::Cordoned => "cordoned",
            HostState::Announcing => "announcing",
            HostState::Draining => "draining",
            HostState::Stopping => "stopping",
            HostState::Stopped => "stopped",
            HostState::Forcing => "forcing",
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status of one generation as `GET /healthz` has always told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    Starting,
    Running,
    Draining,
    Stopped,
}

/// One element of the array that `GET /healthz` answers. The shape is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthEntry {
    pub service: ServiceName,
    pub name: VersionName,
    pub port: u16,
    pub status: HealthStatus,
    pub sha256: Sha256,
    pub binary_version: String,
    pub generation: Generation,
}

/// The body of `GET /readyz?all=1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadyAll {
    pub schema: u32,
    pub id: HostId,
    pub boot: BootNonce,
    /// Grows by every change of this body, within one boot nonce.
    pub seq: u64,
    pub state: HostState,
    /// What `GET /readyz` without a query answers: 200 or 503.
    pub ready: bool,
    pub slots: Vec<SlotReadiness>,
}

/// One slot in [`ReadyAll`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotReadiness {
    pub service: ServiceName,
    pub name: VersionName,
    /// A routed child of exactly this version is live-ready now.
    pub ready: bool,
    /// The artifact that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// The artifact that could not be brought to serve, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Sha256>,
    #[serde(default)]
    pub evacuating: bool,
}

/// The body of the host's `GET /drain/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostDrain {
    pub schema: u32,
    pub id: HostId,
    pub boot: BootNonce,
    pub seq: u64,
    pub state: HostState,
    /// Set while the host is cordoned or on its way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DrainMode>,
    /// How long the drain has lasted, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// How long until the deadline, in milliseconds; absent for a cordon, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_in_ms: Option<u64>,
    pub inflight: u64,
    pub by_class: ByClass<u64>,
    /// In flight by service, then version, then generation.
    pub by_service: BTreeMap<ServiceName, BTreeMap<VersionName, Vec<GenerationLoad>>>,
    pub oldest_ms: u64,
    /// When the host is expected to be empty, in milliseconds from now.
    pub forecast_ms: u64,
}

/// The work of one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GenerationLoad {
    pub generation: Generation,
    pub draining: bool,
    pub inflight: u64,
    pub by_class: ByClass<u64>,
    pub oldest_ms: u64,
}
