//! How soon two routers move on from a host: one that says that it goes, one that is gone, one that says nothing.

use std::time::{Duration, Instant};

use anyhow::ensure;
use camino::Utf8Path;
use nix::sys::signal::Signal;
use serde::Serialize;
use supervisor_protocol::time::millis;

use crate::fleet::Fleet;
use crate::fleet::host::Programs;
use crate::fleet::router::{DETECTION_WINDOW, role};
use crate::report::Spread;

const HOSTS: usize = 3;
/// What has not been seen by then never will.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// From the moment it happens until both routers have moved on, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Detection {
    pub times: u32,
    /// It says so: cordoned.
    pub unready_ms: Spread,
    /// Its port refuses: killed.
    pub refuses_ms: Spread,
    /// It takes connections and says nothing: stopped by a signal.
    pub silent_ms: Spread,
    /// The detection window of the routers: the most that silence may take.
    pub window_ms: u64,
}

/// Does each of the three so often, to the hosts in turn.
pub async fn measure(programs: Programs, folder: &Utf8Path, times: u32) -> anyhow::Result<Detection> {
    let fleet = Fleet::raise(programs, folder, HOSTS, 10).await?;
    let measured = all(&fleet, times).await;
    for router in &fleet.routers {
        router.stop(WITHIN).await?;
    }
    for stopped in futures_util::future::join_all(fleet.hosts.iter().map(|host| host.supervisor.stop(WITHIN))).await {
        stopped?;
    }
    fleet.world.stop.cancel();
    measured
}

async fn all(fleet: &Fleet, times: u32) -> anyhow::Result<Detection> {
    let (mut unready, mut refuses, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    for host in fleet.hosts.iter().cycle().take(times as usize) {
        let begun = Instant::now();
        host.versionctl(&fleet.programs, &["drain"], WITHIN).await?;
        unready.push(out(fleet, &host.id, begun).await?);
        host.versionctl(&fleet.programs, &["undrain"], WITHIN).await?;
        back(fleet).await?;

        let begun = Instant::now();
        host.supervisor.kill(|| ()).await?;
        refuses.push(out(fleet, &host.id, begun).await?);
        host.supervisor.start()?;
        back(fleet).await?;

        let begun = Instant::now();
        host.supervisor.signal(Signal::SIGSTOP)?;
        silent.push(out(fleet, &host.id, begun).await?);
        host.supervisor.signal(Signal::SIGCONT)?;
        back(fleet).await?;
    }
    Ok(Detection {
        times,
        unready_ms: Spread::of(unready),
        refuses_ms: Spread::of(refuses),
        silent_ms: Spread::of(silent),
        window_ms: millis(DETECTION_WINDOW),
    })
}

async fn out(fleet: &Fleet, id: &str, begun: Instant) -> anyhow::Result<u64> {
    until(async || fleet.both_see(|hosts| role(hosts, id).is_none()).await, begun).await?;
    Ok(millis(begun.elapsed()))
}

async fn back(fleet: &Fleet) -> anyhow::Result<()> {
    until(async || fleet.all_are("ready").await, Instant::now()).await
}

async fn until(condition: impl AsyncFn() -> bool, begun: Instant) -> anyhow::Result<()> {
    while !condition().await {
        ensure!(begun.elapsed() < WITHIN, "the routers have not seen it within {WITHIN:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
