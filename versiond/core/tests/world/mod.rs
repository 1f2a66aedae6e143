//! A simulated world: it carries out the steps of a slot with processes that behave as their build
//! does, answers after a while, and checks every promise after every input.

mod checks;
mod errors;
mod flight;
mod life;
mod shell;
pub(crate) mod story;
mod truth;

use std::collections::BTreeMap;
use std::time::Duration;

use supervisor_protocol::admin::Verb;
use supervisor_protocol::{Generation, Reason, StreamClass, Tick};
use versiond_core::generation::{Exit, Probe};
use versiond_core::memory::Memory;
use versiond_core::policy::Policy;
use versiond_core::replay::Act;
use versiond_core::slot::{Failed, Input, NotLaunched, Slot, Want};
use versiond_core::window::Opening;

use errors::Errors;
use flight::Flight;
use life::{Life, Process, Stage};
use story::{Fetch, Op, Story, Warm, artifact};
use truth::Truth;

/// How long a world goes on after the last thing that happens to it.
const SETTLES: Duration = Duration::from_secs(600);
/// How long clients ask after that.
const GOES_ON: Duration = Duration::from_secs(20);
/// In milliseconds: between rounds of probes, and the longest round.
const PROBE_ROUND: u64 = 400;
const PROBE_TIMEOUT: u64 = 1_000;
const LIVE_ROUND: u64 = 2_000;

pub(crate) struct World {
    slot: Slot,
    truth: Truth,
    next: Generation,
    queue: BTreeMap<(Tick, u64), Event>,
    queued: u64,
    latencies: Vec<u64>,
    /// Fetches that still fail and crashes that still come, by build.
    failures_left: Vec<u8>,
    crashes_left: Vec<u8>,
    lost_probes: u8,
    /// A forecast is on its way.
    asked: bool,
    /// Until when one, or every process that is not a candidate, says that it is not ready.
    unready: Vec<(Option<Generation>, Tick)>,
    /// Until when clients ask.
    traffic_until: Tick,
    /// It is recorded, and the recording played again and again.
    flight: Option<Flight>,
}

#[derive(Debug, Clone)]
enum Event {
    Op(Op),
    Answer(Input),
    /// The process is made, or is not.
    Launch(Generation),
    Probe(Generation),
    LeaseTurns(Generation, u64, StreamClass),
    LeaseEnds(Generation, u64),
    /// The process ends; it is noticed later.
    Ends(Generation, Exit),
    /// The process ends after this drain of it, unless that was taken back.
    Drains(Generation, u32, Exit),
    /// The shell asks a child in this drain what it still has, which is nothing from this tick on.
    Count(Generation, u32, Tick),
    /// And has its answer.
    Counted(Generation, u32, u64),
    /// The forecast that is waited for is asked.
    Forecast,
    /// A second of answers.
    Traffic,
    Idle,
}

impl World {
    /// Lives through a story, checking all the way, and then whether everything came to rest.
    pub(crate) fn live(story: &Story) {
        World::new(story).run(story);
    }

    /// The same, recorded in so many acts; the recording is played again after so many of them.
    pub(crate) fn fly(story: &Story, kept: usize, every: usize) {
        let mut world = World::new(story);
        world.flight = Some(Flight::new(kept, every, &world.slot));
        world.run(story);
    }

    fn new(story: &Story) -> World {
        let timings = story::timings(story.short_drain);
        let crash_count = |build: &story::Build| build.crash.map_or(0, |(_, count)| count);
        let fetch_failures = |build: &story::Build| match build.fetch {
            Fetch::Good => 0,
            Fetch::GoodAfterFailures(count) => count,
            Fetch::WrongHash => u8::MAX,
        };
        let truth = Truth {
            now: Tick::ZERO,
            want: Want::Nothing,
            timings: timings.clone(),
            builds: story.builds.clone(),
            lives: BTreeMap::new(),
            target: None,
            absent: None,
            good: story.last_good,
            named: story.last_good.into_iter().collect(),
            denied: None,
            holding: None,
            accepts: None,
            operated: false,
            closed_until: None,
            errors: Errors::under(story.traffic),
        };
        World {
            slot: Slot::new(
                timings,
                Policy { errors: story.traffic.map(|traffic| traffic.rule), ..Policy::default() },
                story.last_good.map(artifact).map(Memory::of).unwrap_or_default(),
            ),
            truth,
            next: Generation(1),
            queue: BTreeMap::new(),
            queued: 0,
            latencies: story.latencies.clone(),
            failures_left: story.builds.iter().map(fetch_failures).collect(),
            crashes_left: story.builds.iter().map(crash_count).collect(),
            lost_probes: 0,
            asked: false,
            unready: Vec::new(),
            traffic_until: Tick::ZERO,
            flight: None,
        }
    }

