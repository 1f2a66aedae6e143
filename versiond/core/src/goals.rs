//! What a slot should come to: the catalog's word, an operator's instead of it, or what is gone back to;
//! and what a change waits for before it may even begin.
//!
//! Pure questions to a slot. Must not live here: how a change is made (`strategy`), steps (`plan`).

use supervisor_protocol::time::millis;
use supervisor_protocol::{Reason, Tick};

use crate::catalog::Artifact;
use crate::generation::{Gen, State};
use crate::policy::Mode;
use crate::slot::{Slot, Want};
use crate::window::Opening;

/// Failures in a row after which what is tried first lets the other go first.
const GIVES_WAY: u32 = 3;

/// What is ordered: pinned by an operator, else named by the catalog, and where that cannot be followed what has
/// been there. A removed name is none of them.
pub(crate) fn ordered(slot: &Slot) -> Option<&Artifact> {
    let pin = slot.memory.pin.as_ref();
    match &slot.want {
        Want::Serve(artifact) => Some(pin.unwrap_or(artifact)),
        Want::Keep(_) => {
            let begun = slot.holding.as_ref().and_then(|holding| slot.generations.get(&holding.new));
            pin.or(begun.map(|begun| &begun.artifact)).or(slot.memory.last_good.as_ref())
        }
        Want::Nothing | Want::Stop { .. } | Want::Force => None,
    }
}

/// What should serve: what is ordered, unless it was taken back here.
pub(crate) fn desired(slot: &Slot) -> Option<&Artifact> {
    let ordered = ordered(slot)?;
    if !slot.memory.took_back(&ordered.sha256) {
        return Some(ordered);
    }
    let good = slot.memory.last_good.iter();
    let ways = good.chain(slot.memory.baked.iter().map(|served| &served.artifact));
    let way = ways.into_iter().find(|way| !way.is_same(ordered) && !slot.denied.contains(&way.sha256));
    Some(way.unwrap_or(ordered))
}

/// Whether what should serve does.
pub(crate) fn serves_desired(slot: &Slot) -> bool {
    let (Some(desired), Some(serving)) = (desired(slot), slot.serving()) else { return false };
    serving.artifact.is_same(desired) && slot.restart != Some(serving.number)
}

/// What a new generation may be of, the best first. While nothing serves, what last served comes back before
/// anything new is tried: it is here, and known to be good. Its replacement then comes beside it. If it keeps
/// failing, the replacement goes first, until that has failed as often. What a height or a plan has brought has the
/// first turn instead.
pub(crate) fn goals(slot: &Slot) -> impl Iterator<Item = &Artifact> {
    let allowed = |artifact: &&Artifact| !slot.denied.contains(&artifact.sha256);
    let desired = desired(slot);
    let wanted = desired.filter(|_| !serves_desired(slot)).filter(allowed);
    let wanted = wanted.filter(|wanted| fetch_gate(slot, wanted).is_none());
    let lost = |good: &&Artifact| {
        slot.serving().is_none() && slot.holding.is_none() && desired.is_some_and(|desired| !desired.is_same(good))
    };
    let good = slot.memory.last_good.as_ref().filter(|good| !slot.memory.took_back(&good.sha256));
    let back = good.filter(lost).filter(allowed);
    let failures = |artifact: Option<&Artifact>| {
        artifact.and_then(|artifact| slot.failure_of(&artifact.sha256)).map_or(0, |failure| failure.count)
    };
    let keeps_failing = |one, other| failures(one) >= GIVES_WAY && failures(one) > failures(other);
    // What a height or a plan has brought is not put off for what was before it; one that still lives puts nothing
    // off, it has only to be let.
    let is_due = wanted.is_some_and(|wanted| wanted.irreversible) && !keeps_failing(wanted, back);
    let lives = back.is_some_and(|back| warm(slot, back).is_some());
    let gives_way = !lives && (is_due || keeps_failing(back, wanted));
    let (first, second) = if gives_way { (wanted, back) } else { (back, wanted) };
    first.into_iter().chain(second)
}

/// What should come before this candidate.
pub(crate) fn ahead_of<'s>(slot: &'s Slot, candidate: &Gen) -> Option<&'s Artifact> {
    goals(slot).next().filter(|first| !first.is_same(&candidate.artifact))
}

pub(crate) fn is_paused(slot: &Slot, artifact: &Artifact, now: Tick) -> bool {
    slot.failure_of(&artifact.sha256).is_some_and(|failure| failure.until > now)
}

