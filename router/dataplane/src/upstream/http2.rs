//! Requests over a connection that speaks HTTP/2, which many share.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, Reason, RecvStream, SendStream};
use http::header;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri, Version, request};
use http_body::{Body, Frame, SizeHint};

use super::socket::Socket;
use super::{AnswerError, SendError, UpstreamBody};
use crate::body::{AttemptBody, BodyError};
use crate::chunk::{Chunk, LARGE};

/// How many streams one connection carries at most, whatever the other side allows.
const STREAMS: usize = 128;
/// What a child may send ahead of what was taken, in bytes: of one stream, and of all of them, so that one that
/// is not read does not hold up the others.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 128;

/// One connection. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
    is_secure: bool,
}

#[derive(Default)]
struct State {
    streams: AtomicUsize,
    is_over: AtomicBool,
}

/// A stream that is open.
struct Stream(Arc<State>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Http2 {
    /// Speaks HTTP/2 from now on, and gives back the task that must drive the connection.
    pub(crate) async fn open(socket: Socket, ping: Duration) -> io::Result<(Self, impl Future<Output = ()> + use<>)> {
        let is_secure = socket.is_secure();
        let shaken = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(LARGE)
            .handshake(socket)
            .await;
        let (sender, connection) = shaken.map_err(io::Error::other)?;
        let state = Arc::new(State::default());
        let drive = drive(connection, state.clone(), ping);
        Ok((Self { sender, state, is_secure }, drive))
    }

    /// Whether another stream can be opened now.
    pub(crate) fn is_free(&self) -> bool {
        self.state.streams.load(Ordering::Relaxed) < STREAMS.min(self.sender.current_max_send_streams())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.streams.load(Ordering::Relaxed) == 0
    }

    /// Whether the other side has ended it, or begun to.
    pub(crate) fn is_dead(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.state.is_over.load(Ordering::Relaxed)
            || matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Sends a request; the response has come as far as its head.
    pub(crate) async fn send(mut self, request: Request<AttemptBody>) -> Result<Response<UpstreamBody>, SendError> {
        let (head, body) = request.into_parts();
        let head = translated(head, self.is_secure).map_err(|error| SendError::NotSent(io::Error::other(error)))?;
        self.state.streams.fetch_add(1, Ordering::Relaxed);
        let stream = Stream(self.state.clone());
        poll_fn(|cx| self.sender.poll_ready(cx)).await.map_err(|error| SendError::NotSent(io::Error::other(error)))?;
        let ends = body.is_end_stream();
        let sent = self.sender.send_request(Request::from_parts(head, ()), ends);
        let (response, sender) = sent.map_err(|error| SendError::NotSent(io::Error::other(error)))?;
        let upload = if ends { Upload::Done } else { Upload::Open { body, sender } };
        Sending { response, upload, stream: Some(stream) }.await
    }
}

/// Drives a connection, and gives it up when the other side is gone without a word.
async fn drive(mut connection: Connection<Socket, Bytes>, state: Arc<State>, ping: Duration) {
    let mut pings = connection.ping_pong();
    let mut round = tokio::time::interval_at(tokio::time::Instant::now() + ping, ping);
    let mut waits = false;
    let mut connection = std::pin::pin!(connection);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut connection => break ended.map_err(|error| error.to_string()),
            _ = round.tick() => {
                let Some(pings) = &mut pings else { continue };
                let mut cx = Context::from_waker(Waker::noop());
                if waits && pings.poll_pong(&mut cx).is_pending() {
                    break Err("no ping is answered".to_owned());
                }
                waits = state.streams.load(Ordering::Relaxed) > 0 && pings.send_ping(Ping::opaque()).is_ok();
            }
        }
    };
    state.is_over.store(true, Ordering::Relaxed);
    if let Err(error) = ended {
        tracing::debug!(error, "a connection to a child ended");
    }
}

