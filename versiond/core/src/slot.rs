//! A slot: its generations, what is wanted of it, and the loop that joins them.
//!
//! `handle` takes one input, walks the edges it causes, asks `plan` for the steps that are possible
//! now and applies them. The shell carries the returned steps out, in order, and reports back by
//! further inputs. Must not live here: the choice of a step (that is `plan`), or I/O.

mod apply;
mod command;
mod edges;
mod input;
mod pulse;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use supervisor_protocol::{ByClass, Generation, HostId, Reason, Sha256, Tick};

use crate::catalog::Artifact;
use crate::errors::{Tally, Usual};
use crate::evacuate::{Evacuation, Peer, Stage};
use crate::generation::{Failure, Gen, State};
use crate::goals;
use crate::memory::Memory;
use crate::plan::{self, Context};
use crate::policy::Policy;
use crate::reasons;
use crate::rollback;
use crate::strategy;
use crate::timings::Timings;
use crate::window::Opening;

pub use self::command::SUPERSEDED;
pub use self::input::{Absent, Failed, Input, NotLaunched, Step, Want};
pub use self::pulse::Pulse;

/// The state of a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The moment of the last input.
    pub(crate) seen: Tick,
    pub(crate) want: Want,
    /// When another hash was last wanted.
    pub(crate) wanted_since: Tick,
    pub(crate) memory: Memory,
    pub(crate) generations: BTreeMap<Generation, Gen>,
    pub(crate) leases: BTreeMap<Generation, ByClass<u64>>,
    pub(crate) child_load: BTreeMap<Generation, u64>,
    /// What has been answered, while errors can take something back.
    pub(crate) tallies: BTreeMap<Generation, Tally>,
    pub(crate) usual: Option<Usual>,
    pub(crate) failures: BTreeMap<Sha256, Failure>,
    pub(crate) denied: BTreeSet<Sha256>,
    pub(crate) absent: Option<Absent>,
    pub(crate) trial: Option<Trial>,
    pub(crate) quiescing: Option<Quiescing>,
    pub(crate) holding: Option<Holding>,
    pub(crate) evacuation: Option<Evacuation>,
    pub(crate) peers: BTreeMap<HostId, Peer>,
    /// After stepping back from an evacuation: when the next may be claimed.
    pub(crate) next_claim: Option<Tick>,
    /// After a hold that came to nothing: when the next may begin.
    pub(crate) next_hold: Option<Tick>,
    /// The serving generation that an operator wants another life for.
    pub(crate) restart: Option<Generation>,
    pub(crate) opening: Opening,
    pub(crate) timings: Timings,
    pub(crate) policy: Policy,
}

/// What serves has to prove itself until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) generation: Generation,
    pub(crate) until: Tick,
    /// Since when it answers with more errors than its predecessor.
    pub(crate) risen: Option<Tick>,
}

/// What serves still admits, until it is expected to empty in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quiescing {
    pub(crate) candidate: Generation,
    pub(crate) since: Tick,
    /// When what serves was last expected to be empty, from then on.
    pub(crate) forecast_ms: u64,
    pub(crate) at: Tick,
}

/// Requests wait: the old one empties and stops, then the new one starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    pub(crate) old: Generation,
    pub(crate) new: Generation,
    /// When something is expected to serve again.
    pub(crate) expected: Tick,
    /// When the old one must have emptied, else the hold is given up. `None` = an operator accepts to be away.
    pub(crate) empty_by: Option<Tick>,
    /// Until then no request has waited longer than it may, so that routers need not notice.
    pub(crate) covered_until: Option<Tick>,
}

impl Slot {
    /// An empty slot of which nothing is wanted yet, with what it remembers from before a restart.
    #[must_use]
    pub fn new(timings: Timings, policy: Policy, memory: Memory) -> Slot {
        Slot {
            seen: Tick::ZERO,
            want: Want::Nothing,
            wanted_since: Tick::ZERO,
            memory,
            generations: BTreeMap::new(),
            leases: BTreeMap::new(),
            child_load: BTreeMap::new(),
            tallies: BTreeMap::new(),
            usual: None,
            failures: BTreeMap::new(),
            denied: BTreeSet::new(),
            absent: None,
            trial: None,
            quiescing: None,
            holding: None,
            evacuation: None,
            peers: BTreeMap::new(),
            next_claim: None,
            next_hold: None,
            restart: None,
            opening: Opening::Open { closes: None },
            timings,
            policy,
        }
    }

