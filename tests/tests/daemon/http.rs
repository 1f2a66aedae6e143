//! The clients: whole answers with their heads, and event streams that are checked to their end.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderMap, Method, Request, Response};
use anyhow::Context;
use bytes::Bytes;
use camino::Utf8Path;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use versiond_demo::checks::{EventReader, Fault, StreamCheck};

/// Longer than anything that is held here may be held.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }
}

/// Asks over a connection of its own.
pub(crate) async fn get(host: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(host).await.with_context(|| format!("no connection to {host}"))?;
    whole(stream, asks(Method::GET, path, "")).await
}

/// The same on a Unix socket.
pub(crate) async fn get_unix(socket: &Utf8Path, path: &str) -> anyhow::Result<Answer> {
    let stream = UnixStream::connect(socket).await.with_context(|| format!("no connection to {socket}"))?;
    whole(stream, asks(Method::GET, path, "")).await
}

/// The first line of an answer that may never end.
pub(crate) async fn first_line(socket: &Utf8Path, path: &str) -> String {
    let mut body =
        send(UnixStream::connect(socket).await.unwrap(), asks(Method::GET, path, "")).await.unwrap().into_body();
    let mut text = Vec::new();
    while !text.contains(&b'\n') {
        let data = body.frame().await.expect("a line before the end").unwrap().into_data().unwrap();
        text.extend_from_slice(&data);
    }
    String::from_utf8(text).unwrap().lines().next().unwrap().to_owned()
}

/// A request without more than it needs.
pub(crate) fn asks(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header(::http::header::HOST, "localhost");
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// Sends it, and waits for the whole answer.
pub(crate) async fn whole<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    let path = request.uri().clone();
    let exchange = async {
        let (head, body) = send(stream, request).await?.into_parts();
        let body = body.collect().await.with_context(|| format!("{path}: the answer broke off"))?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    tokio::time::timeout(ANSWER_WITHIN, exchange).await.with_context(|| format!("{path}: no answer"))?
}

async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // What ends the driver also ends the exchange, where it is noticed.
    tokio::spawn(driver);
    let path = request.uri().clone();
    sender.send_request(request).await.with_context(|| format!("{path}: no answer"))
}

/// A stream of numbered events that has begun.
pub(crate) struct EventStream {
    body: Incoming,
    reader: EventReader,
    check: StreamCheck,
}

impl EventStream {
    /// Opens one that lasts `ms` milliseconds, below `prefix`, and returns with its first event.
    pub(crate) async fn open(host: SocketAddr, prefix: &str, ms: u64) -> EventStream {
        EventStream::session(host, prefix, "one", ms).await
    }

    /// The same, of this session.
    pub(crate) async fn session(host: SocketAddr, prefix: &str, session: &str, ms: u64) -> EventStream {
        let events = (ms / 50).max(1);
        let path = format!("{prefix}/sessions/{session}/stream?ms={ms}&events={events}");
        let stream = TcpStream::connect(host).await.unwrap();
        let response = send(stream, asks(Method::GET, &path, "")).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let reader = EventReader::default();
        let mut stream = EventStream { body: response.into_body(), reader, check: StreamCheck::new(0, events) };
        while stream.check.seen() == 0 {
            stream.next().await.unwrap();
        }
        stream
    }

    /// The generation that answers it.
    pub(crate) fn generation(&self) -> u64 {
        self.check.origin().unwrap().generation
    }

    /// Follows it to its end: `Ok` only when every event has come, in order, and the final one, and
    /// then the end of the body.
    pub(crate) async fn finish(mut self) -> Result<(), Fault> {
        while self.next().await? {}
        Ok(())
    }

    /// Takes what comes next; false at the end of a whole stream.
    async fn next(&mut self) -> Result<bool, Fault> {
        let frame = tokio::time::timeout(ANSWER_WITHIN, self.body.frame()).await;
        let frame = match frame {
            Err(_) => return Err(self.check.broken_off("silence")),
            Ok(None) => return self.check.end().map(|()| false),
            Ok(Some(Err(error))) => return Err(self.check.broken_off(&error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            self.reader.push(&data).iter().try_for_each(|event| self.check.event(event))?;
        }
        Ok(true)
    }
}