    fn run(mut self, story: &Story) {
        self.deliver(Input::Tick);
        let mut at = 0;
        for (gap, op) in &story.ops {
            at += gap;
            self.schedule(at, Event::Op(op.clone()));
        }
        self.traffic_until = Tick(at).after(GOES_ON);
        self.schedule(0, Event::Traffic);
        self.run_until(Tick(at).after(SETTLES));
        self.check_rest();
        if let Some(flight) = &self.flight {
            flight.check(&self.slot);
        }
    }

    fn run_until(&mut self, end: Tick) {
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.slot.wake().map(|(at, _)| at);
            let Some(at) = event.into_iter().chain(wake).min().filter(|at| *at <= end) else { return };
            self.check_quiet_until(at);
            self.truth.now = at;
            if event == Some(at)
                && let Some((_, event)) = self.queue.pop_first()
            {
                self.happen(event);
            } else {
                self.deliver(Input::Tick);
            }
        }
    }

    fn schedule(&mut self, in_ms: u64, event: Event) {
        self.queued += 1;
        let at = self.truth.now.after(Duration::from_millis(in_ms));
        self.queue.insert((at, self.queued), event);
    }

    fn later(&mut self, event: Event) {
        let latency = self.latency();
        self.schedule(latency, event);
    }

    fn latency(&mut self) -> u64 {
        self.latencies.rotate_left(1);
        self.latencies[0]
    }

    // === what happens ===

    fn happen(&mut self, event: Event) {
        match event {
            Event::Op(op) => self.op(op),
            Event::Answer(input @ (Input::Probed(number, _) | Input::Compared(number, _))) => {
                // As the shell does it: the answer of a process that has ended meanwhile is its exit.
                let exit = self.truth.lives[&number].exit;
                self.deliver(exit.map_or(input, |exit| Input::Exited(number, exit)));
            }
            Event::Forecast => {
                self.asked = false;
                let input = self.slot.wants_forecast(self.truth.now).map_or(Input::Tick, |number| {
                    // It may be wrong either way.
                    Input::Forecast(number, self.latency() * 4)
                });
                self.deliver(input);
            }
            Event::Answer(input) => self.deliver(input),
            Event::Launch(number) => self.launch(number),
            Event::Probe(number) => self.probe(number),
            Event::LeaseTurns(number, id, class) => {
                if let Some(lease) = self.life(number).leases.get_mut(&id) {
                    *lease = class;
                }
            }
            Event::LeaseEnds(number, id) => {
                let life = self.life(number);
                if life.leases.remove(&id).is_some() && life.leases.is_empty() {
                    self.later(Event::Idle);
                }
            }
            Event::Ends(number, exit) => self.ends(number, exit),
            Event::Drains(number, drain, exit) => {
                if self.truth.lives[&number].is_in(drain) {
                    self.ends(number, exit);
                }
            }
            Event::Count(number, drain, empty_at) => {
                let life = &self.truth.lives[&number];
                if let (Process::Alive(_), true) = (life.process, life.is_in(drain)) {
                    let (load, latency) = (u64::from(self.truth.now < empty_at), self.latency());
                    self.schedule(latency, Event::Counted(number, drain, load));
                    if load > 0 {
                        self.schedule(latency + 500, Event::Count(number, drain, empty_at));
                    }
                }
            }
            Event::Counted(number, drain, load) => {
                // As the shell does it: what a drain that was taken back has counted is void, also in the next drain.
                if self.truth.lives[&number].is_in(drain) {
                    self.deliver(Input::ChildLoad(number, load));
                }
            }
            Event::Traffic => self.traffic(),
            Event::Idle => self.deliver(Input::Tick),
        }
    }

    fn op(&mut self, op: Op) {
        match op {
            // No catalog wants what it denies.
            Op::Serve(build) if self.truth.denied == Some(build) => {}
            Op::Serve(build) => self.deliver(Input::Want(Want::Serve(artifact(build)))),
            Op::Keep => self.deliver(Input::Want(Want::Keep(Reason::Unservable { detail: String::new() }))),
            Op::Nothing => self.deliver(Input::Want(Want::Nothing)),
            Op::Stop(left) => {
                let deadline = self.truth.now.after(Duration::from_millis(left));
                self.deliver(Input::Want(Want::Stop { deadline }));
            }
            Op::Force => self.deliver(Input::Want(Want::Force)),
            Op::Deny(build) => self.deny(build),
            Op::Lease(class, lasts) => {
                self.lease(class, lasts);
            }
            Op::Turns(lasts, after, class) => {
                if let Some((target, id)) = self.lease(StreamClass::Request, lasts) {
                    self.schedule(after, Event::LeaseTurns(target, id, class));
                }
            }
            Op::Crash => {
                if let Some(target) = self.truth.target {
                    self.ends(target, Exit::Signal(11));
                }
            }
            Op::LoseProbe => self.lost_probes += 1,
            Op::Unready(lasts, common) => {
                if let Some(target) = self.truth.target {
                    let until = self.truth.now.after(Duration::from_millis(lasts));
                    self.unready.push((if common { None } else { Some(target) }, until));
                }
            }
            Op::Order(verb) => self.order(&verb),
            Op::Close(lasts) => {
                let opens = self.truth.now.after(Duration::from_millis(lasts + 1));
                self.truth.closed_until = Some(opens);
                self.deliver(Input::Opening(Opening::Closed { opens }));
            }
            Op::Stale(choice) => self.stale(choice),
            Op::Tick => self.deliver(Input::Tick),
        }
    }

    fn order(&mut self, verb: &Verb) {
        let before = self.slot.clone();
        let taken = self.slot.command(verb, self.truth.now);
        self.record(Act::Order(verb.clone()), &[]);
        match taken {
            Ok(()) => {
                self.truth.ordered(verb, &self.slot);
                self.deliver(Input::Tick);
            }
            Err(_) => assert_eq!(self.slot, before, "an order that is refused changes nothing"),
        }
    }

    /// As a catalog does it: what is denied is not wanted either.
    fn deny(&mut self, build: usize) {
        if self.truth.wanted_build() == Some(build) {
            self.deliver(Input::Want(Want::Nothing));
        }
        self.deliver(Input::Denied([artifact(build).sha256].into()));
    }

    fn lease(&mut self, class: StreamClass, lasts: u64) -> Option<(Generation, u64)> {
        let (target, id) = (self.truth.target?, self.queued);
        self.life(target).leases.insert(id, class);
        self.schedule(lasts, Event::LeaseEnds(target, id));
        Some((target, id))
    }

    fn life(&mut self, number: Generation) -> &mut Life {
        self.truth.lives.get_mut(&number).expect("only generations that began have a life")
    }

    fn launch(&mut self, number: Generation) {
        // A stop that comes meanwhile may win or lose against the start.
        let stop_wins = self.latency().is_multiple_of(2);
        let (now, builds) = (self.truth.now, self.truth.builds.clone());
        let life = self.life(number);
        let build = &builds[life.build];
        let stopped = life.stopped.is_some();
        if !build.launches || stopped && stop_wins {
            life.process = Process::Gone;
            self.deliver(Input::LaunchFailed(number, NotLaunched::Failed("no".to_owned())));
            return;
        }
        life.process = Process::Alive(now);
        if let Warm::ExitsAfter(after) = build.warm {
            self.schedule(after, Event::Ends(number, Exit::Code(1)));
        }
        self.schedule(0, Event::Probe(number));
        if stopped {
            self.signal(number);
        }
        self.deliver(Input::Launched(number));
    }

    /// The stop signal, or the kill, meets the process.
    fn signal(&mut self, number: Generation) {
        let latency = self.latency();
        let stops = self.truth.builds[self.truth.lives[&number].build].stops;
        let life = self.life(number);
        let Process::Alive(_) = life.process else { return };
        if life.killed {
            self.schedule(latency, Event::Ends(number, Exit::Signal(9)));
        } else if let Some(after) = stops {
            self.schedule(after, Event::Ends(number, Exit::Code(0)));
        }
    }

    fn probe(&mut self, number: Generation) {
        let life = &self.truth.lives[&number];
        let (Process::Alive(since), published) = (life.process, life.published) else { return };
        let now = self.truth.now;
        let age = u64::try_from(now.since(since).as_millis()).unwrap();
        let unready = Probe::NotReady { detail: "no answer".to_owned() };
        let standby = life.is_standby();
        let lost = published && !standby && self.lost_probes > 0;
        let sick = self.is_sick(number);
        let probe = match self.truth.builds[life.build].warm {
            _ if lost || (published && sick) => unready,
            Warm::ReadyAfter(ms) if age < ms => unready,
            Warm::InitializesFor(ms) if age < ms => Probe::Initializing { detail: "loading".to_owned() },
            Warm::ReadyAfter(_) | Warm::InitializesFor(_) => Probe::Ready,
            Warm::InitializesForever => Probe::Initializing { detail: "loading".to_owned() },
            Warm::Silent | Warm::ExitsAfter(_) => unready,
        };
        self.lost_probes -= u8::from(lost);
        let latency = self.latency() % PROBE_TIMEOUT;
        let input = if standby { Input::Compared } else { Input::Probed };
        self.schedule(latency, Event::Answer(input(number, probe)));
        self.schedule(latency + if published { LIVE_ROUND } else { PROBE_ROUND }, Event::Probe(number));
    }

    fn is_sick(&self, number: Generation) -> bool {
        self.unready.iter().any(|(who, until)| *until > self.truth.now && who.is_none_or(|who| who == number))
    }

    fn ends(&mut self, number: Generation, exit: Exit) {
        let life = self.life(number);
        let Process::Alive(_) = life.process else { return };
        life.process = Process::Gone;
        life.exit = Some(exit);
        life.lost = !life.leases.is_empty();
        life.leases.clear();
        self.later(Event::Answer(Input::Exited(number, exit)));
    }

    /// An answer that comes although its generation has moved on: nothing may follow from it.
    fn stale(&mut self, choice: u8) {
        let numbers: Vec<Generation> = self.truth.lives.keys().copied().collect();
        let Some(number) = numbers.get(usize::from(choice) % numbers.len().max(1)).copied() else { return };
        let life = &self.truth.lives[&number];
        let past = |stage: Stage| life.forgotten || life.stage > stage;
        let input = match choice / 16 {
            0 if past(Stage::Fetching) => Input::Fetched(number),
            1 if past(Stage::Fetching) => Input::FetchFailed(number, Failed::Fetch("late".to_owned())),
            2 if past(Stage::Describing) => Input::Described(number, self.truth.builds[life.build].facts()),
            3 if past(Stage::Describing) => Input::PreflightFailed(number, "late".to_owned()),
            4 if past(Stage::Making) => Input::Launched(number),
            5 if past(Stage::Making) && (life.stopped.is_none() || life.forgotten) => {
                Input::LaunchFailed(number, NotLaunched::Failed("late".to_owned()))
            }
            6 if life.forgotten => Input::Probed(number, Probe::Ready),
            7 if life.forgotten => Input::Exited(number, Exit::Code(0)),
            8 if life.retired.is_none() || life.forgotten => Input::Leases(number, Default::default()),
            9 if life.stage != Stage::Draining || life.forgotten => Input::ChildLoad(number, 0),
            _ => return,
        };
        let expected = self.slot.clone().handle(Input::Tick, self.next, self.truth.now);
        let found = self.slot.clone().handle(input.clone(), self.next, self.truth.now);
        assert_eq!(found, expected, "{input:?} is stale, and something follows from it");
        self.deliver(input);
    }
}
