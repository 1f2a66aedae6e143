//! Several hosts that all read the same catalog, each with a slot of its own; what they know of each other is what was
//! true when it was said, and arrives when it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use supervisor_protocol::admin::Verb;
use supervisor_protocol::contract::{Role, StateKind};
use supervisor_protocol::{ByClass, Generation, HostId, Sha256, Tick};
use versiond_core::catalog::Artifact;
use versiond_core::evacuate::{Evacuate, Neighbours, Word};
use versiond_core::generation::{Exit, Facts, Probe};
use versiond_core::memory::Memory;
use versiond_core::policy::Policy;
use versiond_core::slot::{Input, Slot, Step, Want};
use versiond_core::timings::Timings;

/// How long a start takes.
const START: Duration = Duration::from_secs(50);

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// A host asks another one; the answer is what is shown at this moment.
    Ask {
        from: usize,
        of: usize,
    },
    /// The oldest answer that is on its way to a host arrives; or never does.
    Hear {
        at: usize,
        lost: bool,
    },
    /// What a host has to do next for itself is done.
    Work {
        at: usize,
    },
    /// A host shows what it has decided.
    Show {
        at: usize,
    },
    Wait {
        ms: u64,
    },
    /// The build cannot start there.
    Fail {
        at: usize,
    },
}

fn acts(hosts: usize) -> impl Strategy<Value = Vec<Act>> {
    let one = 0..hosts;
    let act = prop_oneof![
        6 => (one.clone(), one.clone()).prop_map(|(from, of)| Act::Ask { from, of }),
        6 => (one.clone(), prop::bool::weighted(0.1)).prop_map(|(at, lost)| Act::Hear { at, lost }),
        4 => one.clone().prop_map(|at| Act::Work { at }),
        4 => one.clone().prop_map(|at| Act::Show { at }),
        2 => (1u64..4_000).prop_map(|ms| Act::Wait { ms }),
        1 => one.prop_map(|at| Act::Fail { at }),
    ];
    prop::collection::vec(act, 50..400)
}

/// One answer on its way.
#[derive(Debug, Clone)]
struct Answer {
    of: HostId,
    asked: Tick,
    word: Word,
}

struct Host {
    id: HostId,
    slot: Slot,
    next: u64,
    /// What others see of it: as it was when it was shown last.
    shown: Word,
    /// A claim that is not shown yet.
    claims: Option<Generation>,
    /// What the shell has been told to do.
    todo: Vec<Step>,
    /// Generations with a process.
    alive: BTreeSet<Generation>,
    letters: Vec<Answer>,
    /// Since when every answer of a host has been lost.
    lost: BTreeMap<HostId, Tick>,
    fails: bool,
}

struct World {
    now: Tick,
    hosts: Vec<Host>,
    /// How often each thing happened.
    seen: BTreeMap<&'static str, u64>,
}

fn artifact(byte: u8) -> Artifact {
    Artifact { sha256: Sha256([byte; 32]), urls: Vec::new(), size: None, entry: None, irreversible: false }
}

impl World {
    fn of(count: usize, force_order: bool) -> World {
        let ids: Vec<HostId> = (1..=count).map(|number| format!("gpu-{number}").parse().unwrap()).collect();
        let hosts = ids.iter().map(|id| {
            let others = ids.iter().filter(|other| *other != id).cloned().collect();
            let neighbours = Neighbours { me: id.clone(), others, routers: Duration::from_secs(8) };
            let policy = Policy { start_estimate: Some(START), evacuate: Some(neighbours), ..Policy::default() };
            let timings = Timings { live_expiry: Duration::from_secs(1_000_000), ..Timings::default() };
            let slot = Slot::new(timings, policy, Memory::default());
            let shown = Word::Slot { ready: false, sha256: None, failed: None, evacuating: false };
            let (todo, alive, letters) = (Vec::new(), BTreeSet::new(), Vec::new());
            Host {
                id: id.clone(),
                slot,
                next: 1,
                shown,
                claims: None,
                todo,
                alive,
                letters,
                lost: BTreeMap::new(),
                fails: false,
            }
        });
        let mut world = World { now: Tick::ZERO, hosts: hosts.collect(), seen: BTreeMap::new() };
        for at in 0..count {
            world.tell(at, Input::Want(Want::Serve(artifact(1))));
            while !world.hosts[at].todo.is_empty() {
                world.work(at);
            }
            world.show(at);
            world.tell(at, Input::Want(Want::Serve(artifact(2))));
            if force_order {
                let verb = Verb::Approve { accept_downtime: false, force_order };
                world.hosts[at].slot.command(&verb, world.now).unwrap();
            }
        }
        world
    }