    /// Takes one input and returns the steps that follow from it, in order. `next` is the number for
    /// a new generation, should one begin; at most one does.
    pub fn handle(&mut self, input: Input, next: Generation, now: Tick) -> Vec<Step> {
        self.seen = now;
        self.expire(now);
        let mut steps = self.take(input, now);
        self.judge(now);
        // The plan is asked again after each batch, since one step may allow the next. Every step
        // changes the state, so this ends; the bound is a guard against a plan that repeats itself.
        let mut next = Some(next);
        for _ in 0..64 {
            let planned = plan::plan(self, &Context { now, next });
            if planned.is_empty() {
                break;
            }
            for step in &planned {
                if let Step::Fetch(..) = step {
                    next = None;
                }
                self.apply(step, now);
            }
            steps.extend(planned);
        }
        steps
    }

    /// Takes the configuration's word on how changes are made, and says whether it is another one.
    pub fn follow(&mut self, policy: &Policy) -> bool {
        let is_other = self.policy != *policy;
        if is_other {
            self.policy.clone_from(policy);
        }
        is_other
    }

    /// The generation that gets new requests.
    #[must_use]
    pub fn serving(&self) -> Option<&Gen> {
        self.generations.values().find(|generation| matches!(generation.state, State::Serving { .. }))
    }

    /// The generation on its way to serve. There is at most one.
    #[must_use]
    pub fn candidate(&self) -> Option<&Gen> {
        self.generations.values().find(|generation| generation.is_candidate())
    }

    /// All generations, oldest first.
    pub fn generations(&self) -> impl Iterator<Item = &Gen> {
        self.generations.values()
    }

    /// What is wanted.
    #[must_use]
    pub fn want(&self) -> &Want {
        &self.want
    }

    /// What should serve by the catalog, when that is known.
    #[must_use]
    pub fn wanted(&self) -> Option<&Artifact> {
        match &self.want {
            Want::Serve(artifact) => Some(artifact),
            Want::Keep(_) | Want::Nothing | Want::Stop { .. } | Want::Force => None,
        }
    }

    /// What should serve by everything that is known here: pinned, or gone back to, instead of the catalog's.
    #[must_use]
    pub fn goal(&self) -> Option<&Artifact> {
        goals::desired(self)
    }

    /// Whether these bytes may not run.
    #[must_use]
    pub fn is_denied(&self, sha256: &Sha256) -> bool {
        self.denied.contains(sha256)
    }

    /// Whether a change to these bytes may begin, for all that others have to say: nobody's yes is missing, and the
    /// rollout window is open.
    #[must_use]
    pub fn may_begin(&self, artifact: &Artifact, now: Tick) -> bool {
        goals::start_gate(self, artifact, now).is_none()
    }

    /// What must not be forgotten over a restart.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The generation that the slot can go back to at once while what serves is on trial.
    #[must_use]
    pub fn way_back(&self) -> Option<&Gen> {
        let baked = self.memory.baked.as_ref().filter(|_| self.is_on_trial())?;
        goals::warm(self, &baked.artifact)
    }

    /// What an operator's `rollback` would go to, and the generation of it that could serve at once.
    #[must_use]
    pub fn goes_back_to(&self) -> Option<(&Artifact, Option<&Gen>)> {
        let ordered = goals::ordered(self).filter(|ordered| !self.memory.took_back(&ordered.sha256))?;
        let way = &rollback::way(self, ordered)?.artifact;
        Some((way, goals::warm(self, way)))
    }

    /// Whether it is shown that the slot is taken away from this host for a change, or about to be.
    #[must_use]
    pub fn is_evacuating(&self) -> bool {
        self.evacuation.is_some()
    }

