//! One task per slot: it owns the slot's machine, carries out its steps in order, and shows the
//! result on the board *before* a step makes it visible to requests (F03).
//!
//! ```text
//! manager ──Want──▶ actor ──steps──▶ tasks of a generation (fetch, describe, start, watch, drain)
//!                    ▲  │                      │
//!                    └──┼──────Event───────────┘
//!                       └──▶ SlotRoute (publish, withdraw), Target (retire, cut), Board, Recorder
//! ```

mod counting;
mod memory;
mod publish;
mod receipt;
mod steps;
mod transitions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use router_dataplane::{Load, SlotRoute, Target};
use supervisor_protocol::admin::Verb;
use supervisor_protocol::contract::Role;
use supervisor_protocol::time::millis;
use supervisor_protocol::{ByClass, Generation, Sha256, Tick};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use versiond_core::generation::{Exit, Probe};
use versiond_core::memory::Memory;
use versiond_core::replay::Act;
use versiond_core::slot::{Input, NotLaunched, Slot, Step, Want};
use versiond_core::window::Opening;

use self::counting::Counting;
use crate::board::{LifeView, SlotView};
use crate::faults::{Fault, crash};
use crate::process::ExitInfo;
use crate::store::Installed;
use crate::supervisor::command::Answer;
use crate::supervisor::effects::{Effects, Event};
use crate::supervisor::flight::Flight;
use crate::supervisor::launch::Life;
use crate::supervisor::peers::{self, Asking};
use crate::supervisor::preflight::Build;

/// How often the forecast is asked that a change waits for.
const FORECAST_EVERY: Duration = Duration::from_millis(200);
/// How often the wall clock is compared with the rollout window.
const WINDOW_LOOK: Duration = Duration::from_secs(30);
/// What the wall clock may have moved without having been set.
const WINDOW_STEP: Duration = Duration::from_secs(2);

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
    /// It is asked whether it could serve again.
    standby: Arc<AtomicBool>,
    /// What it does beside its requests is not visible.
    uncounted: Arc<AtomicBool>,
    /// Its child has been told to drain; this is how that is ended.
    drain: Option<Draining>,
    view: LifeView,
}

/// The drain of a child, under way or over.
struct Draining {
    taken_back: CancellationToken,
    task: JoinHandle<()>,
}

impl Held {
    fn role(&self) -> Role {
        self.view.facts.as_ref().map_or(Role::Server, |facts| facts.role)
    }
}

pub(crate) struct Actor {
    effects: Effects,
    slot: Slot,
    /// What the slot was told.
    flight: Arc<Flight>,
    route: Arc<SlotRoute>,
    numbers: Arc<AtomicU64>,
    held: BTreeMap<Generation, Held>,
    events: mpsc::Receiver<Event>,
    tell: mpsc::Sender<Event>,
    counting: Counting,
    /// What the slot is to run, as the other slots of its service last heard it.
    aimed: Option<Sha256>,
    /// What the ledger holds of the slot's memory.
    recorded: Memory,
    /// When the forecast that the slot waits for is asked again.
    forecast_at: Tick,
    /// When answers are counted again.
    answers_at: Tick,
    /// What the slot was last told of its rollout window.
    opening: Opening,
    /// While a change waits for what peers say.
    peers: Option<Asking>,
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
    /// Starts the actor of a slot that remembers this from before a restart. It ends once nothing is wanted of the
    /// slot and nothing is left.
    pub(crate) fn spawn(
        effects: Effects,
        route: Arc<SlotRoute>,
        numbers: Arc<AtomicU64>,
        memory: Memory,
    ) -> (SlotHandle, JoinHandle<()>) {
        let (tell, events) = mpsc::channel(256);
        let recorded = memory.clone();
        let slot = Slot::new(effects.shared.timings.clone(), effects.service.now().policy.clone(), memory);
        let flight = Flight::new(&effects.shared.state_dir, &effects.id, &slot);
        let handle = SlotHandle { tell: tell.clone() };
        let actor = Actor {
            effects,
            slot,
            flight,
            route,
            numbers,
            held: BTreeMap::new(),
            events,
            tell,
            counting: Counting::default(),
            aimed: None,
            recorded,
            forecast_at: Tick::ZERO,
            answers_at: Tick::ZERO,
            opening: Opening::Open { closes: None },
            peers: None,
        };
        (handle, tokio::spawn(actor.run()))
    }

