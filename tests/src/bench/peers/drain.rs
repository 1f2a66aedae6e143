//! A drain while new sessions begin and streams run: how soon no new session comes to the drained origin, and whether
//! anything breaks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::load::{connect, request};
use super::origin::EVERY;
use super::sections::{Figures, Listener};

/// Which origin is drained.
const DRAINED: usize = 1;
/// Streams that run meanwhile.
const STREAMS: usize = 200;
/// Sessions that are asked for before and after.
const SESSIONS: usize = 1_000;
/// Between two new sessions.
const PAUSE: Duration = Duration::from_millis(2);

/// Drains by `drain`, which is called with the number of the origin.
pub async fn drain(
    address: SocketAddr,
    window: Duration,
    drain: impl FnOnce(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Figures> {
    let before = placed(address).await?;
    let mut opened = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = connect(address).await?;
        stream.write_all(&request("events")).await?;
        opened.push(stream);
    }
    let begun = Instant::now();
    let (word, end) = (begun + EVERY, begun + EVERY + window.max(EVERY));
    let mut listening = JoinSet::new();
    for mut stream in opened {
        listening.spawn(async move {
            let mut listener = Listener::default();
            let heard = tokio::time::timeout_at((end + EVERY).into(), listener.listen(&mut stream)).await;
            (listener, heard.is_ok())
        });
    }
    let probing = tokio::spawn(probe(address, end));
    tokio::time::sleep_until(word.into()).await;
    let told = Instant::now();
    // Whoever is told answers at once, or is a file.
    drain(DRAINED)?;
    let (probes, refused) = probing.await??;
    ensure!(probes.iter().any(|(sent, origin)| *sent < told && *origin == DRAINED), "no session came there before");
    let last = probes.iter().filter(|(sent, origin)| *sent > told && *origin == DRAINED).map(|(sent, _)| *sent - told);
    let last = last.max().unwrap_or_default();

    let after = placed(address).await?;
    let moved = before.iter().zip(&after).filter(|(before, after)| **before != DRAINED && before != after).count();
    let (mut broken, mut lost) = (0, 0);
    while let Some(listened) = listening.join_next().await {
        let (listener, is_broken) = listened?;
        ensure!(listener.heard > 0, "a stream has never begun");
        broken += u32::from(is_broken);
        lost += listener.lost;
    }
    Ok(vec![
        ("last_on_drained_ms", last.as_secs_f64() * 1_000.0),
        ("refused", f64::from(refused)),
        ("moved_wrongly", moved as f64),
        ("broken_or_lost", f64::from(broken + lost)),
    ])
}

/// New sessions, each over a connection of its own: when each was asked for and where it came to be; and how many had
/// no answer.
async fn probe(address: SocketAddr, end: Instant) -> anyhow::Result<(Vec<(Instant, usize)>, u32)> {
    let (mut placed, mut refused) = (Vec::new(), 0);
    for number in 0.. {
        let sent = Instant::now();
        if sent > end {
            break;
        }
        match ask(address, &format!("new-{number}")).await {
            Ok(origin) => placed.push((sent, origin)),
            Err(_) => refused += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok((placed, refused))
}

async fn placed(address: SocketAddr) -> anyhow::Result<Vec<usize>> {
    let mut placed = Vec::new();
    for number in 0..SESSIONS {
        placed.push(ask(address, &format!("known-{number}")).await?);
    }
    Ok(placed)
}

/// To which origin this session goes.
async fn ask(address: SocketAddr, session: &str) -> anyhow::Result<usize> {
    let mut stream = connect(address).await?;
    let request =
        format!("GET /v1/sessions/{session}/small HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    ensure!(text.starts_with("HTTP/1.1 200"), "refused: {text}");
    let named = text.lines().filter_map(|line| line.split_once(':'));
    let origin = named.filter(|(name, _)| name.eq_ignore_ascii_case("x-origin")).map(|(_, value)| value.trim()).next();
    Ok(origin.context("no origin is named")?.parse()?)
}
