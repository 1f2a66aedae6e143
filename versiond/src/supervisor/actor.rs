//! One task per slot: it owns the slot's machine, carries out its steps in order, and shows the
//! result on the board *before* a step makes it visible to requests (F03).
//!
//! ```text
//! manager ──Want──▶ actor ──steps──▶ tasks of a generation (fetch, describe, start, watch, drain)
//!                    ▲  │                      │
//!                    └──┼──────Event───────────┘
//!                       └──▶ SlotRoute (publish, withdraw), Target (retire, cut), Board, Recorder
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use router_dataplane::{Absence, Load, SlotRoute, Target, TargetLabel, Upstream};
use supervisor_protocol::admin::{Phase, Receipt};
use supervisor_protocol::{ByClass, Generation, Refusal, Sha256, StreamClass};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use versiond_core::catalog::Artifact;
use versiond_core::generation::{DrainEnd, Exit, Probe};
use versiond_core::slot::{Absent, Input, Slot, Step};

use crate::board::{LifeView, SlotView};
use crate::faults::Fault;
use crate::process::{ExitInfo, Sealed, Signal};
use crate::store::Installed;
use crate::supervisor::child::chain;
use crate::supervisor::effects::{Effects, Event, Life};

/// What the actor holds of one generation.
#[derive(Default)]
struct Held {
    /// Ends every task of this generation.
    cancel: CancellationToken,
    sha256: Option<Sha256>,
    installed: Option<Installed>,
    sealed: Option<Arc<Sealed>>,
    life: Option<Life>,
    target: Option<Arc<Target>>,
    /// What the leases were when it was retired.
    at_retire: Option<Load>,
    view: LifeView,
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
    /// Changes what is wanted of the slot.
    pub(crate) async fn want(&self, want: versiond_core::slot::Want) {
        // The actor ends only when nothing is wanted and nothing is left: then nobody misses this.
        self.tell.send(Event::Input(Input::Want(want))).await.ok();
    }
}

impl Actor {
    /// Starts the actor of a slot. It ends once nothing is wanted of the slot and nothing is left.
    pub(crate) fn spawn(
        effects: Effects,
        route: Arc<SlotRoute>,
        numbers: Arc<AtomicU64>,
    ) -> (SlotHandle, tokio::task::JoinHandle<()>) {
        let (tell, events) = mpsc::channel(256);
        let slot = Slot::new(effects.shared.timings.clone());
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
            Event::Described(generation, facts, sealed) => {
                if let Some(held) = self.held.get_mut(&generation) {
                    held.sealed = Some(sealed);
                    held.view.facts = Some(facts.clone());
                }
                Input::Described(generation, facts)
            }
            Event::Launched(generation, life) => {
                self.launched(generation, life);
                Input::Launched(generation)
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
            let before: BTreeMap<Generation, Phase> = self.phases();
            // Taken from all slots' common row, and given back when it was not needed and is still the last.
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let steps = self.slot.handle(input, Generation(number), self.effects.shared.clock.now());
            if !steps.iter().any(|step| matches!(step, Step::Fetch(..))) {
                self.numbers.compare_exchange(number + 1, number, Ordering::Relaxed, Ordering::Relaxed).ok();
            }
            self.log_transitions(&before);
            self.show();
            for step in steps {
                inputs.extend(self.carry_out(step).await);
            }
        }
        self.show();
    }

    /// Carries out one step; whatever it causes at once comes back as inputs.
    async fn carry_out(&mut self, step: Step) -> Vec<Input> {
        match step {
            Step::Fetch(generation, artifact) => self.fetch(generation, artifact),
            Step::Describe(generation) => self.describe(generation),
            Step::Start(generation) => self.start(generation),
            Step::Publish { new, old } => return self.publish(new, old).await,
            Step::Withdraw(generation, absent) => {
                self.route.withdraw(absence(absent));
                return self.retire(generation);
            }
            Step::Absent(absent) => {
                self.route.withdraw(absence(absent));
            }
            Step::Cut(generation, class) => {
                if let Some(target) = self.held.get(&generation).and_then(|held| held.target.as_ref()) {
                    tracing::warn!(slot = %self.effects.id, %generation, %class, "cut: the class's drain deadline has passed");
                    target.cut(class);
                }
            }
            Step::DrainChild(generation) => return self.drain_child(generation),
            Step::Terminate(generation) => self.signal(generation, Signal::SIGTERM),
            Step::Kill(generation) => self.signal(generation, Signal::SIGKILL),
            Step::Forget(generation, end) => self.forget(generation, end),
        }
        Vec::new()
    }

    fn fetch(&mut self, generation: Generation, artifact: Artifact) {
        let held = self.held.entry(generation).or_default();
        held.sha256 = Some(artifact.sha256);
        let cancel = held.cancel.clone();
        let effects = self.effects.clone();
        self.run_task(cancel, async move { effects.fetch(generation, artifact).await });
    }