/// What HTTP/2 has in place of a request line and of fields that speak of one connection.
fn translated(mut head: request::Parts, is_secure: bool) -> Result<request::Parts, http::Error> {
    let host = head.headers.remove(header::HOST);
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        head.headers.remove(name);
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if is_secure { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(Authority::try_from(host.as_ref().map_or(&b"localhost"[..], |host| host.as_bytes()))?);
    uri.path_and_query = head.uri.path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
    head.uri = Uri::from_parts(uri)?;
    head.version = Version::HTTP_2;
    Ok(head)
}

/// The rest of a request.
enum Upload {
    Open { body: AttemptBody, sender: SendStream<Bytes> },
    Done,
}

impl Upload {
    /// Sends as much as goes. An error is the body's own.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        loop {
            let Upload::Open { body, sender } = self else { return Poll::Ready(Ok(())) };
            // One piece is on its way at most.
            sender.reserve_capacity(1);
            while sender.capacity() == 0 {
                match ready!(sender.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    // The child wants no more of it.
                    Some(Err(_)) | None => {
                        *self = Upload::Done;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            let sent = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Err(error)) => {
                    sender.send_reset(Reason::CANCEL);
                    *self = Upload::Done;
                    return Poll::Ready(Err(error));
                }
                None => sender.send_data(Bytes::new(), true).map(|()| true),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let ends = body.is_end_stream();
                        sender.send_data(data, ends).map(|()| ends)
                    }
                    Err(frame) => sender.send_trailers(frame.into_trailers().unwrap_or_default()).map(|()| true),
                },
            };
            if !matches!(sent, Ok(false)) {
                *self = Upload::Done;
            }
        }
    }
}

/// A request that is being sent, until the head of its response is there.
struct Sending {
    response: ResponseFuture,
    upload: Upload,
    stream: Option<Stream>,
}

impl Future for Sending {
    type Output = Result<Response<UpstreamBody>, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(Err(error)) = self.upload.poll(cx) {
            return Poll::Ready(Err(SendError::Body(error)));
        }
        let response = match ready!(Pin::new(&mut self.response).poll(cx)) {
            Ok(response) => response,
            Err(error) => return Poll::Ready(Err(unanswered(error))),
        };
        let upload = std::mem::replace(&mut self.upload, Upload::Done);
        let stream = self.stream.take();
        Poll::Ready(Ok(response.map(|incoming| {
            let body = Http2Body { incoming, upload, trailers: Trailers::Ahead, _stream: stream };
            UpstreamBody::Http2(Box::new(body))
        })))
    }
}

/// What became of a request that got no response.
fn unanswered(error: h2::Error) -> SendError {
    // The other side promises that it has not looked at it (RFC 9113, 8.7).
    let untouched = error.is_remote()
        && (error.reason() == Some(Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.reason() == Some(Reason::NO_ERROR)));
    match error {
        error if untouched => SendError::NotSent(io::Error::other(error)),
        error if error.is_library() => SendError::BadStream(error),
        _ => SendError::NoResponse,
    }
}

/// The body of a response, as it comes.
pub(crate) struct Http2Body {
    incoming: RecvStream,
    upload: Upload,
    trailers: Trailers,
    _stream: Option<Stream>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trailers {
    /// Data comes before them.
    Ahead,
    Next,
    Past,
}

impl Http2Body {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, AnswerError>>> {
        if let Poll::Ready(Err(error)) = self.upload.poll(cx) {
            return Poll::Ready(Some(Err(AnswerError::Upload(error))));
        }
        if self.trailers == Trailers::Ahead {
            match ready!(self.incoming.poll_data(cx)) {
                Some(Ok(data)) => {
                    let _ = self.incoming.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(Chunk::from(data)))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(AnswerError::Stream(error)))),
                None => self.trailers = Trailers::Next,
            }
        }
        if self.trailers == Trailers::Past {
            return Poll::Ready(None);
        }
        let trailers: Result<Option<HeaderMap>, _> = ready!(self.incoming.poll_trailers(cx));
        self.trailers = Trailers::Past;
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(AnswerError::Stream(error))),
        })
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.trailers == Trailers::Past || self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::new() }
    }
}
