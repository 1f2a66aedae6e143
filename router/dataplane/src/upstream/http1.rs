//! One request and its response over a connection that speaks HTTP/1.1.
//!
//! Both directions are driven by whoever waits for the response, so that a stream costs one task and, while
//! nothing comes, no buffer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use router_core::head::{ChunkDecoder, HeadViolation};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::AttemptBody;
use crate::chunk::{Buffer, Chunk};

use super::answer::{self, AnswerFraming, BadAnswer};
use super::socket::Socket;
use super::upload::{Upload, UploadError};
use super::{AnswerError, SendError, UpstreamBody};

/// How many interim responses a child may send before the one that counts.
const MAX_INTERIM: u32 = 16;

/// A request that is being sent, until the head of its response is there.
pub(crate) struct Sending {
    parts: Option<(Socket, Upload)>,
    to_head: bool,
    interim: u32,
    /// What has been read of the head, so far.
    read: Option<(Buffer, usize)>,
}

impl Sending {
    pub(crate) fn new(socket: Socket, request: Request<AttemptBody>) -> Self {
        let (head, body) = request.into_parts();
        let to_head = head.method == Method::HEAD;
        Self { parts: Some((socket, Upload::new(&head, body))), to_head, interim: 0, read: None }
    }

    /// One more piece of the head; `None` at the end of input.
    fn poll_fill(
        socket: &mut Socket,
        read: &mut Option<(Buffer, usize)>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let (mut buffer, mut filled) = read.take().unwrap_or_else(|| (Buffer::small(), 0));
        let polled = poll_read(socket, &mut buffer[filled..], cx);
        if let Poll::Ready(Ok(read)) = &polled {
            filled += read;
        }
        if filled > 0 {
            *read = Some((buffer, filled));
        }
        polled.map_ok(|read| read > 0)
    }

    /// The head, when what has been read holds all of it.
    fn parse(&mut self) -> Result<Option<(answer::AnswerHead, Buffer, usize)>, BadAnswer> {
        while let Some((mut buffer, mut filled)) = self.read.take() {
            let Some(head) = answer::parse(&buffer[..filled], self.to_head)? else {
                if filled == buffer.len() {
                    let mut larger = Buffer::large();
                    if larger.len() == buffer.len() {
                        return Err(BadAnswer::Grammar(httparse::Error::TooManyHeaders));
                    }
                    larger[..filled].copy_from_slice(&buffer);
                    buffer = larger;
                }
                self.read = Some((buffer, filled));
                return Ok(None);
            };
            let is_interim =
                head.parts.status.is_informational() && head.parts.status != StatusCode::SWITCHING_PROTOCOLS;
            if !is_interim {
                return Ok(Some((head, buffer, filled)));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(BadAnswer::Grammar(httparse::Error::Status));
            }
            buffer.copy_within(head.used..filled, 0);
            filled -= head.used;
            if filled > 0 {
                self.read = Some((buffer, filled));
            }
        }
        Ok(None)
    }
}

impl Future for Sending {
    type Output = Result<Response<UpstreamBody>, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let Some((socket, upload)) = &mut this.parts else { return Poll::Pending };
            match upload.poll(socket, cx) {
                Poll::Ready(Err(UploadError::Body(error))) => return Poll::Ready(Err(SendError::Body(error))),
                Poll::Ready(Err(UploadError::Socket(error))) if !upload.is_begun() => {
                    return Poll::Ready(Err(SendError::NotSent(error)));
                }
                // A child may answer and close before it has read everything: what it says counts.
                Poll::Ready(Ok(()) | Err(UploadError::Socket(_))) | Poll::Pending => {}
            }
            let more = ready!(Self::poll_fill(socket, &mut this.read, cx)).unwrap_or(false);
            if !more {
                return Poll::Ready(Err(SendError::NoResponse));
            }
            match this.parse() {
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(SendError::Bad(error))),
                Ok(Some((head, buffer, filled))) => {
                    let Some((socket, upload)) = this.parts.take() else { return Poll::Pending };
                    let read = (filled > head.used).then_some((buffer, head.used, filled));
                    let body = Http1Body {
                        socket,
                        upload,
                        framing: match head.framing {
                            AnswerFraming::None => Framing::Ended,
                            AnswerFraming::Length(left) => Framing::Length(left),
                            AnswerFraming::Chunked => Framing::Chunked(Box::default()),
                            AnswerFraming::UntilClose => Framing::UntilClose,
                        },
                        trailers: None,
                        read,
                        fills: false,
                        keep_alive: head.keep_alive,
                    };
                    return Poll::Ready(Ok(Response::from_parts(head.parts, UpstreamBody::Http1(Box::new(body)))));
                }
            }
        }
    }
}

