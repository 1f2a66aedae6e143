//! One life of a release in a slot: a state machine whose variants own only what is valid there, with
//! one function per edge.
//!
//! Must not live here: which edge to take (that is `plan`), or anything that touches a process.

mod drain;
mod edges;
mod health;

use serde::{Deserialize, Serialize};
use supervisor_protocol::admin::Phase;
use supervisor_protocol::contract::{DataFormats, Role, StateKind};
use supervisor_protocol::{Generation, Reason, Sha256, Tick};

pub use self::drain::{Drain, DrainEnd};
pub use self::health::{Health, Live};
use crate::catalog::Artifact;

/// What a build says of itself at preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub binary_version: String,
    pub role: Role,
    pub state: StateKind,
    pub undrain: bool,
    pub data: Option<DataFormats>,
    /// It needs something of the host that two cannot have at once (a GPU's memory).
    pub exclusive: bool,
}

/// What one probe round of a candidate or of the serving generation found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// Admin listener and serving path both said so, with the right nonce, in one round.
    Ready,
    /// The child says, in so many words, that it is still loading. Only this extends the window.
    Initializing { detail: String },
    /// It does not answer, or answers that it cannot serve.
    NotReady { detail: String },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A generation: what it runs, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gen {
    pub number: Generation,
    /// What it runs.
    pub artifact: Artifact,
    pub state: State,
    /// When it entered the state.
    pub since: Tick,
    /// When its process was ordered, until its first readiness has shown how long that takes.
    pub started: Option<Tick>,
}

/// Where a generation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The artifact is being fetched and verified.
    Fetching,
    /// The build is asked what it is.
    Preflight,
    /// Described, but it may not start yet: `plan` says why.
    Waiting { facts: Facts },
    /// The process is being made.
    Starting { facts: Facts },
    /// The process runs and does not serve yet.
    Warming { facts: Facts, deadline: Tick, limit: Tick, detail: String },
    /// It could serve. `plan` publishes it, or says why not.
    Ready { facts: Facts },
    /// It gets new requests.
    Serving { facts: Facts, health: Health },
    /// Unrouted; what it admitted goes on. It may be gone back to.
    Retired { facts: Facts, drain: Drain, health: Health },
    /// Its leases are gone and it has been told to drain; what it counts itself goes on.
    Draining { facts: Facts, drain: Drain, health: Health },
    /// Drained and kept, since its successor is on trial: it may be gone back to.
    Parked { facts: Facts, health: Health },
    /// It has been sent its stop signal.
    Terminating { facts: Facts, why: Ending, kill_at: Tick },
    /// Its whole group has been killed; the exit is awaited.
    Killing { facts: Facts, why: Ending },
}

/// Why a generation is being stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Its drain is over.
    Drained(DrainEnd),
    /// It never got to serve, or has served, drained and been kept since.
    Abandoned,
    /// It did not become ready in its window.
    Failed(Reason),
}

// === impl Gen ===

impl Gen {
    /// A new generation begins by fetching its artifact.
    #[must_use]
    pub fn begin(number: Generation, artifact: Artifact, now: Tick) -> Gen {
        Gen { number, artifact, state: State::Fetching, since: now, started: None }
    }

    /// The hash of what it runs.
    #[must_use]
    pub fn sha256(&self) -> Sha256 {
        self.artifact.sha256
    }

    /// Where it stands, as the API shows it.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Fetching => Phase::Fetching,
            State::Preflight | State::Waiting { .. } => Phase::Preflight,
            State::Starting { .. } => Phase::Starting,
            State::Warming { .. } => Phase::Warming,
            State::Ready { .. } => Phase::Ready,
            State::Serving { .. } => Phase::Serving,
            State::Retired { .. } => Phase::Retired,
            State::Draining { .. } => Phase::Draining,
            State::Parked { .. } => Phase::Parked,
            State::Terminating { .. } => Phase::Terminating,
            State::Killing { .. } => Phase::Killing,
        }
    }

    /// What the build said of itself, from then on.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match &self.state {
            State::Waiting { facts }
            | State::Starting { facts }
            | State::Warming { facts, .. }
            | State::Ready { facts }
            | State::Serving { facts, .. }
            | State::Retired { facts, .. }
            | State::Draining { facts, .. }
            | State::Parked { facts, .. }
            | State::Terminating { facts, .. }
            | State::Killing { facts, .. } => Some(facts),
            State::Fetching | State::Preflight => None,
        }
    }

    /// Whether it is on its way to serve.
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        match self.state {
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Warming { .. }
            | State::Ready { .. } => true,
            State::Serving { .. }
            | State::Retired { .. }
            | State::Draining { .. }
            | State::Parked { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => false,
        }
    }

    /// Whether it is on its way out and may still hold resources.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        match self.state {
            State::Retired { .. } | State::Draining { .. } | State::Terminating { .. } | State::Killing { .. } => true,
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Warming { .. }
            | State::Ready { .. }
            | State::Serving { .. }
            | State::Parked { .. } => false,
        }
    }

    /// Whether it has drained and is kept.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        matches!(self.state, State::Parked { .. })
    }

    /// Whether a process of this generation exists or is being made.
    #[must_use]
    pub fn has_process(&self) -> bool {
        match self.state {
            State::Fetching | State::Preflight | State::Waiting { .. } => false,
            State::Starting { .. }
            | State::Warming { .. }
            | State::Ready { .. }
            | State::Serving { .. }
            | State::Retired { .. }
            | State::Draining { .. }
            | State::Parked { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => true,
        }
    }

    /// Whether it serves and has said, not too long ago, that it can.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(&self.state, State::Serving { health, .. } if health.live.is_ready())
    }

    /// What its probes have said since it was published.
    #[must_use]
    pub fn health(&self) -> Option<&Health> {
        match &self.state {
            State::Serving { health, .. }
            | State::Retired { health, .. }
            | State::Draining { health, .. }
            | State::Parked { health, .. } => Some(health),
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Warming { .. }
            | State::Ready { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => None,
        }
    }

    /// Why it is being stopped as one that has failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Reason> {
        let (State::Terminating { why, .. } | State::Killing { why, .. }) = &self.state else { return None };
        match why {
            Ending::Failed(reason) => Some(reason),
            Ending::Drained(_) | Ending::Abandoned => None,
        }
    }

    /// Its drain, while that lasts.
    #[must_use]
    pub fn drain(&self) -> Option<&Drain> {
        let (State::Retired { drain, .. } | State::Draining { drain, .. }) = &self.state else { return None };
        Some(drain)
    }

    /// Whether it can be made to serve again as it is: it was never told to drain, or can take that back; and
    /// nothing of its work was cut.
    #[must_use]
    pub fn can_return(&self) -> bool {
        match &self.state {
            State::Retired { drain, .. } => !drain.has_cut(),
            State::Draining { facts, drain, .. } => facts.undrain && !drain.has_cut(),
            State::Parked { facts, .. } => facts.undrain,
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Warming { .. }
            | State::Ready { .. }
            | State::Serving { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => false,
        }
    }
}

/// A release that failed, remembered with a growing pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub count: u32,
    pub until: Tick,
    pub reason: Reason,
}