    fn describe(&mut self, generation: Generation) {
        let Some(held) = self.held.get(&generation) else { return };
        let Some(installed) = held.installed.clone() else { return };
        let effects = self.effects.clone();
        self.run_task(held.cancel.clone(), async move { effects.describe(generation, installed).await });
    }

    fn start(&mut self, generation: Generation) {
        let Some(held) = self.held.get(&generation) else { return };
        let (Some(sealed), Some(facts), Some(sha256)) = (held.sealed.clone(), held.view.facts.clone(), held.sha256)
        else {
            return;
        };
        let effects = self.effects.clone();
        let (cancel, tell) = (held.cancel.clone(), self.tell.clone());
        // Not dropped half-way: the answer to a cancelled start is what lets the slot forget it.
        tokio::spawn(async move {
            let event = effects.start(generation, facts, sealed, sha256, cancel).await;
            tell.send(event).await.ok();
        });
    }

    fn run_task(&self, cancel: CancellationToken, task: impl Future<Output = Event> + Send + 'static) {
        let tell = self.tell.clone();
        tokio::spawn(async move {
            if let Some(event) = cancel.run_until_cancelled(task).await {
                tell.send(event).await.ok();
            }
        });
    }

    /// The process exists: watch its readiness and its exit, each for this generation alone (F23).
    fn launched(&mut self, generation: Generation, life: Life) {
        let stopping = self.slot.generations().find(|known| known.number == generation).map(|known| known.phase());
        let running = life.running.clone();
        let tell = self.tell.clone();
        let exits = running.clone();
        tokio::spawn(async move {
            let exit = exits.exited().await;
            tell.send(Event::Input(Input::Exited(generation, exit_of(exit)))).await.ok();
        });
        let Some(held) = self.held.get_mut(&generation) else { return };
        held.view.pid = u32::try_from(running.identity().pid).ok();
        held.view.port = Some(life.port.port());
        match stopping {
            Some(Phase::Terminating) => drop(running.signal(Signal::SIGTERM)),
            Some(Phase::Killing) | None => drop(running.signal(Signal::SIGKILL)),
            Some(_) => {
                let watch = self.effects.clone().watch(
                    generation,
                    running,
                    life.link.clone(),
                    life.nonce.clone(),
                    self.tell.clone(),
                );
                let cancel = held.cancel.clone();
                tokio::spawn(async move { cancel.run_until_cancelled(watch).await });
            }
        }
        held.life = Some(life);
    }

