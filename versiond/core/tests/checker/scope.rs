//! How large a world is: what may happen in it, and how often.

use std::time::Duration;

use serde::Serialize;
use supervisor_protocol::contract::{Role, StateKind};
use supervisor_protocol::{ByClass, Sha256};
use versiond_core::catalog::Artifact;
use versiond_core::generation::Facts;
use versiond_core::host::HostTimings;
use versiond_core::policy::Policy;
use versiond_core::timings::Timings;

/// A world's bounds.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    /// Of every build.
    pub(crate) state: StateKind,
    pub(crate) left: Left,
    /// No more generations than these.
    pub(crate) generations: u64,
    pub(crate) sabotage: Option<Sabotage>,
}

/// What may still happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Left {
    /// The catalog names the other build.
    pub(crate) changes: u8,
    /// It names none.
    pub(crate) removals: u8,
    pub(crate) requests: u8,
    /// A process ends by itself.
    pub(crate) crashes: u8,
    /// A fetch or a launch goes wrong.
    pub(crate) failures: u8,
    /// A probe of what serves goes wrong.
    pub(crate) bad_probes: u8,
    /// Time passes up to the next deadline.
    pub(crate) waits: u8,
    /// SIGTERM.
    pub(crate) stops: u8,
    /// A second signal that forces.
    pub(crate) forces: u8,
    /// SIGKILL of versiond.
    pub(crate) kills: u8,
}

/// A guard that the world breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The old target is retired before the new one is published.
    RetiresFirst,
    /// A process counts as gone once it has been sent its stop signal.
    NoticesEarly,
    /// A process executes before the ledger knows it.
    SkipsLedger,
    /// Every count of leases is zero.
    CountsNoLease,
    /// What a slot must not forget is not written.
    ForgetsMemory,
}

impl Scope {
    /// A swap under requests, of which a step goes wrong.
    pub(crate) fn swap(state: StateKind) -> Scope {
        let left = Left { changes: 1, requests: 2, failures: 1, waits: 2, ..Left::nothing() };
        Scope { name: "swap", state, left, generations: 4, sabotage: None }
    }

    /// A swap after which a process crashes: the way back, where there is one.
    pub(crate) fn crash(state: StateKind) -> Scope {
        let left = Left { changes: 1, requests: 1, crashes: 1, waits: 1, ..Left::nothing() };
        Scope { name: "crash", left, ..Scope::swap(state) }
    }

    /// A swap after which what serves is unready.
    pub(crate) fn unready(state: StateKind) -> Scope {
        let left = Left { changes: 1, requests: 1, bad_probes: 3, ..Left::nothing() };
        Scope { name: "unready", left, ..Scope::swap(state) }
    }

    /// A removal in the midst of a swap.
    pub(crate) fn removal(state: StateKind) -> Scope {
        let left = Left { changes: 1, removals: 1, requests: 1, waits: 1, ..Left::nothing() };
        Scope { name: "removal", left, ..Scope::swap(state) }
    }

    /// The end of the host in the midst of a swap.
    pub(crate) fn stopping(state: StateKind) -> Scope {
        let left = Left { changes: 1, requests: 1, waits: 1, stops: 1, forces: 1, ..Left::nothing() };
        Scope { name: "stopping", left, ..Scope::swap(state) }
    }

    /// A kill of versiond in the midst of a swap, of which a process crashes.
    pub(crate) fn killed(state: StateKind) -> Scope {
        let left = Left { changes: 1, requests: 1, crashes: 1, waits: 1, kills: 1, ..Left::nothing() };
        Scope { name: "killed", left, generations: 5, ..Scope::swap(state) }
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            binary_version: "1".to_owned(),
            role: Role::Server,
            state: self.state,
            undrain: true,
            data: None,
            exclusive: false,
        }
    }

    pub(crate) fn timings() -> Timings {
        let seconds = Duration::from_secs;
        Timings {
            ready_window: seconds(5),
            ready_max: seconds(20),
            // Probes are as frequent as the world wants them: an answer is never too old.
            live_expiry: seconds(1_000_000),
            drain: seconds(30),
            drain_class: ByClass { request: seconds(25), stream: seconds(30), upgrade: seconds(30), job: seconds(30) },
            stop_grace: seconds(10),
            backoff_min: seconds(1),
            backoff_max: seconds(8),
            backoff_reset: seconds(60),
            bake: seconds(60),
            hold: seconds(20),
        }
    }

    pub(crate) fn host_timings() -> HostTimings {
        let seconds = Duration::from_secs;
        HostTimings { announce: Duration::ZERO, drain: seconds(30), stop_grace: seconds(10), budget: seconds(45) }
    }

    pub(crate) fn policy() -> Policy {
        Policy { start_estimate: Some(Duration::from_secs(1)), ..Policy::default() }
    }
}

impl Left {
    pub(crate) const fn nothing() -> Left {
        Left {
            changes: 0,
            removals: 0,
            requests: 0,
            crashes: 0,
            failures: 0,
            bad_probes: 0,
            waits: 0,
            stops: 0,
            forces: 0,
            kills: 0,
        }
    }
}

/// The artifact of a build.
pub(crate) fn artifact(build: u8) -> Artifact {
    Artifact { sha256: Sha256([build; 32]), urls: vec![], size: None, entry: None, irreversible: false }
}
