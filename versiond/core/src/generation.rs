//! One life of a release in a slot: a state machine whose variants own only what is valid there, with
//! one function per edge.
//!
//! Must not live here: which edge to take (that is `plan`), or anything that touches a process.

mod drain;

use std::time::Duration;

use supervisor_protocol::admin::{DrainOutcome, Phase};
use supervisor_protocol::contract::{DataFormats, Role, StateKind};
use supervisor_protocol::{Generation, Reason, Sha256, Tick};

pub use self::drain::{Drain, DrainEnd};
use crate::catalog::Artifact;
use crate::timings::Timings;

/// What a build says of itself at preflight.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Admin listener and serving path both said so, with the right nonce, in one round.
    Ready,
    /// The child says, in so many words, that it is still loading. Only this extends the window.
    Initializing { detail: String },
    /// It does not answer, or answers that it cannot serve.
    NotReady { detail: String },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gen {
    pub number: Generation,
    /// What it runs.
    pub artifact: Artifact,
    pub state: State,
    /// When it entered the state.
    pub since: Tick,
}

/// Where a generation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// It gets new requests. `answered` is when a probe round last ended, well or badly; `detail` is what the
    /// last bad one found.
    Serving { facts: Facts, live: Live, answered: Tick, detail: String },
    /// Unrouted; what it admitted goes on.
    Retired { facts: Facts, drain: Drain },
    /// Its leases are gone and it has been told to drain; what it counts itself goes on.
    Draining { facts: Facts, drain: Drain },
    /// It has been sent its stop signal.
    Terminating { facts: Facts, why: Ending, kill_at: Tick },
    /// Its whole group has been killed; the exit is awaited.
    Killing { facts: Facts, why: Ending },
}

/// Why a generation is being stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Its drain is over.
    Drained(DrainEnd),
    /// It never got to serve.
    Abandoned,
}

/// The live readiness of the serving generation, with hysteresis: one lost probe does not withdraw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    Ready { misses: u8 },
    Unready { hits: u8 },
}

impl Live {
    /// Consecutive answers that turn the verdict.
    const NEEDED: u8 = 2;

    /// Whether it counts as ready.
    #[must_use]
    pub fn is_ready(self) -> bool {
        match self {
            Live::Ready { .. } => true,
            Live::Unready { .. } => false,
        }
    }

    fn after(self, hit: bool) -> Live {
        match (self, hit) {
            (Live::Ready { .. }, true) => Live::Ready { misses: 0 },
            (Live::Ready { misses }, false) if misses + 1 >= Self::NEEDED => Live::Unready { hits: 0 },
            (Live::Ready { misses }, false) => Live::Ready { misses: misses + 1 },
            (Live::Unready { .. }, false) => Live::Unready { hits: 0 },
            (Live::Unready { hits }, true) if hits + 1 >= Self::NEEDED => Live::Ready { misses: 0 },
            (Live::Unready { hits }, true) => Live::Unready { hits: hits + 1 },
        }
    }
}

// === impl Gen ===

