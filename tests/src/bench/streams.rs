//! What an open stream costs that says nothing: memory in versiond, and in the child when reached directly.

use std::time::Duration;

use serde::Serialize;

use super::Pids;
use super::load::{Way, Ways, idle_stream};
use super::proc::memory;

/// Growth by one stream, in bytes of RSS; may be negative when an allocator gives memory back.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Streams {
    pub streams: usize,
    pub versiond_rss_bytes_per_stream: i64,
    pub child_rss_bytes_per_stream_proxied: i64,
    pub child_rss_bytes_per_stream_direct: i64,
}

/// Memory comes to rest after the last stream opened.
const AT_REST: Duration = Duration::from_secs(2);

/// Opens `streams` streams through versiond, then directly.
pub async fn measure(ways: &Ways, pids: &Pids, streams: usize) -> anyhow::Result<Streams> {
    // The first hundred pay for pools and tables that stay.
    let warm = open(&ways.proxied, 100).await?;
    let more = open(&ways.direct, 100).await?;
    let start = (memory(pids.versiond)?.rss, memory(pids.asked)?.rss);
    let through = open(&ways.proxied, streams).await?;
    tokio::time::sleep(AT_REST).await;
    let proxied = (memory(pids.versiond)?.rss, memory(pids.asked)?.rss);
    let straight = open(&ways.direct, streams).await?;
    tokio::time::sleep(AT_REST).await;
    let direct = memory(pids.asked)?.rss;
    drop((warm, more, through, straight));
    let each = |before: u64, after: u64| (after.cast_signed() - before.cast_signed()) / streams.cast_signed() as i64;
    Ok(Streams {
        streams,
        versiond_rss_bytes_per_stream: each(start.0, proxied.0),
        child_rss_bytes_per_stream_proxied: each(start.1, proxied.1),
        child_rss_bytes_per_stream_direct: each(proxied.1, direct),
    })
}

async fn open(way: &Way, count: usize) -> anyhow::Result<Vec<super::load::IdleStream>> {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        open.push(idle_stream(way).await?);
    }
    Ok(open)
}