    /// New first, then the old one retired, so that there is always a target (F02).
    async fn publish(&mut self, new: Generation, old: Option<Generation>) -> Vec<Input> {
        let faults = self.effects.shared.faults;
        let Some(held) = self.held.get_mut(&new) else { return Vec::new() };
        let Some(life) = &held.life else { return Vec::new() };
        let label = TargetLabel {
            service: self.effects.id.service.clone(),
            version: self.effects.id.name.clone(),
            generation: new,
        };
        let upstream = Upstream::Tcp(([127, 0, 0, 1], life.port.port()).into());
        let target = Target::new(label, life.nonce.clone(), upstream, self.effects.shared.clock);
        held.target = Some(target.clone());
        held.view.target = Some(target.clone());
        self.show();
        let mut inputs = Vec::new();
        if faults.has(Fault::RetireFirst) {
            self.route.withdraw(Absence::Refuse { refusal: Refusal::NotServing, retry_after_s: None });
            inputs.extend(old.map(|old| self.retire(old)).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.route.publish(target);
        } else {
            self.route.publish(target);
            inputs.extend(old.map(|old| self.retire(old)).unwrap_or_default());
        }
        if faults.has(Fault::NoDrain)
            && let Some(old) = old
        {
            self.signal(old, Signal::SIGKILL);
        }
        self.effects.shared.metrics.published(&self.effects.id);
        inputs
    }

    /// No request finds it any more; what it admitted goes on, and is counted from here.
    fn retire(&mut self, generation: Generation) -> Vec<Input> {
        let Some(held) = self.held.get_mut(&generation) else { return Vec::new() };
        let Some(target) = held.target.clone() else { return Vec::new() };
        target.retire();
        held.at_retire = Some(target.load());
        let (cancel, tell) = (held.cancel.clone(), self.tell.clone());
        tokio::spawn(async move {
            if cancel.run_until_cancelled(target.idle()).await.is_some() {
                let leases = target.load().by_class;
                tell.send(Event::Input(Input::Leases(generation, leases))).await.ok();
            }
        });
        self.leases(generation).map(|leases| Input::Leases(generation, leases)).into_iter().collect()
    }

    fn drain_child(&mut self, generation: Generation) -> Vec<Input> {
        if self.effects.shared.faults.has(Fault::NoLease) {
            return vec![Input::ChildLoad(generation, 0)];
        }
        if let Some(held) = self.held.get(&generation)
            && let Some(life) = &held.life
        {
            let drain = self.effects.clone().drain_child(generation, life.link.clone(), self.tell.clone());
            let cancel = held.cancel.clone();
            tokio::spawn(async move { cancel.run_until_cancelled(drain).await });
        }
        Vec::new()
    }

    fn signal(&mut self, generation: Generation, signal: Signal) {
        let Some(held) = self.held.get(&generation) else { return };
        let skip_grace = self.effects.shared.faults.has(Fault::NoLease);
        let signals = if skip_grace { vec![signal, Signal::SIGKILL] } else { vec![signal] };
        match &held.life {
            Some(life) => {
                for signal in signals {
                    if let Err(error) = life.running.signal(signal) {
                        tracing::debug!(slot = %self.effects.id, %generation, %error, "the signal met no process");
                    }
                }
            }
            // Still being made: the start ends itself, and says so.
            None => held.cancel.cancel(),
        }
    }

    fn forget(&mut self, generation: Generation, end: Option<DrainEnd>) {
        let Some(mut held) = self.held.remove(&generation) else { return };
        held.cancel.cancel();
        if let Some(life) = held.life.take() {
            self.effects.shared.tail.spawn(last_trace(self.effects.clone(), generation, life));
        }
        if let (Some(end), Some(target), Some(sha256)) = (end, &held.target, held.sha256) {
            let receipt = self.receipt(generation, sha256, end, held.at_retire.as_ref(), &target.load());
            tracing::info!(
                slot = %self.effects.id, %generation, outcome = ?receipt.outcome, took_ms = receipt.took_ms,
                at_start = receipt.at_start.total(), cut = receipt.cut.total(), "drained"
            );
            self.effects.shared.metrics.drained(&receipt);
            self.effects.shared.board.add_receipt(receipt);
        }
    }

    fn receipt(
        &self,
        generation: Generation,
        sha256: Sha256,
        end: DrainEnd,
        at_retire: Option<&Load>,
        load: &Load,
    ) -> Receipt {
        let at_start = at_retire.map(|load| load.by_class).unwrap_or_default();
        let (mut cut, mut finished) = (ByClass::default(), at_start);
        for class in StreamClass::ALL {
            let lost = |load: &Load| load.ended.cut.get(class) + load.ended.upstream_broke.get(class);
            let before = at_retire.map(lost).unwrap_or_default();
            let lost = lost(load).saturating_sub(before);
            *cut.get_mut(class) = lost;
            *finished.get_mut(class) = at_start.get(class).saturating_sub(lost);
        }
        Receipt {
            slot: self.effects.id.clone(),
            generation,
            sha256,
            successor: end.successor,
            cause: end.cause,
            at_start,
            admitted: load.admitted,
            finished,
            cut,
            longest_ms: load.longest_since_retired_ms.unwrap_or_default(),
            took_ms: end.took_ms,
            outcome: end.outcome,
        }
    }

    fn phases(&self) -> BTreeMap<Generation, Phase> {
        self.slot.generations().map(|generation| (generation.number, generation.phase())).collect()
    }

    fn log_transitions(&self, before: &BTreeMap<Generation, Phase>) {
        let after = self.phases();
        for (generation, to) in &after {
            let from = before.get(generation);
            if from != Some(to) {
                tracing::info!(slot = %self.effects.id, %generation, to = to.as_str(), "generation");
                self.effects.shared.metrics.transition(&self.effects.id, *to);
            }
        }
        for generation in before.keys().filter(|generation| !after.contains_key(generation)) {
            let failure = self.slot.failure().map(|failure| failure.reason.to_string());
            tracing::info!(slot = %self.effects.id, %generation, to = "gone", failure, "generation");
        }
        if let Some(failure) = self.slot.failure()
            && before.len() > after.len()
        {
            self.effects.shared.metrics.failed(&self.effects.id, failure.reason.code());
        }
    }

    fn show(&self) {
        let lives = self.held.iter().map(|(number, held)| (*number, held.view.clone())).collect();
        let view = SlotView { slot: self.slot.clone(), lives, progress: None };
        self.effects.shared.board.set_slot(&self.effects.id, Some(view));
    }
}

/// Keeps port, socket and ledger entry until no descendant of the process is left either.
async fn last_trace(effects: Effects, generation: Generation, life: Life) {
    life.running.gone().await;
    std::fs::remove_file(&life.link.admin).ok();
    if let Err(error) = effects.shared.recorder.forget(generation).await {
        // The entry is harmless: the next start looks for its process and finds none.
        tracing::warn!(slot = %effects.id, %generation, error = chain(&error), "not struck off the ledger");
    }
    drop(life.port);
}

fn exit_of(exit: ExitInfo) -> Exit {
    match exit {
        ExitInfo::Code(code) => Exit::Code(code),
        ExitInfo::Signal(signal) => Exit::Signal(signal),
    }
}

fn absence(absent: Absent) -> Absence {
    match absent {
        Absent::Hold { until } => Absence::Hold { forecast: until },
        Absent::NotFound => Absence::Refuse { refusal: Refusal::NotFound, retry_after_s: None },
        Absent::Stopping => Absence::Refuse { refusal: Refusal::HostStopping, retry_after_s: Some(1) },
        Absent::NotServing => Absence::Refuse { refusal: Refusal::NotServing, retry_after_s: Some(1) },
    }
}
