//! A slot: its generations, what is wanted of it, and the loop that joins them.
//!
//! `handle` takes one input, walks the edges it causes, asks `plan` for the steps that are possible
//! now and applies them. The shell carries the returned steps out, in order, and reports back by
//! further inputs. Must not live here: the choice of a step (that is `plan`), or I/O.

use std::collections::BTreeMap;

use supervisor_protocol::admin::{DrainCause, DrainOutcome};
use supervisor_protocol::{ByClass, Generation, Reason, Sha256, StreamClass, Tick};

use crate::catalog::Artifact;
use crate::generation::{Drain, DrainEnd, Ending, Exit, Facts, Failure, Gen, Probe, State};
use crate::plan::{self, Context};
use crate::timings::Timings;

/// What should serve in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// This artifact.
    Serve(Artifact),
    /// Whatever serves now; the entry cannot be followed here.
    Keep(Reason),
    /// Nothing: the name is no longer approved.
    Nothing,
    /// Nothing: the host is on its way out, and all work must be over at this tick.
    Stop { deadline: Tick },
    /// Nothing, at once: the host's budget is spent or an operator forces it.
    Force,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Want(Want),
    Fetched(Generation),
    FetchFailed(Generation, Failed),
    Described(Generation, Facts),
    PreflightFailed(Generation, String),
    Launched(Generation),
    LaunchFailed(Generation, String),
    Probed(Generation, Probe),
    /// What the data plane and the child count for a generation.
    Leases(Generation, ByClass<u64>),
    ChildLoad(Generation, u64),
    Exited(Generation, Exit),
    /// A deadline may have passed.
    Tick,
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    Fetch(String),
    Hash { found: String },
    Artifact(String),
    /// The state directory cannot be written, so nothing new may begin.
    Ledger(String),
}

/// What the shell must do. The state has already been changed to expect it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Fetch and verify; answer `Fetched` or `FetchFailed`.
    Fetch(Generation, Artifact),
    /// Ask the build what it is; answer `Described` or `PreflightFailed`.
    Describe(Generation),
    /// Make the process; answer `Launched` or `LaunchFailed`, later `Probed` and `Exited`.
    Start(Generation),
    /// Record its readiness, make it the slot's target, then retire the old target. In this order.
    Publish { new: Generation, old: Option<Generation> },
    /// Take the target away: nothing serves the slot from now on.
    Withdraw(Generation, Absent),
    /// Nothing serves, and this is what a request is told from now on.
    Absent(Absent),
    /// End the leases of this class: its deadline has passed.
    Cut(Generation, StreamClass),
    /// The leases are gone: tell the child to drain, and answer `ChildLoad` until it is 0.
    DrainChild(Generation),
    /// Send the stop signal to the process and its group.
    Terminate(Generation),
    /// Kill the whole group.
    Kill(Generation),
    /// No process is left: free the port, write the receipt, strike it off the ledger. Cancels
    /// whatever of it is still under way.
    Forget(Generation, Option<DrainEnd>),
}

/// What a request to a slot without a target is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Wait: the slot is approved and expected at this tick, when that is known.
    Hold { until: Option<Tick> },
    /// The name is not approved.
    NotFound,
    /// The host is on its way out.
    Stopping,
    /// Approved elsewhere, not servable here.
    NotServing,
}

/// The state of a slot.
#[derive(Debug, Clone)]
pub struct Slot {
    pub(crate) want: Want,
    pub(crate) generations: BTreeMap<Generation, Gen>,
    pub(crate) leases: BTreeMap<Generation, ByClass<u64>>,
    pub(crate) child_load: BTreeMap<Generation, u64>,
    pub(crate) failures: BTreeMap<Sha256, Failure>,
    pub(crate) absent: Option<Absent>,
    pub(crate) timings: Timings,
}

impl Slot {
    /// An empty slot of which nothing is wanted yet.
    #[must_use]
    pub fn new(timings: Timings) -> Slot {
        Slot {
            want: Want::Nothing,
            generations: BTreeMap::new(),
            leases: BTreeMap::new(),
            child_load: BTreeMap::new(),
            failures: BTreeMap::new(),
            absent: None,
            timings,
        }
    }

    /// Takes one input and returns the steps that follow from it, in order. `next` is the number for
    /// a new generation, should one begin; at most one does.
    pub fn handle(&mut self, input: Input, next: Generation, now: Tick) -> Vec<Step> {
        let mut steps = self.take(input, now);
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

    /// The failure that the wanted artifact is remembered for.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        let Want::Serve(artifact) = &self.want else { return None };
        self.failures.get(&artifact.sha256)
    }

