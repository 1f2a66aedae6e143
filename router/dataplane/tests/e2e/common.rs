//! What the end-to-end tests share: a plane on loopback, origins that do as they are told, and a client
//! that shows every byte.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use router_dataplane::{
    Absence, Clock, Dial, Listener, LocalEndpoints, NoLocalEndpoints, Plane, PlaneConfig, RouteTable, SlotRoute,
    Target, TargetLabel, Upstream, Voucher,
};
use supervisor_protocol::headers::HostStamp;
use supervisor_protocol::{BootNonce, Generation, HostId, Nonce, ServiceName, VersionName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// No wait in a test lasts longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

/// Polls a condition that no event announces.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{what}"));
}

/// A plane with one service and one slot, `/devshard/v1`, and the same under `/v1x`.
pub(crate) struct Rig {
    pub(crate) plane: Plane,
    pub(crate) address: SocketAddr,
    pub(crate) slot: Arc<SlotRoute>,
    pub(crate) clock: Clock,
    /// The one that the plane starts with.
    pub(crate) table: Arc<RouteTable>,
    generations: AtomicU64,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut PlaneConfig)) -> Self {
        Self::full(change, Arc::new(NoLocalEndpoints))
    }

    pub(crate) fn full(change: impl FnOnce(&mut PlaneConfig), local: Arc<dyn LocalEndpoints>) -> Self {
        Self::build(change, local, Vec::new())
    }

    /// One that listens elsewhere too.
    pub(crate) fn listening(change: impl FnOnce(&mut PlaneConfig), more: Vec<Listener>) -> Self {
        Self::build(change, Arc::new(NoLocalEndpoints), more)
    }

    fn build(change: impl FnOnce(&mut PlaneConfig), local: Arc<dyn LocalEndpoints>, more: Vec<Listener>) -> Self {
        let clock = Clock::start();
        let host = HostStamp { id: HostId::new("host-1").unwrap(), boot: BootNonce::new("boot1").unwrap() };
        let mut config = PlaneConfig::new(host, clock);
        config.workers = 2;
        config.not_admitted_wait = Duration::from_millis(100);
        change(&mut config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let slot = SlotRoute::new(Absence::Hold { forecast: None });
        let service = ServiceName::new("devshardd").unwrap();
        let table = RouteTable::new(
            vec![("/devshard/{version}".parse().unwrap(), service.clone())],
            BTreeMap::from([((service, VersionName::new("v1").unwrap()), slot.clone())]),
        );
        let table = Arc::new(table);
        let listeners = std::iter::once(listener.into()).chain(more).collect();
        let plane = Plane::start(config, listeners, table.clone(), local).unwrap();
        Self { plane, address, slot, clock, table, generations: AtomicU64::new(0) }
    }

    /// The same before its plane knows a route.
    pub(crate) fn pending(change: impl FnOnce(&mut PlaneConfig)) -> Self {
        let rig = Self::with(change);
        rig.plane.replace_table(Arc::new(RouteTable::pending()));
        rig
    }

    pub(crate) fn target(&self, dial: impl Into<Dial>) -> Arc<Target> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let label = TargetLabel::Generation {
            service: ServiceName::new("devshardd").unwrap(),
            version: VersionName::new("v1").unwrap(),
            generation: Generation(generation),
        };
        Target::new(label, Voucher::Nonce(Nonce::new(format!("nonce{generation}")).unwrap()), dial, self.clock)
    }

    /// Publishes a target for an origin and retires the one before.
    pub(crate) fn publish(&self, origin: SocketAddr) -> Arc<Target> {
        let target = self.target(Upstream::Tcp(origin));
        if let Some(old) = self.slot.publish(target.clone()) {
            old.retire();
        }
        target
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.client().await.get(path).await
    }
}

