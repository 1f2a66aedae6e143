//! The edges of the machine: one function each, which says whether it was there to be taken.
//!
//! Must not live here: which edge to take (that is `plan`).

use std::time::Duration;

use supervisor_protocol::Tick;
use supervisor_protocol::admin::DrainOutcome;
use supervisor_protocol::time::millis;

use super::{Drain, Ending, Facts, Gen, Health, Probe, State};
use crate::timings::Timings;

impl Gen {
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
        self.started = Some(now);
        self.enter(State::Starting { facts }, now)
    }

    pub(crate) fn launched(&mut self, timings: &Timings, now: Tick) -> bool {
        let State::Starting { facts } = &self.state else { return false };
        let facts = facts.clone();
        self.warm(facts, "started".to_owned(), timings, now)
    }

    /// A probe round of a candidate, or of what serves, has ended. Gives back how long the start took, once.
    pub(crate) fn probed(&mut self, probe: &Probe, timings: &Timings, now: Tick) -> Option<u64> {
        match (&mut self.state, probe) {
            (State::Warming { facts, .. }, Probe::Ready) => {
                let facts = facts.clone();
                self.enter(State::Ready { facts }, now);
                return self.started.take().map(|started| millis(now.since(started)));
            }
            (State::Warming { deadline, limit, detail, .. }, Probe::Initializing { detail: said }) => {
                *deadline = now.after(timings.ready_window).min(*limit);
                detail.clone_from(said);
            }
            (State::Warming { detail, .. }, Probe::NotReady { detail: said }) => detail.clone_from(said),
            (State::Ready { facts }, Probe::NotReady { detail } | Probe::Initializing { detail }) => {
                let facts = facts.clone();
                self.warm(facts, detail.clone(), timings, now);
            }
            (State::Serving { health, .. }, probe) => health.heard(probe, now),
            _ => {}
        }
        None
    }

    /// A probe round of one that may be gone back to has ended. It asks whether it could serve, not whether it
    /// drains.
    pub(crate) fn compared(&mut self, probe: &Probe, now: Tick) {
        if let State::Retired { health, .. } | State::Draining { health, .. } | State::Parked { health, .. } =
            &mut self.state
        {
            health.heard(probe, now);
        }
    }

    pub(crate) fn publish(&mut self, now: Tick) -> bool {
        let State::Ready { facts } = &self.state else { return false };
        let facts = facts.clone();
        self.enter(State::Serving { facts, health: Health::ready(now) }, now)
    }

    pub(crate) fn retire(&mut self, drain: Drain, now: Tick) -> bool {
        let State::Serving { facts, health } = &self.state else { return false };
        let (facts, health) = (facts.clone(), health.clone());
        self.enter(State::Retired { facts, drain, health }, now)
    }

    /// It serves again: its drain, if it had begun, is taken back.
    pub(crate) fn restore(&mut self, now: Tick) -> bool {
        if !self.can_return() {
            return false;
        }
        let (State::Retired { facts, health, .. }
        | State::Draining { facts, health, .. }
        | State::Parked { facts, health }) = &self.state
        else {
            return false;
        };
        let (facts, health) = (facts.clone(), health.clone());
        self.enter(State::Serving { facts, health: Health { answered: now, ..health } }, now)
    }

    pub(crate) fn drain_child(&mut self, now: Tick) -> bool {
        let State::Retired { facts, drain, health } = &self.state else { return false };
        let (facts, drain, health) = (facts.clone(), drain.clone(), health.clone());
        self.enter(State::Draining { facts, drain, health }, now)
    }

    pub(crate) fn park(&mut self, now: Tick) -> bool {
        let State::Draining { facts, health, .. } = &self.state else { return false };
        let (facts, health) = (facts.clone(), health.clone());
        self.enter(State::Parked { facts, health }, now)
    }

    pub(crate) fn terminate(&mut self, why: Ending, grace: Duration, now: Tick) -> bool {
        let facts = match &self.state {
            State::Starting { facts }
            | State::Warming { facts, .. }
            | State::Ready { facts }
            | State::Serving { facts, .. }
            | State::Retired { facts, .. }
            | State::Draining { facts, .. }
            | State::Parked { facts, .. } => facts.clone(),
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
            State::Retired { facts, drain, .. } | State::Draining { facts, drain, .. } => {
                (facts.clone(), Ending::Drained(drain.end(DrainOutcome::Forced, now)))
            }
            State::Starting { facts }
            | State::Warming { facts, .. }
            | State::Ready { facts }
            | State::Parked { facts, .. } => (facts.clone(), Ending::Abandoned),
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Serving { .. }
            | State::Killing { .. } => return false,
        };
        self.enter(State::Killing { facts, why }, now)
    }

    /// Its last answer has become too old: it counts as unready until it answers again.
    pub(crate) fn expire(&mut self, timings: &Timings, now: Tick) {
        if let State::Serving { health, .. } = &mut self.state
            && health.until(timings).is_some_and(|until| now >= until)
        {
            health.expire(now);
        }
    }

    fn warm(&mut self, facts: Facts, detail: String, timings: &Timings, now: Tick) -> bool {
        let (deadline, limit) = (now.after(timings.ready_window), now.after(timings.ready_max));
        self.enter(State::Warming { facts, deadline, limit, detail }, now)
    }

    fn enter(&mut self, state: State, now: Tick) -> bool {
        self.state = state;
        self.since = now;
        true
    }
}
