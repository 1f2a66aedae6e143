//! What is measured of one contender in one repetition, section by section. Each runs in a thread of its own, with the
//! origin and the load in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use camino::Utf8Path;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::super::proc::{cpu_ns, memory};
use super::load::{Asker, closed_loop, connect, open_loop, request};
use super::origin::EVERY;

/// Connections that ask for little.
pub const CONNECTIONS: usize = 64;
/// Connections that ask for much.
pub const BULK: usize = 16;
/// Requests a second where latency is measured.
pub const RATE: f64 = 2_000.0;
/// Connections and streams on each, over HTTP/2.
pub const HTTP2: (usize, usize) = (8, 8);

/// Figures of one repetition, by name: what each is in, the table says.
pub type Figures = Vec<(&'static str, f64)>;

/// What a section needs of a contender: where it listens, and the processes that it is.
#[derive(Debug, Clone)]
pub struct Contender {
    pub address: SocketAddr,
    /// What is behind it.
    pub origins: Vec<SocketAddr>,
    /// None of the origin itself.
    pub pids: Vec<u32>,
    /// Who vouches for it, where it speaks TLS.
    pub certificate: Option<camino::Utf8PathBuf>,
}

impl Contender {
    fn cpu_ns(&self) -> u64 {
        self.pids.iter().filter_map(|pid| cpu_ns(*pid).ok()).sum()
    }

    fn rss(&self) -> u64 {
        self.pids.iter().filter_map(|pid| memory(*pid).ok()).map(|memory| memory.rss).sum()
    }
}

/// Keeps the calling thread, and those that it starts, on one CPU.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("the thread cannot be pinned")
}

/// Small requests, as many as go.
pub async fn small(contender: &Contender, window: Duration) -> anyhow::Result<Figures> {
    match &contender.certificate {
        None => {
            let mut streams = Vec::new();
            for _ in 0..CONNECTIONS {
                streams.push(connect(contender.address).await?);
            }
            rate(contender, streams, window).await
        }
        Some(certificate) => {
            let connector = connector(certificate)?;
            let mut streams = Vec::new();
            for _ in 0..CONNECTIONS {
                let stream = connect(contender.address).await?;
                streams.push(connector.connect("bench.example".try_into()?, stream).await?);
            }
            rate(contender, streams, window).await
        }
    }
}

async fn rate<S: super::load::Stream + 'static>(
    contender: &Contender,
    streams: Vec<S>,
    window: Duration,
) -> anyhow::Result<Figures> {
    let (mut before, mut after) = (0, 0);
    let begin = || before = contender.cpu_ns();
    let end = || after = contender.cpu_ns();
    let done = closed_loop(streams, "small", window, begin, end).await?;
    let answers = done.answers as f64;
    Ok(vec![
        ("per_second", answers / done.elapsed.as_secs_f64()),
        ("cpu_us", (after - before) as f64 / 1_000.0 / answers.max(1.0)),
    ])
}

fn connector(certificate: &Utf8Path) -> anyhow::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Small requests at a fixed rate.
pub async fn latency(contender: &Contender, window: Duration) -> anyhow::Result<Figures> {
    let latencies = open_loop(contender.address, CONNECTIONS, RATE, window).await?;
    let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(vec![("p50_us", us(0.5)), ("p99_us", us(0.99))])
}

/// Answers of a mebibyte.
pub async fn bulk(contender: &Contender, kind: &'static str, window: Duration) -> anyhow::Result<Figures> {
    let mut askers = Vec::new();
    for _ in 0..BULK {
        askers.push(Asker::new(connect(contender.address).await?));
    }
    let (began, before) = (std::time::Instant::now(), contender.cpu_ns());
    let mut asking = JoinSet::new();
    for mut asker in askers {
        asking.spawn(async move {
            let mut scrap = vec![0; 256 * 1024];
            let mut bytes = 0;
            while began.elapsed() < window {
                bytes += asker.swallow(&request(kind), &mut scrap).await?;
            }
            anyhow::Ok(bytes)
        });
    }
    let mut bytes = 0;
    while let Some(read) = asking.join_next().await {
        bytes += read??;
    }
    let (bytes, cpu) = (bytes as f64, (contender.cpu_ns() - before) as f64 / 1e9);
    Ok(vec![("mb_per_second", bytes / 1e6 / began.elapsed().as_secs_f64()), ("cpu_s_per_gb", cpu / (bytes / 1e9))])
}

