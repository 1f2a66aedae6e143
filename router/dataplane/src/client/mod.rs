//! The client's side: how a connection begins, what is read from it, and what the request path may ask of it.
//!
//! ```text
//! accept ─ PROXY header ─ TLS ─ first bytes ─┬─ http1: filter ─ hyper ─ serve
//!                                            └─ http2: h2 ─ one task per stream ─ serve
//! ```

mod accept;
mod body;
mod conn;
mod http1;
mod http2;
mod io;
mod requests;
mod tls;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;

use router_core::head::HeadViolation;

pub(crate) use accept::{Door, run};
pub(crate) use body::{ClientBody, ClientBodyError};
pub(crate) use requests::Announced;
pub use tls::{TlsError, TlsIdentity};

use crate::signal::Flag;
use conn::Conn;
use requests::Requests;

/// Who asks, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Of the client, as the connection has it or as a balancer before us says.
    pub(crate) address: SocketAddr,
    pub(crate) trusted: bool,
    /// Whether nobody on the way can read along.
    pub(crate) secure: bool,
}

/// Whoever waits for the answer to one request.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    /// Raised to end the response at once, broken: over HTTP/1 with the connection, over HTTP/2 the stream.
    pub(crate) abort: Arc<Flag>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Http1(Arc<Requests>),
    /// That its client has left drops whatever works for the stream.
    Http2,
}

impl Client {
    fn http1(requests: &Arc<Requests>) -> Self {
        let Conn { peer, abort, .. } = &**requests.conn();
        Self { peer: *peer, abort: abort.clone(), kind: Kind::Http1(requests.clone()) }
    }

    fn http2(peer: Peer) -> Self {
        Self { peer, abort: Arc::default(), kind: Kind::Http2 }
    }

    /// How the body of the current request breaks the grammar.
    pub(crate) fn body_violation(&self) -> Option<HeadViolation> {
        match &self.kind {
            Kind::Http1(requests) => requests.body_violation(),
            Kind::Http2 => None,
        }
    }

    /// Decides about the upgrade that the current request asked for.
    pub(crate) fn decide_upgrade(&self, granted: bool) {
        match &self.kind {
            Kind::Http1(requests) => requests.decide_upgrade(granted),
            Kind::Http2 => {}
        }
    }

    /// Resolves at the end of the client's input, though bytes may stand before it, and at a reset.
    pub(crate) async fn input_ended(&self) {
        match &self.kind {
            Kind::Http1(requests) => requests.conn().input_ended().await,
            Kind::Http2 => std::future::pending().await,
        }
    }

    /// Resolves when the client has reset the connection.
    pub(crate) async fn reset(&self) {
        match &self.kind {
            Kind::Http1(requests) => requests.conn().reset().await,
            Kind::Http2 => std::future::pending().await,
        }
    }

    /// Makes the coming close a reset, where nothing less would look like a broken transfer.
    pub(crate) fn show_break(&self, always: bool) {
        match &self.kind {
            Kind::Http1(requests) => requests.conn().show_break(always),
            Kind::Http2 => {}
        }
    }
}
