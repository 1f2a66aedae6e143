//! A response on its way to a client, and the lease that lasts as long as it.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use router_core::leases::How;

use crate::chunk::Chunk;
use crate::client::Client;
use crate::limits::InFlight;
use crate::local::BoxFuture;
use crate::silence::Silence;
use crate::target::Lease;
use crate::upstream::{AnswerError, UpstreamBody};

/// Why a response ends early. The client's connection is aborted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the child broke off")]
    Child(#[source] AnswerError),
    #[error("the client hung up")]
    ClientGone,
    #[error("the child said nothing for as long as it may")]
    Silent,
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
    client: Client,
    /// Whose connections to the child these are.
    worker: usize,
    /// Resolves at the end of the client's input, where that means that nobody listens any more.
    hangup: Option<BoxFuture<'static, ()>>,
    silence: Silence,
    _place: InFlight,
}

/// What a response is relayed with.
pub(crate) struct Terms {
    pub(crate) lease: Lease,
    pub(crate) client: Client,
    /// Whose connections to the child these are.
    pub(crate) worker: usize,
    /// The end of the client's input ends the response.
    pub(crate) hangup: bool,
    /// How long nothing may come of it.
    pub(crate) idle: Duration,
    pub(crate) place: InFlight,
}

enum Incoming {
    Open(UpstreamBody),
    Over,
}

impl RelayBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        RelayBody::Full(Full::new(bytes))
    }

    pub(crate) fn relay(incoming: UpstreamBody, terms: Terms) -> Self {
        let Terms { lease, client, worker, hangup, idle, place } = terms;
        let listener = client.clone();
        let hangup: Option<BoxFuture<'static, ()>> =
            if hangup { Some(Box::pin(async move { listener.input_ended().await })) } else { None };
        let incoming = Incoming::Open(incoming);
        let mut relay = Relay { incoming, lease, client, worker, hangup, silence: Silence::new(idle), _place: place };
        relay.complete_at_end();
        RelayBody::Relay(Box::new(relay))
    }
}

impl Relay {
    fn complete_at_end(&mut self) {
        if let Incoming::Open(incoming) = &self.incoming
            && incoming.is_end_stream()
            && let Incoming::Open(incoming) = mem::replace(&mut self.incoming, Incoming::Over)
        {
            if let Some(channel) = incoming.into_reusable() {
                self.lease.target().pool.put(self.worker, channel);
            }
            self.lease.finish(How::Finished);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, RelayError>>> {
        let Incoming::Open(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        if let Some(hangup) = &mut self.hangup
            && hangup.as_mut().poll(cx).is_ready()
        {
            self.hangup = None;
            self.lease.finish(How::ClientGone);
            return Poll::Ready(Some(Err(RelayError::ClientGone)));
        }
        let Poll::Ready(polled) = Pin::new(incoming).poll_frame(cx) else {
            ready!(self.silence.poll(cx));
            self.lease.finish(How::Cut);
            self.client.show_break(false);
            tracing::info!(target = %self.lease.target().label(), "a response has come to nothing for too long");
            return Poll::Ready(Some(Err(RelayError::Silent)));
        };
        self.silence.ends();
        let polled = match polled {
            None => None,
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(AnswerError::Upload(error))) => {
                tracing::debug!(target = %self.lease.target().label(), %error, "a client broke off its request");
                self.lease.finish(How::ClientGone);
                Some(Err(RelayError::ClientGone))
            }
            Some(Err(error)) => {
                self.lease.finish(How::UpstreamBroke);
                self.client.show_break(false);
                tracing::warn!(target = %self.lease.target().label(), %error, "a child broke off its response");
                Some(Err(RelayError::Child(error)))
            }
        };
        self.complete_at_end();
        Poll::Ready(polled)
    }
}

impl Body for RelayBody {
    type Data = Chunk;
    type Error = RelayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, RelayError>>> {
        match self.get_mut() {
            RelayBody::Full(full) => Pin::new(full).poll_frame(cx).map(|frame| {
                frame.map(|frame| frame.map(|frame| frame.map_data(Chunk::from)).map_err(|never| match never {}))
            }),
            RelayBody::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RelayBody::Full(full) => full.is_end_stream(),
            RelayBody::Relay(relay) => match &relay.incoming {
                Incoming::Open(incoming) => incoming.is_end_stream(),
                Incoming::Over => true,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RelayBody::Full(full) => full.size_hint(),
            RelayBody::Relay(relay) => match &relay.incoming {
                Incoming::Open(incoming) => incoming.size_hint(),
                Incoming::Over => SizeHint::with_exact(0),
            },
        }
    }
}