/// Small requests over HTTP/2, many on each connection.
pub async fn http2(contender: &Contender, window: Duration) -> anyhow::Result<Figures> {
    let (connections, streams) = HTTP2;
    let mut asking = JoinSet::new();
    let (warm, whole) = (window / 5, window + window / 5);
    let began = std::time::Instant::now();
    for _ in 0..connections {
        let (sender, connection) = h2::client::handshake(connect(contender.address).await?).await?;
        tokio::spawn(connection);
        for _ in 0..streams {
            let sender = sender.clone();
            asking.spawn(async move {
                let mut answers = 0_u64;
                while began.elapsed() < whole {
                    let mut ready = sender.clone().ready().await?;
                    let uri = String::from_utf8(request("small"))?;
                    let path = uri.split(' ').nth(1).unwrap_or("/").to_owned();
                    let request = http::Request::get(format!("http://bench.example{path}")).body(())?;
                    let (response, _) = ready.send_request(request, true)?;
                    let mut body = response.await?.into_body();
                    while let Some(data) = body.data().await {
                        let data: Bytes = data?;
                        body.flow_control().release_capacity(data.len())?;
                    }
                    answers += u64::from(began.elapsed() > warm);
                }
                anyhow::Ok(answers)
            });
        }
    }
    tokio::time::sleep_until((began + warm).into()).await;
    let before = contender.cpu_ns();
    tokio::time::sleep_until((began + whole).into()).await;
    let used = contender.cpu_ns() - before;
    let mut answers = 0;
    while let Some(asked) = asking.join_next().await {
        answers += asked??;
    }
    let answers = (answers as f64).max(1.0);
    Ok(vec![("per_second", answers / window.as_secs_f64()), ("cpu_us", used as f64 / 1_000.0 / answers)])
}

/// Streams that say something now and then. Each event has a number: one that is lost shows.
pub async fn events(contender: &Contender, streams: usize, window: Duration) -> anyhow::Result<Figures> {
    let empty = contender.rss();
    let mut opened = Vec::new();
    for _ in 0..streams {
        let mut stream = connect(contender.address).await?;
        stream.write_all(&request("events")).await?;
        opened.push(stream);
    }
    // Within three turns each has begun.
    let end = tokio::time::Instant::now() + EVERY * 3 + window;
    let mut listening = JoinSet::new();
    for mut stream in opened {
        listening.spawn(async move {
            let mut listener = Listener::default();
            let heard = tokio::time::timeout_at(end, listener.listen(&mut stream)).await;
            // Whoever is still listening when the time is up was not cut.
            (listener, heard.is_ok())
        });
    }
    tokio::time::sleep_until(end - window).await;
    let before = contender.cpu_ns();
    tokio::time::sleep_until(end - Duration::from_millis(100)).await;
    let (used, rss) = (contender.cpu_ns() - before, contender.rss());
    let (mut heard, mut lost, mut broken) = (0, 0, 0);
    while let Some(listened) = listening.join_next().await {
        let (listener, is_broken) = listened?;
        heard += listener.heard;
        lost += listener.lost;
        broken += u32::from(is_broken);
    }
    anyhow::ensure!(u64::from(heard) >= streams as u64, "{heard} events were heard on {streams} streams");
    let events = streams as f64 * (window.as_secs_f64() - 0.1) / EVERY.as_secs_f64();
    Ok(vec![
        ("kib_per_stream", rss.saturating_sub(empty) as f64 / 1_024.0 / streams as f64),
        ("cpu_us_per_event", used as f64 / 1_000.0 / events),
        ("broken_or_lost", f64::from(broken + lost)),
    ])
}

/// What one stream has heard.
#[derive(Debug, Default)]
pub struct Listener {
    pub heard: u32,
    pub lost: u32,
    line: Vec<u8>,
}

impl Listener {
    /// Listens until the stream ends.
    pub async fn listen(&mut self, stream: &mut TcpStream) {
        let mut piece = [0; 2_048];
        while let Ok(read) = stream.read(&mut piece).await
            && read > 0
        {
            self.hear(&piece[..read]);
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let number = line.strip_prefix(b"data: ").and_then(|rest| std::str::from_utf8(rest.get(..8)?).ok());
            if let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) {
                self.lost += number.saturating_sub(self.heard + self.lost);
                self.heard += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_left_out_is_lost() {
        let mut listener = Listener::default();
        listener.hear(b"HTTP/1.1 200 OK\r\n\r\n64\r\ndata: 00000000 x\n\n\r\n64\r\ndata: 0000");
        listener.hear(b"0001 x\n\n\r\n64\r\ndata: 00000004 x\n\n");
        assert_eq!((listener.heard, listener.lost), (3, 2));
    }
}
