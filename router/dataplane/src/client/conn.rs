//! One connection of a client, shared by the filter that reads it, the request path and the task that
//! drives it.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use router_core::head::{Head, HeadViolation};
use socket2::{SockRef, TcpKeepalive};
use supervisor_protocol::Refusal;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::counters::bump;
use crate::plane::Shared;
use crate::signal::Flag;

/// What the filter found, in the order of the requests that hyper will see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    Head(Head),
    /// A stand-in request: answer it with the refusal and close.
    Refused(HeadRefused),
}

/// Why a head was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadRefused {
    #[error(transparent)]
    Violation(HeadViolation),
    #[error("the head did not come in time")]
    Timeout,
}

impl HeadRefused {
    pub(crate) const fn refusal(self) -> Refusal {
        match self {
            HeadRefused::Violation(violation) => violation.refusal(),
            HeadRefused::Timeout => Refusal::HeadTimeout,
        }
    }
}

/// Whether a request that asked for another protocol got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Open,
    Denied,
    Granted,
}

/// A place among the open connections.
pub(crate) struct Open {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    pub(crate) fn begin(shared: &Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        bump(&shared.counters.connections_now);
        Self { shared: shared.clone(), _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.counters.connections_now.fetch_sub(1, Ordering::Relaxed);
    }
}

const OPEN: u8 = 0;
const DENIED: u8 = 1;
const GRANTED: u8 = 2;

pub(crate) struct ClientConn {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) trusted: bool,
    /// Raised to end the connection at once.
    pub(crate) abort: Arc<Flag>,
    announced: Mutex<VecDeque<Announced>>,
    verdict: AtomicU8,
    verdict_waker: AtomicWaker,
    body_violation: Mutex<Option<HeadViolation>>,
    /// What is unread is read and thrown away at the end, so that the last answer is not lost.
    linger: AtomicBool,
    /// The end of a response may be the end of the connection: only a reset shows that one is broken.
    reset_shows: AtomicBool,
    /// As long as the socket: a tunnel outlives the exchange that began it.
    _open: Open,
}

/// So that an idle peer that is gone without a word is found out within two minutes. No bound on how long
/// it may leave sent bytes unread comes with it: a reader that has stalled answers the probes.
fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4)
}

impl ClientConn {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, trusted: bool, open: Open) -> Arc<Self> {
        // It fails only on a dead socket.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive());
        Arc::new(Self {
            stream,
            peer,
            trusted,
            abort: Arc::default(),
            announced: Mutex::default(),
            verdict: AtomicU8::new(OPEN),
            verdict_waker: AtomicWaker::new(),
            body_violation: Mutex::default(),
            linger: AtomicBool::new(false),
            reset_shows: AtomicBool::new(false),
            _open: open,
        })
    }

    /// Called by the filter before hyper sees the request.
    pub(crate) fn announce(&self, announced: Announced) {
        match announced {
            Announced::Head(head) => self.reset_shows.store(head.http_10, Ordering::Relaxed),
            Announced::Refused(_) => self.linger(),
        }
        self.announced.lock().push_back(announced);
    }

    /// What was announced for the request that hyper gives out now.
    pub(crate) fn next(&self) -> Option<Announced> {
        self.announced.lock().pop_front()
    }

    /// The body of the current request breaks the grammar.
    pub(crate) fn refuse_body(&self, violation: HeadViolation) {
        self.linger();
        *self.body_violation.lock() = Some(violation);
    }

    pub(crate) fn body_violation(&self) -> Option<HeadViolation> {
        *self.body_violation.lock()
    }

    pub(crate) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    /// Decides about the upgrade that the current request asked for.
    pub(crate) fn decide_upgrade(&self, granted: bool) {
        self.verdict.store(if granted { GRANTED } else { DENIED }, Ordering::Release);
        self.verdict_waker.wake();
    }

    /// The decision, once; open until it has been made.
    pub(crate) fn take_verdict(&self, cx: &Context<'_>) -> Verdict {
        self.verdict_waker.register(cx.waker());
        match self.verdict.swap(OPEN, Ordering::AcqRel) {
            GRANTED => Verdict::Granted,
            DENIED => Verdict::Denied,
            _ => Verdict::Open,
        }
    }

    /// Resolves at the end of the client's input, though bytes may stand before it, and at a reset.
    pub(crate) async fn input_ended(&self) {
        // The readiness of priority data carries that of a closed read half and nothing else of use;
        // that of reading would resolve for a pipelined request.
        let _ = self.stream.ready(Interest::PRIORITY).await;
    }

    /// Resolves when the client has reset the connection.
    pub(crate) async fn reset(&self) {
        let _ = self.stream.ready(Interest::ERROR).await;
    }

    /// Makes the coming close a reset, where nothing less would look like a broken transfer.
    pub(crate) fn show_break(&self, always: bool) {
        if always || self.reset_shows.load(Ordering::Relaxed) {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Reads away what the client still sends, for a while, so that the close does not become a reset
    /// that overtakes the last answer (RFC 9112, 9.6).
    pub(crate) async fn drain(&self) {
        const MOST: usize = 256 * 1024;
        const LONGEST: Duration = Duration::from_secs(1);
        if !self.linger.load(Ordering::Relaxed) {
            return;
        }
        let _ = self.shutdown_write();
        let drain = async {
            let mut scrap = vec![0u8; 16 * 1024];
            let mut total = 0;
            while total < MOST && self.stream.readable().await.is_ok() {
                match self.stream.try_read(&mut scrap) {
                    Ok(0) => break,
                    Ok(read) => total += read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        };
        let _ = tokio::time::timeout(LONGEST, drain).await;
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    pub(crate) fn poll_aborted(&self, cx: &Context<'_>) -> Poll<()> {
        self.abort.poll_raised(cx)
    }
}