    async fn run(mut self) {
        self.show();
        loop {
            self.follow_window().await;
            self.count_answers().await;
            self.ask_peers();
            let clock = self.effects.shared.clock;
            let asked = self.slot.wants_forecast(clock.now());
            let wake = self.slot.wake().map(|(at, _)| at);
            let counted = self.slot.wants_answers().next().map(|_| self.answers_at);
            let asked_at = asked.map(|_| self.forecast_at);
            let wake = wake.into_iter().chain(asked_at).chain(counted).chain(self.window_turns()).min();
            let sleep = async move {
                match wake {
                    Some(tick) => tokio::time::sleep(tick.since(clock.now())).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => event,
                    None => break,
                },
                () = sleep => Event::Input(self.due(asked)),
            };
            self.take(event).await;
            if self.slot.is_gone() && self.events.is_empty() {
                break;
            }
        }
        self.effects.shared.board.set_slot(&self.effects.id, None);
    }

    /// Asks peers for as long as a change waits for what they say.
    fn ask_peers(&mut self) {
        let wanted = self.slot.wants_peers(self.effects.shared.clock.now());
        if !wanted {
            self.peers = None;
        } else if self.peers.is_none() {
            self.peers = Some(peers::ask(&self.effects, &self.tell));
        }
    }

    /// What the passing of time brings: the forecast that is waited for, or nothing more than itself.
    fn due(&mut self, asked: Option<Generation>) -> Input {
        let now = self.effects.shared.clock.now();
        let forecast = asked.filter(|_| self.forecast_at <= now).and_then(|asked| Some((asked, self.forecast(asked)?)));
        match forecast {
            Some((asked, forecast_ms)) => {
                self.forecast_at = now.after(FORECAST_EVERY);
                Input::Forecast(asked, forecast_ms)
            }
            None => Input::Tick,
        }
    }

    /// When its work would be done, were it withdrawn now. One that counts nothing has its grace after its last lease.
    fn forecast(&self, generation: Generation) -> Option<u64> {
        let held = self.held.get(&generation)?;
        let leases = held.target.as_ref()?.load().forecast_ms;
        let beside = if held.uncounted.load(Ordering::Acquire) {
            self.effects.shared.timings.stop_grace
        } else {
            Duration::ZERO
        };
        Some(leases.saturating_add(millis(beside)))
    }

    /// Tells the slot what its rollout window is now, when that is something else than before.
    async fn follow_window(&mut self) {
        let spec = self.effects.service.now();
        if self.slot.follow(&spec.policy) {
            self.note(Act::Policy(spec.policy.clone()), self.effects.shared.clock.now(), &[]);
        }
        let Some(window) = &spec.window else { return };
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let opening = window.opening(unix_now, self.effects.shared.clock.now());
        let turned = match (self.opening, opening) {
            // The moment itself moves by a second with every reading of the wall clock.
            (Opening::Open { .. }, Opening::Open { .. }) => false,
            (Opening::Closed { opens: before }, Opening::Closed { opens }) => {
                before.since(opens).max(opens.since(before)) > WINDOW_STEP
            }
            (Opening::Open { .. }, Opening::Closed { .. }) | (Opening::Closed { .. }, Opening::Open { .. }) => true,
        };
        if turned {
            self.opening = opening;
            self.drive(Input::Opening(opening)).await;
        }
    }

    /// When the window is looked at again: as it turns, and now and then, since a wall clock can be set.
    fn window_turns(&self) -> Option<Tick> {
        self.effects.service.now().window.as_ref()?;
        let soon = self.effects.shared.clock.now().after(WINDOW_LOOK);
        match self.opening {
            Opening::Open { closes } => Some(closes.map_or(soon, |closes| closes.min(soon))),
            Opening::Closed { opens } => Some(opens.min(soon)),
        }
    }