    /// Whether the slot has had its verdict: it serves, or has failed to with a reason, or nothing of
    /// what is wanted can be served here.
    #[must_use]
    pub fn has_verdict(&self) -> bool {
        match &self.want {
            Want::Serve(artifact) => self.serving().is_some() || self.failures.contains_key(&artifact.sha256),
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
        plan::reasons(self, now)
    }

    /// When to call `handle(Input::Tick)` at the latest, and for what.
    #[must_use]
    pub fn wake(&self) -> Option<(Tick, &'static str)> {
        plan::wake(self)
    }

    pub(crate) fn leases(&self, generation: Generation) -> ByClass<u64> {
        self.leases.get(&generation).copied().unwrap_or_default()
    }

    /// Whether the leases of a retired generation have been counted and are none.
    pub(crate) fn is_idle(&self, generation: Generation) -> bool {
        self.leases.get(&generation).is_some_and(|leases| leases.total() == 0)
    }

    fn state(&self, number: Generation) -> Option<&State> {
        self.generations.get(&number).map(|generation| &generation.state)
    }

    fn take(&mut self, input: Input, now: Tick) -> Vec<Step> {
        match input {
            Input::Want(want) => {
                if let Want::Stop { deadline } = want {
                    self.shorten_drains(deadline);
                }
                self.want = want;
                Vec::new()
            }
            Input::Fetched(number) => {
                let taken = self.generations.get_mut(&number).is_some_and(|generation| generation.fetched(now));
                if taken { vec![Step::Describe(number)] } else { Vec::new() }
            }
            Input::FetchFailed(number, failed) => self.fail(number, now, |sha256, retry_in_ms| match failed {
                Failed::Fetch(detail) => Reason::FetchFailed { sha256, detail, retry_in_ms },
                Failed::Hash { found } => Reason::HashMismatch { expected: sha256, found, retry_in_ms },
                Failed::Artifact(detail) => Reason::ArtifactRefused { sha256, detail, retry_in_ms },
                Failed::Ledger(detail) => Reason::LedgerUnwritable { detail },
            }),
            Input::Described(number, facts) => {
                if let Some(generation) = self.generations.get_mut(&number) {
                    generation.described(facts, now);
                }
                Vec::new()
            }
            Input::PreflightFailed(number, detail) => {
                self.fail(number, now, |_, retry_in_ms| Reason::PreflightFailed { detail, retry_in_ms })
            }
            Input::Launched(number) => {
                let timings = self.timings.clone();
                if let Some(generation) = self.generations.get_mut(&number) {
                    generation.launched(&timings, now);
                }
                Vec::new()
            }
            Input::LaunchFailed(number, detail) => {
                self.fail(number, now, |sha256, retry_in_ms| Reason::StartFailed { sha256, detail, retry_in_ms })
            }
            Input::Probed(number, probe) => {
                let timings = self.timings.clone();
                if let Some(generation) = self.generations.get_mut(&number) {
                    generation.probed(&probe, &timings, now);
                }
                Vec::new()
            }
            Input::Leases(number, leases) => {
                // A count taken before the target was retired could still grow, so it is no proof of rest.
                if let Some(State::Retired { .. } | State::Draining { .. }) = self.state(number) {
                    self.leases.insert(number, leases);
                }
                Vec::new()
            }
            Input::ChildLoad(number, inflight) => {
                if let Some(State::Draining { .. }) = self.state(number) {
                    self.child_load.insert(number, inflight);
                }
                Vec::new()
            }
            Input::Exited(number, exit) => self.exited(number, exit, now),
            Input::Tick => Vec::new(),
        }
    }

    /// A candidate that is no more (or never was): remembered, forgotten, tried again later.
    fn fail(&mut self, number: Generation, now: Tick, reason: impl FnOnce(String, u64) -> Reason) -> Vec<Step> {
        let Some(generation) = self.generations.get(&number) else { return Vec::new() };
        let ending = match &generation.state {
            State::Terminating { why, .. } | State::Killing { why } => Some(why.clone()),
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Warming { .. }
            | State::Ready { .. }
            | State::Serving { .. }
            | State::Retired { .. }
            | State::Draining { .. } => None,
        };
        if ending.is_none() {
            let sha256 = generation.sha256;
            self.remember(sha256, now, reason);
        }
        self.forget(number);
        vec![Step::Forget(number, None)]
    }

    fn exited(&mut self, number: Generation, exit: Exit, now: Tick) -> Vec<Step> {
        let Some(generation) = self.generations.get(&number) else { return Vec::new() };
        let (sha256, since) = (generation.sha256, generation.since);
        match generation.state.clone() {
            State::Terminating { why: Ending::Drained(end), .. } | State::Killing { why: Ending::Drained(end) } => {
                self.forget(number);
                vec![Step::Forget(number, Some(end))]
            }
            State::Retired { drain, .. } | State::Draining { drain, .. } => {
                let outcome =
                    if self.leases(number).total() == 0 { DrainOutcome::Drained } else { DrainOutcome::ProcessGone };
                self.forget(number);
                vec![Step::Forget(number, Some(drain.end(outcome, now)))]
            }
            State::Serving { .. } => {
                if now.since(since) > self.timings.backoff_reset {
                    self.failures.remove(&sha256);
                }
                let detail = exit.to_string();
                self.remember(sha256, now, |_, retry_in_ms| Reason::CrashBackoff {
                    generation: number.0,
                    detail,
                    retry_in_ms,
                });
                let end =
                    Drain::begin(DrainCause::Crash, None, &self.timings, None, now).end(DrainOutcome::ProcessGone, now);
                let absent = plan::absent(self, now);
                self.absent = Some(absent);
                self.forget(number);
                vec![Step::Withdraw(number, absent), Step::Forget(number, Some(end))]
            }
            State::Starting { .. } | State::Warming { .. } | State::Ready { .. } => {
                let detail = exit.to_string();
                self.remember(sha256, now, |sha256, retry_in_ms| Reason::StartFailed { sha256, detail, retry_in_ms });
                self.forget(number);
                vec![Step::Forget(number, None)]
            }
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Terminating { why: Ending::Abandoned, .. }
            | State::Killing { why: Ending::Abandoned } => {
                self.forget(number);
                vec![Step::Forget(number, None)]
            }
        }
    }

    pub(crate) fn remember(&mut self, sha256: Sha256, now: Tick, reason: impl FnOnce(String, u64) -> Reason) {
        let count = self.failures.get(&sha256).map_or(0, |failure| failure.count) + 1;
        let pause = self.timings.backoff(count);
        let until = now.after(pause);
        let reason = reason(sha256.to_string(), supervisor_protocol::time::millis(pause));
        self.failures.insert(sha256, Failure { count, until, reason });
    }

    fn forget(&mut self, number: Generation) {
        self.generations.remove(&number);
        self.leases.remove(&number);
        self.child_load.remove(&number);
    }

    fn apply(&mut self, step: &Step, now: Tick) {
        match step {
            Step::Fetch(number, artifact) => {
                self.generations.insert(*number, Gen::begin(*number, artifact.sha256, now));
            }
            Step::Describe(_) => {}
            Step::Start(number) => self.edge(*number, |generation| generation.start(now)),
            Step::Publish { new, old } => {
                self.absent = None;
                self.edge(*new, |generation| generation.publish(now));
                if let Some(old) = old {
                    let drain = Drain::begin(DrainCause::Swap, Some(*new), &self.timings, None, now);
                    self.edge(*old, |generation| generation.retire(drain, now));
                }
            }
            Step::Withdraw(number, absent) => {
                self.absent = Some(*absent);
                let (cause, limit) = match self.want {
                    Want::Stop { deadline } => (DrainCause::HostStop, Some(deadline)),
                    Want::Force => (DrainCause::HostStop, Some(now)),
                    Want::Serve(_) | Want::Keep(_) | Want::Nothing => (DrainCause::Removal, None),
                };
                let drain = Drain::begin(cause, None, &self.timings, limit, now);
                self.edge(*number, |generation| generation.retire(drain, now));
            }
            Step::Absent(absent) => self.absent = Some(*absent),
            Step::Cut(number, class) => {
                if let Some(Gen { state: State::Retired { drain, .. } | State::Draining { drain, .. }, .. }) =
                    self.generations.get_mut(number)
                {
                    *drain.cut.get_mut(*class) = true;
                }
            }
            Step::DrainChild(number) => {
                self.child_load.remove(number);
                self.edge(*number, |generation| generation.drain_child(now));
            }
            Step::Terminate(number) => self.terminate(*number, now),
            Step::Kill(number) => self.edge(*number, |generation| generation.kill(now)),
            Step::Forget(number, _) => self.forget(*number),
        }
    }

    fn terminate(&mut self, number: Generation, now: Tick) {
        let Some(generation) = self.generations.get(&number) else { return };
        let (sha256, mut grace) = (generation.sha256, self.timings.stop_grace);
        let why = match &generation.state {
            State::Retired { drain, .. } | State::Draining { drain, .. } => {
                let left = self.leases(number).total() + self.child_load.get(&number).copied().unwrap_or_default();
                let outcome = if left == 0 { DrainOutcome::Drained } else { DrainOutcome::DeadlineCut };
                Ending::Drained(drain.end(outcome, now))
            }
            State::Warming { deadline, detail, .. } => {
                if now >= *deadline {
                    let detail = detail.clone();
                    self.remember(sha256, now, |sha256, retry_in_ms| Reason::NeverReady {
                        sha256,
                        detail,
                        retry_in_ms,
                    });
                }
                // It has admitted nothing, so there is nothing to wait for.
                grace = grace.min(plan::CANDIDATE_GRACE);
                Ending::Abandoned
            }
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Serving { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => {
                grace = grace.min(plan::CANDIDATE_GRACE);
                Ending::Abandoned
            }
        };
        self.edge(number, |generation| generation.terminate(why, grace, now));
    }

    fn shorten_drains(&mut self, limit: Tick) {
        for generation in self.generations.values_mut() {
            if let State::Retired { drain, .. } | State::Draining { drain, .. } = &mut generation.state {
                drain.shorten(limit);
            }
        }
    }

    fn edge(&mut self, number: Generation, edge: impl FnOnce(&mut Gen) -> bool) {
        if let Some(generation) = self.generations.get_mut(&number) {
            let taken = edge(generation);
            debug_assert!(taken, "{number} is {:?}: the plan took an edge that is not there", generation.phase());
        }
    }
}
