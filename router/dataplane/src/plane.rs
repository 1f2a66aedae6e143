//! The plane as its owner holds it: start, change, read, stop.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use supervisor_protocol::{Refusal, SlotId};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::client::{Door, TlsIdentity};
use crate::config::PlaneConfig;
use crate::counters::{Counters, PlaneCounters};
use crate::limits::Counted;
use crate::local::LocalEndpoints;
use crate::room::Room;
use crate::table::RouteTable;
use crate::waits::WaitCounts;
use crate::worker::Worker;

/// Why a plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a listening socket cannot be shared between workers")]
    Listener(#[source] std::io::Error),
    #[error("a worker cannot be started")]
    Worker(#[source] std::io::Error),
}

/// A listening socket, and how those who come are spoken to.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    /// Over TLS alone, when there is one; HTTP/2 or HTTP/1 is agreed on then (ALPN).
    pub tls: Option<TlsIdentity>,
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }
}

/// What the workers share.
pub(crate) struct Shared {
    pub(crate) config: PlaneConfig,
    pub(crate) table: ArcSwap<RouteTable>,
    pub(crate) local: Arc<dyn LocalEndpoints>,
    pub(crate) announce: watch::Sender<bool>,
    pub(crate) closed: ArcSwapOption<Refusal>,
    /// Told of every change of `table` and `closed`, after it.
    pub(crate) changed: Notify,
    pub(crate) counters: Counters,
    /// What waits, over all slots.
    pub(crate) room: Room,
    pub(crate) counted: Counted,
    pub(crate) connections: Arc<Semaphore>,
    /// No more is accepted; what is open may finish.
    pub(crate) stop: CancellationToken,
    /// What is still open is dropped.
    pub(crate) abort: CancellationToken,
}

/// A running forwarder. Dropped without [`Plane::shutdown`], it aborts.
pub struct Plane {
    shared: Arc<Shared>,
    workers: Mutex<Vec<(oneshot::Receiver<()>, JoinHandle<()>)>>,
}

impl Plane {
    /// Starts the workers. Each accepts from a duplicate of every listening socket. While the table is
    /// [`RouteTable::pending`], requests that are not the host's own wait for another one.
    pub fn start(
        config: PlaneConfig,
        listeners: Vec<Listener>,
        table: Arc<RouteTable>,
        local: Arc<dyn LocalEndpoints>,
    ) -> Result<Plane, StartError> {
        let workers = config.workers.max(1);
        let listeners: Vec<_> =
            listeners.into_iter().map(|Listener { socket, tls }| (socket, Arc::new(Door { tls }))).collect();
        let shared = Arc::new(Shared {
            connections: Arc::new(Semaphore::new(config.limits.connections.clamp(1, Semaphore::MAX_PERMITS))),
            config,
            table: ArcSwap::new(table),
            local,
            announce: watch::Sender::new(false),
            closed: ArcSwapOption::empty(),
            changed: Notify::new(),
            counters: Counters::default(),
            room: Room::default(),
            counted: Counted::default(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let plane = Plane { shared: shared.clone(), workers: Mutex::default() };
        for index in 0..workers {
            let own = listeners.iter().map(duplicate).collect::<Result<Vec<_>, _>>().map_err(StartError::Listener)?;
            plane.workers.lock().push(spawn(&shared, index, own).map_err(StartError::Worker)?);
        }
        Ok(plane)
    }

    /// Routes by another table from the next request on.
    pub fn replace_table(&self, table: Arc<RouteTable>) {
        self.shared.table.store(table);
        self.shared.changed.notify_waiters();
    }

    /// While on, every response over HTTP/1 says `Connection: close`, and idle connections stay open. Connections
    /// that speak HTTP/2 are told at once to begin nothing more.
    pub fn announce(&self, on: bool) {
        self.shared.announce.send_replace(on);
    }

    /// Every new request is refused with this from now on, and so is every one that waits for a slot. The
    /// host's own endpoints go on answering.
    pub fn close_admission(&self, refusal: Refusal) {
        self.shared.closed.store(Some(Arc::new(refusal)));
        self.shared.changed.notify_waiters();
        self.shared.table.load().wake_all();
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> PlaneCounters {
        PlaneCounters {
            inflight_now: self.shared.counted.inflight() as u64,
            ..self.shared.counters.read(self.shared.room.held())
        }
    }

    /// How the requests that waited for each slot of the table fared, since the slot was made.
    #[must_use]
    pub fn waits(&self) -> BTreeMap<SlotId, WaitCounts> {
        self.shared.table.load().waits()
    }

    /// What is still open is dropped now: a [`Plane::shutdown`] that is under way ends.
    pub fn abort(&self) {
        self.shared.abort.cancel();
    }

    /// Stops accepting, closes idle connections, lets the others finish, and aborts what is left at the
    /// deadline: what has not been sent by then is cut, be it a response that has begun or the end of one
    /// whose reader is slow. Needs a runtime with a timer.
    pub async fn shutdown(&self, deadline: Duration) {
        self.shared.stop.cancel();
        let abort = self.shared.abort.clone();
        let workers = std::mem::take(&mut *self.workers.lock());
        let mut ends = Vec::new();
        let mut threads = Vec::new();
        for (end, thread) in workers {
            ends.push(end);
            threads.push(thread);
        }
        let mut all = std::pin::pin!(async {
            for end in ends {
                // A worker that is gone has ended too.
                let _ = end.await;
            }
        });
        if tokio::time::timeout(deadline, &mut all).await.is_err() {
            abort.cancel();
            all.await;
        }
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.abort.cancel();
    }
}

fn duplicate((socket, door): &(TcpListener, Arc<Door>)) -> std::io::Result<(TcpListener, Arc<Door>)> {
    let own = socket.try_clone()?;
    own.set_nonblocking(true)?;
    Ok((own, door.clone()))
}

fn spawn(
    shared: &Arc<Shared>,
    index: usize,
    listeners: Vec<(TcpListener, Arc<Door>)>,
) -> std::io::Result<(oneshot::Receiver<()>, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let worker = Worker::new(shared.clone(), index);
    let (ended, end) = oneshot::channel();
    let thread = std::thread::Builder::new().name(format!("plane-{index}")).spawn(move || {
        runtime.block_on(worker.run(listeners));
        drop(runtime);
        let _ = ended.send(());
    })?;
    Ok((end, thread))
}
