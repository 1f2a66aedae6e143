//! What is done to a fleet: each thing lasts a while and is taken back, and then the fleet may come to rest.

use rand::RngExt as _;
use rand::rngs::StdRng;
use supervisor_protocol::contract::DrainMode;

/// One thing. Hosts and routers are by their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the fleet goes on.
    Calm,
    Cordon {
        host: usize,
        mode: DrainMode,
    },
    /// Cordoned, and killed and started again meanwhile.
    CordonAndKill {
        host: usize,
    },
    CordonAll {
        mode: DrainMode,
    },
    Kill {
        host: usize,
    },
    /// It answers nothing, and all of it afterwards.
    Freeze {
        host: usize,
    },
    /// Stopped in order, and started again; under another address where it moves.
    Stop {
        host: usize,
        moves: bool,
    },
    /// One router does not reach one host.
    Partition {
        router: usize,
        host: usize,
    },
    /// Questions and answers of checks are lost.
    Loss,
    /// Connections are lost after a request was sent.
    Resets,
    /// A host of the same identity comes beside the first.
    Clone {
        host: usize,
    },
    /// The list of members is empty, or in another order, or cannot be had.
    List {
        what: List,
    },
    /// In order, or without a word.
    RestartRouter {
        router: usize,
        crash: bool,
    },
}

/// What comes instead of the list of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Empty,
    Reversed,
    Failed,
}

impl Fault {
    /// Another one.
    pub(crate) fn any(rng: &mut StdRng, hosts: usize, routers: usize) -> Fault {
        let (host, router) = (rng.random_range(0..hosts), rng.random_range(0..routers));
        match rng.random_range(0..16) {
            0 => Fault::Calm,
            1 => Fault::Cordon { host, mode: DrainMode::All },
            2 | 3 => Fault::Cordon { host, mode: DrainMode::Sessions },
            4 => Fault::CordonAndKill { host },
            5 => Fault::CordonAll { mode: if rng.random() { DrainMode::All } else { DrainMode::Sessions } },
            6 | 7 => Fault::Kill { host },
            8 => Fault::Freeze { host },
            9 => Fault::Stop { host, moves: rng.random() },
            10 => Fault::Partition { router, host },
            11 => Fault::Loss,
            12 => Fault::Resets,
            13 => Fault::Clone { host },
            14 => Fault::List { what: [List::Empty, List::Reversed, List::Failed][rng.random_range(0..3)] },
            _ => Fault::RestartRouter { router, crash: rng.random() },
        }
    }

    /// Its name in what was seen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Calm => "calm",
            Fault::Cordon { mode: DrainMode::All, .. } => "cordon",
            Fault::Cordon { mode: DrainMode::Sessions, .. } => "cordon of sessions",
            Fault::CordonAndKill { .. } => "cordon and kill",
            Fault::CordonAll { .. } => "cordon of all",
            Fault::Kill { .. } => "kill",
            Fault::Freeze { .. } => "freeze",
            Fault::Stop { moves: false, .. } => "stop",
            Fault::Stop { moves: true, .. } => "move",
            Fault::Partition { .. } => "partition",
            Fault::Loss => "loss",
            Fault::Resets => "resets",
            Fault::Clone { .. } => "clone",
            Fault::List { what: List::Empty } => "empty list",
            Fault::List { what: List::Reversed } => "reversed list",
            Fault::List { what: List::Failed } => "no list",
            Fault::RestartRouter { crash: false, .. } => "router restarted",
            Fault::RestartRouter { crash: true, .. } => "router crashed",
        }
    }
}
