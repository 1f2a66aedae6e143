//! One task per slot: it owns the slot's machine, carries out its steps in order, and shows the
//! result on the board *before* a step makes it visible to requests (F03).
//!
//! ```text
//! manager ──Want──▶ actor ──steps──▶ tasks of a generation (fetch, describe, start, watch, drain)
//!                    ▲  │                      │
//!                    └──┼──────Event───────────┘
//!                       └──▶ SlotRoute (publish, withdraw), Target (retire, cut), Board, Recorder
//! ```

mod receipt;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use router_dataplane::{Load, SlotRoute, Target};
use supervisor_protocol::admin::{Phase, Verb};
use supervisor_protocol::contract::Role;
use supervisor_protocol::{ByClass, Generation, Reason, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use versiond_core::catalog::Artifact;
use versiond_core::generation::{Exit, Gen, Probe};
use versiond_core::slot::{Input, Slot, Step, Want};

use crate::board::{LifeView, SlotView};
use crate::faults::{Fault, crash};
use crate::process::ExitInfo;
use crate::store::Installed;
use crate::supervisor::command::Answer;
use crate::supervisor::effects::{Effects, Event};
use crate::supervisor::launch::Life;
use crate::supervisor::preflight::Build;

/// What the actor holds of one generation.
#[derive(Default)]
struct Held {
    /// Ends every task of this generation.
    cancel: CancellationToken,
    /// Ends the attempts to set a worker to work.
    paused: CancellationToken,
    sha256: Option<Sha256>,
    installed: Option<Installed>,
    build: Option<Arc<Build>>,
    life: Option<Life>,
    target: Option<Arc<Target>>,
    /// What the leases were when it was retired.
    at_retire: Option<Load>,
    view: LifeView,
}

/// What is logged when it changes.
struct Standing {
    phase: Phase,
    sha256: Sha256,
    failures: u32,
    live: bool,
}

impl Held {
    fn role(&self) -> Role {
        self.view.facts.as_ref().map_or(Role::Server, |facts| facts.role)
    }
}

pub(crate) struct Actor {
    effects: Effects,
    slot: Slot,
    route: Arc<SlotRoute>,
    numbers: Arc<AtomicU64>,
    held: BTreeMap<Generation, Held>,
    events: mpsc::Receiver<Event>,
    tell: mpsc::Sender<Event>,
}

/// How a slot is spoken to.
#[derive(Clone)]
pub(crate) struct SlotHandle {
    tell: mpsc::Sender<Event>,
}

impl SlotHandle {
    /// Names the hashes that may not run.
    pub(crate) async fn deny(&self, denied: BTreeSet<Sha256>) {
        self.tell.send(Event::Input(Input::Denied(denied))).await.ok();
    }

    /// Hands an operator's order on. An actor that has just ended answers by dropping it.
    pub(crate) async fn command(&self, verb: Verb, answer: Answer) {
        self.tell.send(Event::Command(verb, answer)).await.ok();
    }

    /// Changes what is wanted of the slot.
    pub(crate) async fn want(&self, want: Want) {
        // The actor ends only when nothing is wanted and nothing is left: then nobody misses this.
        self.tell.send(Event::Input(Input::Want(want))).await.ok();
    }
}

impl Actor {
    /// Starts the actor of a slot in which `last_good` served before a restart. It ends once nothing is wanted of the slot and nothing is left.
    pub(crate) fn spawn(
        effects: Effects,
        route: Arc<SlotRoute>,
        numbers: Arc<AtomicU64>,
        last_good: Option<Artifact>,
    ) -> (SlotHandle, tokio::task::JoinHandle<()>) {
        let (tell, events) = mpsc::channel(256);
        let slot = Slot::new(effects.shared.timings.clone(), last_good);
        let handle = SlotHandle { tell: tell.clone() };
        let actor = Actor { effects, slot, route, numbers, held: BTreeMap::new(), events, tell };
        (handle, tokio::spawn(actor.run()))
    }

    async fn run(mut self) {
        self.show();
        loop {
            let wake = self.slot.wake();
            let clock = self.effects.shared.clock;
            let sleep = async move {
                match wake {
                    Some((tick, _)) => tokio::time::sleep(tick.since(clock.now())).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => event,
                    None => break,
                },
                () = sleep => Event::Input(Input::Tick),
            };
            self.take(event).await;
            if self.slot.is_gone() && self.events.is_empty() {
                break;
            }
        }
        self.effects.shared.board.set_slot(&self.effects.id, None);
    }

    async fn take(&mut self, event: Event) {
        let input = match event {
            Event::Input(Input::Probed(generation, probe)) => self.checked_probe(generation, probe),
            Event::Input(input) => input,
            Event::Installed(generation, installed) => {
                if let Some(held) = self.held.get_mut(&generation) {
                    held.installed = Some(installed);
                }
                Input::Fetched(generation)
            }
            Event::Described(generation, facts, build) => {
                if let Some(held) = self.held.get_mut(&generation) {
                    held.build = Some(build);
                    held.view.facts = Some(facts.clone());
                }
                Input::Described(generation, facts)
            }
            Event::Launched(generation, life) => {
                self.launched(generation, life);
                Input::Launched(generation)
            }
            Event::Command(verb, answer) => {
                let taken = self.slot.command(&verb, self.effects.shared.clock.now());
                tracing::info!(slot = %self.effects.id, verb = verb.as_str(), refused = taken.as_ref().err().map(ToString::to_string), "order");
                // Who gave it may be gone; it is in force all the same.
                answer.send(taken).ok();
                Input::Tick
            }
        };
        if let Input::ChildLoad(generation, inflight) = input
            && let Some(held) = self.held.get_mut(&generation)
        {
            held.view.child_load = Some(inflight);
        }
        self.count_leases().await;
        self.drive(input).await;
    }

    /// A process that has already exited is not ready, whatever it said last (F05).
    fn checked_probe(&self, generation: Generation, probe: Probe) -> Input {
        let exit = self.held.get(&generation).and_then(|held| held.life.as_ref()).and_then(|life| life.running.exit());
        match exit {
            Some(exit) => Input::Exited(generation, exit_of(exit)),
            None => Input::Probed(generation, probe),
        }
    }

    /// Brings the counts of everything that drains up to date.
    async fn count_leases(&mut self) {
        let leaving: Vec<Generation> = self
            .slot
            .generations()
            .filter(|generation| generation.is_leaving())
            .map(|generation| generation.number)
            .collect();
        for generation in leaving {
            if let Some(leases) = self.leases(generation) {
                self.drive(Input::Leases(generation, leases)).await;
            }
        }
    }

    fn leases(&self, generation: Generation) -> Option<ByClass<u64>> {
        if self.effects.shared.faults.has(Fault::NoLease) {
            return Some(ByClass::default());
        }
        self.held.get(&generation)?.target.as_ref().map(|target| target.load().by_class)
    }

    /// Hands one input to the machine and carries out what follows, in order.
    async fn drive(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let before = self.standing();
            // Taken from all slots' common row, and given back when it was not needed and is still the last.
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let steps = self.slot.handle(input, Generation(number), self.effects.shared.clock.now());
            if !steps.iter().any(|step| matches!(step, Step::Fetch(..))) {
                self.numbers.compare_exchange(number + 1, number, Ordering::Relaxed, Ordering::Relaxed).ok();
            }
            self.log_transitions(&before);
            self.show();
            for step in steps {
                let effect = step.name();
                crash::before(effect);
                inputs.extend(self.carry_out(step).await);
                crash::after(effect);
            }
        }
        self.show();
    }

    /// Where each generation stands, and what is remembered of its build, to be compared after an input.
    fn standing(&self) -> BTreeMap<Generation, Standing> {
        let standing = |generation: &Gen| Standing {
            phase: generation.phase(),
            sha256: generation.sha256(),
            failures: self.slot.failure_of(&generation.sha256()).map_or(0, |failure| failure.count),
            live: generation.is_live(),
        };
        self.slot.generations().map(|generation| (generation.number, standing(generation))).collect()
    }

    fn log_transitions(&self, before: &BTreeMap<Generation, Standing>) {
        let (after, slot) = (self.standing(), &self.effects.id);
        for (generation, now) in &after {
            let old = before.get(generation);
            if old.map(|old| old.phase) != Some(now.phase) {
                tracing::info!(%slot, %generation, to = now.phase.as_str(), "generation");
                self.effects.shared.metrics.transition(slot, now.phase);
            } else if let Some(old) = old.filter(|old| old.live != now.live) {
                tracing::warn!(%slot, %generation, was = old.live, is = now.live, why = self.unready(), "live readiness");
            }
        }
        for (generation, old) in before.iter().filter(|(generation, _)| !after.contains_key(generation)) {
            let failure = self.slot.failure_of(&old.sha256).filter(|failure| failure.count > old.failures);
            let text = failure.map(|failure| failure.reason.to_string());
            tracing::info!(%slot, %generation, to = "gone", failure = text, "generation");
            if let Some(failure) = failure {
                self.effects.shared.metrics.failed(slot, failure.reason.code());
            }
        }
    }

    /// Why what serves is not ready.
    fn unready(&self) -> Option<String> {
        let mut reasons = self.slot.reasons(self.effects.shared.clock.now()).into_iter();
        reasons.find(|reason| matches!(reason, Reason::Unready { .. })).map(|reason| reason.to_string())
    }

    fn show(&self) {
        let lives = self.held.iter().map(|(number, held)| (*number, held.view.clone())).collect();
        let view = SlotView { slot: self.slot.clone(), lives, progress: None };
        self.effects.shared.board.set_slot(&self.effects.id, Some(view));
    }
}

fn exit_of(exit: ExitInfo) -> Exit {
    match exit {
        ExitInfo::Code(code) => Exit::Code(code),
        ExitInfo::Signal(signal) => Exit::Signal(signal),
    }
}
