//! From what should run to what runs: one actor per slot, and the manager that gives each its intent.
//!
//! Lives here: the shell around `versiond-core`. Must not live here: rules about when to start, publish,
//! drain or stop (they are pure and live there).

mod actor;
mod child;
mod command;
mod effects;
mod flight;
mod launch;
mod manager;
mod notify;
mod peers;
mod pre_upgrade;
mod preflight;
mod probe;
mod program;
mod recorder;
mod schema;
mod spec;

use std::path::PathBuf;
use std::sync::Arc;

use router_dataplane::Clock;
use tokio_util::task::TaskTracker;
use versiond_core::timings::Timings;

pub use self::child::chain;
pub(crate) use self::command::Commands;
pub(crate) use self::flight::Flight;
pub(crate) use self::manager::{Manager, Order, Routes};
pub(crate) use self::peers::others as other_peers;
pub(crate) use self::pre_upgrade::PreUpgrade;
pub(crate) use self::probe::ProbeTimings;
pub(crate) use self::program::identify;
pub(crate) use self::recorder::Recorder;
pub(crate) use self::schema::Schemas;
pub(crate) use self::spec::{ServiceSpec, Settings, SpecBook};
use crate::board::Board;
use crate::config::Peer;
use crate::faults::Faults;
use crate::isolation::Isolation;
use crate::metrics::Metrics;
use crate::process::{PortAllocator, Spawner};
use crate::store::Store;

/// What every slot shares.
pub(crate) struct Shared {
    pub(crate) board: Arc<Board>,
    pub(crate) store: Arc<Store>,
    pub(crate) spawner: Spawner,
    pub(crate) ports: PortAllocator,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) timings: Timings,
    pub(crate) probes: ProbeTimings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) state_dir: PathBuf,
    /// The other hosts of the pool.
    pub(crate) peers: Vec<Peer>,
    /// For the slots of a Cosmovisor's folder.
    pub(crate) pre_upgrade: Option<PreUpgrade>,
    pub(crate) isolation: Arc<Isolation>,
    pub(crate) schemas: Schemas,
    /// Work that outlives its slot: the last traces of processes that have exited.
    pub(crate) tail: TaskTracker,
}
