//! How a change is made: beside the old one, in its place while requests wait, or not without a yes.
//!
//! Pure questions to a slot. Must not live here: whether a change is wanted at all (`goals`), steps (`plan`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::time::millis;
use supervisor_protocol::{Generation, Reason, Tick};

use crate::budget::Span;
use crate::evacuate::{self, Evacuate, Stage};
use crate::generation::{Facts, Gen};
use crate::goals::{self, ahead_of, is_waiting, start_gate};
use crate::slot::Slot;

/// How long a forecast may be acted on.
const FRESH: Duration = Duration::from_secs(2);
/// What a stop is taken for until one has been seen.
const STOP_UNSEEN: Duration = Duration::from_millis(500);
/// Hold bounds over which work is waited for to thin out, before it counts as too long to be held.
const PATIENCE: u32 = 3;

/// How old and new take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// New beside old; clients see nothing.
    Overlap,
    /// Requests wait while the old one stops and the new one starts.
    Hold,
    /// Routers send them to other hosts meanwhile, one host after the other.
    Evacuate,
    /// Neither fits: not without an operator's yes to being away.
    NeedsWindow,
}

/// What the next change of a slot would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// `None` while nothing is to be changed, or the build has not said yet what it is.
    pub strategy: Option<Strategy>,
    /// How long nothing would serve; zero beside the old one.
    pub away_ms: u64,
    /// Everything that it waits for.
    pub blocked_by: Vec<Reason>,
}

/// What comes next for a candidate that has been described.
pub(crate) enum Next {
    Start,
    /// Withdraw what serves, which must empty by then unless an operator accepts to be away.
    Hold {
        old: Generation,
        empty_by: Option<Tick>,
        expected: Tick,
    },
    Evacuate(Evacuate),
    Wait(Reason),
}

/// Whether two may never run at once: one keeps its state in the slot's data directory, or needs something
/// of the host for itself.
pub(crate) fn apart(one: &Gen, other: &Gen) -> bool {
    let alone = |generation: &Gen| generation.facts().is_none_or(is_alone);
    alone(one) || alone(other)
}

pub(crate) fn is_alone(facts: &Facts) -> bool {
    match facts.state {
        StateKind::Local => true,
        StateKind::None | StateKind::Shared => facts.exclusive,
    }
}

/// How long a start and a stop take here, by what was seen: the longest of the last five.
pub(crate) fn start_and_stop(slot: &Slot) -> (Duration, Duration) {
    let longest = |seen: &[u64]| seen.iter().max().map(|ms| Duration::from_millis(*ms));
    let start = longest(&slot.memory.starts_ms).or(slot.policy.start_estimate).unwrap_or(slot.timings.ready_window);
    (start, longest(&slot.memory.stops_ms).unwrap_or(STOP_UNSEEN))
}

/// How long work may take to end within the hold bound; `None` when stopping and starting alone take longer.
fn room(slot: &Slot) -> Option<Duration> {
    let (start, stop) = start_and_stop(slot);
    slot.timings.hold.checked_sub(start.saturating_add(stop))
}

/// What comes next for a described candidate. It starts alone, or beside one other when both may share: what
/// serves, or what drains after a removal or beside a crash, for then nothing else serves the slot.
pub(crate) fn next(slot: &Slot, candidate: &Gen, now: Tick) -> Next {
    if let Some(reason) = start_gate(slot, &candidate.artifact, now).or_else(|| in_the_way(slot, candidate)) {
        // Nobody waits for it with the slot half given away.
        let given = slot.evacuation.is_some_and(|one| one.new == candidate.number && one.stage != Stage::Away);
        return if given { Next::Evacuate(Evacuate::StepBack) } else { Next::Wait(reason) };
    }
    if let Some(serving) = slot.serving().filter(|serving| apart(serving, candidate)) {
        return hold(slot, candidate, serving, now);
    }
    let others = || slot.generations.values().filter(|other| other.number != candidate.number && other.has_process());
    // What is kept for a way back is neither in use nor in the way.
    let oldest = others().find(|other| other.is_leaving());
    match oldest.filter(|_| others().filter(|other| !other.is_parked()).count() > 1) {
        Some(oldest) => Next::Wait(Reason::PredecessorPresent { generation: oldest.number.0 }),
        None => Next::Start,
    }
}

