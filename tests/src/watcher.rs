//! Reads `/v1/status` over and over, and keeps every receipt that it ever showed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use supervisor_protocol::admin::{GenerationStatus, Phase, Receipt, SlotStatus, Status};

use crate::scenario::Slot;
use crate::supervisor::Supervisor;
use crate::world::World;

const EVERY: Duration = Duration::from_millis(250);

/// What versiond has said of itself.
#[derive(Debug, Default)]
pub struct Observed {
    status: Mutex<Option<Status>>,
    receipts: Mutex<BTreeMap<u64, Receipt>>,
}

impl Observed {
    /// Takes one answer.
    pub fn take(&self, status: Status) {
        let mut receipts = self.receipts.lock();
        for receipt in &status.receipts {
            receipts.insert(receipt.generation.0, receipt.clone());
        }
        *self.status.lock() = Some(status);
    }

    /// The last answer.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status.lock().clone()
    }

    /// Every receipt so far, in the order of generations.
    #[must_use]
    pub fn receipts(&self) -> Vec<Receipt> {
        self.receipts.lock().values().cloned().collect()
    }
}

/// Reads until the world stops. While versiond is away there is nothing to read.
pub async fn run(world: Arc<World>, supervisor: Arc<Supervisor>, observed: Arc<Observed>) {
    loop {
        tokio::select! {
            () = world.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Ok(status) = supervisor.status().await {
            observed.take(status);
        }
    }
}

/// What a status says of a slot.
#[must_use]
pub fn slot_of(status: &Status, slot: Slot) -> Option<&SlotStatus> {
    status.slots.iter().find(|one| one.slot.name.as_str() == slot.name())
}

/// The generation that serves a slot.
#[must_use]
pub fn serving(slot: &SlotStatus) -> Option<&GenerationStatus> {
    slot.generations.iter().find(|generation| generation.phase == Phase::Serving)
}

/// The generations of a slot that are on their way out.
pub fn leaving(slot: &SlotStatus) -> impl Iterator<Item = &GenerationStatus> {
    slot.generations.iter().filter(|generation| match generation.phase {
        Phase::Retired | Phase::Draining | Phase::Terminating | Phase::Killing => true,
        Phase::Fetching
        | Phase::Preflight
        | Phase::Starting
        | Phase::Warming
        | Phase::Ready
        | Phase::Serving
        | Phase::Parked
        | Phase::Exited
        | Phase::Failed => false,
    })
}
