//! What a request costs on its way through versiond, against the same request sent to the child.
//! Rounds alternate, so that what else the machine does meets both.

use serde::Serialize;

use super::load::{Latencies, Way, Ways, ask, latencies};
use super::proc::cpu_ns;
use super::{Pids, Size};

/// Connections that ask at once.
pub const CONNECTIONS: usize = 8;

/// One way.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    pub requests: u64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Both ways.
#[derive(Debug, Clone, Serialize)]
pub struct Proxied {
    pub proxied: Rate,
    pub direct: Rate,
    /// CPU time of versiond for one proxied request, in microseconds.
    pub versiond_cpu_us_per_request: f64,
    /// CPU time of the child for one request that comes directly.
    pub child_cpu_us_per_request: f64,
    /// Of each pair: the median through versiond minus the median directly, in milliseconds; their middle.
    pub added_p50_ms: f64,
}

/// Asks in pairs of rounds.
pub async fn measure(ways: &Ways, pids: &Pids, size: Size) -> anyhow::Result<Proxied> {
    // Neither way pays for its first connections.
    for way in [&ways.proxied, &ways.direct] {
        ask(way, CONNECTIONS, size.round / 2).await?;
    }
    let (mut proxied, mut direct) = (Side::new()?, Side::new()?);
    let mut added = Vec::new();
    for _ in 0..size.pairs {
        let through = proxied.round(&ways.proxied, pids.versiond, size).await?;
        let straight = direct.round(&ways.direct, pids.asked, size).await?;
        added.push(through - straight);
    }
    added.sort_by(f64::total_cmp);
    let seconds = size.round.as_secs_f64() * f64::from(size.pairs);
    Ok(Proxied {
        versiond_cpu_us_per_request: proxied.cpu_us(),
        child_cpu_us_per_request: direct.cpu_us(),
        proxied: proxied.rate(seconds),
        direct: direct.rate(seconds),
        added_p50_ms: added.get(added.len() / 2).copied().unwrap_or_default(),
    })
}

struct Side {
    latencies: Latencies,
    cpu_ns: u64,
}

impl Side {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { latencies: latencies()?, cpu_ns: 0 })
    }

    /// One round; returns its median in milliseconds.
    async fn round(&mut self, way: &Way, pid: u32, size: Size) -> anyhow::Result<f64> {
        let before = cpu_ns(pid)?;
        let latencies = ask(way, CONNECTIONS, size.round).await?;
        self.cpu_ns += cpu_ns(pid)?.saturating_sub(before);
        self.latencies.add(&latencies)?;
        Ok(latencies.value_at_quantile(0.5) as f64 / 1e6)
    }

    fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.latencies.len().max(1) as f64
    }

    fn rate(&self, seconds: f64) -> Rate {
        let ms = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e6;
        let requests = self.latencies.len();
        Rate { requests, per_second: requests as f64 / seconds, p50_ms: ms(0.5), p99_ms: ms(0.99) }
    }
}
