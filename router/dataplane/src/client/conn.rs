//! The socket of a client's connection, shared by whoever reads it and whoever works for it.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::Peer;
use crate::counters::bump;
use crate::limits::FromAddress;
use crate::plane::Shared;
use crate::signal::Flag;

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

pub(super) struct Conn {
    stream: TcpStream,
    pub(super) peer: Peer,
    /// Raised to end the connection at once.
    pub(super) abort: Arc<Flag>,
    /// What is unread is read and thrown away at the end, so that the last answer is not lost.
    linger: AtomicBool,
    /// The end of a response may be the end of the connection: only a reset shows that one is broken.
    reset_shows: AtomicBool,
    /// As long as the socket: a tunnel outlives the exchange that began it.
    _open: Open,
    _from: Option<FromAddress>,
}

/// So that an idle peer that is gone without a word is found out within two minutes. No bound on how long
/// it may leave sent bytes unread comes with it: a reader that has stalled answers the probes.
fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4)
}

impl Conn {
    pub(super) fn new(stream: TcpStream, peer: Peer, open: Open, from: Option<FromAddress>) -> Arc<Self> {
        // Both fail only on a dead socket.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive());
        Arc::new(Self {
            stream,
            peer,
            abort: Arc::default(),
            linger: AtomicBool::new(false),
            reset_shows: AtomicBool::new(false),
            _open: open,
            _from: from,
        })
    }

    pub(super) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    pub(super) fn reset_shows(&self, shows: bool) {
        self.reset_shows.store(shows, Ordering::Relaxed);
    }

    /// Resolves at the end of the client's input, though bytes may stand before it, and at a reset.
    pub(super) async fn input_ended(&self) {
        // The readiness of priority data carries that of a closed read half and nothing else of use;
        // that of reading would resolve for a pipelined request.
        let _ = self.stream.ready(Interest::PRIORITY).await;
    }

    /// Resolves when the client has reset the connection.
    pub(super) async fn reset(&self) {
        let _ = self.stream.ready(Interest::ERROR).await;
    }

    /// Makes the coming close a reset, where nothing less would look like a broken transfer.
    pub(super) fn show_break(&self, always: bool) {
        if always || self.reset_shows.load(Ordering::Relaxed) {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Reads away what the client still sends, for a while, so that the close does not become a reset
    /// that overtakes the last answer (RFC 9112, 9.6).
    pub(super) async fn drain(&self) {
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

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        match SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    pub(super) fn poll_aborted(&self, cx: &Context<'_>) -> Poll<()> {
        self.abort.poll_raised(cx)
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.stream.poll_read_ready(cx))?,
                other => return Poll::Ready(other),
            }
        }
    }

    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.stream.poll_write_ready(cx))?,
                other => return Poll::Ready(other),
            }
        }
    }
}
