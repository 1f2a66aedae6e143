//! Why a slot is not where it is wanted: every step that is not taken now, each with its typed reason.
//!
//! Must not live here: the choice of a step (that is `plan`).

use supervisor_protocol::time::millis;
use supervisor_protocol::{Reason, Tick};

use crate::generation::{Gen, State};
use crate::goals::{self, fetch_gate, goals, start_gate};
use crate::plan;
use crate::rollback;
use crate::slot::{Slot, Want};
use crate::strategy::{self, Next};

/// Every step that is not taken now, and why.
pub(crate) fn reasons(slot: &Slot, now: Tick) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match &slot.want {
        Want::Keep(reason) => reasons.push(reason.clone()),
        Want::Nothing => reasons.push(Reason::NotApproved),
        Want::Stop { .. } | Want::Force => reasons.push(Reason::HostStopping),
        Want::Serve(_) => {}
    }
    reasons.extend(orders(slot));
    if let Some(holding) = &slot.holding {
        reasons.push(Reason::Holding { generation: holding.old.0, left_ms: millis(holding.expected.since(now)) });
    }
    match slot.candidate() {
        Some(candidate) => reasons.extend(candidate_reason(slot, candidate, now)),
        None => reasons.extend(not_begun(slot, now)),
    }
    for goal in goals(slot).filter(|goal| !slot.candidate().is_some_and(|candidate| candidate.artifact.is_same(goal))) {
        if let Some(failure) = slot.failure_of(&goal.sha256) {
            reasons.push(with_retry(&failure.reason, millis(failure.until.since(now))));
        }
    }
    reasons.extend(rollback::unsafe_reason(slot));
    if let Some(trial) = &slot.trial {
        reasons.push(Reason::Baking { generation: trial.generation.0, left_ms: millis(trial.until.since(now)) });
    }
    for generation in slot.generations.values() {
        if let State::Serving { health, .. } = &generation.state
            && !health.live.is_ready()
        {
            reasons.push(Reason::Unready { generation: generation.number.0, detail: health.detail.clone() });
        }
        if let Some(drain) = generation.drain() {
            let child = slot.child_load.get(&generation.number).copied().unwrap_or_default();
            reasons.push(Reason::Draining {
                generation: generation.number.0,
                inflight: slot.leases(generation.number).total().max(child),
                left_ms: millis(drain.deadline.since(now)),
            });
        }
    }
    reasons
}

/// Where something else than the catalog's word is followed.
fn orders(slot: &Slot) -> Vec<Reason> {
    let Some(ordered) = goals::ordered(slot) else { return Vec::new() };
    let mut reasons = Vec::new();
    let memory = &slot.memory;
    if let Some(pin) = &memory.pin {
        reasons.push(Reason::Pinned { sha256: pin.sha256.to_string() });
    }
    if slot.denied.contains(&ordered.sha256) {
        reasons.push(Reason::Denied { sha256: ordered.sha256.to_string() });
    }
    if let Some(taken_back) = memory.rolled_back.as_ref().filter(|taken_back| taken_back.sha256 == ordered.sha256) {
        let (sha256, detail) = (taken_back.sha256.to_string(), taken_back.detail.clone());
        reasons.push(Reason::RolledBack { sha256, detail });
    }
    if memory.held {
        reasons.push(Reason::HeldByOperator);
    }
    reasons
}

/// Why nothing is on its way to serve, although something is wanted.
fn not_begun(slot: &Slot, now: Tick) -> Option<Reason> {
    let desired = goals::desired(slot).filter(|_| !goals::serves_desired(slot))?;
    match fetch_gate(slot, desired) {
        // Said already, since it holds whatever is wanted.
        Some(Reason::HeldByOperator) => return None,
        Some(reason) => return Some(reason),
        None => {}
    }
    let warm = goals(slot).next().and_then(|goal| goals::warm(slot, goal))?;
    start_gate(slot, &warm.artifact, now).or_else(|| {
        plan::predecessor_of(slot, warm).map(|other| Reason::PredecessorPresent { generation: other.number.0 })
    })
}

fn candidate_reason(slot: &Slot, candidate: &Gen, now: Tick) -> Option<Reason> {
    match &candidate.state {
        State::Fetching => Some(Reason::Fetching { sha256: candidate.sha256().to_string(), received: 0, total: None }),
        State::Preflight => Some(Reason::Preflight { generation: candidate.number.0 }),
        // The hold itself is the reason.
        State::Waiting { .. } if slot.holding.is_some() => None,
        State::Waiting { .. } => match strategy::next(slot, candidate, now) {
            Next::Wait(reason) => Some(reason),
            Next::Start | Next::Hold { .. } | Next::Evacuate(_) => None,
        },
        State::Starting { .. } => Some(Reason::NotReady {
            generation: candidate.number.0,
            detail: "the process is being made".to_owned(),
            left_ms: millis(slot.timings.ready_window),
        }),
        State::Warming { deadline, detail, .. } => Some(Reason::NotReady {
            generation: candidate.number.0,
            detail: detail.clone(),
            left_ms: millis(deadline.since(now)),
        }),
        State::Ready { .. }
        | State::Serving { .. }
        | State::Retired { .. }
        | State::Draining { .. }
        | State::Parked { .. }
        | State::Terminating { .. }
        | State::Killing { .. } => None,
    }
}

/// The reason with the time that is left now instead of the pause that was chosen.
fn with_retry(reason: &Reason, left_ms: u64) -> Reason {
    let mut reason = reason.clone();
    match &mut reason {
        Reason::FetchFailed { retry_in_ms, .. }
        | Reason::HashMismatch { retry_in_ms, .. }
        | Reason::ArtifactRefused { retry_in_ms, .. }
        | Reason::PreflightFailed { retry_in_ms, .. }
        | Reason::NeverReady { retry_in_ms, .. }
        | Reason::StartFailed { retry_in_ms, .. }
        | Reason::CrashBackoff { retry_in_ms, .. } => *retry_in_ms = left_ms,
        Reason::Fetching { .. }
        | Reason::Preflight { .. }
        | Reason::SchemaWait { .. }
        | Reason::NotReady { .. }
        | Reason::Unready { .. }
        | Reason::PredecessorPresent { .. }
        | Reason::Draining { .. }
        | Reason::NeedsWindow { .. }
        | Reason::DataDirectoryBusy { .. }
        | Reason::Unservable { .. }
        | Reason::NotApproved
        | Reason::NoCatalog { .. }
        | Reason::CatalogUnreachable { .. }
        | Reason::RemovalUnconfirmed { .. }
        | Reason::RemovalHeld { .. }
        | Reason::HostStopping
        | Reason::PortsExhausted { .. }
        | Reason::LedgerUnwritable { .. }
        | Reason::AwaitingApproval { .. }
        | Reason::WindowClosed { .. }
        | Reason::Jitter { .. }
        | Reason::HeldByOperator
        | Reason::Pinned { .. }
        | Reason::Baking { .. }
        | Reason::RolledBack { .. }
        | Reason::RollbackUnsafe { .. }
        | Reason::Quiescing { .. }
        | Reason::Holding { .. }
        | Reason::PeerFirst { .. }
        | Reason::PeerSilent { .. }
        | Reason::PeerEvacuating { .. }
        | Reason::NoPeerReady
        | Reason::Evacuating { .. }
        | Reason::Denied { .. }
        | Reason::NotYetActive { .. }
        | Reason::Untrusted { .. }
        | Reason::IsolationMissing { .. }
        | Reason::ReloadRefused { .. }
        | Reason::RestartNeeded { .. } => {}
    }
    reason
}
