//! Connections to children: made, kept while unused, spoken over.
//!
//! Must not live here: which child is asked, and what a failure leads to (that is `forward`).

mod answer;
mod dial;
mod http1;
mod http2;
mod idle;
mod socket;
mod upload;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use router_core::head::HeadViolation;

pub(crate) use answer::BadAnswer;
pub use dial::{Dial, HttpVersion, Upstream, UpstreamTls};
pub(crate) use http1::Upgraded;
pub(crate) use idle::IdlePool;

use crate::body::{AttemptBody, BodyError};
use crate::chunk::Chunk;
use crate::config::PlaneConfig;
use http1::{Http1Body, Sending};
use http2::{Http2, Http2Body};
use socket::Socket;

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("nothing of the request was sent")]
    NotSent(#[source] io::Error),
    #[error("the connection ended before a response")]
    NoResponse,
    #[error("the response is not understood")]
    Bad(#[source] BadAnswer),
    #[error("the stream breaks the rules of HTTP/2")]
    BadStream(#[source] h2::Error),
    #[error("the body of the request broke off")]
    Body(#[source] BodyError),
}

/// Why a response ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the connection ended")]
    Cut(#[source] io::Error),
    #[error("the stream ended")]
    Stream(#[source] h2::Error),
    #[error("its chunks are malformed")]
    Chunks(#[source] HeadViolation),
    #[error("the body of the request broke off")]
    Upload(#[source] BodyError),
}

/// A connection on which a request can be sent.
pub(crate) enum Channel {
    /// One at a time.
    Http1(Socket),
    /// Beside others.
    Http2(Http2),
}

impl Channel {
    /// A new connection.
    pub(crate) async fn open(dial: &Dial, config: &PlaneConfig) -> io::Result<Self> {
        let opened = tokio::time::timeout(config.connect_timeout, async {
            let socket = Socket::connect(dial).await?;
            match dial.version {
                HttpVersion::Http1 => Ok(Channel::Http1(socket)),
                HttpVersion::Http2 => {
                    let (connection, drive) = Http2::open(socket, config.ping).await?;
                    tokio::spawn(drive);
                    Ok(Channel::Http2(connection))
                }
            }
        });
        opened.await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Whether the child has closed the connection, or sent what nobody asked for, as the kernel knows it
    /// this moment. Narrows the keep-alive race to the flight of a packet.
    pub(crate) fn is_dead(&mut self) -> bool {
        match self {
            Channel::Http1(socket) => socket.has_input(),
            Channel::Http2(connection) => connection.is_dead(),
        }
    }

    /// Sends a request; the response has come as far as its head.
    pub(crate) async fn send(self, request: Request<AttemptBody>) -> Result<Response<UpstreamBody>, SendError> {
        match self {
            Channel::Http1(socket) => Sending::new(socket, request).await,
            Channel::Http2(connection) => connection.send(request).await,
        }
    }
}

/// The body of a child's response.
pub(crate) enum UpstreamBody {
    Http1(Box<Http1Body>),
    Http2(Box<Http2Body>),
}

impl UpstreamBody {
    /// The connection, when another request may be sent on it that nobody else has.
    pub(crate) fn into_reusable(self) -> Option<Channel> {
        match self {
            UpstreamBody::Http1(body) => body.into_reusable().map(Channel::Http1),
            UpstreamBody::Http2(_) => None,
        }
    }

    /// The connection, when the response has changed its protocol.
    pub(crate) fn into_upgraded(self) -> Option<Upgraded> {
        match self {
            UpstreamBody::Http1(body) => Some(body.into_upgraded()),
            UpstreamBody::Http2(_) => None,
        }
    }
}

impl Body for UpstreamBody {
    type Data = Chunk;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, AnswerError>>> {
        match self.get_mut() {
            UpstreamBody::Http1(body) => body.poll_frame(cx),
            UpstreamBody::Http2(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            UpstreamBody::Http1(body) => body.is_end_stream(),
            UpstreamBody::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            UpstreamBody::Http1(body) => body.size_hint(),
            UpstreamBody::Http2(body) => body.size_hint(),
        }
    }
}
