//! Two replicas of a router, the hosts as they are, and what must be true after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use router_core::choose::{Ask, Attempt, Choice, Failed, Next, Search};
use router_core::drain::Refusals;
use router_core::members::{Address, Answer, Detection, Health, Listed, Listing, MemberId, Silence};
use router_core::pool::Pool;
use router_core::retry::{BodyState, Failure};
use router_core::view::{Alarm, View};
use supervisor_protocol::host::HostState;
use supervisor_protocol::{Tick, VersionName};

use super::act::{Act, HOSTS};
use super::expected::{self, Facts};
use crate::support::{Host, IDLE, each};

const KEYS: u32 = 40;

/// One host as it is.
struct Truth {
    host: Host,
    is_alive: bool,
    boots: u32,
    held: BTreeSet<u32>,
}

pub(crate) struct Worlds {
    /// The second one reaches every host at another address, and lists them in another order.
    pools: [Pool; 2],
    refusals: [Refusals; 2],
    hosts: Vec<Truth>,
    facts: BTreeMap<String, Facts>,
    /// A clone is in instead of a host that was silent for long: what was heard of the host counts no more.
    is_cloned: bool,
    now: Tick,
}

/// What one step may change.
struct Before {
    choices: Vec<Option<MemberId>>,
    view: View,
    revision: u64,
    seats: BTreeMap<MemberId, (Address, bool)>,
}

impl Worlds {
    pub(crate) fn new() -> Self {
        let now = Tick(1_000_000);
        let pool = |_| Pool::new(each(), now);
        let hosts = (0..HOSTS).map(|at| Host::new(&format!("host-{at}")));
        let hosts = hosts.map(|host| Truth { host, is_alive: true, boots: 0, held: BTreeSet::new() }).collect();
        let facts = (0..HOSTS).map(|at| (format!("host-{at}"), Facts::default())).collect();
        let mut worlds = Self {
            pools: [0, 1].map(pool),
            refusals: [0, 1].map(|_| Refusals::default()),
            hosts,
            facts,
            is_cloned: false,
            now,
        };
        worlds.list(Listing::Written);
        worlds
    }

    pub(crate) fn step(&mut self, act: &Act) {
        self.now = Tick(self.now.0 + 1);
        let before = self.before();
        let about = self.act(act);
        for pool in &mut self.pools {
            pool.tick(self.now);
        }
        for (pool, refusals) in self.pools.iter().zip(&mut self.refusals) {
            refusals.follow(&pool.view().session_drains());
        }
        self.replicas_agree();
        self.seats_stay_with_the_living(&before);
        self.nothing_else_moves(&before, about, act);
        if !self.is_cloned {
            self.roles_are_as_expected();
        }
    }

    /// Does it, and says which host it was about.
    fn act(&mut self, act: &Act) -> Option<usize> {
        let now = self.now;
        match *act {
            Act::Answer(at) if self.hosts[at].is_alive => {
                let host = self.hosts[at].host.clone();
                self.hear(at, &host.word());
                let cordon = (host.state == HostState::Cordoned).then_some(host.mode);
                let boot = self.hosts[at].boots;
                self.facts_of(at).word(host.slots["v1"], cordon, boot, now);
                Some(at)
            }
            Act::Timeout(at) => {
                self.hear(at, &Answer::Silent(Silence::TimedOut));
                self.facts_of(at).miss(1, now);
                Some(at)
            }
            Act::Answer(at) | Act::Refuse(at) => {
                self.hear(at, &Answer::Silent(Silence::Refused));
                self.facts_of(at).miss(2, now);
                Some(at)
            }
            Act::Overload(at) => {
                self.hear(at, &Answer::Overloaded);
                self.facts_of(at).overload();
                Some(at)
            }
            Act::Kill(at) => {
                self.hosts[at].is_alive = false;
                None
            }
            Act::Start(at) => {
                let truth = &mut self.hosts[at];
                truth.boots += 1;
                truth.is_alive = true;
                truth.host.boot = format!("b{}", truth.boots + 1);
                truth.host.seq = 1;
                None
            }
            Act::Cordon(at, mode) => {
                self.hosts[at].host = self.hosts[at].host.clone().cordoned(mode);
                None
            }
            Act::Uncordon(at) => {
                self.hosts[at].host = self.hosts[at].host.clone().state(HostState::Serving);
                None
            }
            Act::Child(at, ready) => {
                self.hosts[at].host = self.hosts[at].host.clone().slots(&[("v1", ready)]);
                None
            }
            Act::CloneAnswers(at) => {
                self.hear(HOSTS + at, &Host::booted(&format!("host-{at}"), "clone").word());
                Some(at)
            }
            Act::CloneTimesOut(at) => {
                self.hear(HOSTS + at, &Answer::Silent(Silence::TimedOut));
                Some(at)
            }
            Act::DnsFails => {
                self.list(|_| Listing::Failed);
                None
            }
            Act::DnsEmpty => {
                self.list(|_| Listing::Resolved(Vec::new()));
                None
            }
            Act::DnsShuffled => {
                self.list(|listed| Listing::Resolved(listed.iter().rev().chain(&listed).cloned().collect()));
                None
            }
            Act::DnsBlip(at) => {
                self.list(|mut listed| {
                    listed.remove(at);
                    Listing::Resolved(listed)
                });
                self.list(Listing::Resolved);
                None
            }
            Act::Wait(seconds) => {
                self.now = now.after(Duration::from_secs(seconds));
                None
            }
            Act::Request(key) => {
                self.request(key);
                None
            }
        }
    }

