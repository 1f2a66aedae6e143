//! The child's life behind a lock, with a clock, and the leases that admitted work holds on it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use supervisor_protocol::contract::Describe;
use supervisor_protocol::time::millis;
use supervisor_protocol::{StreamClass, Tick};
use tokio::sync::watch;

use crate::book::LeaseId;
use crate::life::{Gate, Life, Refused};
use crate::settings::Identity;

/// More lines for `GET /metrics`, in the Prometheus text format.
pub(crate) type Metrics = Box<dyn Fn() -> String + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) describe: Describe,
    pub(crate) identity: Identity,
    pub(crate) metrics: Option<Metrics>,
    life: Mutex<Life>,
    began: Instant,
    /// Marked whenever the gate moves or the last lease ends.
    changed: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(describe: Describe, identity: Identity, metrics: Option<Metrics>, gate: Gate) -> Arc<Self> {
        let (life, changed) = (Mutex::new(Life::new(gate)), watch::Sender::new(()));
        Arc::new(Self { describe, identity, metrics, life, began: Instant::now(), changed })
    }

    pub(crate) fn now(&self) -> Tick {
        Tick(millis(self.began.elapsed()))
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Life) -> T) -> T {
        look(&self.life.lock())
    }

    /// Changes the life and wakes whoever waits for it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Life) -> T) -> T {
        let result = change(&mut self.life.lock());
        self.changed.send_replace(());
        result
    }

    pub(crate) fn admit(self: &Arc<Self>, last_resort: bool) -> Result<Lease, Refused> {
        let mut life = self.life.lock();
        // Under the lock, so that ticks grow with the identifiers of the book.
        let id = life.admit(self.now(), last_resort)?;
        Ok(Lease { id, shared: Arc::clone(self) })
    }

    pub(crate) fn owe(self: &Arc<Self>) -> Lease {
        let mut life = self.life.lock();
        let id = life.owe(self.now());
        Lease { id, shared: Arc::clone(self) }
    }

    pub(crate) fn refuse(&self, refused: Refused) {
        self.life.lock().refuse(refused);
    }

    /// Returns once `reached` holds.
    pub(crate) async fn wait(&self, mut reached: impl FnMut(&Life) -> bool) {
        let mut changed = self.changed.subscribe();
        // The sender lives as long as `self`, so that the wait cannot fail.
        while !self.read(&mut reached) && changed.changed().await.is_ok() {}
    }
}

/// One piece of admitted work. A drain waits until it is dropped.
#[must_use = "the work counts as ended when its lease is dropped"]
pub struct Lease {
    id: LeaseId,
    shared: Arc<Shared>,
}

impl Lease {
    /// Says what kind of work this is; its age stays.
    pub fn classify(&self, class: StreamClass) {
        self.shared.life.lock().classify(self.id, class);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut life = self.shared.life.lock();
        life.end(self.id);
        let last = life.inflight() == 0;
        drop(life);
        if last {
            self.shared.changed.send_replace(());
        }
    }
}
