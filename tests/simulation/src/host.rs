//! A simulated host: its state machine, what it tells routers, and the requests in it.

use std::collections::BTreeSet;
use std::time::Duration;

use router_core::members::{Address, Answer, DrainWord, Word};
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::time::millis;
use supervisor_protocol::{BootNonce, HostId, SlotId, Tick};
use versiond_core::host::{Cordon, Host as Machine, HostTimings};

/// The one slot of every host.
pub(crate) const VERSION: &str = "v1";

/// A question of a router that waits for news.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) router: usize,
    pub(crate) question: u64,
}

pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) address: Address,
    pub(crate) machine: Machine,
    pub(crate) boot: u64,
    pub(crate) seq: u64,
    /// Whether its process is there.
    pub(crate) lives: bool,
    /// What came while it was frozen; `None` while it is not.
    pub(crate) frozen: Option<Vec<crate::world::Event>>,
    pub(crate) waiting: Vec<Waiting>,
    /// The sessions that it holds.
    pub(crate) held: BTreeSet<usize>,
    /// The requests that it has admitted and not finished.
    pub(crate) inflight: BTreeSet<u64>,
}

/// Longer than a request may take here, and a detection window to announce.
pub(crate) fn timings() -> HostTimings {
    let seconds = Duration::from_secs;
    HostTimings { announce: seconds(8), drain: seconds(120), stop_grace: seconds(10), budget: seconds(200) }
}

impl Host {
    pub(crate) fn new(number: usize, address: Address) -> Host {
        let mut machine = Machine::new(timings(), None);
        machine.converged();
        Host {
            id: format!("gpu-{number}").parse().unwrap_or_else(|_| unreachable!("it is a name")),
            address,
            machine,
            boot: 1,
            seq: 1,
            lives: true,
            frozen: None,
            waiting: Vec::new(),
            held: BTreeSet::new(),
            inflight: BTreeSet::new(),
        }
    }

    /// A new process, with what the ledger has: the cordon, and nothing of the sessions.
    pub(crate) fn start(&mut self) {
        let cordon: Option<Cordon> = self.machine.cordon();
        self.machine = Machine::new(timings(), cordon);
        self.machine.converged();
        (self.lives, self.boot, self.seq) = (true, self.boot + 1, 1);
        self.held.clear();
    }

    /// Of this life.
    pub(crate) fn nonce(&self) -> BootNonce {
        let of = self.id.as_str().bytes().fold(0_u64, |of, byte| of.wrapping_mul(31).wrapping_add(u64::from(byte)));
        BootNonce::new(format!("{of:016x}{:016x}", self.boot)).unwrap_or_else(|_| unreachable!("it is a nonce"))
    }

    /// What it tells a router now.
    pub(crate) fn word(&self, now: Tick) -> Answer {
        let slot = SlotId {
            service: "demo".parse().unwrap_or_else(|_| unreachable!("it is a name")),
            name: VERSION.parse().unwrap_or_else(|_| unreachable!("it is a name")),
        };
        let state = self.machine.state();
        let since = self.machine.cordon().map(|cordon| (cordon.mode, cordon.since));
        let leaving = self.machine.leaving_since().map(|since| (DrainMode::All, since));
        let drain = leaving.or(since).map(|(mode, since)| DrainWord { mode, lasted: now.since(since) });
        Answer::Word(Word {
            id: self.id.clone(),
            boot: self.nonce(),
            seq: self.seq,
            state,
            ready: self.machine.is_ready(1),
            slots: [(slot, true)].into(),
            drain,
        })
    }

    /// Whether a request of this session is admitted.
    pub(crate) fn admits(&self, session: usize, is_last_resort: bool) -> bool {
        let by_sessions = self.machine.cordon().is_some_and(|cordon| cordon.mode == DrainMode::Sessions);
        self.machine.admits() && (!by_sessions || is_last_resort || self.held.contains(&session))
    }

    /// Whether routers should send new sessions to it.
    pub(crate) fn is_ready(&self) -> bool {
        self.lives && self.frozen.is_none() && self.machine.is_ready(1)
    }
}

/// Milliseconds as a duration.
pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The length of a window, in milliseconds.
pub(crate) fn window_ms() -> u64 {
    millis(crate::router::pace().window())
}