/// What keeps a candidate from starting even after what serves has gone.
fn in_the_way(slot: &Slot, candidate: &Gen) -> Option<Reason> {
    let mut others = slot.generations.values().filter(|other| other.number != candidate.number && other.has_process());
    let holder = others.find(|other| (other.is_leaving() || other.is_parked()) && apart(other, candidate));
    if let Some(holder) = holder {
        let local = |one: &Gen| one.facts().is_none_or(|facts| facts.state == StateKind::Local);
        let generation = holder.number.0;
        return Some(if local(holder) || local(candidate) {
            Reason::DataDirectoryBusy { generation }
        } else {
            Reason::PredecessorPresent { generation }
        });
    }
    let local = candidate.facts().is_none_or(|facts| facts.state == StateKind::Local);
    let good = slot.memory.last_good.as_ref();
    let comes_back = ahead_of(slot, candidate).is_some_and(|first| good.is_some_and(|good| good.is_same(first)));
    (local && comes_back).then(|| Reason::NeedsWindow {
        detail: format!(
            "{} would take over the slot's data directory, and what served from it comes back first",
            candidate.number
        ),
    })
}

/// Whether the old one may be withdrawn now, so that the candidate takes its place.
fn hold(slot: &Slot, candidate: &Gen, serving: &Gen, now: Tick) -> Next {
    if let Some(until) = goals::jitter_end(slot, &candidate.artifact).filter(|until| *until > now) {
        return Next::Wait(Reason::Jitter { left_ms: millis(until.since(now)) });
    }
    let (start, stop) = start_and_stop(slot);
    let forecast = fresh_forecast(slot, candidate, now);
    if slot.memory.accepts_downtime(&candidate.sha256()) {
        let empty = forecast.unwrap_or_default();
        let expected = now.after(empty.saturating_add(stop).saturating_add(start));
        return Next::Hold { old: serving.number, empty_by: None, expected };
    }
    let Some(room) = room(slot) else {
        return evacuate_or_wait(slot, candidate, serving, too_long(slot, serving, candidate, Duration::ZERO), now);
    };
    let paused = slot.next_hold.is_some_and(|next| next > now);
    match forecast.filter(|_| !paused) {
        Some(empty) if empty <= room => {
            let expected = now.after(empty.saturating_add(stop).saturating_add(start));
            Next::Hold { old: serving.number, empty_by: Some(now.after(room)), expected }
        }
        Some(_) | None => {
            evacuate_or_wait(slot, candidate, serving, quiescing(slot, candidate, serving, room, now), now)
        }
    }
}

/// What takes longer than requests may wait is left to peers, where there are any.
fn evacuate_or_wait(slot: &Slot, candidate: &Gen, serving: &Gen, reason: Reason, now: Tick) -> Next {
    let begun = slot.evacuation.is_some_and(|evacuation| evacuation.new == candidate.number);
    let needs_window = begun || matches!(reason, Reason::NeedsWindow { .. });
    let neighbours = slot.policy.evacuate.as_ref();
    let Some(neighbours) = neighbours.filter(|_| needs_window && evacuate::fits(slot, serving, candidate)) else {
        return Next::Wait(reason);
    };
    match evacuate::next(slot, neighbours, candidate, now) {
        evacuate::Next::Do(step) => Next::Evacuate(step),
        evacuate::Next::Wait(reason) => Next::Wait(reason),
        evacuate::Next::Go => {
            let (start, stop) = start_and_stop(slot);
            let expected = now.after(stop.saturating_add(start));
            Next::Hold { old: serving.number, empty_by: None, expected }
        }
    }
}

/// Whether peers decide when the change may be made.
pub(crate) fn wants_peers(slot: &Slot, now: Tick) -> bool {
    let Some(candidate) = slot.candidate().filter(|candidate| is_waiting(candidate)) else { return false };
    match next(slot, candidate, now) {
        Next::Evacuate(_) => true,
        Next::Wait(reason) => is_of_peers(&reason),
        Next::Start | Next::Hold { .. } => false,
    }
}

const fn is_of_peers(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::PeerFirst { .. }
            | Reason::PeerSilent { .. }
            | Reason::PeerEvacuating { .. }
            | Reason::NoPeerReady
            | Reason::Evacuating { .. }
    )
}

