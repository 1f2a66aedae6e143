//! A response on its way to a client, and the lease that lasts as long as it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use router_core::leases::How;

use crate::client::ClientConn;
use crate::local::BoxFuture;
use crate::target::Lease;
use crate::upstream::Channel;

/// Why a response ends early. The client's connection is aborted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the child broke off")]
    Child(#[source] hyper::Error),
    #[error("the client hung up")]
    ClientGone,
}

/// The body of a response.
pub(crate) enum RelayBody {
    Full(Full<Bytes>),
    Relay(Box<Relay>),
}

/// The body of a child's response.
pub(crate) struct Relay {
    incoming: Incoming,
    lease: Lease,
    conn: Arc<ClientConn>,
    /// Resolves at the end of the client's input, where that means that nobody listens any more.
    hangup: Option<BoxFuture<'static, ()>>,
    reuse: Option<Reuse>,
}

/// Where the connection to the child goes when the response is complete.
pub(crate) struct Reuse {
    pub(crate) worker: usize,
    pub(crate) channel: Channel,
}

impl RelayBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        RelayBody::Full(Full::new(bytes))
    }

    /// `hangup`: the end of the client's input ends the response.
    pub(crate) fn relay(
        incoming: Incoming,
        lease: Lease,
        conn: Arc<ClientConn>,
        hangup: bool,
        reuse: Option<Reuse>,
    ) -> Self {
        let listener = conn.clone();
        let hangup: Option<BoxFuture<'static, ()>> =
            if hangup { Some(Box::pin(async move { listener.input_ended().await })) } else { None };
        let mut relay = Relay { incoming, lease, conn, hangup, reuse };
        if relay.incoming.is_end_stream() {
            relay.complete();
        }
        RelayBody::Relay(Box::new(relay))
    }
}

impl Relay {
    fn complete(&mut self) {
        if let Some(Reuse { worker, channel }) = self.reuse.take() {
            self.lease.target().pool.put(worker, channel);
        }
        self.lease.finish(How::Finished);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        if let Some(hangup) = &mut self.hangup
            && hangup.as_mut().poll(cx).is_ready()
        {
            self.hangup = None;
            self.lease.finish(How::ClientGone);
            return Poll::Ready(Some(Err(RelayError::ClientGone)));
        }
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => {
                self.complete();
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                if self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.lease.finish(How::UpstreamBroke);
                self.conn.show_break(false);
                tracing::warn!(target = %self.lease.target().label(), %error, "a child broke off its response");
                Poll::Ready(Some(Err(RelayError::Child(error))))
            }
        }
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        match self.get_mut() {
            RelayBody::Full(full) => {
                Pin::new(full).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            RelayBody::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RelayBody::Full(full) => full.is_end_stream(),
            RelayBody::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RelayBody::Full(full) => full.size_hint(),
            RelayBody::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}