/// A request as an origin read it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// The connection of an origin to the plane.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// The next request, whole; `None` at the end of the connection.
    pub(crate) async fn request(&mut self) -> Option<Seen> {
        let head = self.head().await?;
        self.body(head).await
    }

    /// The rest of a request whose head was read.
    pub(crate) async fn body(&mut self, mut seen: Seen) -> Option<Seen> {
        if let Some(length) = seen.headers.get("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length {
                self.fill().await?;
            }
            seen.body = self.buffer.drain(..length).collect();
        } else if seen.headers.contains_key("transfer-encoding") {
            loop {
                let size = loop {
                    if let Some(at) = find(&self.buffer, b"\r\n") {
                        let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                        break usize::from_str_radix(std::str::from_utf8(&line[..at]).unwrap(), 16).unwrap();
                    }
                    self.fill().await?;
                };
                while self.buffer.len() < size + 2 {
                    self.fill().await?;
                }
                seen.body.extend(self.buffer.drain(..size));
                self.buffer.drain(..2);
                if size == 0 {
                    break;
                }
            }
        }
        Some(seen)
    }

    /// The next head alone.
    pub(crate) async fn head(&mut self) -> Option<Seen> {
        let at = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            self.fill().await?;
        };
        let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
        let (line, headers) = parse_head(&head);
        Some(Seen { line, headers, body: Vec::new() })
    }

    async fn fill(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    pub(crate) async fn answer(&mut self, body: &str) -> std::io::Result<()> {
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await
    }

    /// Resolves at the end of what the plane sends.
    pub(crate) async fn closed(&mut self) {
        let mut scrap = [0u8; 1024];
        while matches!(self.stream.read(&mut scrap).await, Ok(read) if read > 0) {}
    }

    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// An origin that runs `behave` on every connection.
pub(crate) async fn origin<F, R>(behave: F) -> SocketAddr
where
    F: Fn(Peer) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(behave(Peer { stream, buffer: Vec::new() }));
        }
    });
    address
}

/// An origin that answers every request with its name.
pub(crate) async fn named(name: &'static str) -> SocketAddr {
    origin(move |mut peer| async move {
        while peer.request().await.is_some() {
            if peer.answer(name).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// A client that sends and shows raw bytes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

/// A response, and whether it came to its declared end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> String {
        let text = self.text();
        let from = text.find("\"code\":\"").map_or(0, |at| at + 8);
        text[from..].split('"').next().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn send_get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send_get(path).await;
        self.reply().await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Reply {
        let length = body.len();
        self.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")).await;
        self.reply().await
    }

    /// The next response head; `None` when the connection ends without one.
    pub(crate) async fn head(&mut self) -> Option<Reply> {
        let at = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            self.fill().await?;
        };
        let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
        let (line, headers) = parse_head(&head);
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Reply { status, headers, ..Reply::default() })
    }

    /// The next response, to its end or to the end of the connection. Status 0 = there was none.
    pub(crate) async fn reply(&mut self) -> Reply {
        soon(async {
            let mut reply = loop {
                match self.head().await {
                    None => return Reply::default(),
                    Some(interim) if interim.status == 100 => {}
                    Some(reply) => break reply,
                }
            };
            if let Some(length) = reply.header("content-length") {
                let length: usize = length.parse().unwrap();
                while self.buffer.len() < length {
                    if self.fill().await.is_none() {
                        reply.body = std::mem::take(&mut self.buffer);
                        return reply;
                    }
                }
                reply.body = self.buffer.drain(..length).collect();
                reply.complete = true;
            } else if reply.headers.contains_key("transfer-encoding") {
                reply.complete = loop {
                    match self.chunk().await {
                        None => break false,
                        Some(chunk) if chunk.is_empty() => break true,
                        Some(chunk) => reply.body.extend(chunk),
                    }
                };
            } else {
                // Only a clean end of the connection is an end.
                reply.complete = loop {
                    match self.stream.read_buf(&mut self.buffer).await {
                        Ok(0) => break true,
                        Ok(_) => {}
                        Err(_) => break false,
                    }
                };
                reply.body = std::mem::take(&mut self.buffer);
            }
            reply
        })
        .await
    }

    /// The next chunk of a chunked response; empty at its end, `None` when it breaks off.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                break usize::from_str_radix(std::str::from_utf8(&line[..at]).unwrap(), 16).unwrap();
            }
            self.fill().await?;
        };
        while self.buffer.len() < size + 2 {
            self.fill().await?;
        }
        let chunk = self.buffer.drain(..size).collect();
        self.buffer.drain(..2);
        Some(chunk)
    }

    pub(crate) async fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        soon(async {
            while self.buffer.len() < count {
                self.fill().await.expect("more");
            }
            self.buffer.drain(..count).collect()
        })
        .await
    }

    /// `None` at the end of the connection, clean or not.
    pub(crate) async fn fill(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse_head(head: &[u8]) -> (String, BTreeMap<String, String>) {
    let text = String::from_utf8_lossy(head).into_owned();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    (line, headers)
}
