//! The plan: what can be done now for a slot, and for everything that cannot, why not.
//!
//! Pure functions of a slot and a moment. The rules, in the order in which they are tried:
//!
//! 1. what drains goes on: cuts at class deadlines, the child's own drain, the stop signal, the kill;
//! 2. what is no longer wanted ends: candidates are abandoned, the serving generation is withdrawn;
//! 3. what is wanted comes: fetch, preflight, start beside the old one, publish.
//!
//! Must not live here: state (that is `slot`), effects, clocks.

use std::time::Duration;

use supervisor_protocol::contract::StateKind;
use supervisor_protocol::time::millis;
use supervisor_protocol::{Generation, Reason, Tick};

use crate::catalog::Artifact;
use crate::generation::{Gen, State};
use crate::slot::{Absent, Slot, Step, Want};

/// How long a candidate that never served may take to stop: it holds no work.
pub(crate) const CANDIDATE_GRACE: Duration = Duration::from_secs(10);

/// Failures in a row after which what served last lets its replacement go first.
const GIVES_WAY: u32 = 3;

/// The moment, and the number for a new generation when one may begin.
pub(crate) struct Context {
    pub(crate) now: Tick,
    pub(crate) next: Option<Generation>,
}

/// The steps that are possible now, in order. Empty when everything waits.
pub(crate) fn plan(slot: &Slot, context: &Context) -> Vec<Step> {
    let now = context.now;
    let mut steps: Vec<Step> =
        slot.generations.values().filter_map(|generation| leaving(slot, generation, now)).collect();
    if steps.is_empty() {
        steps.extend(unwanted(slot, now));
    }
    if steps.is_empty() {
        steps.extend(wanted(slot, context));
    }
    if steps.is_empty() && slot.serving().is_none() {
        let absent = absent(slot, now);
        if slot.absent != Some(absent) {
            steps.push(Step::Absent(absent));
        }
    }
    steps
}

/// What a request to the slot is told while nothing serves it.
pub(crate) fn absent(slot: &Slot, now: Tick) -> Absent {
    match &slot.want {
        Want::Serve(_) => Absent::Hold { until: next_try(slot).filter(|until| *until > now) },
        Want::Keep(_) => Absent::NotServing,
        Want::Nothing => Absent::NotFound,
        Want::Stop { .. } | Want::Force => Absent::Stopping,
    }
}

