//! What versiond costs when nothing happens.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Pids;
use super::proc::{cpu_ns, memory};

/// One process at rest.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct AtRest {
    pub rss_bytes: u64,
    pub pss_bytes: u64,
    /// Of one core.
    pub cpu_percent: f64,
}

/// versiond and its children at rest.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    pub seconds: u64,
    pub children: usize,
    pub versiond: AtRest,
    pub child_pss_bytes_mean: u64,
    pub child_cpu_percent_mean: f64,
}

/// Watches for `lasting`.
pub async fn measure(pids: &Pids, lasting: Duration) -> anyhow::Result<Idle> {
    let children = |read: fn(u32) -> anyhow::Result<u64>| -> anyhow::Result<u64> {
        pids.children.iter().map(|pid| read(*pid)).sum()
    };
    let (began, own, theirs) = (Instant::now(), cpu_ns(pids.versiond)?, children(cpu_ns)?);
    tokio::time::sleep(lasting).await;
    let elapsed = began.elapsed().as_nanos() as f64;
    let percent = |before: u64, after: u64| after.saturating_sub(before) as f64 * 100.0 / elapsed;
    let memory_now = memory(pids.versiond)?;
    let count = pids.children.len() as u64;
    Ok(Idle {
        seconds: lasting.as_secs(),
        children: pids.children.len(),
        versiond: AtRest {
            rss_bytes: memory_now.rss,
            pss_bytes: memory_now.pss,
            cpu_percent: percent(own, cpu_ns(pids.versiond)?),
        },
        child_pss_bytes_mean: children(|pid| Ok(memory(pid)?.pss))? / count,
        child_cpu_percent_mean: percent(theirs, children(cpu_ns)?) / count as f64,
    })
}
