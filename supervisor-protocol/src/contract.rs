//! What a child offers its supervisor, version 1: `--describe`, `GET /ready`, `GET /drain/status`.

use serde::{Deserialize, Serialize};

use crate::class::{ByClass, StreamClass};
use crate::names::Nonce;

/// What kind of work a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It answers requests that the supervisor routes to it.
    #[default]
    Server,
    /// It has no traffic to route. It starts paused and works from the `DELETE /drain` that publishes it.
    Worker,
}

/// Where the truth of a child's work lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// Nothing outlives a request.
    None,
    /// In the slot's data directory: two generations may never share it.
    Local,
    /// In a backend that several generations may use at once.
    Shared,
}

/// The on-disk or schema formats that a build can read, and the one that it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DataFormats {
    /// First and last readable format, both included.
    pub reads: [u32; 2],
    pub writes: u32,
}

/// Ways to listen that a child supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Listen {
    Tcp,
    Unix,
    Fd,
}

/// How far a drain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DrainMode {
    /// Nothing new is admitted.
    #[default]
    All,
    /// Sessions that the child holds are served, others are refused as not admitted.
    Sessions,
}

/// Resources that a child needs for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Needs {
    /// GPU memory in MiB.
    pub gpu_memory_mib: u64,
}

/// The one JSON object that `<bin> --describe` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Describe {
    /// The contract's version. A reader refuses a newer one.
    pub contract: u32,
    pub name: String,
    /// The build's own version.
    pub version: String,
    #[serde(default)]
    pub role: Role,
    pub state: StateKind,
    /// Absent = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataFormats>,
    /// Whether `DELETE /drain` takes a drain back.
    #[serde(default)]
    pub undrain: bool,
    #[serde(default = "listen_tcp")]
    pub listen: Vec<Listen>,
    #[serde(default)]
    pub http2: bool,
    /// Classes of work that this child may hold.
    #[serde(default)]
    pub streams: Vec<StreamClass>,
    #[serde(default = "drain_all")]
    pub drain_modes: Vec<DrainMode>,
    #[serde(default)]
    pub needs: Needs,
}

/// The body of `GET /ready`. The status is 200 iff `ready && !draining`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ready {
    /// Whether the child could serve. It ignores drain and pause.
    pub ready: bool,
    #[serde(default)]
    pub draining: bool,
    #[serde(default)]
    pub inflight: u64,
    /// Why it is not ready, e.g. `initializing`; empty when it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Echo of `SUPERVISOR_NONCE`; absent without a supervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Nonce>,
    /// Matters only to a warm swap, never to steady readiness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_complete: Option<bool>,
}

impl Ready {
    /// The reason that extends the ready window. Nothing else does.
    pub const INITIALIZING: &'static str = "initializing";

    /// The HTTP status that goes with this body.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.ready && !self.draining { 200 } else { 503 }
    }
}

/// How far a child's drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    Serving,
    Draining,
    Drained,
}

/// The body of `GET /drain/status`. A missing count is an error, not zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DrainStatus {
    pub state: DrainState,
    pub draining: bool,
    pub inflight: u64,
    /// Age of the oldest admitted work in milliseconds; 0 when there is none.
    #[serde(default)]
    pub oldest_ms: u64,
    #[serde(default)]
    pub by_class: ByClass<u64>,
}

/// The body of `POST /drain`; an empty body means the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DrainCommand {
    pub mode: DrainMode,
}

fn listen_tcp() -> Vec<Listen> {
    vec![Listen::Tcp]
}

fn drain_all() -> Vec<DrainMode> {
    vec![DrainMode::All]
}