/// Every step that is not taken now, and why.
pub(crate) fn reasons(slot: &Slot, now: Tick) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match &slot.want {
        Want::Keep(reason) => reasons.push(reason.clone()),
        Want::Nothing => reasons.push(Reason::NotApproved),
        Want::Stop { .. } | Want::Force => reasons.push(Reason::HostStopping),
        Want::Serve(_) => {}
    }
    if let Some(generation) = slot.candidate() {
        reasons.extend(candidate_reason(slot, generation, now));
    }
    for goal in goals(slot).filter(|goal| !slot.candidate().is_some_and(|candidate| candidate.artifact.is_same(goal))) {
        if let Some(failure) = slot.failure_of(&goal.sha256) {
            reasons.push(with_retry(&failure.reason, millis(failure.until.since(now))));
        }
    }
    for generation in slot.generations.values() {
        if let State::Serving { live, detail, .. } = &generation.state
            && !live.is_ready()
        {
            reasons.push(Reason::Unready { generation: generation.number.0, detail: detail.clone() });
        }
        if let State::Retired { drain, .. } | State::Draining { drain, .. } = &generation.state {
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

/// The next moment at which something is due, and what.
pub(crate) fn wake(slot: &Slot) -> Option<(Tick, &'static str)> {
    let states = slot.generations.values().filter_map(|generation| match &generation.state {
        State::Warming { deadline, .. } => Some((*deadline, "ready window")),
        State::Retired { drain, .. } | State::Draining { drain, .. } => {
            Some((drain.next_deadline(&slot.leases(generation.number)), "drain deadline"))
        }
        State::Terminating { kill_at, .. } => Some((*kill_at, "stop grace")),
        State::Serving { .. } => generation.live_until(&slot.timings).map(|until| (until, "live expiry")),
        State::Fetching
        | State::Preflight
        | State::Waiting { .. }
        | State::Starting { .. }
        | State::Ready { .. }
        | State::Killing { .. } => None,
    });
    let backoff = match slot.candidate() {
        None => next_try(slot),
        // What has not begun to run makes room for what comes before it.
        Some(candidate) if !candidate.has_process() => {
            ahead_of(slot, candidate).and_then(|first| slot.failure_of(&first.sha256)).map(|failure| failure.until)
        }
        Some(_) => None,
    };
    states.chain(backoff.map(|until| (until, "backoff"))).min()
}

/// Rule 1: the next step of a generation that is on its way out, or out of time.
fn leaving(slot: &Slot, generation: &Gen, now: Tick) -> Option<Step> {
    let number = generation.number;
    let forced = matches!(slot.want, Want::Force);
    let leases = slot.leases(number);
    match &generation.state {
        State::Warming { deadline, .. } if now >= *deadline => Some(Step::Terminate(number)),
        State::Retired { .. } | State::Draining { .. } if forced => Some(Step::Kill(number)),
        State::Retired { drain, .. } => {
            if let Some(class) = drain.due_cuts(&leases, now).first() {
                Some(Step::Cut(number, *class))
            } else if slot.is_idle(number) {
                Some(Step::DrainChild(number))
            } else if now >= drain.deadline {
                Some(Step::Terminate(number))
            } else {
                None
            }
        }
        State::Draining { drain, .. } => {
            let empty = slot.child_load.get(&number) == Some(&0);
            (empty || now >= drain.deadline).then_some(Step::Terminate(number))
        }
        State::Terminating { kill_at, .. } => (forced || now >= *kill_at).then_some(Step::Kill(number)),
        State::Fetching
        | State::Preflight
        | State::Waiting { .. }
        | State::Starting { .. }
        | State::Warming { .. }
        | State::Ready { .. }
        | State::Serving { .. }
        | State::Killing { .. } => None,
    }
}

/// Rule 2: ends what is no longer wanted, or may not run.
fn unwanted(slot: &Slot, now: Tick) -> Option<Step> {
    let abandon = |generation: &Gen| {
        if generation.has_process() {
            Step::Terminate(generation.number)
        } else {
            Step::Forget(generation.number, None)
        }
    };
    let denied = slot.serving().filter(|serving| slot.denied.contains(&serving.sha256()));
    let withdraw_denied = || denied.map(|serving| Step::Withdraw(serving.number, absent(slot, now)));
    match &slot.want {
        Want::Serve(_) => {
            let given_up = slot.candidate().filter(|candidate| is_given_up(slot, candidate, now));
            given_up.map(abandon).or_else(withdraw_denied)
        }
        // An entry that cannot be followed leaves everything as it is, but takes nothing new.
        Want::Keep(_) => slot.candidate().map(abandon).or_else(withdraw_denied),
        Want::Nothing => slot
            .candidate()
            .map(abandon)
            .or_else(|| slot.serving().map(|serving| Step::Withdraw(serving.number, Absent::NotFound))),
        Want::Stop { .. } | Want::Force => slot
            .candidate()
            .map(abandon)
            .or_else(|| slot.serving().map(|serving| Step::Withdraw(serving.number, Absent::Stopping))),
    }
}

/// Whether a candidate is not what should come next any more.
fn is_given_up(slot: &Slot, candidate: &Gen, now: Tick) -> bool {
    let Some(goal) = goals(slot).find(|goal| goal.is_same(&candidate.artifact)) else { return true };
    // The same bytes from elsewhere: what is being fetched may never come from where it was looked for.
    let moved = matches!(candidate.state, State::Fetching) && goal.urls != candidate.artifact.urls;
    let behind =
        !candidate.has_process() && ahead_of(slot, candidate).is_some_and(|first| !is_paused(slot, first, now));
    moved || behind
}

/// Rule 3: the next step towards what is wanted.
fn wanted(slot: &Slot, context: &Context) -> Option<Step> {
    slot.wanted()?;
    let Some(candidate) = slot.candidate() else {
        let next = context.next?;
        return goals(slot)
            .find(|goal| !is_paused(slot, goal, context.now))
            .map(|goal| Step::Fetch(next, goal.clone()));
    };
    match &candidate.state {
        State::Waiting { .. } => start_block(slot, candidate).is_none().then_some(Step::Start(candidate.number)),
        State::Ready { .. } => {
            Some(Step::Publish { new: candidate.number, old: slot.serving().map(|serving| serving.number) })
        }
        State::Fetching
        | State::Preflight
        | State::Starting { .. }
        | State::Warming { .. }
        | State::Serving { .. }
        | State::Retired { .. }
        | State::Draining { .. }
        | State::Terminating { .. }
        | State::Killing { .. } => None,
    }
}

/// Why a described candidate may not start now. It starts alone, or beside one other when both may share:
/// what serves, or what drains after a removal or beside a crash, for then nothing else serves the slot.
fn start_block(slot: &Slot, candidate: &Gen) -> Option<Reason> {
    let others = || slot.generations.values().filter(|other| other.number != candidate.number && other.has_process());
    let shares = |generation: &Gen| match generation.facts().map(|facts| facts.state) {
        Some(StateKind::None | StateKind::Shared) => true,
        Some(StateKind::Local) | None => false,
    };
    let apart = |other: &Gen| !shares(other) || !shares(candidate);
    let leaving = || others().filter(|other| other.is_leaving());
    if let Some(holder) = leaving().find(|other| apart(other)) {
        return Some(Reason::DataDirectoryBusy { generation: holder.number.0 });
    }
    let comes_back = |first: &Artifact| slot.last_good.as_ref().is_some_and(|good| good.is_same(first));
    if !shares(candidate) && ahead_of(slot, candidate).is_some_and(comes_back) {
        return Some(Reason::NeedsWindow {
            detail: format!(
                "{} would take over the slot's data directory, and what served from it comes back first",
                candidate.number
            ),
        });
    }
    if let Some(serving) = slot.serving().filter(|serving| apart(serving)) {
        let local = if shares(candidate) { serving.number } else { candidate.number };
        return Some(Reason::NeedsWindow {
            detail: format!(
                "{local} keeps its state in the slot's data directory, so old and new may not run side by side"
            ),
        });
    }
    let oldest = leaving().next()?;
    (others().count() > 1).then_some(Reason::PredecessorPresent { generation: oldest.number.0 })
}

fn candidate_reason(slot: &Slot, candidate: &Gen, now: Tick) -> Option<Reason> {
    match &candidate.state {
        State::Fetching => Some(Reason::Fetching { sha256: candidate.sha256().to_string(), received: 0, total: None }),
        State::Preflight => Some(Reason::Preflight { generation: candidate.number.0 }),
        State::Waiting { .. } => start_block(slot, candidate),
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
        | State::Terminating { .. }
        | State::Killing { .. } => None,
    }
}

/// What a new generation may be of, the best first. While nothing serves, what last served comes back before
/// anything new is tried: it is here, and known to be good. Its replacement then comes beside it. If it keeps
/// failing, the replacement goes first, until that has failed as often.
fn goals(slot: &Slot) -> impl Iterator<Item = &Artifact> {
    let allowed = |artifact: &&Artifact| !slot.denied.contains(&artifact.sha256);
    let wanted = slot.wanted().filter(|_| !serves_wanted(slot)).filter(allowed);
    let lost = |good: &&Artifact| slot.serving().is_none() && slot.wanted().is_some_and(|wanted| !wanted.is_same(good));
    let back = slot.last_good.as_ref().filter(lost).filter(allowed);
    let failures = |artifact: Option<&Artifact>| {
        artifact.and_then(|artifact| slot.failure_of(&artifact.sha256)).map_or(0, |failure| failure.count)
    };
    let gives_way = failures(back) >= GIVES_WAY && failures(back) > failures(wanted);
    let (first, second) = if gives_way { (wanted, back) } else { (back, wanted) };
    first.into_iter().chain(second)
}

/// What should come before this candidate.
fn ahead_of<'s>(slot: &'s Slot, candidate: &Gen) -> Option<&'s Artifact> {
    goals(slot).next().filter(|first| !first.is_same(&candidate.artifact))
}

fn is_paused(slot: &Slot, artifact: &Artifact, now: Tick) -> bool {
    slot.failure_of(&artifact.sha256).is_some_and(|failure| failure.until > now)
}

/// When the first of them may be tried (again); `None` when one may be at once, or there is none.
fn next_try(slot: &Slot) -> Option<Tick> {
    let tries: Option<Vec<Tick>> =
        goals(slot).map(|goal| slot.failure_of(&goal.sha256).map(|failure| failure.until)).collect();
    tries?.into_iter().min()
}

fn serves_wanted(slot: &Slot) -> bool {
    let wanted = slot.wanted();
    wanted.is_some_and(|wanted| slot.serving().is_some_and(|serving| serving.artifact.is_same(wanted)))
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
        | Reason::Denied { .. }
        | Reason::NotYetActive { .. }
        | Reason::Untrusted { .. }
        | Reason::IsolationMissing { .. }
        | Reason::ReloadRefused { .. }
        | Reason::RestartNeeded { .. } => {}
    }
    reason
}
