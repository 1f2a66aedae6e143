//! One thread of the plane: it accepts, drives the connections of its clients and its own connections to
//! children.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

use crate::client::{self, Door};
use crate::counters::bump;
use crate::plane::Shared;
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
    pub(crate) async fn run(self: &Arc<Self>, listeners: Vec<(std::net::TcpListener, Arc<Door>)>) {
        let stop = &self.shared.stop;
        let accepting = TaskTracker::new();
        for (listener, door) in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let worker = self.clone();
                    accepting.spawn(async move {
                        tokio::select! {
                            () = worker.accept(&listener, &door) => {}
                            () = worker.shared.stop.cancelled() => {}
                        }
                        if let Ok(listener) = listener.into_std() {
                            worker.accept_the_rest(&listener, &door);
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
        let channel = Channel::open(target.dial(), &self.shared.config).await?;
        target.pool.share(self.index, &channel);
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
    fn accept_the_rest(self: &Arc<Self>, listener: &std::net::TcpListener, door: &Arc<Door>) {
        while let Ok(permit) = self.shared.connections.clone().try_acquire_owned()
            && let Ok((stream, peer)) = listener.accept()
        {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.take(stream, peer, permit, door);
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit, door: &Arc<Door>) {
        self.clients.spawn(client::run(self.clone(), stream, peer, permit, door.clone()));
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener, door: &Arc<Door>) {
        loop {
            let Ok(permit) = self.shared.connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => self.take(stream, peer, permit, door),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                }
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
