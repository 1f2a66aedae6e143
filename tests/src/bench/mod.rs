//! First figures: what versiond costs beside what it does. Each is a ratio or a difference to the same
//! children reached directly, in the same run.
//!
//! [`proc`] reads the kernel's accounts of a process, [`load`] asks and listens; the sections are
//! [`idle`], [`proxied`], [`interfaces`], [`streams`], the swaps of a short demo, and [`detection`] by two routers.
//! [`peers`] is a bench of its own: the router beside others.

pub mod detection;
pub mod idle;
pub mod interfaces;
pub mod load;
pub mod peers;
pub mod proc;
pub mod proxied;
pub mod sessions;
pub mod streams;
mod table;

pub use self::table::table;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use camino::Utf8Path;
use serde::Serialize;
use supervisor_protocol::admin::Status;

use crate::conductor;
use crate::fleet;
use crate::options::Options;
use crate::report::{Added, Spread};
use crate::scenario::{Build, Slot};
use crate::stand::{self, Stand};
use crate::supervisor::config::ADMIN_SOCKET;
use crate::view::Output;
use crate::watcher;

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub idle: Duration,
    /// Pairs of one round through versiond and one directly.
    pub pairs: u32,
    pub round: Duration,
    /// How long the interfaces are asked under load.
    pub interfaces: Duration,
    pub streams: usize,
    /// How often each way of going is timed.
    pub detections: u32,
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Bench {
    pub versiond: String,
    pub cores: usize,
    pub idle: idle::Idle,
    pub proxied: proxied::Proxied,
    pub interfaces: interfaces::Interfaces,
    pub streams: streams::Streams,
    pub swaps: Swaps,
    pub detection: detection::Detection,
}

/// The swaps of a short demo.
#[derive(Debug, Clone, Serialize)]
pub struct Swaps {
    pub swaps: u64,
    pub streams_alive: u64,
    pub failed_and_cut: u64,
    pub approved_to_serving_ms: Spread,
    pub client_added_ms: Added,
}

const CHILDREN: usize = 5;
/// The daemon's own default: an idle one reads its catalog no more often.
const POLL_S: u64 = 30;

/// Measures everything; `say` is told what goes on.
pub async fn run(
    programs: (&Utf8Path, &Utf8Path),
    version: String,
    size: Size,
    demo: &Options,
    say: impl Fn(&str),
) -> anyhow::Result<Bench> {
    let (folder, _temporary) = stand::folder(None)?;
    let first: Vec<Build> = (0..CHILDREN).map(|at| if at % 2 == 0 { Build::A } else { Build::B }).collect();
    // Free at this moment; nobody else is told of it.
    let status = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let stand = Stand::raise_as(&folder, programs, &first, None, 600, (POLL_S, Some(status))).await?;
    let socket = folder.join(ADMIN_SOCKET);
    let measured = sections(&stand, (&socket, status), size, &say).await;
    stand.supervisor.stop(Duration::from_secs(60)).await?;
    stand.world.stop.cancel();
    let (idle, proxied, interfaces, streams) = measured?;
    say("swaps under load");
    let (folder, _temporary) = stand::folder(None)?;
    let report = conductor::run(demo, programs, &folder, version.clone(), Output::Stderr).await?;
    let complaints = report.complaints();
    anyhow::ensure!(complaints.is_empty(), "the swaps under load were not whole: {}", complaints.join("; "));
    let swaps = Swaps {
        swaps: report.swaps,
        streams_alive: u64::from(demo.streams),
        failed_and_cut: report.failed + report.cut,
        approved_to_serving_ms: report.approved_to_serving_ms,
        client_added_ms: report.client_added_ms,
    };
    say(&format!("routers that notice, {} times each", size.detections));
    let (folder, _temporary) = stand::folder(None)?;
    let detection = detection::measure(fleet::host::Programs::beside(programs), &folder, size.detections).await?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Bench { versiond: version, cores, idle, proxied, interfaces, streams, swaps, detection })
}

async fn sections(
    stand: &Stand,
    (socket, status_listen): (&Utf8Path, SocketAddr),
    size: Size,
    say: &impl Fn(&str),
) -> anyhow::Result<(idle::Idle, proxied::Proxied, interfaces::Interfaces, streams::Streams)> {
    stand.first_answers(CHILDREN).await?;
    let status = stand.supervisor.status().await?;
    let pids = Pids::of(stand, &status)?;
    say(&format!("idle with {CHILDREN} children, {} s", size.idle.as_secs()));
    let idle = idle::measure(&pids, size.idle).await?;
    let child = Slot(0);
    let direct = port_of(&status, child).context("the child's port is not in the status")?;
    let way = load::Ways {
        proxied: (stand.world.host, format!("/{child}")),
        direct: (SocketAddr::from(([127, 0, 0, 1], direct)), String::new()),
    };
    say(&format!("requests, {} pairs of {} ms", size.pairs, size.round.as_millis()));
    let proxied = proxied::measure(&way, &pids, size).await?;
    say("the interfaces under load");
    let load = (proxied.proxied.per_second, proxied::CONNECTIONS);
    let interfaces = interfaces::measure(&way.proxied, socket, status_listen, load, size.interfaces).await?;
    say(&format!("{} idle streams", size.streams));
    let streams = streams::measure(&way, &pids, size.streams).await?;
    Ok((idle, proxied, interfaces, streams))
}

/// The processes that are measured.
#[derive(Debug, Clone)]
pub struct Pids {
    pub versiond: u32,
    /// The child of the first slot: the one that is asked.
    pub asked: u32,
    pub children: Vec<u32>,
}

impl Pids {
    fn of(stand: &Stand, status: &Status) -> anyhow::Result<Self> {
        let pid = |slot| watcher::serving(watcher::slot_of(status, slot)?)?.pid;
        let children: Vec<u32> = (0..CHILDREN).map(Slot).filter_map(pid).collect();
        anyhow::ensure!(children.len() == CHILDREN, "{} of {CHILDREN} children serve", children.len());
        let versiond = stand.supervisor.pid().context("versiond does not run")?;
        Ok(Self { versiond, asked: children[0], children })
    }
}

fn port_of(status: &Status, slot: Slot) -> Option<u16> {
    watcher::serving(watcher::slot_of(status, slot)?)?.port
}
