//! One thread of the plane: it accepts, drives the connections of its clients and its own connections to
//! children.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::task::TaskTracker;

use crate::client::{ClientConn, ClientIo, Open, Patience};
use crate::counters::bump;
use crate::plane::Shared;
use crate::serve::serve;
use crate::target::Target;
use crate::upstream::Channel;

/// What hyper may buffer for a connection, in bytes.
pub(crate) const BUFFER: usize = 128 * 1024;
/// How often connections that have been unused for too long are closed.
const SWEEP: Duration = Duration::from_secs(1);
/// How long the accepting pauses when descriptors have run out.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    /// `Versiond-Host`.
    pub(crate) stamp: Option<HeaderValue>,
    /// Of clients: connections and tunnels, which a shutdown waits for.
    clients: TaskTracker,
    targets: Mutex<Vec<Weak<Target>>>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> Arc<Self> {
        // An identity is made of what a header may have.
        let stamp = shared.config.host.as_ref().and_then(|host| HeaderValue::try_from(host.to_string()).ok());
        Arc::new(Self { shared, index, stamp, clients: TaskTracker::new(), targets: Mutex::default() })
    }

    /// Accepts until the plane stops, and waits for what was accepted.
    pub(crate) async fn run(self: &Arc<Self>, listeners: Vec<std::net::TcpListener>) {
        let stop = &self.shared.stop;
        let accepting = TaskTracker::new();
        for listener in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let worker = self.clone();
                    accepting.spawn(async move {
                        tokio::select! {
                            () = worker.accept(&listener) => {}
                            () = worker.shared.stop.cancelled() => {}
                        }
                        if let Ok(listener) = listener.into_std() {
                            worker.accept_the_rest(&listener);
                        }
                    });
                }
                Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
            }
        }
        let sweeper = {
            let worker = self.clone();
            tokio::spawn(async move { worker.sweep().await })
        };
        stop.cancelled().await;
        accepting.close();
        accepting.wait().await;
        self.clients.close();
        tokio::select! {
            () = self.clients.wait() => {}
            () = self.shared.abort.cancelled() => {}
        }
        sweeper.abort();
    }

    /// Drives a task that a shutdown waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.clients.spawn(task);
    }

    /// A new connection to a target.
    pub(crate) async fn connect(&self, target: &Arc<Target>) -> io::Result<Channel> {
        let channel = Channel::open(target.upstream(), self.shared.config.connect_timeout).await?;
        bump(&self.shared.counters.upstream_connections);
        let mut targets = self.targets.lock();
        if !targets.iter().any(|known| known.as_ptr() == Arc::as_ptr(target)) {
            targets.push(Arc::downgrade(target));
        }
        Ok(channel)
    }

    async fn sweep(&self) {
        let mut tick = tokio::time::interval(SWEEP);
        loop {
            tick.tick().await;
            self.targets.lock().retain(|target| match target.upgrade() {
                Some(target) => {
                    target.pool.sweep(self.index, self.shared.config.pool_idle);
                    true
                }
                None => false,
            });
        }
    }

    /// Whoever the kernel has let in is let in: what is left in the queue of a listener is reset as that is closed.
    fn accept_the_rest(self: &Arc<Self>, listener: &std::net::TcpListener) {
        while let Ok(permit) = self.shared.connections.clone().try_acquire_owned()
            && let Ok((stream, peer)) = listener.accept()
        {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.take(stream, peer, permit);
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let worker = self.clone();
        self.clients.spawn(async move { worker.connection(stream, peer, permit).await });
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let Ok(permit) = self.shared.connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => self.take(stream, peer, permit),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let counters = &self.shared.counters;
        bump(&counters.connections);
        let _ = stream.set_nodelay(true);
        let config = &self.shared.config;
        let open = Open::begin(&self.shared, permit);
        let conn = ClientConn::new(stream, peer, config.trusted.contains(peer.ip()), open);
        let patience = Patience { head: config.head_timeout, idle: config.client_idle };
        let io = TokioIo::new(ClientIo::new(conn.clone(), patience));
        // Keeps a permit from its first request on.
        let asked = Arc::new(Notify::new());
        let service = {
            let (worker, conn, asked) = (self.clone(), conn.clone(), asked.clone());
            service_fn(move |request| {
                asked.notify_one();
                serve(worker.clone(), conn.clone(), request)
            })
        };
        let http =
            http1::Builder::new().half_close(true).max_buf_size(BUFFER).serve_connection(io, service).with_upgrades();
        tokio::pin!(http);

        let stopping = async {
            self.shared.stop.cancelled().await;
            // Whoever has only just come is about to ask, and its connection is not closed under its request.
            tokio::time::timeout(config.first_request, asked.notified()).await.ok();
        };
        tokio::pin!(stopping);
        let mut graceful = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut http => break Some(ended),
                () = poll_fn(|cx| conn.poll_aborted(cx)) => break None,
                () = &mut stopping, if !graceful => {
                    graceful = true;
                    http.as_mut().graceful_shutdown();
                }
            }
        };
        match ended {
            Some(Ok(())) => conn.drain().await,
            Some(Err(error)) => tracing::debug!(%error, %peer, "a connection of a client ended"),
            None => conn.show_break(false),
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
