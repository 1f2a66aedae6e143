//! Connections to children: made, kept while unused, spoken over.
//!
//! Must not live here: which child is asked, and what a failure leads to (that is `forward`).

mod answer;
mod http1;
mod idle;
mod socket;
mod upload;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use router_core::head::HeadViolation;

pub(crate) use answer::BadAnswer;
pub(crate) use http1::Upgraded;
pub(crate) use idle::IdlePool;

use crate::body::{AttemptBody, BodyError};
use crate::chunk::Chunk;
use http1::{Http1Body, Sending};
use socket::Socket;

/// Where a target listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    Tcp(SocketAddr),
    /// `name:port`, resolved for each connection.
    Named(String),
    Unix(PathBuf),
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("nothing of the request was sent")]
    NotSent(#[source] io::Error),
    #[error("the connection ended before a response")]
    NoResponse,
    #[error("the response is not understood")]
    Bad(#[source] BadAnswer),
    #[error("the body of the request broke off")]
    Body(#[source] BodyError),
}

/// Why a response ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the connection ended")]
    Cut(#[source] io::Error),
    #[error("its chunks are malformed")]
    Chunks(#[source] HeadViolation),
    #[error("the body of the request broke off")]
    Upload(#[source] BodyError),
}

/// A connection on which a request can be sent.
pub(crate) struct Channel(Socket);

impl Channel {
    /// A new connection.
    pub(crate) async fn open(upstream: &Upstream, within: Duration) -> io::Result<Self> {
        let socket = tokio::time::timeout(within, Socket::connect(upstream)).await;
        Ok(Self(socket.map_err(|_| io::ErrorKind::TimedOut)??))
    }

    /// Whether the child has closed the connection, or sent what nobody asked for, as the kernel knows it
    /// this moment. Narrows the keep-alive race to the flight of a packet.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.has_input()
    }

    /// Sends a request; the response has come as far as its head.
    pub(crate) fn send(
        self,
        request: Request<AttemptBody>,
    ) -> impl Future<Output = Result<Response<UpstreamBody>, SendError>> {
        Sending::new(self.0, request)
    }
}

/// The body of a child's response.
pub(crate) enum UpstreamBody {
    Http1(Box<Http1Body>),
}

impl UpstreamBody {
    /// The connection, when another request may be sent on it.
    pub(crate) fn into_reusable(self) -> Option<Channel> {
        match self {
            UpstreamBody::Http1(body) => body.into_reusable().map(Channel),
        }
    }

    /// The connection, when the response has changed its protocol.
    pub(crate) fn into_upgraded(self) -> Upgraded {
        match self {
            UpstreamBody::Http1(body) => body.into_upgraded(),
        }
    }
}

impl Body for UpstreamBody {
    type Data = Chunk;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, AnswerError>>> {
        match self.get_mut() {
            UpstreamBody::Http1(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            UpstreamBody::Http1(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            UpstreamBody::Http1(body) => body.size_hint(),
        }
    }
}
