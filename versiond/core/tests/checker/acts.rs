//! What may happen in a world, and what it does.
//!
//! The actor of the slot takes one event after another and carries out each step before the next; everything else
//! may happen between any two of these. Must not live here: judgement (that is `promises`).

use supervisor_protocol::{Generation, Tick};
use versiond_core::generation::{Exit, Probe, State};
use versiond_core::host::Host;
use versiond_core::slot::{Failed, Input, NotLaunched, Step, Want};

use crate::promises;
use crate::scope::{Sabotage, Scope};
use crate::world::{Daemon, Do, Process, Route, Task, World, want};

/// The most requests in flight at once.
const AT_ONCE: u64 = 2;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// The actor does the next thing that it has to.
    Goes(Do),
    /// What is under way ends well, or not.
    Ends(Task),
    Fails(Task),
    Probe(Generation, bool),
    Compare(Generation, bool),
    Forecast(Generation),
    /// The exit of a process is noticed.
    Notice(Generation),
    /// The leases of what is leaving are counted again.
    Count,
    /// A child does what its stop signal says.
    Stops(Generation),
    Crash(Generation),
    Request,
    RequestEnds(Generation),
    Catalog(Option<u8>),
    /// Time passes up to this.
    Wait(Tick),
    Term,
    Force,
    /// Nothing is left of a host on its way out.
    Gone,
    Kill,
    Start,
}

impl World {
    /// Everything that may happen now.
    pub(crate) fn acts(&self, scope: &Scope) -> Vec<Act> {
        let (facts, left) = (&self.facts, &self.facts.left);
        let Some(daemon) = &self.daemon else {
            return if left.kills == 0 && scope.left.kills > 0 { vec![Act::Start] } else { Vec::new() };
        };
        let mut acts = Vec::new();
        if daemon.rest.next > scope.generations + 1 {
            return acts;
        }
        let doing = daemon.rest.queue.front();
        if left.kills > 0 && doing.is_none_or(Do::leaves_a_trace) {
            acts.push(Act::Kill);
        }
        // What commutes with all that the actor does happens before or after it.
        for (number, process) in &facts.processes {
            if process.stopped && doing.is_none() {
                acts.push(Act::Stops(*number));
            } else if !process.stopped && left.crashes > 0 && doing.is_none_or(|doing| doing.asks(*number)) {
                acts.push(Act::Crash(*number));
            }
        }
        let routed = doing.is_none_or(|doing| matches!(doing, Do::Route(_) | Do::Retire(_)));
        if left.requests > 0 && routed && daemon.inflight() < AT_ONCE && matches!(daemon.rest.route, Route::Serving(_))
        {
            acts.push(Act::Request);
        }
        if doing.is_none_or(|doing| matches!(doing, Do::Retire(_))) {
            let busy = daemon.rest.targets.iter().filter(|(_, target)| target.leases > 0);
            acts.extend(busy.map(|(number, _)| Act::RequestEnds(*number)));
        }
        if let Some(doing) = doing {
            acts.push(Act::Goes(doing.clone()));
            return acts;
        }
        self.events(daemon, scope, &mut acts);
        acts
    }

