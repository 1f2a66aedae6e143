//! How soon the interfaces answer while the data plane works: the admin socket, and the status endpoint on its
//! own listener. The load is paced at a share of what the same connections reached at full speed, so that the
//! data plane is as busy as that share of its cores.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use camino::Utf8Path;
use http::Method;
use serde::Serialize;
use serde_json::Value;

use super::load::{Latencies, Way, latencies};
use crate::clients::connection::{Connection, request, whole};
use crate::supervisor::admin;

/// Of the rate at saturation.
pub const SHARE: f64 = 0.8;
/// Between two questions to each interface.
const ASK_EVERY: Duration = Duration::from_millis(20);
const WITHIN: Duration = Duration::from_secs(20);

/// One interface, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Answers {
    pub asked: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Both, and the load beside them.
#[derive(Debug, Clone, Serialize)]
pub struct Interfaces {
    pub load_per_second: f64,
    pub admin_status: Answers,
    pub drain_status: Answers,
}

/// Asks both interfaces for a while, under a load of [`SHARE`] of `saturated` requests a second.
pub async fn measure(
    way: &Way,
    socket: &Utf8Path,
    status: SocketAddr,
    (saturated, connections): (f64, usize),
    lasting: Duration,
) -> anyhow::Result<Interfaces> {
    let end = Instant::now() + lasting;
    let every = Duration::from_secs_f64(connections as f64 / (saturated * SHARE));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..connections {
        load.spawn(paced(way.clone(), every, end));
    }
    let (admin, drain) = tokio::try_join!(ask_admin(socket, end), ask_drain(status, end))?;
    let mut requests = 0;
    while let Some(sent) = load.join_next().await {
        requests += sent??;
    }
    Ok(Interfaces {
        load_per_second: requests as f64 / lasting.as_secs_f64(),
        admin_status: answers(&admin),
        drain_status: answers(&drain),
    })
}

/// One connection that asks at its times, or as soon afterwards as it can.
async fn paced((host, prefix): Way, every: Duration, end: Instant) -> anyhow::Result<u64> {
    let path = format!("{prefix}/hello");
    let mut connection = Connection::open(host, WITHIN).await?;
    let (mut sent, mut next) = (0, Instant::now());
    while Instant::now() < end {
        tokio::time::sleep_until(next.into()).await;
        next += every;
        connection.exchange(request(Method::GET, &path, whole(Bytes::new()))?, WITHIN).await?;
        sent += 1;
    }
    Ok(sent)
}

/// Over a connection of its own for each question, as `versionctl` does.
async fn ask_admin(socket: &Utf8Path, end: Instant) -> anyhow::Result<Latencies> {
    let mut latencies = latencies()?;
    while Instant::now() < end {
        let began = Instant::now();
        admin::get::<Value>(socket, "/v1/status").await?;
        latencies.saturating_record(u64::try_from(began.elapsed().as_nanos())?);
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(latencies)
}

/// Over one connection, as a router does.
async fn ask_drain(status: SocketAddr, end: Instant) -> anyhow::Result<Latencies> {
    let mut latencies = latencies()?;
    let mut connection = Connection::open(status, WITHIN).await?;
    while Instant::now() < end {
        let began = Instant::now();
        connection.exchange(request(Method::GET, "/drain/status", whole(Bytes::new()))?, WITHIN).await?;
        latencies.saturating_record(u64::try_from(began.elapsed().as_nanos())?);
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(latencies)
}

fn answers(latencies: &Latencies) -> Answers {
    let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    Answers {
        asked: latencies.len(),
        p50_ms: ms(latencies.value_at_quantile(0.5)),
        p99_ms: ms(latencies.value_at_quantile(0.99)),
        max_ms: ms(latencies.max()),
    }
}
