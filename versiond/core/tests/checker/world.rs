//! The world: a disk, processes, and on them a versiond, which may be dead.
//!
//! Must not live here: what may happen (`acts`), and what must hold (`promises`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;

use serde::Serialize;
use supervisor_protocol::{ByClass, Generation, StreamClass, Tick};
use versiond_core::host::Host;
use versiond_core::memory::Memory;
use versiond_core::slot::{Absent, Input, Slot, Step, Want};

use crate::scope::{Left, Sabotage, Scope, artifact};

/// Everything that is so.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) facts: Facts,
    pub(crate) daemon: Option<Daemon>,
}

/// What outlives versiond.
#[derive(Clone, Serialize)]
pub(crate) struct Facts {
    pub(crate) now: Tick,
    pub(crate) left: Left,
    /// The build that the catalog names.
    pub(crate) catalog: Option<u8>,
    pub(crate) disk: Disk,
    pub(crate) processes: BTreeMap<Generation, Process>,
    /// Builds that were taken back, by what was to be remembered.
    pub(crate) taken_back: BTreeSet<u8>,
}

#[derive(Clone, Serialize)]
pub(crate) struct Disk {
    pub(crate) next: u64,
    pub(crate) memory: Memory,
    pub(crate) processes: BTreeSet<Generation>,
}

/// A process that lives.
#[derive(Clone, Serialize)]
pub(crate) struct Process {
    pub(crate) build: u8,
    pub(crate) draining: bool,
    /// What its latest probe said.
    pub(crate) ready: bool,
    /// It has been sent its stop signal.
    pub(crate) stopped: bool,
}

/// A versiond that runs.
#[derive(Clone)]
pub(crate) struct Daemon {
    pub(crate) slot: Slot,
    pub(crate) host: Host,
    pub(crate) rest: Rest,
}

#[derive(Clone, Serialize)]
pub(crate) struct Rest {
    pub(crate) next: u64,
    /// What the slot's actor has still to do before it takes anything else.
    pub(crate) queue: VecDeque<Do>,
    pub(crate) tasks: BTreeSet<Task>,
    pub(crate) route: Route,
    pub(crate) targets: BTreeMap<Generation, Target>,
    /// When each was ordered to stop, whether its process was made by then or not.
    pub(crate) stops: BTreeMap<Generation, Tick>,
}

/// One thing that the actor does.
#[derive(Debug, Clone, Serialize)]
pub(crate) enum Do {
    Handle(Input),
    Remember(Box<Memory>),
    Carry(Step),
    Route(Route),
    Retire(Generation),
}

/// What is under way for a generation beside the actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Task {
    Fetch(Generation),
    Describe(Generation),
    Launch(Generation),
    Count(Generation),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Route {
    Serving(Generation),
    Absent(Absent),
}

#[derive(Clone, Serialize)]
pub(crate) struct Target {
    pub(crate) retired: Option<Tick>,
    pub(crate) leases: u8,
}

impl World {
    pub(crate) fn begin(scope: &Scope) -> World {
        let disk = Disk { next: 1, memory: Memory::default(), processes: BTreeSet::new() };
        let facts = Facts {
            now: Tick(1_000),
            left: scope.left.clone(),
            catalog: Some(0),
            disk,
            processes: BTreeMap::new(),
            taken_back: BTreeSet::new(),
        };
        let mut world = World { facts, daemon: None };
        world.start();
        world.serve(scope);
        world
    }

    /// On the straight way to a first build that serves, from which everything else begins.
    fn serve(&mut self, scope: &Scope) {
        let straight = Scope { sabotage: None, ..scope.clone() };
        let left = std::mem::replace(&mut self.facts.left, Left::nothing());
        while let Some(act) = self.acts(&straight).into_iter().next() {
            self.act(&straight, &act).and_then(|()| self.check(&straight)).unwrap();
        }
        assert!(matches!(self.daemon.as_ref().unwrap().rest.route, Route::Serving(_)));
        self.facts.left = left;
    }

    /// As versiond starts: from the disk, after the sweep.
    pub(crate) fn start(&mut self) {
        let Facts { disk, processes, .. } = &mut self.facts;
        processes.retain(|number, _| !disk.processes.contains(number));
        disk.processes.clear();
        let slot = Slot::new(Scope::timings(), Scope::policy(), disk.memory.clone());
        let rest = Rest {
            next: disk.next,
            queue: VecDeque::new(),
            tasks: BTreeSet::new(),
            route: Route::Absent(Absent::Hold { until: None }),
            targets: BTreeMap::new(),
            stops: BTreeMap::new(),
        };
        let mut daemon = Daemon { slot, host: Host::new(Scope::host_timings(), None), rest };
        daemon.rest.queue.push_back(Do::Handle(Input::Want(want(self.facts.catalog))));
        self.daemon = Some(daemon);
    }

    /// Of everything that tells this state from another.
    pub(crate) fn hash(&self) -> u128 {
        let mut hash = Hash(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        serde_json::to_writer(&mut hash, &self.facts).unwrap();
        if let Some(Daemon { slot, host, rest }) = &self.daemon {
            serde_json::to_writer(&mut hash, slot).unwrap();
            serde_json::to_writer(&mut hash, rest).unwrap();
            write!(hash, "{host:?}").unwrap();
        }
        hash.0
    }
}

/// What a catalog that names this build, or none, makes of the slot's intent.
pub(crate) fn want(catalog: Option<u8>) -> Want {
    catalog.map_or(Want::Nothing, |build| Want::Serve(artifact(build)))
}

impl Daemon {
    /// Hands an event to the actor, which first counts the leases of whatever is leaving.
    pub(crate) fn tell(&mut self, scope: &Scope, input: Input) {
        for number in self.leaving() {
            let leases = self.count(scope, number);
            self.rest.queue.push_back(Do::Handle(Input::Leases(number, leases)));
        }
        self.rest.queue.push_back(Do::Handle(input));
    }

    /// What is leaving and has a target.
    pub(crate) fn leaving(&self) -> Vec<Generation> {
        let leaving = self.slot.generations().filter(|generation| generation.is_leaving());
        leaving.map(|generation| generation.number).filter(|number| self.rest.targets.contains_key(number)).collect()
    }

    pub(crate) fn count(&self, scope: &Scope, number: Generation) -> ByClass<u64> {
        let mut leases = ByClass::default();
        if scope.sabotage != Some(Sabotage::CountsNoLease) {
            *leases.get_mut(StreamClass::Request) = self.leases(number).into();
        }
        leases
    }

    /// The leases that are really live.
    pub(crate) fn leases(&self, number: Generation) -> u8 {
        self.rest.targets.get(&number).map_or(0, |target| target.leases)
    }

    pub(crate) fn inflight(&self) -> u64 {
        self.rest.targets.values().map(|target| u64::from(target.leases)).sum()
    }
}

/// FNV-1a of 128 bits.
struct Hash(u128);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