    /// What an actor that waits may hear of.
    fn events(&self, daemon: &Daemon, scope: &Scope, acts: &mut Vec<Act>) {
        let (facts, left) = (&self.facts, &self.facts.left);
        for task in &daemon.rest.tasks {
            acts.push(Act::Ends(*task));
            if left.failures > 0 && !matches!(task, Task::Count(_)) {
                acts.push(Act::Fails(*task));
            }
        }
        for generation in daemon.slot.generations() {
            let number = generation.number;
            let lives = facts.processes.contains_key(&number);
            match &generation.state {
                State::Warming { .. } if lives => acts.push(Act::Probe(number, true)),
                State::Serving { health, .. } if lives => {
                    if left.bad_probes > 0 {
                        acts.push(Act::Probe(number, false));
                    }
                    if !health.live.is_ready() {
                        acts.push(Act::Probe(number, true));
                    }
                }
                State::Parked { health, .. } | State::Retired { health, .. } | State::Draining { health, .. }
                    if lives && daemon.slot.serving().is_some_and(|serving| !serving.is_live()) =>
                {
                    if health.answered < facts.now {
                        acts.push(Act::Compare(number, true));
                    }
                    if left.bad_probes > 0 {
                        acts.push(Act::Compare(number, false));
                    }
                }
                State::Fetching
                | State::Preflight
                | State::Waiting { .. }
                | State::Starting { .. }
                | State::Warming { .. }
                | State::Ready { .. }
                | State::Serving { .. }
                | State::Retired { .. }
                | State::Draining { .. }
                | State::Parked { .. }
                | State::Terminating { .. }
                | State::Killing { .. } => {}
            }
            let made = generation.has_process() && !daemon.rest.tasks.contains(&Task::Launch(number));
            if made && !lives {
                acts.push(Act::Notice(number));
            }
        }
        if let Some(number) = daemon.slot.wants_forecast(facts.now) {
            acts.push(Act::Forecast(number));
        }
        if daemon.leaving().iter().any(|number| daemon.has_news_of(scope, *number, facts.now)) {
            acts.push(Act::Count);
        }
        let leaving = daemon.host.leaving_since().is_some();
        if !leaving {
            if left.changes > 0 {
                acts.push(Act::Catalog(Some(1)));
            }
            if left.removals > 0 && facts.catalog.is_some() {
                acts.push(Act::Catalog(None));
            }
            if left.stops > 0 {
                acts.push(Act::Term);
            }
        } else if left.forces > 0 {
            acts.push(Act::Force);
        }
        if leaving && daemon.slot.is_gone() {
            acts.push(Act::Gone);
        }
        let wakes = daemon.slot.wake().map(|(at, _)| at).into_iter().chain(daemon.host.wake());
        if let Some(at) = wakes.min().filter(|at| left.waits > 0 && *at > facts.now) {
            acts.push(Act::Wait(at));
        }
    }

