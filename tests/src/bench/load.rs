//! Ways to reach a child, and two kinds of load on either.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::checks::Fault;
use crate::clients::connection::{Connection, request, whole};

const WITHIN: Duration = Duration::from_secs(20);

/// An address and the prefix of its paths.
pub type Way = (SocketAddr, String);

/// The same child, reached twice.
#[derive(Debug, Clone)]
pub struct Ways {
    pub proxied: Way,
    pub direct: Way,
}

/// Latencies in nanoseconds.
pub type Latencies = Histogram<u64>;

/// Up to a minute.
pub fn latencies() -> anyhow::Result<Latencies> {
    Ok(Latencies::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// Asks as fast as `connections` connections can for a while.
pub async fn ask(way: &Way, connections: usize, lasting: Duration) -> anyhow::Result<Latencies> {
    let mut tasks = tokio::task::JoinSet::new();
    let end = Instant::now() + lasting;
    for _ in 0..connections {
        let (host, path) = (way.0, format!("{}/hello", way.1));
        tasks.spawn(async move {
            let mut latencies = latencies()?;
            let mut connection = Connection::open(host, WITHIN).await?;
            while Instant::now() < end {
                let began = Instant::now();
                connection.exchange(request(Method::GET, &path, whole(Bytes::new()))?, WITHIN).await?;
                latencies.saturating_record(u64::try_from(began.elapsed().as_nanos())?);
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = latencies()?;
    while let Some(latencies) = tasks.join_next().await {
        all.add(latencies??)?;
    }
    Ok(all)
}

/// A stream that has said its first event and says nothing more for a long time.
#[derive(Debug)]
pub struct IdleStream {
    _connection: Connection,
    _body: Incoming,
}

/// Opens one.
pub async fn idle_stream(way: &Way) -> Result<IdleStream, Fault> {
    let path = format!("{}/sessions/idle/stream?ms=600000&events=2", way.1);
    let mut connection = Connection::open(way.0, WITHIN).await?;
    let response = connection.send(request(Method::GET, &path, whole(Bytes::new()))?, WITHIN).await?;
    let mut body = response.into_body();
    match tokio::time::timeout(WITHIN, body.frame()).await {
        Ok(Some(Ok(_))) => Ok(IdleStream { _connection: connection, _body: body }),
        other => Err(Fault::NoAnswer(format!("no first event: {other:?}"))),
    }
}
