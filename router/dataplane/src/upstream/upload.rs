//! The request on its way to a child over HTTP/1: its head and body, written as fast as both sides go.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap};
use http::request::Parts;
use http_body::Body;
use tokio::io::AsyncWrite;

use crate::body::{AttemptBody, BodyError};

use super::socket::Socket;

/// A body up to this goes along with its head in one write.
const SMALL_BODY: u64 = 16 * 1024;

/// Why a request cannot be sent on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the body of the request broke off")]
    Body(#[source] BodyError),
    #[error("the connection takes nothing more")]
    Socket(#[source] io::Error),
}

/// What is still to be written.
pub(crate) struct Upload {
    /// The head, or what goes before a chunk.
    ahead: Vec<u8>,
    data: Bytes,
    behind: &'static [u8],
    body: AttemptBody,
    is_chunked: bool,
    state: State,
    /// How many bytes the kernel has taken.
    written: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The body is asked for more before the next write, unless that would keep what is there waiting.
    Open,
    /// All of the body is taken.
    Last,
    Done,
    Broken,
}

impl Upload {
    pub(crate) fn new(head: &Parts, body: AttemptBody) -> Self {
        let is_chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
        let state = if body.is_end_stream() && !is_chunked { State::Last } else { State::Open };
        Self { ahead: written_head(head), data: Bytes::new(), behind: &[], body, is_chunked, state, written: 0 }
    }

    /// Whether everything has been written.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the kernel has taken anything at all.
    pub(crate) const fn is_begun(&self) -> bool {
        self.written > 0
    }

    /// Writes as much as goes. Ready when nothing is left; an error is told once.
    pub(crate) fn poll(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        loop {
            match self.state {
                State::Done | State::Broken => return Poll::Ready(Ok(())),
                State::Open if self.wants_more() => match self.poll_body(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        self.state = State::Broken;
                        return Poll::Ready(Err(UploadError::Body(error)));
                    }
                    Poll::Pending if self.is_empty() => return Poll::Pending,
                    Poll::Pending => {}
                },
                State::Open => {}
                State::Last if self.is_empty() => {
                    self.state = State::Done;
                    return Poll::Ready(Ok(()));
                }
                State::Last => {}
            }
            if !self.is_empty() {
                let slices = [IoSlice::new(&self.ahead), IoSlice::new(&self.data), IoSlice::new(self.behind)];
                let written = match ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &slices)) {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    other => other,
                };
                match written {
                    Ok(written) => self.advance(written),
                    Err(error) => {
                        self.state = State::Broken;
                        return Poll::Ready(Err(UploadError::Socket(error)));
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.data.is_empty() && self.behind.is_empty()
    }

    /// Whether the body is to be asked now: when nothing is left to write, or when it fits beside the head.
    fn wants_more(&self) -> bool {
        let fits = || self.body.size_hint().upper().is_some_and(|upper| upper <= SMALL_BODY);
        self.data.is_empty() && self.behind.is_empty() && (self.ahead.is_empty() || (self.written == 0 && fits()))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => self.end(None),
            Some(Err(error)) => return Poll::Ready(Err(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    // An empty chunk would be the last.
                    if self.is_chunked && !data.is_empty() {
                        let _ = write!(self.ahead, "{:x}\r\n", data.len());
                        self.behind = b"\r\n";
                    }
                    self.data = data;
                    if !self.is_chunked && self.body.is_end_stream() {
                        self.state = State::Last;
                    }
                }
                Err(frame) => self.end(frame.into_trailers().ok()),
            },
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        if self.is_chunked {
            self.ahead.extend(b"0\r\n");
            fields(&mut self.ahead, &trailers.unwrap_or_default());
            self.ahead.extend(b"\r\n");
        }
        self.state = State::Last;
    }

    fn advance(&mut self, mut written: usize) {
        self.written += written as u64;
        let ahead = written.min(self.ahead.len());
        if ahead == self.ahead.len() {
            self.ahead = Vec::new()
        } else {
            drop(self.ahead.drain(..ahead))
        }
        written -= ahead;
        let data = written.min(self.data.len());
        self.data.advance(data);
        self.behind = &self.behind[written - data..];
    }
}

fn written_head(head: &Parts) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let _ = write!(text, "{} {target} HTTP/1.1\r\n", head.method);
    fields(&mut text, &head.headers);
    text.extend(b"\r\n");
    text
}

fn fields(text: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        text.extend(name.as_str().as_bytes());
        text.extend(b": ");
        text.extend(value.as_bytes());
        text.extend(b"\r\n");
    }
}