    /// P8: equal views choose alike, whatever the addresses and their order.
    fn replicas_agree(&mut self) {
        let [a, b] = [0, 1].map(|replica| self.choices(replica));
        assert_eq!(a, b);
        let roles = |pool: &Pool| pool.view().versions().map(|(_, scope)| scope.roles().clone()).collect::<Vec<_>>();
        assert_eq!(roles(&self.pools[0]), roles(&self.pools[1]));
    }

    /// F65: an identity never leaves a host that answers to it.
    fn seats_stay_with_the_living(&mut self, before: &Before) {
        let view = self.pools[0].view();
        for (id, (address, is_alive)) in &before.seats {
            let seat = view.seat(id).map(|seat| &seat.address);
            assert!(!is_alive || seat == Some(address), "{id} went from {address} to {seat:?}");
        }
        let own = |at: usize| view.seat(&named(at)).is_none_or(|seat| seat.address == address(0, at));
        self.is_cloned = !(0..HOSTS).all(own);
    }

    /// F48, F58, F60: one event moves the keys of one host; and silence, overload, blips and requests may not
    /// move what they are not about.
    fn nothing_else_moves(&self, before: &Before, about: Option<usize>, act: &Act) {
        let view = self.pools[0].view();
        assert!(view == before.view || self.pools[0].revision() > before.revision, "{act:?}");
        let quiet = |view: &View| {
            view.versions().all(|(_, scope)| scope.alarms.iter().all(|alarm| matches!(alarm, Alarm::Identity { .. })))
        };
        let after = self.choices(0);
        match act {
            Act::DnsFails | Act::DnsEmpty | Act::DnsShuffled | Act::DnsBlip(_) | Act::Overload(_) => {
                assert_eq!(before.view, view, "{act:?}");
            }
            Act::Timeout(at) if self.facts[&format!("host-{at}")].misses == 1 => assert_eq!(before.choices, after),
            // A clone whose time has come, and what is remembered of a refusal.
            Act::Wait(_) | Act::Request(_) => {}
            Act::Answer(_)
            | Act::Timeout(_)
            | Act::Refuse(_)
            | Act::Kill(_)
            | Act::Start(_)
            | Act::Cordon(..)
            | Act::Uncordon(_)
            | Act::Child(..)
            | Act::CloneAnswers(_)
            | Act::CloneTimesOut(_) => {
                let about = about.map(named);
                let is_about = |id: &Option<MemberId>| id.is_none() || *id == about;
                let moved = before.choices.iter().zip(&after).filter(|(old, new)| old != new);
                for (old, new) in moved.filter(|_| quiet(&before.view) && quiet(&view)) {
                    assert!(is_about(old) || is_about(new), "{act:?} moved {old:?} to {new:?}");
                }
            }
        }
    }

    /// F51, F60, F62: who may be chosen is what was heard, and somebody always may where somebody could admit.
    fn roles_are_as_expected(&self) {
        let view = self.pools[0].view();
        let scope = view.versions().next().map(|(_, scope)| scope);
        let roles: BTreeMap<String, &'static str> = scope
            .map(|scope| scope.roles().iter().map(|(id, role)| (id.to_string(), role.code())).collect())
            .unwrap_or_default();
        let mut expected: BTreeMap<String, &'static str> =
            expected::roles(&self.facts).into_iter().map(|(id, role)| (id.clone(), role)).collect();
        for id in expected::must_keep(&self.facts, Detection::default().window) {
            assert_eq!(roles.get(id), Some(&"kept"), "{id} of {:?}", self.facts);
        }
        // Older events may have been kept as well; nobody else may be.
        for (id, role) in roles.iter().filter(|(_, role)| **role == "kept") {
            let facts = &self.facts[id];
            assert!(facts.was_ready() && facts.silent.is_some(), "{id} {facts:?}");
            expected.insert(id.clone(), role);
        }
        assert_eq!(roles, expected, "{:?}", self.facts);
        let could_admit = self.facts.values().any(|facts| facts.is_ready() || facts.cordoned().is_some());
        assert!(!could_admit || self.choices(0).iter().all(Option::is_some));
        let is_alone = roles.values().all(|role| *role == "cordoned");
        if let (true, Some(last)) = (is_alone, expected::last_cordoned(&self.facts)) {
            assert!(self.choices(0).iter().all(|choice| choice.as_ref().is_some_and(|id| id.as_str() == last)));
        }
    }

