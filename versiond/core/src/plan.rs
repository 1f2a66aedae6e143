//! The plan: what can be done now for a slot.
//!
//! Pure functions of a slot and a moment. The rules, in the order in which they are tried:
//!
//! 1. what drains goes on: cuts at class deadlines, the child's own drain, then parked or stopped, the kill;
//! 2. what is no longer wanted ends: candidates are abandoned, the serving generation is withdrawn;
//! 3. what is wanted comes: gone back to, or fetched, asked, started beside the old one or in its place,
//!    published.
//!
//! Must not live here: state (that is `slot`), what is wanted (`goals`), how (`strategy`), effects, clocks.

use std::time::Duration;

use supervisor_protocol::admin::DrainCause;
use supervisor_protocol::{Generation, Tick};

use crate::catalog::Artifact;
use crate::evacuate::Stage;
use crate::generation::{Drain, Gen, State};
use crate::goals::{self, ahead_of, goals, is_paused, next_try, start_gate};
use crate::slot::{Absent, Slot, Step, Want};
use crate::strategy::{self, Next};
use crate::window::Opening;

/// How long a candidate that never served may take to stop: it holds no work.
pub(crate) const CANDIDATE_GRACE: Duration = Duration::from_secs(10);

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
    let later = |until: Option<Tick>| Absent::Hold { until: until.filter(|until| *until > now) };
    match &slot.want {
        Want::Serve(_) | Want::Keep(_) => match &slot.holding {
            Some(holding) => later(Some(holding.expected)),
            // Nothing comes by itself: to wait would be in vain.
            None if slot.candidate().is_none() && goals(slot).next().is_none() => Absent::NotServing,
            // It is on its way already, whatever else has to wait.
            None if slot.candidate().is_some_and(|one| one.has_process() || ahead_of(slot, one).is_none()) => {
                later(None)
            }
            None => later(next_try(slot)),
        },
        Want::Nothing => Absent::NotFound,
        Want::Stop { .. } | Want::Force => Absent::Stopping,
    }
}