    fn tell(&mut self, at: usize, input: Input) {
        let host = &mut self.hosts[at];
        let steps = host.slot.handle(input, Generation(host.next), self.now);
        for step in &steps {
            if let Step::Fetch(..) = step {
                host.next += 1;
            } else if let Step::Evacuate(new, Evacuate::Claim) = step {
                host.claims = Some(*new);
            } else if let Step::Evacuate(_, Evacuate::StepBack) = step {
                *self.seen.entry("stepped back").or_default() += 1;
            }
        }
        let host = &mut self.hosts[at];
        host.todo.extend(steps);
    }

    /// The next step is carried out, and what comes of it is told at once.
    fn work(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if host.todo.is_empty() {
            return self.tell(at, Input::Tick);
        }
        let step = host.todo.remove(0);
        let fails = host.fails && host.next > 2;
        match step {
            Step::Fetch(number, _) => self.tell(at, Input::Fetched(number)),
            Step::Describe(number) => self.tell(at, Input::Described(number, facts())),
            Step::Start(number) => {
                assert_eq!(host.alive.len(), 0, "P5: {number} starts beside another");
                host.alive.insert(number);
                self.tell(at, Input::Launched(number));
                let host = &mut self.hosts[at];
                let is_new =
                    host.slot.generations().any(|one| one.number == number && one.sha256() == artifact(2).sha256);
                if fails && is_new {
                    host.alive.remove(&number);
                    *self.seen.entry("failed").or_default() += 1;
                    self.tell(at, Input::Exited(number, Exit::Code(1)));
                } else {
                    // Longer than requests may wait.
                    self.now = self.now.after(START);
                    self.tell(at, Input::Probed(number, Probe::Ready));
                }
            }
            Step::Hold { old, .. } => {
                *self.seen.entry("gone").or_default() += 1;
                self.tell(at, Input::Leases(old, ByClass::default()));
            }
            Step::DrainChild(number) => self.tell(at, Input::ChildLoad(number, 0)),
            Step::Terminate(number) | Step::Kill(number) => {
                host.alive.remove(&number);
                self.tell(at, Input::Exited(number, Exit::Code(0)));
            }
            Step::Publish { .. }
            | Step::Restore { .. }
            | Step::Evacuate(..)
            | Step::Withdraw(..)
            | Step::Absent(_)
            | Step::Cut(..)
            | Step::Park(..)
            | Step::Forget(..) => {}
        }
    }

