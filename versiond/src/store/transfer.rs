//! What is on its way into the store, to be shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use supervisor_protocol::Sha256;

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Queued,
    Fetching,
    Unpacking,
}

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) stage: Stage,
    pub(super) received: u64,
    pub(super) total: Option<u64>,
}

/// All attempts that are under way.
#[derive(Debug, Default)]
pub(super) struct Transfers(Arc<Mutex<BTreeMap<Sha256, Transfer>>>);

/// An attempt's place among them, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Mutex<BTreeMap<Sha256, Transfer>>>,
    sha256: Sha256,
}

impl Transfers {
    /// There is one attempt for a hash at a time.
    pub(super) fn begin(&self, sha256: Sha256) -> Place {
        self.0.lock().insert(sha256, Transfer { stage: Stage::Queued, received: 0, total: None });
        Place { all: self.0.clone(), sha256 }
    }

    pub(super) fn all(&self) -> BTreeMap<Sha256, Transfer> {
        self.0.lock().clone()
    }
}

impl Place {
    pub(super) fn enter(&self, stage: Stage) {
        self.change(|transfer| transfer.stage = stage);
    }

    pub(super) fn report(&self, received: u64, total: Option<u64>) {
        self.change(|transfer| (transfer.received, transfer.total) = (received, total));
    }

    fn change(&self, change: impl FnOnce(&mut Transfer)) {
        if let Some(transfer) = self.all.lock().get_mut(&self.sha256) {
            change(transfer);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().remove(&self.sha256);
    }
}