    /// Lets it happen.
    pub(crate) fn act(&mut self, scope: &Scope, act: &Act) -> Result<(), String> {
        match act {
            Act::Kill => {
                self.facts.left.kills -= 1;
                self.daemon = None;
                return Ok(());
            }
            Act::Start => {
                self.start();
                return promises::after_start(self);
            }
            Act::Gone => {
                self.daemon = None;
                return promises::after_the_end(self);
            }
            Act::Stops(number) => {
                self.end(*number);
                return Ok(());
            }
            Act::Crash(number) => {
                self.facts.left.crashes -= 1;
                self.end(*number);
                return Ok(());
            }
            Act::Goes(_)
            | Act::Ends(_)
            | Act::Fails(_)
            | Act::Probe(..)
            | Act::Compare(..)
            | Act::Forecast(_)
            | Act::Notice(_)
            | Act::Count
            | Act::Request
            | Act::RequestEnds(_)
            | Act::Catalog(_)
            | Act::Wait(_)
            | Act::Term
            | Act::Force => {}
        }
        let World { facts, daemon: Some(daemon) } = self else { return Ok(()) };
        match act {
            Act::Goes(_) => return self.go(scope),
            Act::Ends(task) => {
                daemon.rest.tasks.remove(task);
                let input = match task {
                    Task::Fetch(number) => Input::Fetched(*number),
                    Task::Describe(number) => Input::Described(*number, scope.facts()),
                    Task::Launch(number) => {
                        let build = daemon.build(*number).ok_or("a start of nothing")?;
                        // A stop that was ordered meanwhile meets it now.
                        let stopped = daemon.rest.stops.contains_key(number);
                        facts.processes.insert(*number, Process { build, draining: false, ready: false, stopped });
                        if scope.sabotage != Some(Sabotage::SkipsLedger) {
                            facts.disk.processes.insert(*number);
                        }
                        Input::Launched(*number)
                    }
                    Task::Count(number) => Input::ChildLoad(*number, 0),
                };
                daemon.tell(scope, input);
            }
            Act::Fails(task) => {
                facts.left.failures -= 1;
                daemon.rest.tasks.remove(task);
                let failed = "it goes wrong".to_owned();
                daemon.tell(
                    scope,
                    match task {
                        Task::Fetch(number) => Input::FetchFailed(*number, Failed::Fetch(failed)),
                        Task::Describe(number) => Input::PreflightFailed(*number, failed),
                        Task::Launch(number) => Input::LaunchFailed(*number, NotLaunched::Failed(failed)),
                        Task::Count(_) => Input::Tick,
                    },
                );
            }
            Act::Probe(number, good) | Act::Compare(number, good) => {
                if !good {
                    facts.left.bad_probes -= 1;
                }
                // No two rounds end at the same moment where it matters which was later.
                if !good || matches!(act, Act::Compare(..)) {
                    facts.now = Tick(facts.now.0 + 1);
                }
                if let Some(process) = facts.processes.get_mut(number) {
                    process.ready = *good;
                }
                let probe = if *good { Probe::Ready } else { Probe::NotReady { detail: "no answer".to_owned() } };
                let compares = matches!(act, Act::Compare(..));
                let input = if compares { Input::Compared(*number, probe) } else { Input::Probed(*number, probe) };
                daemon.tell(scope, input);
            }
            Act::Forecast(number) => {
                let ms = if daemon.leases(*number) > 0 { 1_000 } else { 0 };
                daemon.tell(scope, Input::Forecast(*number, ms));
            }
            Act::Notice(number) => daemon.tell(scope, Input::Exited(*number, Exit::Signal(6))),
            Act::Count => daemon.tell(scope, Input::Tick),
            Act::Request => {
                facts.left.requests -= 1;
                let Route::Serving(number) = daemon.rest.route else { return Ok(()) };
                let target = daemon.rest.targets.get_mut(&number).ok_or("P2: a target that was never made serves")?;
                if target.retired.is_none() {
                    target.leases += 1;
                }
            }
            Act::RequestEnds(number) => {
                if let Some(target) = daemon.rest.targets.get_mut(number) {
                    target.leases -= 1;
                }
            }
            Act::Catalog(catalog) => {
                match catalog {
                    Some(_) => facts.left.changes -= 1,
                    None => facts.left.removals -= 1,
                }
                facts.catalog = *catalog;
                daemon.tell(scope, Input::Want(want(*catalog)));
            }
            Act::Wait(at) => {
                facts.left.waits -= 1;
                facts.now = *at;
                let inflight = daemon.inflight();
                daemon.moved(scope, facts.now, |host, now| host.tick(inflight, now));
                daemon.tell(scope, Input::Tick);
            }
            Act::Term => {
                facts.left.stops -= 1;
                daemon.moved(scope, facts.now, Host::stop);
            }
            Act::Force => {
                facts.left.forces -= 1;
                daemon.moved(scope, facts.now, Host::force);
            }
            Act::Kill | Act::Start | Act::Gone | Act::Stops(_) | Act::Crash(_) => {}
        }
        Ok(())
    }

    /// A process is no more, and with it its work.
    fn end(&mut self, number: Generation) {
        self.facts.processes.remove(&number);
        if let Some(target) = self.daemon.as_mut().and_then(|daemon| daemon.rest.targets.get_mut(&number)) {
            target.leases = 0;
        }
    }

    /// The actor does the next thing.
    fn go(&mut self, scope: &Scope) -> Result<(), String> {
        let World { facts, daemon: Some(daemon) } = self else { return Ok(()) };
        match daemon.rest.queue.pop_front() {
            None => {}
            Some(Do::Remember(memory)) => {
                facts.taken_back.extend(memory.rolled_back.iter().map(|taken_back| taken_back.sha256.0[0]));
                if scope.sabotage != Some(Sabotage::ForgetsMemory) {
                    facts.disk.memory = *memory;
                }
            }
            Some(Do::Handle(input)) => {
                let next = Generation(daemon.rest.next);
                let steps = daemon.slot.handle(input.clone(), next, facts.now);
                promises::after_input(facts, daemon, &input, &steps)?;
                let mut doing = Vec::new();
                if *daemon.slot.memory() != facts.disk.memory {
                    doing.push(Do::Remember(Box::new(daemon.slot.memory().clone())));
                }
                doing.extend(steps.into_iter().map(Do::Carry));
                daemon.first(doing);
            }
            Some(Do::Route(route)) => daemon.rest.route = route,
            Some(Do::Retire(number)) => {
                if let Some(target) = daemon.rest.targets.get_mut(&number) {
                    target.retired = Some(facts.now);
                }
                let leases = daemon.count(scope, number);
                daemon.first(vec![Do::Handle(Input::Leases(number, leases))]);
            }
            Some(Do::Carry(step)) => {
                promises::before_step(facts, daemon, &step)?;
                self.carry_out(scope, step);
            }
        }
        Ok(())
    }
}

