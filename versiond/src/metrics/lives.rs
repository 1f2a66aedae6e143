//! What is counted of a slot's processes and of the changes between them.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use supervisor_protocol::SlotId;
use versiond_core::generation::Exit;

use super::labels::{SlotExit, SlotLabel, SlotStrategy, SlotSwap, names, slot_label};
use super::{declared, register, seconds};

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A process has ended by itself.
    Crash(Exit),
    /// Bytes are started again after a crash.
    Restart,
    Swap(Way, Swapped),
}

/// How old and new have taken turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Overlap,
    Hold,
    Evacuate,
}

/// What came of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swapped {
    /// The new one serves, after this time.
    Done(Duration),
    /// It never got to serve.
    Failed,
    /// It was not wanted any more before it served.
    Abandoned,
    /// The old one did not empty in time, and serves again.
    GivenUp,
    /// It was done, and has been taken back.
    RolledBack,
}

pub(super) struct Lives {
    swaps: Family<SlotSwap, Counter>,
    swap_seconds: Family<SlotStrategy, Histogram>,
    restarts: Family<SlotLabel, Counter>,
    crash_exits: Family<SlotExit, Counter>,
}

impl Lives {
    pub(super) fn new() -> Lives {
        Lives {
            swaps: Family::default(),
            swap_seconds: Family::new_with_constructor(seconds),
            restarts: Family::default(),
            crash_exits: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, &declared::SWAPS, self.swaps.clone());
        register(registry, &declared::SWAP_SECONDS, self.swap_seconds.clone());
        register(registry, &declared::RESTARTS, self.restarts.clone());
        register(registry, &declared::CRASH_EXITS, self.crash_exits.clone());
    }

    /// At zero, so that the first one is a growth and not a beginning.
    pub(super) fn begin(&self, slot: &SlotId) {
        drop(self.restarts.get_or_create(&slot_label(slot)));
        for way in [Way::Overlap, Way::Hold, Way::Evacuate] {
            for outcome in Swapped::OUTCOMES {
                drop(self.swaps.get_or_create(&swap(slot, way, outcome)));
            }
        }
    }

    pub(super) fn counts(&self, slot: &SlotId, counted: Counted) {
        let (service, version) = names(slot);
        match counted {
            Counted::Crash(exit) => {
                let (by, number) = match exit {
                    Exit::Code(code) => ("code", code),
                    Exit::Signal(signal) => ("signal", signal),
                };
                self.crash_exits.get_or_create(&SlotExit { service, version, by, number }).inc();
            }
            Counted::Restart => {
                self.restarts.get_or_create(&slot_label(slot)).inc();
            }
            Counted::Swap(way, swapped) => {
                self.swaps.get_or_create(&swap(slot, way, swapped.as_str())).inc();
                match swapped {
                    Swapped::Done(took) => {
                        let label = SlotStrategy { service, version, strategy: way.as_str() };
                        self.swap_seconds.get_or_create(&label).observe(took.as_secs_f64());
                    }
                    Swapped::Failed | Swapped::Abandoned | Swapped::GivenUp | Swapped::RolledBack => {}
                }
            }
        }
    }
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Way::Overlap => "overlap",
            Way::Hold => "hold",
            Way::Evacuate => "evacuate",
        }
    }
}

impl Swapped {
    const OUTCOMES: [&'static str; 5] = ["done", "failed", "abandoned", "given_up", "rolled_back"];

    const fn as_str(self) -> &'static str {
        let [done, failed, abandoned, given_up, rolled_back] = Swapped::OUTCOMES;
        match self {
            Swapped::Done(_) => done,
            Swapped::Failed => failed,
            Swapped::Abandoned => abandoned,
            Swapped::GivenUp => given_up,
            Swapped::RolledBack => rolled_back,
        }
    }
}

fn swap(slot: &SlotId, way: Way, outcome: &'static str) -> SlotSwap {
    let (service, version) = names(slot);
    SlotSwap { service, version, strategy: way.as_str(), outcome }
}