fn quiescing(slot: &Slot, candidate: &Gen, serving: &Gen, room: Duration, now: Tick) -> Reason {
    let quiescing = slot.quiescing.as_ref().filter(|quiescing| quiescing.candidate == candidate.number);
    let forecast = quiescing.map_or(Duration::ZERO, |quiescing| Duration::from_millis(quiescing.forecast_ms));
    let waited = quiescing.is_some_and(|quiescing| now >= patience_end(slot, quiescing.since));
    if waited && forecast > room {
        return too_long(slot, serving, candidate, forecast);
    }
    Reason::Quiescing { generation: serving.number.0, forecast_ms: millis(forecast), bound_ms: millis(room) }
}

/// When work that does not thin out counts as too long to be held.
pub(crate) fn patience_end(slot: &Slot, since: Tick) -> Tick {
    since.after(slot.timings.hold.saturating_mul(PATIENCE))
}

fn too_long(slot: &Slot, serving: &Gen, candidate: &Gen, empty: Duration) -> Reason {
    let (start, stop) = start_and_stop(slot);
    let whole = |duration: Duration| Span(Duration::from_millis(millis(duration)));
    let away = empty.saturating_add(stop).saturating_add(start);
    let alone = [serving, candidate].into_iter().find(|one| one.facts().is_none_or(is_alone)).unwrap_or(candidate);
    let why = match alone.facts() {
        Some(facts) if facts.state != StateKind::Local => "needs something of the host for itself",
        Some(_) | None => "keeps its state in the slot's data directory",
    };
    Reason::NeedsWindow {
        detail: format!(
            "{} {why}, so old and new take turns: emptying takes {}, stopping {}, starting {}, and requests may wait \
             {}; nothing would serve for about {}",
            alone.number,
            whole(empty),
            whole(stop),
            whole(start),
            whole(slot.timings.hold),
            whole(away)
        ),
    }
}

/// The last forecast for this candidate, while it may be acted on.
fn fresh_forecast(slot: &Slot, candidate: &Gen, now: Tick) -> Option<Duration> {
    let quiescing = slot.quiescing.as_ref().filter(|quiescing| quiescing.candidate == candidate.number)?;
    (now < quiescing.at.after(FRESH)).then(|| Duration::from_millis(quiescing.forecast_ms))
}

/// The generation whose forecast a described candidate waits for.
pub(crate) fn wants_forecast(slot: &Slot, now: Tick) -> Option<Generation> {
    let candidate = slot.candidate().filter(|candidate| is_waiting(candidate))?;
    let serving = slot.serving().filter(|serving| apart(serving, candidate))?;
    let jitter = goals::jitter_end(slot, &candidate.artifact);
    let paused = [slot.next_hold, jitter].into_iter().flatten().any(|until| until > now);
    if paused || start_gate(slot, &candidate.artifact, now).is_some() || in_the_way(slot, candidate).is_some() {
        return None;
    }
    room(slot).map(|_| serving.number)
}

/// The way in which the next change would be made.
pub(crate) fn outlook(slot: &Slot, now: Tick) -> Outlook {
    let described = slot.candidate().filter(|candidate| candidate.facts().is_some());
    let serving = slot.serving();
    let (start, stop) = start_and_stop(slot);
    let strategy = described.map(|candidate| match serving {
        Some(serving) if apart(serving, candidate) => match next(slot, candidate, now) {
            Next::Wait(Reason::NeedsWindow { .. }) => Strategy::NeedsWindow,
            Next::Evacuate(_) => Strategy::Evacuate,
            Next::Wait(reason) if is_of_peers(&reason) => Strategy::Evacuate,
            Next::Wait(_) | Next::Hold { .. } | Next::Start if room(slot).is_none() => {
                if evacuate::fits(slot, serving, candidate) { Strategy::Evacuate } else { Strategy::NeedsWindow }
            }
            Next::Wait(_) | Next::Hold { .. } | Next::Start => Strategy::Hold,
        },
        None if slot.evacuation.is_some() => Strategy::Evacuate,
        None if slot.holding.is_some() => Strategy::Hold,
        Some(_) | None => Strategy::Overlap,
    });
    let empty = slot.quiescing.as_ref().map_or(0, |quiescing| quiescing.forecast_ms);
    let away = match strategy {
        Some(Strategy::Hold | Strategy::Evacuate | Strategy::NeedsWindow) => {
            millis(start.saturating_add(stop)).saturating_add(empty)
        }
        Some(Strategy::Overlap) | None => 0,
    };
    Outlook { strategy, away_ms: away, blocked_by: slot.reasons(now) }
}
