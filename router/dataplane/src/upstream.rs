//! Connections to children: made, kept while unused, checked before use.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::body::AttemptBody;
use crate::target::Upstream;

/// What hyper may buffer per connection, in bytes.
pub(crate) const BUFFER: usize = 128 * 1024;
const SHARDS: usize = 16;

/// A connection on which one request at a time can be sent.
pub(crate) struct Channel {
    pub(crate) sender: SendRequest<AttemptBody>,
    socket: Arc<Socket>,
}

impl Channel {
    /// Connects, and gives back the task that must drive the connection.
    pub(crate) async fn open(
        upstream: &Upstream,
        within: Duration,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let connect = async {
            Ok::<_, io::Error>(match upstream {
                Upstream::Tcp(address) => Socket::tcp(TcpStream::connect(address).await?)?,
                Upstream::Named(name) => Socket::tcp(TcpStream::connect(name).await?)?,
                Upstream::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            })
        };
        let socket = tokio::time::timeout(within, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let socket = Arc::new(socket);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(SocketIo(socket.clone())))
            .await
            .map_err(io::Error::other)?;
        let drive = async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a child ended");
            }
        };
        Ok((Self { sender, socket }, drive))
    }

    /// Whether the child has closed the connection, or sent what nobody asked for, as the kernel knows it
    /// this moment. Narrows the keep-alive race to the flight of a packet.
    pub(crate) fn is_dead(&self) -> bool {
        self.sender.is_closed() || self.socket.has_input()
    }
}

/// The unused connections of one target, by worker.
pub(crate) struct IdlePool {
    shards: [Mutex<Vec<Idle>>; SHARDS],
    closed: AtomicBool,
}

struct Idle {
    channel: Channel,
    since: Instant,
}

impl Default for IdlePool {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), closed: AtomicBool::new(false) }
    }
}

impl IdlePool {
    /// The connection used last, if it is still usable.
    pub(crate) fn take(&self, worker: usize, idle: Duration) -> Option<Channel> {
        let mut shard = self.shards[worker % SHARDS].lock();
        for at in (0..shard.len()).rev() {
            let kept = &shard[at];
            if kept.since.elapsed() >= idle || kept.channel.is_dead() {
                shard.remove(at);
            } else if kept.channel.sender.is_ready() {
                return Some(shard.remove(at).channel);
            }
        }
        None
    }

    pub(crate) fn put(&self, worker: usize, channel: Channel) {
        let mut shard = self.shards[worker % SHARDS].lock();
        // Under the lock, so that what comes after `close` has emptied the shard is not kept.
        if !self.closed.load(Ordering::Acquire) && !channel.sender.is_closed() {
            shard.push(Idle { channel, since: Instant::now() });
        }
    }

    /// Closes what has been unused for too long.
    pub(crate) fn sweep(&self, worker: usize, idle: Duration) {
        self.shards[worker % SHARDS].lock().retain(|kept| kept.since.elapsed() < idle && !kept.channel.is_dead());
    }

    /// Closes everything that is unused, now and until [`IdlePool::reopen`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    /// Keeps unused connections again.
    pub(crate) fn reopen(&self) {
        self.closed.store(false, Ordering::Release);
    }
}

impl fmt::Debug for IdlePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdlePool").field("closed", &self.closed).finish_non_exhaustive()
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn tcp(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        Ok(Socket::Tcp(stream))
    }

    fn as_raw(&self) -> SockRef<'_> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream),
            Socket::Unix(stream) => SockRef::from(stream),
        }
    }

    fn has_input(&self) -> bool {
        match self.as_raw().peek(&mut [MaybeUninit::uninit()]) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>, write: bool) -> Poll<io::Result<()>> {
        match (self, write) {
            (Socket::Tcp(stream), false) => stream.poll_read_ready(cx),
            (Socket::Tcp(stream), true) => stream.poll_write_ready(cx),
            (Socket::Unix(stream), false) => stream.poll_read_ready(cx),
            (Socket::Unix(stream), true) => stream.poll_write_ready(cx),
        }
    }

    /// Repeats `step` until it does not ask to wait.
    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        write: bool,
        mut step: impl FnMut(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match step(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_ready(cx, write))?,
                other => return Poll::Ready(other),
            }
        }
    }
}

struct SocketIo(Arc<Socket>);

impl AsyncRead for SocketIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.initialize_unfilled();
        let read = ready!(self.0.poll_io(cx, false, |socket| match socket {
            Socket::Tcp(stream) => stream.try_read(room),
            Socket::Unix(stream) => stream.try_read(room),
        }))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SocketIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_io(cx, true, |socket| match socket {
            Socket::Tcp(stream) => stream.try_write(buf),
            Socket::Unix(stream) => stream.try_write(buf),
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_io(cx, true, |socket| match socket {
            Socket::Tcp(stream) => stream.try_write_vectored(bufs),
            Socket::Unix(stream) => stream.try_write_vectored(bufs),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.0.as_raw().shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // F57: the kernel knows of the close before the runtime has run again.
    #[tokio::test]
    async fn f57_a_connection_that_the_child_has_closed_is_seen_dead_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Upstream::Tcp(listener.local_addr().unwrap());
        let (channel, drive) = Channel::open(&upstream, Duration::from_secs(5)).await.unwrap();
        tokio::spawn(drive);
        let (child, _) = listener.accept().unwrap();
        tokio::task::yield_now().await;
        assert!(!channel.is_dead());
        drop(child);
        // No await from here on: nothing but the kernel can tell.
        let start = std::time::Instant::now();
        while !channel.is_dead() && start.elapsed() < Duration::from_secs(5) {
            std::hint::spin_loop();
        }
        assert!(!channel.sender.is_closed());
        assert!(channel.is_dead());

        let pool = IdlePool::default();
        pool.put(0, channel);
        assert!(pool.take(0, Duration::from_secs(5)).is_none());
    }
}
