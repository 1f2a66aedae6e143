//! The admin API of versiond: bodies of `/v1/status`, `/v1/why` and `/v1/drain` on its Unix socket.

use serde::{Deserialize, Serialize};

use crate::class::{ByClass, StreamClass};
use crate::contract::{DrainMode, Role, StateKind};
use crate::host::HostState;
use crate::names::{BootNonce, Generation, HostId, ServiceName, Sha256, SlotId};
use crate::reason::Reason;

pub use crate::artifacts::{
    ArtifactList, ArtifactRole, ArtifactState, ArtifactStatus, ArtifactUse, FetchRequest, GcCause, GcKept, GcRemoved,
    GcReport, KeptFor,
};
pub use crate::isolation::{Containment, Isolation, SocketOwnership, Users};
pub use crate::logs::{LogLine, LogQuery, LogStream};

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    pub schema: u32,
    pub version: String,
    pub host: HostId,
    pub boot: BootNonce,
    pub state: HostState,
    /// Whether `GET /readyz` answers 200.
    pub ready: bool,
    pub uptime_ms: u64,
    pub catalog: CatalogStatus,
    pub isolation: Isolation,
    pub slots: Vec<SlotStatus>,
    /// Receipts of the most recent drains, newest first.
    pub receipts: Vec<Receipt>,
}

/// What is known of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CatalogStatus {
    pub source: String,
    /// Of the document in force, when it carries one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Since the source last gave a good document, in milliseconds; absent = never since start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_ms_ago: Option<u64>,
    /// Why the last reading was not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotStatus {
    #[serde(flatten)]
    pub slot: SlotId,
    /// The artifact that should serve; absent once the name is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Sha256>,
    /// The file that an operator has put in the artifact's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_file: Option<String>,
    /// Live-ready now.
    pub ready: bool,
    pub generations: Vec<GenerationStatus>,
    /// Where an operator's `rollback` goes; absent = nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<WayBack>,
    /// Every step that is not being taken now, and why.
    pub reasons: Vec<Reason>,
}

/// What a slot can go back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WayBack {
    pub sha256: Sha256,
    /// The one that could serve at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// Whether there is one; else it is started first.
    pub warm: bool,
}

/// Where a generation stands. The data that belongs to each state is the supervisor's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Fetching,
    Preflight,
    Starting,
    Warming,
    Ready,
    Serving,
    Retired,
    Draining,
    Parked,
    Terminating,
    Killing,
    Exited,
    Failed,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 13] = [
        Phase::Fetching,
        Phase::Preflight,
        Phase::Starting,
        Phase::Warming,
        Phase::Ready,
        Phase::Serving,
        Phase::Retired,
        Phase::Draining,
        Phase::Parked,
        Phase::Terminating,
        Phase::Killing,
        Phase::Exited,
        Phase::Failed,
    ];

    /// The wire name, also the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Fetching => "fetching",
            Phase::Preflight => "preflight",
            Phase::Starting => "starting",
            Phase::Warming => "warming",
            Phase::Ready => "ready",
            Phase::Serving => "serving",
            Phase::Retired => "retired",
            Phase::Draining => "draining",
            Phase::Parked => "parked",
            Phase::Terminating => "terminating",
            Phase::Killing => "killing",
            Phase::Exited => "exited",
            Phase::Failed => "failed",
        }
    }
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GenerationStatus {
    pub generation: Generation,
    pub sha256: Sha256,
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateKind>,
    /// In this phase for so long, in milliseconds.
    pub phase_ms: u64,
    pub inflight: u64,
    pub by_class: ByClass<u64>,
    pub oldest_ms: u64,
    /// Admitted since it was published.
    pub admitted: u64,
}

/// What came of one drain: the file to show a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Receipt {
    #[serde(flatten)]
    pub slot: SlotId,
    pub generation: Generation,
    pub sha256: Sha256,
    /// The generation that took over; absent for a removal or a host drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<Generation>,
    /// Why it was drained.
    pub cause: DrainCause,
    /// In flight when the drain began, by class.
    pub at_start: ByClass<u64>,
    /// Admitted over the generation's whole life.
    pub admitted: u64,
    /// Of `at_start`: ended by themselves.
    pub finished: ByClass<u64>,
    /// Of `at_start`: ended by us, at a deadline or by force.
    pub cut: ByClass<u64>,
    /// The longest lease that ended during the drain, in milliseconds.
    pub longest_ms: u64,
    /// How long the drain took, in milliseconds.
    pub took_ms: u64,
    /// How it ended.
    pub outcome: DrainOutcome,
}

/// Why a generation was drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DrainCause {
    Swap,
    Removal,
    HostStop,
    Crash,
    Rollback,
    Restart,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DrainOutcome {
    /// Everything that was admitted came to its own end.
    Drained,
    /// A deadline came first for at least one lease.
    DeadlineCut,
    /// The process ended before its work did.
    ProcessGone,
    /// An operator or the host's budget forced it.
    Forced,
}

/// `GET /v1/why[?slot=service/name]`: every wait and refusal, with the fact it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    pub schema: u32,
    pub host: Vec<Reason>,
    pub slots: Vec<SlotWhy>,
}

/// The reasons of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotWhy {
    #[serde(flatten)]
    pub slot: SlotId,
    pub serving: Option<Generation>,
    pub reasons: Vec<WhyReason>,
}

/// `GET /v1/plan[?slot=service/name]`: what the next change of each slot would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    pub schema: u32,
    pub slots: Vec<SlotPlan>,
}