/// The body of a response, as it comes.
pub(crate) struct Http1Body {
    socket: Socket,
    /// The rest of the request.
    upload: Upload,
    framing: Framing,
    /// What is to be given out when the data is.
    trailers: Option<HeaderMap>,
    /// Read along with the head, and not yet given out: from, to.
    read: Option<(Buffer, usize, usize)>,
    /// Whether the last read found more than a small buffer takes.
    fills: bool,
    keep_alive: bool,
}

enum Framing {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    UntilClose,
    Ended,
}

impl Http1Body {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, AnswerError>>> {
        match self.upload.poll(&mut self.socket, cx) {
            Poll::Ready(Err(UploadError::Body(error))) => return Poll::Ready(Some(Err(AnswerError::Upload(error)))),
            Poll::Ready(Err(UploadError::Socket(_))) => self.keep_alive = false,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        loop {
            if let Framing::Ended = self.framing {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let (buffer, from, to) = match self.read.take() {
                Some(read) => read,
                None => match ready!(self.poll_read(cx)) {
                    Ok((buffer, read)) if read > 0 => (buffer, 0, read),
                    Ok(_) => match self.framing {
                        Framing::UntilClose => {
                            self.framing = Framing::Ended;
                            continue;
                        }
                        Framing::Length(_) | Framing::Chunked(_) | Framing::Ended => {
                            return Poll::Ready(Some(Err(AnswerError::Cut(io::ErrorKind::UnexpectedEof.into()))));
                        }
                    },
                    Err(error) => return Poll::Ready(Some(Err(AnswerError::Cut(error)))),
                },
            };
            match self.take(buffer, from, to) {
                Err(violation) => return Poll::Ready(Some(Err(AnswerError::Chunks(violation)))),
                Ok(Some(chunk)) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Ok(None) => {}
            }
        }
    }

    /// Nothing follows: neither data nor trailers.
    pub(crate) fn is_end_stream(&self) -> bool {
        matches!(self.framing, Framing::Ended) && self.trailers.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.framing {
            Framing::Ended => SizeHint::with_exact(0),
            Framing::Length(left) => SizeHint::with_exact(*left),
            Framing::Chunked(_) | Framing::UntilClose => SizeHint::new(),
        }
    }

    /// The connection, when another request may be sent on it: the child has taken the whole request and said
    /// nothing beyond its response.
    pub(crate) fn into_reusable(self) -> Option<Socket> {
        let is_over = matches!(self.framing, Framing::Ended) && self.upload.is_done() && self.read.is_none();
        (is_over && self.keep_alive).then_some(self.socket)
    }

    /// The connection, after a response that has changed its protocol.
    pub(crate) fn into_upgraded(self) -> Upgraded {
        Upgraded { socket: self.socket, read: self.read }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Buffer, usize)>> {
        let mut buffer = if self.fills { Buffer::large() } else { Buffer::small() };
        let read = ready!(poll_read(&mut self.socket, &mut buffer, cx))?;
        self.fills = read >= crate::chunk::SMALL;
        Poll::Ready(Ok((buffer, read)))
    }

    /// What of some input is data.
    fn take(&mut self, mut buffer: Buffer, from: usize, to: usize) -> Result<Option<Chunk>, HeadViolation> {
        let (used, data) = match &mut self.framing {
            Framing::Ended => (0, 0),
            Framing::UntilClose => (to - from, to - from),
            Framing::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(to - from);
                *left -= here as u64;
                if *left == 0 {
                    self.framing = Framing::Ended;
                }
                (here, here)
            }
            Framing::Chunked(decoder) => {
                let decoded = decoder.decode(&mut buffer[from..to])?;
                if decoded.ended {
                    self.trailers = trailers(decoder);
                    self.framing = Framing::Ended;
                }
                (decoded.used, decoded.data)
            }
        };
        if from + used < to {
            match self.framing {
                // The next call finds what is wrong with the rest of it.
                Framing::Chunked(_) => {
                    let mut rest = Buffer::large();
                    rest[..to - from - used].copy_from_slice(&buffer[from + used..to]);
                    self.read = Some((rest, 0, to - from - used));
                }
                Framing::Length(_) | Framing::UntilClose | Framing::Ended => self.keep_alive = false,
            }
        }
        Ok((data > 0).then(|| Chunk::read(buffer, from, from + data)))
    }
}

fn trailers(decoder: &ChunkDecoder) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    for (name, value) in decoder.trailers() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            trailers.append(name, value);
        }
    }
    (!trailers.is_empty()).then_some(trailers)
}

fn poll_read(socket: &mut Socket, room: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut room = ReadBuf::new(room);
    ready!(Pin::new(socket).poll_read(cx, &mut room))?;
    Poll::Ready(Ok(room.filled().len()))
}

/// A connection that speaks another protocol now.
pub(crate) struct Upgraded {
    socket: Socket,
    read: Option<(Buffer, usize, usize)>,
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some((buffer, from, to)) = self.read.take() {
            let here = (to - from).min(buf.remaining());
            buf.put_slice(&buffer[from..from + here]);
            if from + here < to {
                self.read = Some((buffer, from + here, to));
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
