//! Clients that know to the byte what comes, and so do little but ask.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::RngExt as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::super::load::{Latencies, latencies};

/// Sessions that are asked for.
const SESSIONS: u32 = 4_096;

/// Both directions of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// One request for `kind`, of any session.
#[must_use]
pub fn request(kind: &str) -> Vec<u8> {
    let session = rand::rng().random_range(0..SESSIONS);
    format!("GET /v1/sessions/session-{session:08}/{kind} HTTP/1.1\r\nHost: bench.example\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// Connects.
pub async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nobody listens at {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client that reads answers of a length that the first one shows.
pub struct Asker<S> {
    stream: S,
    buffer: Vec<u8>,
    expected: Option<usize>,
}

impl<S: Stream> Asker<S> {
    pub const fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), expected: None }
    }

    /// Asks once, and gives back how many bytes the answer has in all.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<usize> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if let Some(expected) = self.expected
                && self.buffer.len() >= expected
            {
                ensure!(self.buffer.len() == expected, "{} bytes and not {expected}", self.buffer.len());
                return Ok(expected);
            }
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection ends in an answer");
            if self.expected.is_none() {
                self.expected = whole(&self.buffer)?;
            }
        }
    }

    /// Asks for much, and throws it away as it comes; gives back how many bytes the body had.
    pub async fn swallow(&mut self, request: &[u8], scrap: &mut [u8]) -> anyhow::Result<usize> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        while whole_head(&self.buffer).is_none() {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection ends in an answer");
        }
        let head = whole_head(&self.buffer).unwrap_or_default();
        let mut read = self.buffer.len() - head;
        match length(&self.buffer[..head]) {
            Some(length) => {
                while read < length {
                    let piece = self.stream.read(scrap).await?;
                    ensure!(piece > 0, "the connection ends in an answer");
                    read += piece;
                }
                Ok(length)
            }
            None => {
                let mut end = self.buffer[head..].to_vec();
                while !end.ends_with(b"0\r\n\r\n") {
                    let piece = self.stream.read(scrap).await?;
                    ensure!(piece > 0, "the connection ends in an answer");
                    read += piece;
                    end.extend(&scrap[piece.saturating_sub(8)..piece]);
                    let surplus = end.len().saturating_sub(16);
                    end.drain(..surplus);
                }
                Ok(read)
            }
        }
    }
}

fn whole_head(buffer: &[u8]) -> Option<usize> {
    buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.trim().parse().ok()
}

/// How long an answer is all told, when its head is there.
fn whole(buffer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = whole_head(buffer) else { return Ok(None) };
    ensure!(buffer.starts_with(b"HTTP/1.1 200"), "refused: {}", String::from_utf8_lossy(&buffer[..head]));
    Ok(Some(head + length(&buffer[..head]).context("an answer without a length")?))
}

/// What a closed loop has done in its window.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub answers: u64,
    pub elapsed: Duration,
}

/// Asks over and over on every connection: first to get warm, then for `lasting`. `begin` and `end` are called when
/// the window begins and ends.
pub async fn closed_loop<S: Stream + 'static>(
    streams: Vec<S>,
    kind: &'static str,
    lasting: Duration,
    mut begin: impl FnMut(),
    mut end: impl FnMut(),
) -> anyhow::Result<Window> {
    let (answers, stop) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(false)));
    let local = tokio::task::LocalSet::new();
    let measured = local.run_until(async {
        let mut asking = JoinSet::new();
        for stream in streams {
            let (answers, stop) = (answers.clone(), stop.clone());
            asking.spawn_local(async move {
                let mut asker = Asker::new(stream);
                while !stop.get() {
                    asker.ask(&request(kind)).await?;
                    answers.set(answers.get() + 1);
                }
                anyhow::Ok(())
            });
        }
        tokio::time::sleep(lasting / 5).await;
        begin();
        let (before, began) = (answers.get(), Instant::now());
        tokio::time::sleep(lasting).await;
        let window = Window { answers: answers.get() - before, elapsed: began.elapsed() };
        end();
        stop.set(true);
        while let Some(ended) = asking.join_next().await {
            ended??;
        }
        anyhow::Ok(window)
    });
    measured.await
}

/// Asks at a fixed rate, at random moments, on as many connections as are free. Latencies count from the moment at
/// which a request was sent: the timers here are coarser than what is measured.
pub async fn open_loop(
    address: SocketAddr,
    connections: usize,
    per_second: f64,
    lasting: Duration,
) -> anyhow::Result<Latencies> {
    let local = tokio::task::LocalSet::new();
    let measured = local.run_until(async {
        let mut asking = JoinSet::new();
        for _ in 0..connections {
            let mut asker = Asker::new(connect(address).await?);
            let mean = connections as f64 / per_second;
            asking.spawn_local(async move {
                let mut latencies = latencies()?;
                let begun = Instant::now();
                let mut due = begun;
                loop {
                    due += Duration::from_secs_f64(mean * -(1.0 - rand::random::<f64>()).ln());
                    if due.duration_since(begun) > lasting {
                        return anyhow::Ok(latencies);
                    }
                    tokio::time::sleep_until(due.into()).await;
                    let sent = Instant::now();
                    asker.ask(&request("small")).await?;
                    latencies.saturating_record(u64::try_from(sent.elapsed().as_nanos())?);
                }
            });
        }
        let mut all = latencies()?;
        while let Some(latencies) = asking.join_next().await {
            all.add(latencies??)?;
        }
        anyhow::Ok(all)
    });
    measured.await
}
