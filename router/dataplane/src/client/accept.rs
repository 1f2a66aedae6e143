//! How a connection begins: what a balancer says of it, TLS, and which HTTP is spoken on it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use router_core::proxy::{self, Parsed, ProxyViolation};
use supervisor_protocol::Refusal;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::conn::{Conn, Open};
use super::tls::TlsIdentity;
use super::transport::{Early, Plain, Transport};
use super::{Peer, http1, http2};
use crate::chunk::Buffer;
use crate::counters::bump;
use crate::limits::FromAddress;
use crate::refuse::Refused;
use crate::worker::Worker;

/// What clients say first that speak HTTP/2 without having agreed on it (RFC 9113, 3.3 and 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What one listening socket expects of those who come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Door {
    /// Whether and how they are spoken to through TLS.
    pub(crate) tls: Option<TlsIdentity>,
}

/// Why a connection ends before its first request.
#[derive(Debug, thiserror::Error)]
enum NotBegun {
    #[error("it ended, or asked for nothing")]
    Gone,
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Proxy(#[from] ProxyViolation),
    #[error("the balancer's header did not come in time")]
    ProxyTimeout,
    #[error("TLS could not be agreed on")]
    Tls(#[source] io::Error),
    #[error("TLS was not agreed on in time")]
    TlsTimeout,
}

/// A connection that has begun.
struct Begun {
    conn: Arc<Conn>,
    io: Early,
    is_http2: bool,
}

/// Drives a connection to its end.
pub(crate) async fn run(
    worker: Arc<Worker>,
    stream: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
    door: Arc<Door>,
) {
    let shared = &worker.shared;
    bump(&shared.counters.connections);
    let open = Open::begin(shared, permit);
    let stopping = async {
        shared.stop.cancelled().await;
        // Whoever has only just come is about to ask.
        tokio::time::sleep(shared.config.first_request).await;
    };
    let begun = tokio::select! {
        biased;
        begun = begin(&worker, stream, address, open, &door) => begun,
        () = stopping => return,
    };
    match begun {
        Ok(Begun { conn, io, is_http2: true }) => http2::serve(worker, conn, io).await,
        Ok(Begun { conn, io, is_http2: false }) => http1::serve(worker, conn, io).await,
        Err(NotBegun::Gone) => {}
        Err(error) => {
            bump(&shared.counters.not_begun);
            tracing::debug!(error = &error as &dyn std::error::Error, %address, "a connection has not begun");
        }
    }
}

async fn begin(
    worker: &Arc<Worker>,
    mut stream: TcpStream,
    address: SocketAddr,
    open: Open,
    door: &Door,
) -> Result<Begun, NotBegun> {
    let config = &worker.shared.config;
    let mut source = address;
    if config.proxy_protocol.contains(address.ip()) {
        let said =
            timeout(config.limits.head_timeout, proxied(&mut stream)).await.map_err(|_| NotBegun::ProxyTimeout)??;
        source = said.unwrap_or(address);
    }
    let peer = Peer { address: source, trusted: config.trusted.contains(source.ip()), secure: door.tls.is_some() };
    let from = match config.limits.connections_per_address {
        Some(most) if !peer.trusted => match FromAddress::begin(&worker.shared, source.ip(), most) {
            None => return Err(refuse(worker, stream, peer, open).await),
            from @ Some(_) => from,
        },
        Some(_) | None => None,
    };
    let conn = Conn::new(stream, peer, open, from);
    let plain = Plain(conn.clone());
    let transport = match &door.tls {
        None => Transport::Left(plain),
        Some(identity) => {
            let agreed = timeout(config.limits.head_timeout, TlsAcceptor::from(identity.config()).accept(plain)).await;
            let stream = agreed.map_err(|_| NotBegun::TlsTimeout)?.map_err(NotBegun::Tls)?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let io = Early { bytes: Vec::new(), transport: Transport::Right(Box::new(stream)) };
                return Ok(Begun { conn, io, is_http2: true });
            }
            Transport::Right(Box::new(stream))
        }
    };
    let mut io = Early { bytes: Vec::new(), transport };
    let is_http2 = sniff(&mut io, config.limits.keep_alive, config.limits.head_timeout).await?;
    Ok(Begun { conn, io, is_http2 })
}

/// Answers what nobody has asked yet, where that can be understood, and ends the connection.
async fn refuse(worker: &Worker, mut stream: TcpStream, peer: Peer, open: Open) -> NotBegun {
    let refused = Refused::new(Refusal::TooManyConnections);
    worker.shared.counters.refused(refused.refusal);
    if !peer.secure {
        let body = refused.text(None);
        let head = "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Type: application/json";
        let answer = format!("{head}\r\nRetry-After: 1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = timeout(worker.shared.config.limits.head_timeout, stream.write_all(answer.as_bytes())).await;
        let conn = Conn::new(stream, peer, open, None);
        conn.linger();
        conn.drain().await;
    }
    NotBegun::Gone
}

/// Reads what a balancer says, and not a byte more.
async fn proxied(stream: &mut TcpStream) -> Result<Option<SocketAddr>, NotBegun> {
    let mut header = Vec::new();
    loop {
        match proxy::parse(&header)? {
            Parsed::Header(said) => return Ok(said.source),
            Parsed::NeedMore(most) => {
                let had = header.len();
                header.resize(most, 0);
                stream.read_exact(&mut header[had..]).await?;
            }
        }
    }
}

/// Whether the first bytes are HTTP/2's. They stay to be read.
async fn sniff(io: &mut Early, idle: Duration, head: Duration) -> Result<bool, NotBegun> {
    loop {
        let wait = if io.bytes.is_empty() { idle } else { head };
        let read = match timeout(wait, some(&mut io.transport)).await {
            Ok(read) => read?,
            // Whatever it is, it is not HTTP/2.
            Err(_) => Vec::new(),
        };
        let is_over = read.is_empty();
        io.bytes.extend(read);
        let known = io.bytes.len().min(PREFACE.len());
        if known == 0 {
            return Err(NotBegun::Gone);
        }
        if is_over || io.bytes[..known] != PREFACE[..known] {
            return Ok(false);
        }
        if known == PREFACE.len() {
            return Ok(true);
        }
    }
}

/// What comes next; nothing at the end. No buffer is held meanwhile.
async fn some(transport: &mut Transport) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        let mut buffer = Buffer::small();
        let mut room = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut *transport).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().to_vec()))
    })
    .await
}
