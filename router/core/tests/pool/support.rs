//! A pool with a clock and hosts that speak when they are told to.

use std::collections::BTreeMap;
use std::time::Duration;

use router_core::choose::{Ask, Attempt, Candidate, Failed, Lookup, Next, Search, Spread, Unavailable};
use router_core::drain::Refusals;
use router_core::members::{Address, Answer, DrainWord, Listed, Listing, MemberId, Silence, Word};
use router_core::pool::{Policy, Pool, PoolSettings, PoolState, Versions};
use router_core::retry::{BodyState, Failure};
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::host::HostState;
use supervisor_protocol::{BootNonce, HostId, SlotId, Tick, VersionName};

pub(crate) const IDLE: Spread<'static> = Spread { turn: 0, inflight: &|_| 0 };
pub(crate) const KEYS: u32 = 300;

/// A host with versiond, as it would answer.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) boot: String,
    pub(crate) seq: u64,
    pub(crate) state: HostState,
    pub(crate) mode: DrainMode,
    pub(crate) slots: BTreeMap<String, bool>,
}

impl Host {
    pub(crate) fn new(id: &str) -> Self {
        let slots = BTreeMap::from([("v1".to_owned(), true)]);
        let boot = "b1".to_owned();
        Self { id: id.to_owned(), boot, seq: 1, state: HostState::Serving, mode: DrainMode::All, slots }
    }

    pub(crate) fn booted(id: &str, boot: &str) -> Self {
        Self { boot: boot.to_owned(), ..Self::new(id) }
    }

    pub(crate) fn state(mut self, state: HostState) -> Self {
        self.seq += 1;
        self.state = state;
        self
    }

    pub(crate) fn cordoned(self, mode: DrainMode) -> Self {
        Self { mode, ..self.state(HostState::Cordoned) }
    }

    pub(crate) fn slots(mut self, slots: &[(&str, bool)]) -> Self {
        self.seq += 1;
        self.slots = slots.iter().map(|(name, ready)| ((*name).to_owned(), *ready)).collect();
        self
    }

    pub(crate) fn word(&self) -> Answer {
        let slot = |name: &str| SlotId { service: "devshardd".parse().unwrap(), name: name.parse().unwrap() };
        let is_leaving = !matches!(self.state, HostState::Serving | HostState::Starting);
        Answer::Word(Word {
            id: HostId::new(self.id.clone()).unwrap(),
            boot: BootNonce::new(self.boot.clone()).unwrap(),
            seq: self.seq,
            state: self.state,
            ready: self.state == HostState::Serving && self.slots.values().any(|ready| *ready),
            slots: self.slots.iter().map(|(name, ready)| (slot(name), *ready)).collect(),
            drain: is_leaving.then_some(DrainWord { mode: self.mode, lasted: Duration::ZERO }),
        })
    }
}

/// A pool at a moment.
pub(crate) struct World {
    pub(crate) pool: Pool,
    pub(crate) now: Tick,
    pub(crate) refusals: Refusals,
}

impl World {
    pub(crate) fn with(settings: PoolSettings) -> Self {
        let now = Tick(1_000_000);
        Self { pool: Pool::new(settings, now), now, refusals: Refusals::default() }
    }

    /// A sticky pool with versions, of these hosts at `10.0.0.1`, `10.0.0.2` and so on, all of which answered.
    pub(crate) fn of(hosts: &[Host]) -> Self {
        let mut world = World::with(each());
        world.list(&(1..=hosts.len()).map(address).collect::<Vec<_>>().iter().map(Address::as_str).collect::<Vec<_>>());
        for (at, host) in (1..).zip(hosts) {
            world.says(at, host);
        }
        world
    }

    pub(crate) fn list(&mut self, members: &[&str]) {
        let listed = members.iter().map(|text| text.parse::<Listed>().unwrap());
        self.pool.list(Listing::Written(listed.collect()), self.now);
    }

    pub(crate) fn after(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.pool.tick(self.now);
    }

    pub(crate) fn hears(&mut self, at: usize, answer: Answer) {
        self.now = Tick(self.now.0 + 1);
        self.pool.hear(&address(at), answer, self.now);
        self.refusals.follow(&self.pool.view().session_drains());
    }

