//! The clock, the queue of events, and who is there. What an event does is in `checks`, `requests` and `acts`.

mod acts;
mod checks;
mod requests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use router_core::members::{Address, Answer, Silence};
use router_core::retry::Failure;
use supervisor_protocol::Tick;

use crate::client::Request;
use crate::fault::Fault;
use crate::host::{Host, ms};
use crate::judge::Owners;
use crate::router::Router;
use crate::{Sabotage, Seen};

const HOSTS: usize = 3;
const ROUTERS: usize = 2;
const CLIENTS: usize = 6;
/// Things that are done in one world.
const FAULTS: u32 = 3;
/// The last lines of a trace that are kept.
const KEPT: usize = 80;

/// Something that happens at its time.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Ask { router: usize, life: u64, address: Address },
    Question { router: usize, question: u64, address: Address, wait_ms: u64, is_news: bool },
    WaitOver { host: usize, question: u64 },
    Reply { question: u64, answer: Answer },
    TimedOut { question: u64 },
    Wake { router: usize, life: u64 },
    HostTick { host: usize, boot: u64 },
    Client { client: usize },
    Route { request: u64 },
    Arrive { request: u64, host: usize, boot: u64, is_last_resort: bool },
    Head { request: u64, host: usize, boot: u64 },
    Done { request: u64, host: usize, boot: u64 },
    Lost { request: u64, failure: Failure },
    Begin,
    Heal,
    Rest,
}

/// What came of a world.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// The promise that was broken, and how.
    pub broken: Option<String>,
    pub seen: Seen,
    /// The longest time after a healing in which a session had two owners, in milliseconds.
    pub two_owners_ms: u64,
    /// The same for the same seed.
    pub digest: u64,
    /// The last events, where they were asked for.
    pub trace: Vec<String>,
}

pub(crate) struct World {
    seed: u64,
    now: Tick,
    rng: StdRng,
    queue: BinaryHeap<Reverse<(Tick, u64)>>,
    events: BTreeMap<u64, Event>,
    next: u64,
    pub(crate) hosts: Vec<Host>,
    routers: Vec<Router>,
    /// Which router asked which address, in which of its lives.
    questions: BTreeMap<u64, (usize, u64, Address)>,
    requests: BTreeMap<u64, Request>,
    /// What each client is about now.
    sessions: Vec<usize>,
    fault: Fault,
    since: Tick,
    healed: Tick,
    done: u32,
    owners: Owners,
    seen: Seen,
    two_owners_ms: u64,
    digest: DefaultHasher,
    trace: Option<VecDeque<String>>,
}

fn address(number: usize) -> Address {
    Address::new(&format!("10.0.0.{number}:8080")).unwrap_or_else(|_| unreachable!("it is an address"))
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>) -> World {
        let now = Tick(1_000);
        World {
            seed,
            now,
            rng: StdRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next: 0,
            hosts: (1..=HOSTS).map(|number| Host::new(number, address(number))).collect(),
            routers: (0..ROUTERS).map(|_| Router::new(sabotage, now)).collect(),
            questions: BTreeMap::new(),
            requests: BTreeMap::new(),
            sessions: (0..CLIENTS).collect(),
            fault: Fault::Calm,
            since: now,
            healed: now,
            done: 0,
            owners: Owners::default(),
            seen: Seen::new(),
            two_owners_ms: 0,
            digest: DefaultHasher::new(),
            trace: std::env::var_os("SEED").map(|_| VecDeque::new()),
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        self.list(None);
        for client in 0..CLIENTS {
            self.soon(1_000, Event::Client { client });
        }
        self.at(3_000, Event::Begin);
        let mut broken = None;
        while let Some(Reverse((at, number))) = self.queue.pop() {
            let Some(event) = self.events.remove(&number) else { continue };
            self.now = at;
            (at.0, number, std::mem::discriminant(&event)).hash(&mut self.digest);
            if let Some(trace) = &mut self.trace {
                trace.push_back(format!("{:>7} {event:?}", at.0));
                if trace.len() > KEPT {
                    trace.pop_front();
                }
            }
            if let Err(promise) = self.happens(event) {
                broken = Some(promise);
                break;
            }
            if self.done > FAULTS {
                break;
            }
        }
        let broken = broken.map(|promise| format!("{promise} (at {} ms, during {:?})", self.now.0, self.fault));
        Outcome {
            seed: self.seed,
            broken,
            seen: self.seen,
            two_owners_ms: self.two_owners_ms,
            digest: self.digest.finish(),
            trace: self.trace.into_iter().flatten().collect(),
        }
    }

    fn at(&mut self, after_ms: u64, event: Event) {
        self.next += 1;
        self.queue.push(Reverse((self.now.after(ms(after_ms)), self.next)));
        self.events.insert(self.next, event);
    }

    /// At some time within so many milliseconds.
    fn soon(&mut self, within_ms: u64, event: Event) {
        let after = self.rng.random_range(1..=within_ms);
        self.at(after, event);
    }

    /// What a message takes.
    fn sent(&mut self, event: Event) {
        self.soon(15, event);
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Ask { router, life, address } => self.ask(router, life, address),
            Event::Question { router, question, address, wait_ms, is_news } => {
                self.question(router, question, address, wait_ms, is_news);
            }
            Event::WaitOver { host, question } => self.answer_one(host, question),
            Event::Reply { question, answer } => self.reply(question, answer),
            Event::TimedOut { question } => self.reply(question, Answer::Silent(Silence::TimedOut)),
            Event::Wake { router, life } => {
                if self.routers[router].life == life {
                    self.routers[router].tick(self.now);
                    self.wake(router);
                }
            }
            Event::HostTick { host, boot } => return self.host_tick(host, boot),
            Event::Client { client } => return self.client(client),
            Event::Route { request } => return self.route(request),
            Event::Arrive { request, host, boot, is_last_resort } => {
                return self.arrive(request, (host, boot), is_last_resort);
            }
            Event::Head { request, host, boot } => self.head(request, host, boot),
            Event::Done { request, host, boot } => return self.finish(request, host, boot),
            Event::Lost { request, failure } => return self.lost(request, failure),
            Event::Begin => self.begin(),
            Event::Heal => self.heal(),
            Event::Rest => return self.rest(),
        }
        Ok(())
    }
}
