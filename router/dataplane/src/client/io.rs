//! The filter between a client's socket and hyper: hyper sees no byte of a head that the strict grammar
//! has not passed.
//!
//! A violation becomes a stand-in request, so that the answers to the requests before it keep their
//! order; the request path recognises it by what was announced. After a request for another protocol
//! nothing passes until the request path has decided. No buffer is held while the connection is idle.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use router_core::head::{HeadScanner, Step};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::requests::{Announced, HeadRefused, Requests, Verdict};
use super::transport::Early;

const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";
const SCRATCH: usize = 16 * 1024;

thread_local! {
    static SCRATCH_PAD: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// Without taking anything of what is there for it.
    pub(crate) stalled: Duration,
}

pub(crate) struct ClientIo {
    requests: Arc<Requests>,
    io: Early,
    scanner: HeadScanner,
    /// Passed, not yet taken by hyper, from `taken` on.
    passed: Vec<u8>,
    taken: usize,
    /// Read, but behind an upgrade that is not decided.
    behind: Vec<u8>,
    mode: Mode,
    patience: Patience,
    wait: Wait,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Set while the client takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Scanning,
    /// After an upgrade: the bytes are another protocol's.
    Aside,
    /// What has passed is the last.
    Ended,
    /// A body broke the grammar: hyper's reader fails.
    Broken,
}

/// What is waited for, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Nothing,
    Request(Instant),
    RestOfHead(Instant),
}

impl ClientIo {
    pub(crate) fn new(requests: Arc<Requests>, io: Early, patience: Patience) -> Self {
        Self {
            requests,
            io,
            scanner: HeadScanner::new(),
            passed: Vec::new(),
            taken: 0,
            behind: Vec::new(),
            mode: Mode::Scanning,
            patience,
            wait: Wait::Nothing,
            alarm: None,
            stall: None,
        }
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = &self.passed[self.taken..];
        let now = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..now]);
        self.taken += now;
        if self.taken == self.passed.len() {
            self.passed = Vec::new();
            self.taken = 0;
        }
    }

    /// Scans bytes that were read. What lies behind an undecided upgrade is kept.
    fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mid_body = self.scanner.is_mid_body();
            let fed = self.scanner.feed(bytes);
            match fed.step {
                Step::NeedMore => {}
                Step::Head(head) => {
                    self.requests.announce(Announced::Head(head));
                    let text = self.scanner.take_head();
                    if self.passed.is_empty() { self.passed = text } else { self.passed.extend(text) }
                }
                Step::Body => self.passed.extend(&bytes[..fed.used]),
                Step::Waiting => {
                    self.behind.extend(bytes);
                    return;
                }
                Step::Violation(violation) if mid_body => {
                    self.requests.refuse_body(violation);
                    self.mode = Mode::Broken;
                    return;
                }
                Step::Violation(violation) => {
                    self.refuse(HeadRefused::Violation(violation));
                    return;
                }
            }
            bytes = &bytes[fed.used..];
        }
    }

    fn refuse(&mut self, why: HeadRefused) {
        self.requests.announce(Announced::Refused(why));
        self.passed.extend(STAND_IN);
        self.mode = Mode::Ended;
    }

    /// Reads through the thread's scratch pad and scans. `false` at the end of input.
    fn poll_scan(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        SCRATCH_PAD.with_borrow_mut(|pad| {
            let read = ready!(poll_io(&mut self.io, cx, pad))?;
            self.scan(&pad[..read]);
            Poll::Ready(Ok(read > 0))
        })
    }

    /// Reads straight into hyper's buffer, at most `most` bytes.
    fn poll_straight(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, most: usize) -> Poll<io::Result<usize>> {
        let room = buf.initialize_unfilled();
        let most = room.len().min(most);
        let read = ready!(poll_io(&mut self.io, cx, &mut room[..most]))?;
        buf.advance(read);
        Poll::Ready(Ok(read))
    }

    /// What came of writing, or an error when the client has taken nothing for too long.
    fn unless_stalled<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let patience = self.patience.stalled;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        stall.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sets what is waited for after a read that found nothing, and rings when it takes too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.scanner.is_at_head() {
            self.wait = Wait::Nothing;
            return Poll::Pending;
        }
        let (since, patience) = match (self.wait, self.scanner.is_mid_head()) {
            (Wait::RestOfHead(since), true) => (since, self.patience.head),
            (Wait::Nothing | Wait::Request(_), true) => {
                let now = Instant::now();
                self.wait = Wait::RestOfHead(now);
                (now, self.patience.head)
            }
            (Wait::Request(since), false) => (since, self.patience.idle),
            (Wait::Nothing | Wait::RestOfHead(_), false) => {
                let now = Instant::now();
                self.wait = Wait::Request(now);
                (now, self.patience.idle)
            }
        };
        let deadline = since + patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // An alarm that rings too early is set again; so a busy connection sets none per request.
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

fn poll_io(io: &mut Early, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut room = ReadBuf::new(room);
    ready!(Pin::new(io).poll_read(cx, &mut room))?;
    Poll::Ready(Ok(room.filled().len()))
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.passed.is_empty() {
                this.wait = Wait::Nothing;
                this.hand_over(buf);
                return Poll::Ready(Ok(()));
            }
            match this.mode {
                Mode::Ended => return Poll::Ready(Ok(())),
                Mode::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Mode::Aside if !this.behind.is_empty() => this.passed = std::mem::take(&mut this.behind),
                Mode::Aside => return this.poll_straight(cx, buf, usize::MAX).map_ok(|_| ()),
                Mode::Scanning if this.scanner.is_waiting() => match this.requests.take_verdict(cx) {
                    Verdict::Open => return Poll::Pending,
                    Verdict::Granted => this.mode = Mode::Aside,
                    Verdict::Denied => {
                        this.scanner.resume();
                        let behind = std::mem::take(&mut this.behind);
                        this.scan(&behind);
                    }
                },
                Mode::Scanning => {
                    let run = usize::try_from(this.scanner.free_run()).unwrap_or(usize::MAX);
                    if run > 0 {
                        let read = ready!(this.poll_straight(cx, buf, run))?;
                        this.scanner.skip(read as u64);
                        return Poll::Ready(Ok(()));
                    }
                    match this.poll_scan(cx)? {
                        Poll::Ready(true) => {}
                        Poll::Ready(false) => return Poll::Ready(Ok(())),
                        Poll::Pending => {
                            ready!(this.poll_patience(cx));
                            match this.wait {
                                Wait::RestOfHead(_) => this.refuse(HeadRefused::Timeout),
                                Wait::Request(_) | Wait::Nothing => this.mode = Mode::Ended,
                            }
                        }
                    }
                }
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.unless_stalled(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.unless_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.unless_stalled(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.scanner.is_mid_body() {
            // Answered before its body was read: the rest is still on its way here.
            self.requests.conn().linger();
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
