//! A slot: its generations, what is wanted of it, and the loop that joins them.
//!
//! `handle` takes one input, walks the edges it causes, asks `plan` for the steps that are possible
//! now and applies them. The shell carries the returned steps out, in order, and reports back by
//! further inputs. Must not live here: the choice of a step (that is `plan`), or I/O.

mod command;
mod edges;

use std::collections::{BTreeMap, BTreeSet};

use supervisor_protocol::{ByClass, Generation, Reason, Sha256, StreamClass, Tick};

use crate::catalog::Artifact;
use crate::generation::{DrainEnd, Exit, Facts, Failure, Gen, Probe, State};
use crate::plan::{self, Context};
use crate::timings::Timings;

pub use self::command::SUPERSEDED;

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
    LaunchFailed(Generation, NotLaunched),
    Probed(Generation, Probe),
    /// What the data plane and the child count for a generation.
    Leases(Generation, ByClass<u64>),
    ChildLoad(Generation, u64),
    Exited(Generation, Exit),
    /// These hashes may not run, nor come back.
    Denied(BTreeSet<Sha256>),
    /// A deadline may have passed.
    Tick,
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    Fetch(String),
    Hash {
        found: String,
    },
    Artifact(String),
    /// The state directory cannot be written, so nothing new may begin.
    Ledger(String),
}

/// Why a process was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotLaunched {
    /// No port of the range is free.
    Ports {
        range: String,
    },
    Failed(String),
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

impl Step {
    /// Its name in logs, metrics and tests.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Step::Fetch(..) => "fetch",
            Step::Describe(_) => "describe",
            Step::Start(_) => "start",
            Step::Publish { .. } => "publish",
            Step::Withdraw(..) => "withdraw",
            Step::Absent(_) => "absent",
            Step::Cut(..) => "cut",
            Step::DrainChild(_) => "drain_child",
            Step::Terminate(_) => "terminate",
            Step::Kill(_) => "kill",
            Step::Forget(..) => "forget",
        }
    }
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
    /// What last served here. It comes back when nothing else can serve.
    pub(crate) last_good: Option<Artifact>,
    pub(crate) generations: BTreeMap<Generation, Gen>,
    pub(crate) leases: BTreeMap<Generation, ByClass<u64>>,
    pub(crate) child_load: BTreeMap<Generation, u64>,
    pub(crate) failures: BTreeMap<Sha256, Failure>,
    pub(crate) denied: BTreeSet<Sha256>,
    pub(crate) absent: Option<Absent>,
    pub(crate) timings: Timings,
}

impl Slot {
    /// An empty slot of which nothing is wanted yet. `last_good` is what served in it before a restart.
    #[must_use]
    pub fn new(timings: Timings, last_good: Option<Artifact>) -> Slot {
        Slot {
            want: Want::Nothing,
            last_good,
            generations: BTreeMap::new(),
            leases: BTreeMap::new(),
            child_load: BTreeMap::new(),
            failures: BTreeMap::new(),
            denied: BTreeSet::new(),
            absent: None,
            timings,
        }
    }

    /// Takes one input and returns the steps that follow from it, in order. `next` is the number for
    /// a new generation, should one begin; at most one does.
    pub fn handle(&mut self, input: Input, next: Generation, now: Tick) -> Vec<Step> {
        self.expire(now);
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

    /// What should serve, when that is known.
    #[must_use]
    pub fn wanted(&self) -> Option<&Artifact> {
        match &self.want {
            Want::Serve(artifact) => Some(artifact),
            Want::Keep(_) | Want::Nothing | Want::Stop { .. } | Want::Force => None,
        }
    }

    /// What an artifact is remembered for. It may have served since.
    #[must_use]
    pub fn failure_of(&self, sha256: &Sha256) -> Option<&Failure> {
        self.failures.get(sha256)
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
}