/// The next change of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotPlan {
    #[serde(flatten)]
    pub slot: SlotId,
    /// What serves now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Sha256>,
    /// What should serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Sha256>,
    /// How the change is made; absent while there is none, or the build has not said yet what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<SwapStrategy>,
    /// For how long nothing would serve, in milliseconds; 0 beside the old one.
    pub away_ms: u64,
    /// Everything that the change waits for.
    pub blocked_by: Vec<WhyReason>,
}

/// How old and new take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SwapStrategy {
    /// New beside old; clients see nothing.
    Overlap,
    /// Requests wait while the old one stops and the new one starts.
    Hold,
    /// Routers send requests to other hosts meanwhile, one host after the other.
    Evacuate,
    /// Neither fits: not without an operator's yes to being away.
    NeedsWindow,
}

impl SwapStrategy {
    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SwapStrategy::Overlap => "overlap",
            SwapStrategy::Hold => "hold",
            SwapStrategy::Evacuate => "evacuate",
            SwapStrategy::NeedsWindow => "needs_window",
        }
    }
}

/// A reason with its sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyReason {
    #[serde(flatten)]
    pub reason: Reason,
    pub text: String,
}

/// `POST /v1/drain`: cordon this host. `DELETE /v1/drain` takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DrainRequest {
    pub mode: DrainMode,
}

/// What an operator can ask of one slot: `POST /v1/services/{service}/versions/{version}/{verb}`, where
/// the verb is the code and the other fields are the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// Says yes to a staged release, to a first start of a manual one, or to a swap that interrupts.
    Approve {
        /// Also to being away for as long as the plan says.
        #[serde(default)]
        accept_downtime: bool,
        /// Also out of the order among hosts.
        #[serde(default)]
        force_order: bool,
    },
    /// Keeps the slot as it is, until `Release`.
    Hold,
    /// Takes a `Hold` back.
    Release,
    /// Goes back to what served before.
    Rollback {
        /// Also where that is not known to be safe for the slot's data.
        #[serde(default)]
        force: bool,
    },
    /// Runs these bytes, or those that serve now, whatever the catalog says, until `Unpin`.
    Pin {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Sha256>,
    },
    /// Follows the catalog again.
    Unpin,
    /// Tries at once what waits for its pause, or was taken back.
    Retry,
    /// Replaces what serves by another life of the same bytes.
    Restart,
    /// Shortens the deadlines of what drains, so that the next change comes sooner.
    Supersede,
}

impl Verb {
    /// Reads a verb from its path's last segment and its body's fields, of which only its own may be there.
    ///
    /// # Errors
    /// There is no such verb, or it has no such option; the text names those that there are.
    pub fn read(
        verb: &str,
        mut options: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Verb, serde_json::Error> {
        // The path decides, whatever the body says.
        options.insert("verb".to_owned(), verb.into());
        serde_json::from_value(options.into())
    }

    /// The last segment of the verb's path, also the metric label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Verb::Approve { .. } => "approve",
            Verb::Hold => "hold",
            Verb::Release => "release",
            Verb::Rollback { .. } => "rollback",
            Verb::Pin { .. } => "pin",
            Verb::Unpin => "unpin",
            Verb::Retry => "retry",
            Verb::Restart => "restart",
            Verb::Supersede => "supersede",
        }
    }
}

/// Why a verb was not carried out: 409, with this as its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum VerbRefused {
    #[error("there is no slot of this name")]
    UnknownSlot,
    #[error("the host is on its way out")]
    HostLeaving,
    #[error("there is nothing to {verb}: {detail}")]
    NothingToDo { verb: String, detail: String },
    #[error("going back is not known to be safe: {detail}")]
    RollbackUnsafe { detail: String },
    #[error("these bytes are not in the store: {detail}")]
    UnknownArtifact { detail: String },
    #[error("the ledger cannot be written, so the order would not outlive a restart: {detail}")]
    LedgerUnwritable { detail: String },
}

impl VerbRefused {
    /// The code of the error body.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            VerbRefused::UnknownSlot => "unknown_slot",
            VerbRefused::HostLeaving => "host_leaving",
            VerbRefused::NothingToDo { .. } => "nothing_to_do",
            VerbRefused::RollbackUnsafe { .. } => "rollback_unsafe",
            VerbRefused::UnknownArtifact { .. } => "unknown_artifact",
            VerbRefused::LedgerUnwritable { .. } => "ledger_unwritable",
        }
    }
}

/// `POST` or `DELETE /v1/deny/{sha256}`: bytes that an operator does not let run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DenyList {
    /// Denied by an operator of this host.
    pub operator: Vec<Sha256>,
    /// Denied by the catalog in force.
    pub catalog: Vec<Sha256>,
}

/// `POST /v1/reload`: what another reading of the configuration has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reloaded {
    pub added: Vec<ServiceName>,
    pub removed: Vec<ServiceName>,
    /// Another program, or the same one told other things: the next generation is on its way.
    pub changed: Vec<ServiceName>,
    /// Settings that have changed and count from the next start of the daemon, by key.
    pub restart_needed: Vec<String>,
}

/// The body of every error of the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiError {
    /// A stable code, e.g. `unknown_slot`.
    pub code: String,
    pub message: String,
}

/// The classes with work in them, as `3 stream, 1 request`; `nothing` when there is none.
#[must_use]
pub fn describe_load(load: &ByClass<u64>) -> String {
    let parts: Vec<String> = StreamClass::ALL
        .into_iter()
        .filter(|class| *load.get(*class) > 0)
        .map(|class| format!("{} {class}", load.get(class)))
        .collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}