/// The next moment at which something is due, and what.
pub(crate) fn wake(slot: &Slot) -> Option<(Tick, &'static str)> {
    let states = slot.generations.values().filter_map(|generation| match &generation.state {
        State::Warming { deadline, .. } => Some((*deadline, "ready window")),
        State::Retired { drain, .. } | State::Draining { drain, .. } => {
            Some((drain.next_deadline(&slot.leases(generation.number)), "drain deadline"))
        }
        State::Terminating { kill_at, .. } => Some((*kill_at, "stop grace")),
        State::Serving { health, .. } => health.until(&slot.timings).map(|until| (until, "live expiry")),
        State::Fetching
        | State::Preflight
        | State::Waiting { .. }
        | State::Starting { .. }
        | State::Ready { .. }
        | State::Parked { .. }
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
    // One that is over, and has led to nothing, is not what is waited for.
    let backoff = backoff.filter(|until| *until > slot.seen);
    states.chain(backoff.map(|until| (until, "backoff"))).chain(swap_wakes(slot)).min()
}

/// The moments of a change that wait for nothing but time.
fn swap_wakes(slot: &Slot) -> impl Iterator<Item = (Tick, &'static str)> {
    let sound = |number: Generation| slot.generations.get(&number).is_some_and(Gen::is_live);
    let trial = slot.trial.as_ref().filter(|trial| sound(trial.generation)).map(|trial| (trial.until, "trial"));
    let holding = slot.holding.as_ref();
    let old = holding.and_then(|holding| slot.generations.get(&holding.old));
    let retired = old.is_some_and(|old| matches!(old.state, State::Retired { .. }));
    let empty = holding.and_then(|holding| holding.empty_by).filter(|_| retired).map(|at| (at, "hold"));
    let covered = holding.and_then(|holding| holding.covered_until).map(|at| (at, "hold bound"));
    // What a request is told changes then.
    let told = slot.absent.and_then(|absent| match absent {
        Absent::Hold { until } => until.map(|until| (until, "hold")),
        Absent::NotFound | Absent::Stopping | Absent::NotServing => None,
    });
    let waiting =
        slot.candidate().filter(|candidate| goals::is_waiting(candidate)).map(|candidate| &candidate.artifact);
    let next = waiting.or_else(|| goals::first_warm(slot, slot.seen).map(|warm| &warm.artifact));
    let jitter = waiting.and_then(|next| goals::jitter_end(slot, next)).map(|at| (at, "jitter"));
    let opens = match slot.opening {
        Opening::Closed { opens } if next.is_some() => Some((opens, "window")),
        Opening::Closed { .. } | Opening::Open { .. } => None,
    };
    let again = slot.next_hold.filter(|_| waiting.is_some()).map(|at| (at, "next hold"));
    let claim = slot.next_claim.filter(|_| waiting.is_some()).map(|at| (at, "next claim"));
    let leaves = slot.evacuation.and_then(|evacuation| match evacuation.stage {
        Stage::Leaving { until } => Some((until, "routers move on")),
        Stage::Claiming | Stage::Claimed { .. } | Stage::Away => None,
    });
    let wakes = [trial, empty, covered, told, jitter, opens, again, claim, leaves].into_iter().flatten();
    wakes.filter(|(at, _)| *at > slot.seen)
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
            } else if is_given_up(slot, generation, now) {
                Some(Step::Restore { back: number, old: None })
            } else if slot.is_idle(number) {
                Some(Step::DrainChild(number))
            } else if now >= drain.deadline {
                Some(Step::Terminate(number))
            } else {
                None
            }
        }
        State::Draining { drain, .. } => {
            if slot.child_load.get(&number) == Some(&0) {
                let end = drain.end(supervisor_protocol::admin::DrainOutcome::Drained, now);
                Some(if is_parked_next(slot, generation, drain) {
                    Step::Park(number, end)
                } else {
                    Step::Terminate(number)
                })
            } else {
                (now >= drain.deadline).then_some(Step::Terminate(number))
            }
        }
        State::Parked { .. } => (!is_way_back(slot, generation)).then_some(Step::Terminate(number)),
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

/// Whether a hold has come to nothing: what was withdrawn for it has not emptied in time, and could not be told
/// to drain before it has.
fn is_given_up(slot: &Slot, retired: &Gen, now: Tick) -> bool {
    let holding = slot.holding.as_ref().filter(|holding| holding.old == retired.number);
    let overdue = holding.and_then(|holding| holding.empty_by).is_some_and(|empty_by| now >= empty_by);
    overdue && !slot.is_idle(retired.number) && retired.can_return() && !slot.denied.contains(&retired.sha256())
}

/// Whether a generation is what the slot goes back to while what serves is on trial.
fn is_way_back(slot: &Slot, generation: &Gen) -> bool {
    let wanted = matches!(slot.want, Want::Serve(_) | Want::Keep(_)) && slot.holding.is_none();
    let baked = slot.memory.baked.as_ref().is_some_and(|baked| baked.artifact.is_same(&generation.artifact));
    let needed = slot.is_on_trial() || goals(slot).any(|goal| goal.is_same(&generation.artifact));
    wanted && baked && needed && !slot.denied.contains(&generation.sha256())
}

/// Whether a drained generation is kept: it can serve again at once, beside others, and may have to.
fn is_parked_next(slot: &Slot, generation: &Gen, drain: &Drain) -> bool {
    let able = generation.facts().is_some_and(|facts| facts.undrain && !strategy::is_alone(facts));
    let swapped = drain.cause == DrainCause::Swap && !drain.has_cut();
    let first = !slot.generations.values().any(Gen::is_parked);
    able && swapped && first && is_way_back(slot, generation)
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
    let end = |absent: Absent| {
        let candidate = slot.candidate().map(abandon);
        candidate.or_else(|| slot.serving().map(|serving| Step::Withdraw(serving.number, absent)))
    };
    match &slot.want {
        // An entry that cannot be followed leaves everything as it is, but takes nothing new.
        Want::Serve(_) | Want::Keep(_) => {
            let denied = slot.serving().filter(|serving| slot.denied.contains(&serving.sha256()));
            let superseded = slot.candidate().filter(|candidate| is_superseded(slot, candidate, now));
            let withdraw = || denied.map(|serving| Step::Withdraw(serving.number, absent(slot, now)));
            superseded.map(abandon).or_else(withdraw)
        }
        Want::Nothing => end(Absent::NotFound),
        Want::Stop { .. } | Want::Force => end(Absent::Stopping),
    }
}

/// Whether a candidate is not what should come next any more.
fn is_superseded(slot: &Slot, candidate: &Gen, now: Tick) -> bool {
    let Some(goal) = goals(slot).find(|goal| goal.is_same(&candidate.artifact)) else { return true };
    // The same bytes from elsewhere: what is being fetched may never come from where it was looked for.
    let moved = matches!(candidate.state, State::Fetching) && goal.urls != candidate.artifact.urls;
    let behind =
        !candidate.has_process() && ahead_of(slot, candidate).is_some_and(|first| !is_paused(slot, first, now));
    moved || behind
}

/// Rule 3: the next step towards what is wanted.
fn wanted(slot: &Slot, context: &Context) -> Option<Step> {
    let now = context.now;
    let serving = slot.serving().map(|serving| serving.number);
    if let Some(back) = returning(slot, now) {
        return Some(Step::Restore { back, old: serving });
    }
    let Some(candidate) = slot.candidate() else {
        let next = context.next?;
        let cold = |goal: &&Artifact| !is_paused(slot, goal, now) && goals::warm(slot, goal).is_none();
        return goals(slot).find(cold).map(|goal| Step::Fetch(next, goal.clone()));
    };
    match &candidate.state {
        State::Waiting { .. } => match strategy::next(slot, candidate, now) {
            Next::Start => Some(Step::Start(candidate.number)),
            Next::Hold { old, expected, empty_by } => {
                Some(Step::Hold { old, new: candidate.number, until: expected, empty_by })
            }
            Next::Evacuate(step) => Some(Step::Evacuate(candidate.number, step)),
            Next::Wait(_) => None,
        },
        State::Ready { .. } => Some(Step::Publish { new: candidate.number, old: serving }),
        State::Fetching
        | State::Preflight
        | State::Starting { .. }
        | State::Warming { .. }
        | State::Serving { .. }
        | State::Retired { .. }
        | State::Draining { .. }
        | State::Parked { .. }
        | State::Terminating { .. }
        | State::Killing { .. } => None,
    }
}

/// The generation that is made to serve again now: nothing better can come now, and it has only to be let.
fn returning(slot: &Slot, now: Tick) -> Option<Generation> {
    let warm = goals::first_warm(slot, now)?;
    let runs_alone = |other: &Gen| other.number != warm.number && other.has_process() && strategy::apart(other, warm);
    let blocked = slot.generations.values().any(runs_alone)
        || start_gate(slot, &warm.artifact, now).is_some()
        || predecessor_of(slot, warm).is_some();
    (!blocked).then_some(warm.number)
}

/// The generation whose drain one that returns has to wait for: what serves is well, and would be the second to
/// drain.
pub(crate) fn predecessor_of<'s>(slot: &'s Slot, warm: &Gen) -> Option<&'s Gen> {
    if slot.serving().is_none() || slot.memory.rolled_back.is_some() {
        return None;
    }
    slot.generations.values().find(|other| other.is_leaving() && other.number != warm.number)
}