    /// P9, F63: a request ends with whoever could have it, in as many attempts as there are hosts and two.
    fn request(&mut self, key: u32) {
        let mut ends = Vec::new();
        for replica in [0, 1] {
            let view = self.pools[replica].view();
            let Some((mut choice, mut search)) = choose(&view, key, &self.refusals[replica]) else { continue };
            let mut attempts = 1;
            let end = loop {
                let at = self.truth(&view, &choice.id, replica);
                let Some(failure) = self.attempt(at, key, choice.attempt) else { break Some(choice.id) };
                match self.next(replica, &view, &mut search, failure) {
                    Some(next) => choice = next,
                    None => break None,
                }
                attempts += 1;
                assert!(attempts <= HOSTS + 2, "{attempts} attempts");
            };
            ends.push(end);
        }
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{ends:?}");
        if let Some(Some(id)) = ends.first() {
            if let Some(truth) = self.hosts.iter_mut().find(|truth| truth.host.id == id.as_str()) {
                truth.held.insert(key);
            }
            return;
        }
        // Nobody took it: then nobody that is known to be of use would have.
        let view = self.pools[0].view();
        let usable = view.versions().flat_map(|(_, scope)| scope.roles().keys()).collect::<Vec<_>>();
        for id in usable {
            let at = self.truth(&view, id, 0);
            assert!(self.attempt(at, key, Attempt::LastResort).is_some(), "{id} would have admitted {key}");
        }
    }

    /// How an attempt ends at the host as it is; `None` when it is admitted.
    fn attempt(&self, at: Option<usize>, key: u32, attempt: Attempt) -> Option<Failure> {
        let truth = &self.hosts[at?];
        let drains = truth.host.state == HostState::Cordoned
            && truth.host.mode == supervisor_protocol::contract::DrainMode::Sessions;
        match attempt {
            _ if !truth.is_alive => Some(Failure::NotSent),
            Attempt::Ordinary if drains && !truth.held.contains(&key) => Some(Failure::NotAdmitted),
            Attempt::Ordinary | Attempt::LastResort => None,
        }
    }

    fn next(&mut self, replica: usize, view: &View, search: &mut Search, failure: Failure) -> Option<Choice> {
        let failed = Failed { failure, is_idempotent: false, body: BodyState::Unread, attempts_left: 9 };
        match view.failed(search, failed, IDLE, &mut self.refusals[replica]) {
            Next::Try(choice) => Some(choice),
            Next::GiveUp(_) => None,
        }
    }

    /// Which host is reached there; `None` for a clone.
    fn truth(&self, view: &View, id: &MemberId, replica: usize) -> Option<usize> {
        let seat = &view.seat(id)?.address;
        (0..HOSTS).find(|at| address(replica, *at) == *seat)
    }

    fn before(&self) -> Before {
        let view = self.pools[0].view();
        let seats = self.pools[0].members().iter().filter_map(|(address, member)| {
            let is_alive = matches!(member.health, Health::Answering { .. });
            Some((member.id()?.clone(), (address.clone(), is_alive)))
        });
        Before { choices: self.choices(0), seats: seats.collect(), view, revision: self.pools[0].revision() }
    }

    fn choices(&self, replica: usize) -> Vec<Option<MemberId>> {
        let view = self.pools[replica].view();
        let chosen = |key| choose(&view, key, &self.refusals[replica]).map(|(choice, _)| choice.id);
        (0..KEYS).map(chosen).collect()
    }

    fn hear(&mut self, at: usize, answer: &Answer) {
        for (replica, pool) in self.pools.iter_mut().enumerate() {
            pool.hear(&address(replica, at), answer.clone(), self.now);
        }
    }

    fn list(&mut self, listing: impl Fn(Vec<Listed>) -> Listing) {
        for (replica, pool) in self.pools.iter_mut().enumerate() {
            let listed = (0..2 * HOSTS).map(|at| address(replica, at).as_str().parse().unwrap());
            pool.list(listing(listed.collect()), self.now);
        }
    }

    fn facts_of(&mut self, at: usize) -> &mut Facts {
        self.facts.get_mut(&format!("host-{at}")).unwrap()
    }
}

fn choose(view: &View, key: u32, refusals: &Refusals) -> Option<(Choice, Search)> {
    let version: VersionName = "v1".parse().unwrap();
    let ask = Ask { key: &key.to_be_bytes(), version: Some(&version), spread: IDLE };
    view.choose(&ask, refusals).ok()
}

/// The second replica reaches the same hosts elsewhere, so that they sort otherwise.
fn address(replica: usize, at: usize) -> Address {
    let number = if replica == 0 { at } else { 200 - at };
    format!("10.0.{replica}.{number}:8080").parse().unwrap()
}

fn named(at: usize) -> MemberId {
    format!("host-{at}").parse().unwrap()
}