    fn show(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let wanted = artifact(2).sha256;
        host.shown = Word::Slot {
            ready: host.slot.is_ready(),
            sha256: host.slot.serving().map(|serving| serving.sha256()),
            failed: Some(wanted).filter(|wanted| host.slot.failure_of(wanted).is_some()),
            evacuating: host.slot.is_evacuating(),
        };
        if let Some(new) = host.claims.take() {
            self.tell(at, Input::Claimed(new));
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Ask { from, of } if from != of => {
                let answer = Answer { of: self.hosts[of].id.clone(), asked: self.now, word: self.hosts[of].shown };
                self.hosts[from].letters.push(answer);
            }
            Act::Ask { .. } => {}
            Act::Hear { at, lost } => {
                let host = &mut self.hosts[at];
                if !host.letters.is_empty() {
                    let Answer { of, asked, word } = host.letters.remove(0);
                    // Whom a host cannot reach for ten seconds it may not wait for.
                    let since = *host.lost.entry(of.clone()).or_insert(asked);
                    let lost = lost && self.now.since(since) < Duration::from_secs(9);
                    if !lost {
                        host.lost.remove(&of);
                    }
                    self.tell(at, Input::Peer { host: of, asked, word: (!lost).then_some(word) });
                }
            }
            Act::Work { at } => self.work(at),
            Act::Show { at } => self.show(at),
            Act::Wait { ms } => self.now = self.now.after(Duration::from_millis(ms)),
            Act::Fail { at } => self.hosts[at].fails = true,
        }
        // Nothing is asked and answered within one moment.
        self.now = self.now.after(Duration::from_millis(1));
    }

    /// Hosts that have begun to give the slot away, and not taken it back.
    fn away(&self) -> Vec<&HostId> {
        let away = |host: &&Host| host.slot.is_evacuating() && !host.slot.is_ready();
        self.hosts.iter().filter(away).map(|host| &host.id).collect()
    }

    /// Whether somebody who is not on its way out serves.
    fn is_served(&self) -> bool {
        self.hosts.iter().any(|host| host.slot.is_ready())
    }

    /// Everybody does what there is to do, and is heard by everybody.
    fn settle(&mut self) {
        for at in 0..self.hosts.len() {
            for _ in 0..8 {
                self.work(at);
            }
            self.show(at);
        }
        for from in 0..self.hosts.len() {
            self.hosts[from].letters.clear();
            for of in 0..self.hosts.len() {
                self.act(Act::Ask { from, of });
                self.act(Act::Hear { at: from, lost: false });
            }
        }
        self.now = self.now.after(Duration::from_secs(1));
    }
}

fn facts() -> Facts {
    let state = StateKind::Shared;
    let binary_version = "1".to_owned();
    Facts { binary_version, role: Role::Server, state, undrain: false, data: None, exclusive: true }
}

proptest! {
    /// F59: whatever is known late, of however many hosts, never are two away at once, and one always serves; when
    /// everybody is heard again all of them have changed.
    #[test]
    fn f59_p4_never_are_two_hosts_away_and_all_of_them_change(
        (count, acts) in (2usize..5).prop_flat_map(|count| (Just(count), acts(count))),
        force_order in any::<bool>(),
    ) {
        let mut world = World::of(count, force_order);
        for act in acts {
            world.act(act);
            prop_assert!(world.away().len() <= 1, "away at once: {:?} after {act:?}", world.away());
            prop_assert!(world.is_served(), "nobody serves after {act:?}");
        }
        // Where it has failed an operator has it tried again.
        for host in &mut world.hosts {
            host.fails = false;
            host.slot.command(&Verb::Retry, world.now).ok();
        }
        let new = artifact(2).sha256;
        for _ in 0..2_000 {
            if world.hosts.iter().all(|host| host.slot.serving().is_some_and(|one| one.sha256() == new)) {
                return Ok(());
            }
            world.settle();
            prop_assert!(world.away().len() <= 1, "away at once: {:?}", world.away());
            prop_assert!(world.is_served(), "nobody serves");
        }
        let why: Vec<_> = world.hosts.iter().map(|host| host.slot.reasons(world.now)).collect();
        prop_assert!(false, "not all of them change: {why:#?}");
    }
}

/// What the property is about does happen: hosts go, step back, and fail.
#[test]
fn the_worlds_of_neighbours_have_everything_in_them() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..200 {
        let acts = acts(3).new_tree(&mut runner).unwrap().current();
        let mut world = World::of(3, true);
        acts.into_iter().for_each(|act| world.act(act));
        for (what, times) in world.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    for what in ["gone", "stepped back", "failed"] {
        assert!(seen.get(what).is_some_and(|times| *times >= 10), "{what}: {seen:?}");
    }
}