impl Act {
    /// The kind of the step that it carries out.
    pub(crate) fn step(&self) -> Option<String> {
        let Act::Goes(Do::Carry(step)) = self else { return None };
        let text = format!("{step:?}");
        text.split(['(', ' ']).next().map(str::to_owned)
    }
}

impl Do {
    /// Whether a kill just before it differs from one just after it.
    fn leaves_a_trace(&self) -> bool {
        match self {
            Do::Remember(_) => true,
            Do::Carry(step) => match step {
                Step::Fetch(..) | Step::Terminate(_) | Step::Kill(_) | Step::Forget(..) => true,
                Step::Describe(_)
                | Step::Start(_)
                | Step::Publish { .. }
                | Step::Restore { .. }
                | Step::Hold { .. }
                | Step::Evacuate(..)
                | Step::Withdraw(..)
                | Step::Absent(_)
                | Step::Cut(..)
                | Step::DrainChild(_)
                | Step::Park(..) => false,
            },
            Do::Handle(_) | Do::Route(_) | Do::Retire(_) => false,
        }
    }

    /// Whether the end of this process just before it differs from one just after it.
    fn asks(&self, number: Generation) -> bool {
        match self {
            Do::Carry(Step::Publish { new, .. }) => *new == number,
            Do::Carry(Step::Restore { back, .. }) => *back == number,
            Do::Carry(Step::DrainChild(drained)) => *drained == number,
            Do::Carry(_) | Do::Handle(_) | Do::Remember(_) | Do::Route(_) | Do::Retire(_) => false,
        }
    }
}

impl Task {
    pub(crate) fn generation(self) -> Generation {
        match self {
            Task::Fetch(number) | Task::Describe(number) | Task::Launch(number) | Task::Count(number) => number,
        }
    }
}

impl Daemon {
    fn build(&self, number: Generation) -> Option<u8> {
        let generation = self.slot.generations().find(|generation| generation.number == number);
        generation.map(|generation| generation.sha256().0[0])
    }

    /// Before everything else that is to be done.
    pub(crate) fn first(&mut self, doing: Vec<Do>) {
        for one in doing.into_iter().rev() {
            self.rest.queue.push_front(one);
        }
    }

    /// The new target becomes visible, then the old one is retired.
    pub(crate) fn swap(&mut self, scope: &Scope, new: Generation, old: Option<Generation>) {
        let mut doing = vec![Do::Route(Route::Serving(new))];
        doing.extend(old.map(Do::Retire));
        if scope.sabotage == Some(Sabotage::RetiresFirst) {
            doing.reverse();
        }
        self.first(doing);
    }

    /// The host moves; where it enters its drain, or is forced, the slot is told.
    fn moved(&mut self, scope: &Scope, now: Tick, edge: impl FnOnce(&mut Host, Tick) -> bool) {
        use supervisor_protocol::host::HostState;
        if !edge(&mut self.host, now) {
            return;
        }
        let want = match self.host.state() {
            HostState::Draining => Want::Stop { deadline: self.host.drained_by().unwrap_or(now) },
            HostState::Forcing => Want::Force,
            HostState::Starting
            | HostState::Serving
            | HostState::Cordoned
            | HostState::Announcing
            | HostState::Stopping
            | HostState::Stopped => return,
        };
        self.tell(scope, Input::Want(want));
    }

    /// Whether a count of its leases would tell the slot anything.
    fn has_news_of(&self, scope: &Scope, number: Generation, now: Tick) -> bool {
        let mut after = self.slot.clone();
        let next = Generation(self.rest.next);
        after.handle(Input::Leases(number, self.count(scope, number)), next, now);
        after != self.slot
    }
}
