//! What a slot's requests meet: a target, or its absence.
//!
//! Must not live here: the order of those who wait (that is `queue`), or the bounds of waiting (`room`).

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use router_core::leases::History;
use supervisor_protocol::{Refusal, Tick};

use crate::queue::{Place, Queue};
use crate::room::{Held, Room};
use crate::target::Target;
use crate::waits::{WaitCounts, Waits};

/// Why nothing serves a slot, and what its requests meet meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Approved, but nothing serves now: requests wait within the hold bounds. Where the forecast lies
    /// beyond them they are refused at once, with a `Retry-After`.
    Hold {
        /// When something is expected to serve, on the plane's clock.
        forecast: Option<Tick>,
    },
    /// Requests are refused.
    Refuse { refusal: Refusal, retry_after_s: Option<u32> },
}

/// The route of one slot. Readers never wait for a writer.
pub struct SlotRoute {
    state: ArcSwap<SlotState>,
    history: Mutex<History>,
    queue: Arc<Queue>,
    pub(crate) room: Room,
    pub(crate) waits: Waits,
}

#[derive(Debug)]
pub(crate) enum SlotState {
    Serving(Arc<Target>),
    Absent(Absence),
}

impl SlotRoute {
    /// A slot that nothing serves yet.
    #[must_use]
    pub fn new(absence: Absence) -> Arc<Self> {
        Arc::new(Self {
            state: ArcSwap::from_pointee(SlotState::Absent(absence)),
            history: Mutex::default(),
            queue: Arc::default(),
            room: Room::default(),
            waits: Waits::default(),
        })
    }

    /// Makes `target` the one that serves, at once and for every worker, and gives back the one that did.
    /// The caller retires that one afterwards, never before. Those who wait are let in one after another.
    ///
    /// A target that was withdrawn may come back: [`Target::restore`] it first.
    pub fn publish(&self, target: Arc<Target>) -> Option<Arc<Target>> {
        if let Some(current) = self.current() {
            *self.history.lock() = current.history();
        }
        target.inherit(&self.history.lock());
        let before = self.state.swap(Arc::new(SlotState::Serving(target)));
        self.queue.release();
        serving(&before)
    }

    /// The one that serves.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Target>> {
        serving(&self.state.load())
    }

    /// Nothing serves from now on. Also changes one absence into another.
    pub fn withdraw(&self, absence: Absence) -> Option<Arc<Target>> {
        let before = self.state.swap(Arc::new(SlotState::Absent(absence)));
        let target = serving(&before);
        if let Some(target) = &target {
            *self.history.lock() = target.history();
        }
        self.queue.call_all();
        target
    }

    /// How many requests wait for this slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// What waits for this slot, and how long anything ever has.
    #[must_use]
    pub fn held(&self) -> Held {
        self.room.held()
    }

    /// How all that has ever waited for this slot fared.
    #[must_use]
    pub fn waits(&self) -> WaitCounts {
        self.waits.read()
    }

    pub(crate) fn state(&self) -> arc_swap::Guard<Arc<SlotState>> {
        self.state.load()
    }

    /// Takes a place at the end of the queue.
    pub(crate) fn enqueue(&self) -> Place {
        Queue::enqueue(&self.queue)
    }

    /// Lets all who wait look at the slot again.
    pub(crate) fn call_all(&self) {
        self.queue.call_all();
    }
}

impl fmt::Debug for SlotRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotRoute").field("state", &**self.state.load()).finish_non_exhaustive()
    }
}

fn serving(state: &SlotState) -> Option<Arc<Target>> {
    match state {
        SlotState::Serving(target) => Some(target.clone()),
        SlotState::Absent(_) => None,
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
