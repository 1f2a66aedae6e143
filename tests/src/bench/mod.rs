//! First figures: what versiond costs beside what it does. Each is a ratio or a difference to the same
//! children reached directly, in the same run.
//!
//! [`proc`] reads the kernel's accounts of a process, [`load`] asks and listens; the sections are
//! [`idle`], [`proxied`], [`streams`] and the swaps of a short demo.

pub mod idle;
pub mod load;
pub mod proc;
pub mod proxied;
pub mod streams;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use camino::Utf8Path;
use serde::Serialize;
use supervisor_protocol::admin::Status;

use crate::conductor;
use crate::options::Options;
use crate::report::{Added, Spread};
use crate::scenario::{Build, Slot};
use crate::stand::{self, Stand};
use crate::view::Output;
use crate::watcher;

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub idle: Duration,
    /// Pairs of one round through versiond and one directly.
    pub pairs: u32,
    pub round: Duration,
    pub streams: usize,
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Bench {
    pub versiond: String,
    pub cores: usize,
    pub idle: idle::Idle,
    pub proxied: proxied::Proxied,
    pub streams: streams::Streams,
    pub swaps: Swaps,
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
    let stand = Stand::raise(&folder, programs, &first, None, 600).await?;
    let measured = sections(&stand, size, &say).await;
    stand.supervisor.stop(Duration::from_secs(60)).await?;
    stand.world.stop.cancel();
    let (idle, proxied, streams) = measured?;
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
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Bench { versiond: version, cores, idle, proxied, streams, swaps })
}

async fn sections(
    stand: &Stand,
    size: Size,
    say: &impl Fn(&str),
) -> anyhow::Result<(idle::Idle, proxied::Proxied, streams::Streams)> {
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
    say(&format!("{} idle streams", size.streams));
    let streams = streams::measure(&way, &pids, size.streams).await?;
    Ok((idle, proxied, streams))
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

/// The table for people.
#[must_use]
pub fn table(bench: &Bench) -> String {
    let Bench { idle, proxied, streams, swaps, .. } = bench;
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["what", "measured", "beside it"]);
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let signed = |bytes: i64| format!("{:.1} KiB", bytes as f64 / 1_024.0);
    for row in [
        [
            format!("idle memory of versiond, {CHILDREN} children"),
            format!("{} RSS, {} PSS", mib(idle.versiond.rss_bytes), mib(idle.versiond.pss_bytes)),
            format!("a child: {} PSS", mib(idle.child_pss_bytes_mean)),
        ],
        [
            format!("idle CPU of versiond, {CHILDREN} children"),
            format!("{:.3} % of a core", idle.versiond.cpu_percent),
            format!("a child: {:.3} %", idle.child_cpu_percent_mean),
        ],
        [
            "CPU of versiond for a request".to_owned(),
            format!("{:.1} µs", proxied.versiond_cpu_us_per_request),
            format!("the child: {:.1} µs", proxied.child_cpu_us_per_request),
        ],
        [
            "latency of a request, p50".to_owned(),
            format!("{:.3} ms", proxied.proxied.p50_ms),
            format!("direct: {:.3} ms", proxied.direct.p50_ms),
        ],
        [
            "latency of a request, p99".to_owned(),
            format!("{:.3} ms", proxied.proxied.p99_ms),
            format!("direct: {:.3} ms", proxied.direct.p99_ms),
        ],
        [
            format!("requests a second, {} connections", proxied::CONNECTIONS),
            format!("{:.0}", proxied.proxied.per_second),
            format!("direct: {:.0}", proxied.direct.per_second),
        ],
        [
            format!("memory of an idle stream, {}", streams.streams),
            format!("{} in versiond", signed(streams.versiond_rss_bytes_per_stream)),
            format!("{} in the child, direct", signed(streams.child_rss_bytes_per_stream_direct)),
        ],
        [
            format!("approved to serving, {} swaps", swaps.swaps),
            format!("{} p50", ms(swaps.approved_to_serving_ms.p50)),
            format!("{} at most", ms(swaps.approved_to_serving_ms.max)),
        ],
        [
            format!("short requests in swaps, {} streams", swaps.streams_alive),
            format!("{:+.2} ms p50, {:+.2} ms p99", swaps.client_added_ms.p50, swaps.client_added_ms.p99),
            format!("{} failed or cut", swaps.failed_and_cut),
        ],
    ] {
        table.add_row(row);
    }
    table.to_string()
}