impl Gen {
    /// A new generation begins by fetching its artifact.
    #[must_use]
    pub fn begin(number: Generation, artifact: Artifact, now: Tick) -> Gen {
        Gen { number, artifact, state: State::Fetching, since: now }
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
            | State::Serving { .. } => false,
        }
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
            | State::Terminating { .. }
            | State::Killing { .. } => true,
        }
    }

    /// Whether it serves and has said, not too long ago, that it can.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.serving().is_some_and(|(live, _)| live.is_ready())
    }

    /// Its live readiness while it serves, and when it was last heard of.
    fn serving(&self) -> Option<(Live, Tick)> {
        let State::Serving { live, answered, .. } = &self.state else { return None };
        Some((*live, *answered))
    }

    pub(crate) fn fetched(&mut self, now: Tick) -> bool {
        let State::Fetching = self.state else { return false };
        self.enter(State::Preflight, now)
    }

    pub(crate) fn described(&mut self, facts: Facts, now: Tick) -> bool {
        let State::Preflight = self.state else { return false };
        self.enter(State::Waiting { facts }, now)
    }

    pub(crate) fn start(&mut self, now: Tick) -> bool {
        let State::Waiting { facts } = &self.state else { return false };
        let facts = facts.clone();
        self.enter(State::Starting { facts }, now)
    }

    pub(crate) fn launched(&mut self, timings: &Timings, now: Tick) -> bool {
        let State::Starting { facts } = &self.state else { return false };
        let state = State::Warming {
            facts: facts.clone(),
            deadline: now.after(timings.ready_window),
            limit: now.after(timings.ready_max),
            detail: "started".to_owned(),
        };
        self.enter(state, now)
    }

    pub(crate) fn probed(&mut self, probe: &Probe, timings: &Timings, now: Tick) -> bool {
        match (&mut self.state, probe) {
            (State::Warming { facts, .. }, Probe::Ready) => {
                let facts = facts.clone();
                self.enter(State::Ready { facts }, now)
            }
            (State::Warming { deadline, limit, detail, .. }, Probe::Initializing { detail: said }) => {
                *deadline = now.after(timings.ready_window).min(*limit);
                detail.clone_from(said);
                true
            }
            (State::Warming { detail, .. }, Probe::NotReady { detail: said }) => {
                detail.clone_from(said);
                true
            }
            (State::Ready { facts }, Probe::NotReady { detail } | Probe::Initializing { detail }) => {
                let state = State::Warming {
                    facts: facts.clone(),
                    deadline: now.after(timings.ready_window),
                    limit: now.after(timings.ready_max),
                    detail: detail.clone(),
                };
                self.enter(state, now)
            }
            (State::Serving { live, answered, detail, .. }, probe) => {
                *live = live.after(*probe == Probe::Ready);
                *answered = now;
                match probe {
                    Probe::Ready => {}
                    Probe::NotReady { detail: said } | Probe::Initializing { detail: said } => detail.clone_from(said),
                }
                true
            }
            _ => false,
        }
    }

    pub(crate) fn publish(&mut self, now: Tick) -> bool {
        let State::Ready { facts } = &self.state else { return false };
        let facts = facts.clone();
        self.enter(State::Serving { facts, live: Live::Ready { misses: 0 }, answered: now, detail: String::new() }, now)
    }

    /// When its last answer, if that was a good one, is too old to count.
    pub(crate) fn live_until(&self, timings: &Timings) -> Option<Tick> {
        let (live, answered) = self.serving()?;
        live.is_ready().then(|| answered.after(timings.live_expiry))
    }

    /// Its last answer has become too old: it counts as unready until it answers again.
    pub(crate) fn expire(&mut self) {
        if let State::Serving { live, detail, .. } = &mut self.state {
            *live = Live::Unready { hits: 0 };
            "no probe has come back for too long".clone_into(detail);
        }
    }

    pub(crate) fn retire(&mut self, drain: Drain, now: Tick) -> bool {
        let State::Serving { facts, .. } = &self.state else { return false };
        let facts = facts.clone();
        self.enter(State::Retired { facts, drain }, now)
    }

    pub(crate) fn drain_child(&mut self, now: Tick) -> bool {
        let State::Retired { facts, drain } = &self.state else { return false };
        let (facts, drain) = (facts.clone(), drain.clone());
        self.enter(State::Draining { facts, drain }, now)
    }

    pub(crate) fn terminate(&mut self, why: Ending, grace: Duration, now: Tick) -> bool {
        let facts = match &self.state {
            State::Starting { facts }
            | State::Warming { facts, .. }
            | State::Ready { facts }
            | State::Serving { facts, .. }
            | State::Retired { facts, .. }
            | State::Draining { facts, .. } => facts.clone(),
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => return false,
        };
        self.enter(State::Terminating { facts, why, kill_at: now.after(grace) }, now)
    }

    pub(crate) fn kill(&mut self, now: Tick) -> bool {
        let (facts, why) = match &self.state {
            State::Terminating { facts, why, .. } => (facts.clone(), why.clone()),
            State::Retired { facts, drain } | State::Draining { facts, drain } => {
                (facts.clone(), Ending::Drained(drain.end(DrainOutcome::Forced, now)))
            }
            State::Starting { facts } | State::Warming { facts, .. } | State::Ready { facts } => {
                (facts.clone(), Ending::Abandoned)
            }
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Serving { .. }
            | State::Killing { .. } => return false,
        };
        self.enter(State::Killing { facts, why }, now)
    }

    fn enter(&mut self, state: State, now: Tick) -> bool {
        self.state = state;
        self.since = now;
        true
    }
}

/// A release that failed, remembered with a growing pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub count: u32,
    pub until: Tick,
    pub reason: Reason,
}