/// When the first of them that has to be made may be tried (again); `None` when one may be at once, or none has to.
pub(crate) fn next_try(slot: &Slot) -> Option<Tick> {
    let cold = goals(slot).filter(|goal| warm(slot, goal).is_none());
    let tries: Option<Vec<Tick>> =
        cold.map(|goal| slot.failure_of(&goal.sha256).map(|failure| failure.until)).collect();
    tries?.into_iter().min()
}

/// The best of them that need not wait for a new try, where it lives and has only to be let serve.
pub(crate) fn first_warm(slot: &Slot, now: Tick) -> Option<&Gen> {
    goals(slot)
        .map(|goal| (goal, warm(slot, goal)))
        .find(|(goal, warm)| warm.is_some() || !is_paused(slot, goal, now))
        .and_then(|(_, warm)| warm)
}

/// A generation of these bytes that has served, still lives, and could serve again at once.
pub(crate) fn warm<'s>(slot: &'s Slot, artifact: &Artifact) -> Option<&'s Gen> {
    if slot.restart.is_some() {
        return None;
    }
    let sound = |generation: &&Gen| generation.health().is_some_and(|health| health.live.is_ready());
    let warm = slot.generations.values().filter(|generation| generation.artifact.is_same(artifact));
    warm.filter(|generation| generation.can_return()).rfind(sound)
}

/// Why a change is not even fetched: an operator keeps the slot as it is, or has not said yes.
pub(crate) fn fetch_gate(slot: &Slot, artifact: &Artifact) -> Option<Reason> {
    if !is_change(slot, artifact) {
        return None;
    }
    let has_served = slot.serving().is_some() || slot.memory.last_good.is_some();
    if slot.memory.held && has_served {
        return Some(Reason::HeldByOperator);
    }
    let unsaid = slot.policy.mode == Mode::Manual && !slot.memory.approves(&artifact.sha256);
    unsaid.then(|| Reason::AwaitingApproval { sha256: artifact.sha256.to_string() })
}

/// Why a change that is ready to begin may not, although nothing of the slot is in its way.
pub(crate) fn start_gate(slot: &Slot, artifact: &Artifact, now: Tick) -> Option<Reason> {
    if let Some(reason) = fetch_gate(slot, artifact) {
        return Some(reason);
    }
    let has_served = slot.serving().is_some() || slot.memory.last_good.is_some();
    if !is_change(slot, artifact) || !has_served {
        return None;
    }
    let approved = slot.memory.approves(&artifact.sha256);
    if slot.policy.mode == Mode::Staged && !approved {
        return Some(Reason::AwaitingApproval { sha256: artifact.sha256.to_string() });
    }
    match slot.opening {
        Opening::Closed { opens } if opens > now => {
            Some(Reason::WindowClosed { opens_in_ms: millis(opens.since(now)) })
        }
        Opening::Closed { .. } | Opening::Open { .. } => None,
    }
}

/// When this host's own pause before a swap that excludes its predecessor is over; `None` where there is none.
pub(crate) fn jitter_end(slot: &Slot, artifact: &Artifact) -> Option<Tick> {
    let pauses = is_change(slot, artifact) && !slot.memory.approves(&artifact.sha256);
    pauses.then(|| slot.wanted_since.after(slot.policy.pause(&artifact.sha256)))
}

/// Whether all that is missing is an operator's word.
pub(crate) fn waits_for_operator(slot: &Slot) -> bool {
    desired(slot).is_some_and(|desired| fetch_gate(slot, desired).is_some())
}

/// Whether these bytes would be new here. What has served comes back as it is, and an operator's own order is its
/// own yes.
fn is_change(slot: &Slot, artifact: &Artifact) -> bool {
    let same = |other: Option<&Artifact>| other.is_some_and(|other| other.is_same(artifact));
    let memory = &slot.memory;
    let baked = memory.baked.as_ref().filter(|_| memory.rolled_back.is_some());
    let known = same(memory.last_good.as_ref())
        || same(slot.serving().map(|serving| &serving.artifact))
        || same(baked.map(|served| &served.artifact))
        || same(memory.pin.as_ref());
    // What has been begun is gone through with, unless an operator keeps the slot as it is.
    let runs = |candidate: &Gen| candidate.artifact.is_same(artifact) && candidate.has_process();
    let begun = slot.holding.is_some() || (!memory.held && slot.candidate().is_some_and(runs));
    !known && !begun
}

/// Whether a candidate has been described and waits to be started.
pub(crate) fn is_waiting(candidate: &Gen) -> bool {
    matches!(candidate.state, State::Waiting { .. })
}