    pub(crate) fn says(&mut self, at: usize, host: &Host) {
        self.hears(at, host.word());
    }

    pub(crate) fn silent(&mut self, at: usize, silence: Silence) {
        self.hears(at, Answer::Silent(silence));
    }

    /// Silent for good: twice in a row.
    pub(crate) fn dies(&mut self, at: usize) {
        self.silent(at, Silence::TimedOut);
        self.silent(at, Silence::TimedOut);
    }

    pub(crate) fn lookup(&self, version: Option<&str>, key: &str) -> Lookup {
        let version = version.map(|version| version.parse::<VersionName>().unwrap());
        let ask = Ask { key: key.as_bytes(), version: version.as_ref(), spread: IDLE };
        self.pool.view().lookup(&ask, &self.refusals)
    }

    pub(crate) fn begin(&self, version: &str, key: &str) -> Result<(String, Search), Unavailable> {
        let version = version.parse::<VersionName>().unwrap();
        let ask = Ask { key: key.as_bytes(), version: Some(&version), spread: IDLE };
        let (choice, search) = self.pool.view().choose(&ask, &self.refusals)?;
        Ok((named(&choice.id, choice.attempt), search))
    }

    /// Who serves a key of `v1`; the reason where nobody does.
    pub(crate) fn choice(&self, key: u32) -> String {
        self.begin("v1", &key.to_string()).map_or_else(|reason| reason.code().to_owned(), |(id, _)| id)
    }

    pub(crate) fn all(&self) -> Vec<String> {
        (0..KEYS).map(|key| self.choice(key)).collect()
    }

    /// Everybody who serves some key of `v1`.
    pub(crate) fn chosen(&self) -> Vec<String> {
        let mut chosen = self.all();
        chosen.sort();
        chosen.dedup();
        chosen
    }

    /// The next choice after a failure, with budget and a body that can be sent again.
    pub(crate) fn fails(&mut self, search: &mut Search, failure: Failure) -> String {
        let failed = Failed { failure, is_idempotent: false, body: BodyState::Buffered, attempts_left: 1 };
        match self.pool.view().failed(search, failed, IDLE, &mut self.refusals) {
            Next::Try(choice) => named(&choice.id, choice.attempt),
            Next::GiveUp(refusal) => refusal.code().to_owned(),
        }
    }

    /// Why each who is not chosen for `v1` is not: `name code`.
    pub(crate) fn out(&self) -> Vec<String> {
        let out = self.lookup(Some("v1"), "0").out;
        let name = |id: Option<MemberId>, address: Address| id.map_or(address.to_string(), |id| id.to_string());
        out.into_iter().map(|out| format!("{} {}", name(out.id, out.address), out.reason.code())).collect()
    }

    pub(crate) fn alarms(&self) -> Vec<&'static str> {
        self.lookup(Some("v1"), "0").alarms.iter().map(|alarm| alarm.code()).collect()
    }

    pub(crate) fn roles(&self) -> Vec<String> {
        let role = |candidate: &Candidate| format!("{} {}", candidate.id, candidate.role.code());
        let mut roles: Vec<String> = self.lookup(Some("v1"), "0").candidates.iter().map(role).collect();
        roles.sort();
        roles
    }
}

pub(crate) fn each() -> PoolSettings {
    PoolSettings { versions: Versions::Each { service: None }, ..PoolSettings::default() }
}

pub(crate) fn local() -> PoolSettings {
    PoolSettings { state: PoolState::Local, ..each() }
}

pub(crate) fn policy(policy: Policy) -> PoolSettings {
    PoolSettings { policy, ..PoolSettings::default() }
}

pub(crate) fn address(at: usize) -> Address {
    format!("10.0.0.{at}:8080").parse().unwrap()
}

pub(crate) fn id(text: &str) -> MemberId {
    text.parse().unwrap()
}

fn named(id: &MemberId, attempt: Attempt) -> String {
    match attempt {
        Attempt::Ordinary => id.to_string(),
        Attempt::LastResort => format!("{id}!"),
    }
}