    /// Whether a router may send it requests: what serves is ready, or they wait no longer than they may; and it is
    /// not left to other hosts.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.evacuation.map(|evacuation| evacuation.stage) {
            None | Some(Stage::Claiming | Stage::Claimed { .. }) => {}
            Some(Stage::Leaving { .. } | Stage::Away) => return false,
        }
        let held = || self.holding.as_ref().is_some_and(|holding| holding.covered_until.is_some());
        self.serving().map_or_else(held, Gen::is_live)
    }

    /// The generation whose forecast is waited for: the shell answers with `Input::Forecast`, again and again
    /// until it is asked no more.
    #[must_use]
    pub fn wants_forecast(&self, now: Tick) -> Option<Generation> {
        strategy::wants_forecast(self, now)
    }

    /// Whether peers decide when a change may be made: the shell asks each of them, again and again until it is told
    /// otherwise, and answers with `Input::Peer`.
    #[must_use]
    pub fn wants_peers(&self, now: Tick) -> bool {
        strategy::wants_peers(self, now)
    }

    /// The generations whose answers are counted: the shell gives `Input::Answers` of each, again and again.
    pub fn wants_answers(&self) -> impl Iterator<Item = Generation> {
        let counted = |one: &&Gen| one.health().is_some();
        let all = self.generations.values().filter(|_| self.policy.errors.is_some());
        all.filter(counted).map(|generation| generation.number)
    }

    /// The way in which the next change would be made, what it would cost, and what it waits for.
    #[must_use]
    pub fn outlook(&self, now: Tick) -> strategy::Outlook {
        strategy::outlook(self, now)
    }

    /// What an artifact is remembered for. It may have served since.
    #[must_use]
    pub fn failure_of(&self, sha256: &Sha256) -> Option<&Failure> {
        self.failures.get(sha256)
    }

    /// Why this generation has failed, if it has, by what became of it since the slot was as it was `before`: it is
    /// being stopped for it, or gone. One that failed before is told again until it is gone.
    #[must_use]
    pub fn failed_since(&self, before: &Slot, number: Generation) -> Option<Reason> {
        if let Some(generation) = self.generations.get(&number) {
            return generation.failure().cloned();
        }
        let gone = before.generations.get(&number)?;
        if let Some(reason) = gone.failure() {
            return Some(reason.clone());
        }
        let (sha256, is_ending) = (gone.sha256(), gone.is_leaving());
        let failure = self.failures.get(&sha256).filter(|_| !is_ending);
        failure.filter(|failure| before.failures.get(&sha256) != Some(failure)).map(|failure| failure.reason.clone())
    }

    /// Whether the slot has had its verdict: it serves, or has failed to with a reason, or nothing of
    /// what is wanted can be served here.
    #[must_use]
    pub fn has_verdict(&self) -> bool {
        match &self.want {
            Want::Serve(artifact) => {
                self.serving().is_some()
                    || self.failures.contains_key(&artifact.sha256)
                    || self.denied.contains(&artifact.sha256)
                    || goals::waits_for_operator(self)
            }
            Want::Keep(_) | Want::Nothing | Want::Stop { .. } | Want::Force => true,
        }
    }

    /// Whether nothing is left of it, so that the shell may drop it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let unwanted = match self.want {
            Want::Nothing | Want::Stop { .. } | Want::Force => true,
            Want::Serve(_) | Want::Keep(_) => false,
        };
        unwanted && self.generations.is_empty()
    }

    /// Every step not taken now, and why.
    #[must_use]
    pub fn reasons(&self, now: Tick) -> Vec<Reason> {
        reasons::reasons(self, now)
    }

    /// When to call `handle(Input::Tick)` at the latest, and for what.
    #[must_use]
    pub fn wake(&self) -> Option<(Tick, &'static str)> {
        plan::wake(self)
    }

    /// Whether something has failed since then, or is being taken back.
    pub(crate) fn has_gone_wrong_since(&self, before: &Slot) -> bool {
        let failed = |sha256| before.failures.get(sha256).map_or(0, |failure| failure.count);
        let taken_back = &self.memory.rolled_back;
        self.failures.iter().any(|(sha256, failure)| failure.count > failed(sha256))
            || taken_back.is_some() && *taken_back != before.memory.rolled_back
    }

    /// Whether what last served has yet to prove itself, and what served before is known.
    pub(crate) fn is_on_trial(&self) -> bool {
        match (&self.memory.last_good, &self.memory.baked) {
            (Some(good), Some(baked)) => !good.is_same(&baked.artifact),
            _ => false,
        }
    }

    pub(crate) fn leases(&self, generation: Generation) -> ByClass<u64> {
        self.leases.get(&generation).copied().unwrap_or_default()
    }

    /// Whether the leases of a retired generation have been counted and are none.
    pub(crate) fn is_idle(&self, generation: Generation) -> bool {
        self.leases.get(&generation).is_some_and(|leases| leases.total() == 0)
    }
}