    async fn take(&mut self, event: Event) {
        let input = match event {
            Event::Input(Input::Probed(generation, probe)) => self.checked_probe(generation, probe),
            // It may have been restored meanwhile: what counts is what is so now.
            Event::Input(Input::Leases(generation, _)) => {
                self.leases(generation).map_or(Input::Tick, |leases| Input::Leases(generation, leases))
            }
            Event::Input(input) => input,
            Event::ChildLoad { taken_back, .. } if taken_back.is_cancelled() => Input::Tick,
            Event::ChildLoad { generation, inflight, .. } => Input::ChildLoad(generation, inflight),
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
                    held.view.schema_ahead.clear();
                }
                Input::Described(generation, facts)
            }
            Event::SchemaWait(generation, slots) => {
                tracing::info!(slot = %self.effects.id, %generation, ?slots, "waits for the schema");
                if let Some(held) = self.held.get_mut(&generation) {
                    held.view.schema_ahead = slots;
                }
                Input::Tick
            }
            Event::Launched(generation, life) => {
                self.launched(generation, *life);
                Input::Launched(generation)
            }
            Event::Command(verb, answer) => {
                if let (Verb::Retry, Some(wanted)) = (&verb, self.slot.wanted()) {
                    self.effects.shared.store.forgive(wanted.sha256);
                }
                let taken = self.command(&verb).await;
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
            let before = self.slot.clone();
            let crash = self.counting.told(&self.slot, &input);
            let is_order = matches!(input, Input::Want(_));
            // Taken from all slots' common row, and given back when it was not needed and is still the last.
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let (next, now) = (Generation(number), self.effects.shared.clock.now());
            let steps = self.slot.handle(input.clone(), next, now);
            self.note(Act::Input { next, input }, now, &steps);
            if !steps.iter().any(|step| matches!(step, Step::Fetch(..))) {
                self.numbers.compare_exchange(number + 1, number, Ordering::Relaxed, Ordering::Relaxed).ok();
            }
            self.log_transitions(&before);
            self.count(crash, &steps, now);
            self.aim(is_order);
            let recorded = self.record().await;
            // A step that reroutes is shown in the moment in which it does; any other is told of before it.
            if !steps.is_empty() && !steps.iter().any(steps::reroutes) {
                self.show();
            }
            for step in steps {
                let effect = steps::effect(&step);
                effect.into_iter().for_each(crash::before);
                match (&step, &recorded) {
                    // What a build may write is known before it can.
                    (Step::Start(generation), Err(error)) => {
                        let failed = NotLaunched::Ledger(error.clone());
                        inputs.push(Input::LaunchFailed(*generation, failed));
                    }
                    _ => inputs.extend(self.carry_out(step).await),
                }
                effect.into_iter().for_each(crash::after);
            }
            self.show();
        }
    }

    /// Records what was done to the slot.
    fn note(&self, act: Act, now: Tick, steps: &[Step]) {
        self.flight.note(&self.effects.shared.tail, act, now, steps, &self.slot);
    }

    fn show(&self) {
        self.show_with(|_| ());
    }

    /// Shows the slot together with what its requests meet from now on: a status neither runs ahead of the route
    /// nor lags behind it.
    fn show_with<T>(&self, reroute: impl FnOnce(&SlotRoute) -> T) -> T {
        let lives = self.held.iter().map(|(number, held)| (*number, held.view.clone())).collect();
        let view = SlotView { slot: self.slot.clone(), lives, progress: None, flight: self.flight.clone() };
        self.effects.shared.board.set_slot_with(&self.effects.id, Some(view), || reroute(&self.route))
    }
}

fn exit_of(exit: ExitInfo) -> Exit {
    match exit {
        ExitInfo::Code(code) => Exit::Code(code),
        ExitInfo::Signal(signal) => Exit::Signal(signal),
    }
}
