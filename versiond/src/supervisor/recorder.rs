//! The one writer of the ledger: every durable step is recorded before it is taken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use supervisor_protocol::{Generation, Sha256, SlotId};
use tokio::sync::Mutex;
use versiond_core::memory::Memory;

use crate::faults::crash;
use crate::ledger::{Ledger, LedgerError, LedgerGeneration, LedgerState};

/// The ledger behind a lock, written off the runtime's threads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    inner: Arc<Mutex<Inner>>,
    failures: Arc<AtomicU64>,
}

struct Inner {
    /// Lent to the blocking thread while it writes.
    ledger: Option<Ledger>,
    state: LedgerState,
}

/// Why something was not recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the ledger could not be written")]
    Ledger(#[source] LedgerError),
    #[error("an earlier write of the ledger did not come back")]
    Lost,
}

impl Recorder {
    pub(crate) fn new(ledger: Ledger, state: LedgerState) -> Recorder {
        Recorder { inner: Arc::new(Mutex::new(Inner { ledger: Some(ledger), state })), failures: Arc::default() }
    }

    /// Applies a change and returns once it is on the disk. A change that could not be written is not
    /// applied in memory either.
    pub(crate) async fn record(&self, change: impl FnOnce(&mut LedgerState)) -> Result<(), RecordError> {
        let mut inner = self.inner.clone().lock_owned().await;
        let mut state = inner.state.clone();
        change(&mut state);
        if state == inner.state {
            return Ok(());
        }
        // The write goes on when the caller is cancelled, and takes the lock with it until it is done.
        let written = tokio::task::spawn_blocking(move || {
            let Some(mut ledger) = inner.ledger.take() else { return Err(RecordError::Lost) };
            crash::before("ledger_write");
            let result = ledger.write(&state).map_err(RecordError::Ledger);
            crash::after("ledger_write");
            inner.ledger = Some(ledger);
            if result.is_ok() {
                inner.state = state;
            }
            result
        });
        let written = written.await.unwrap_or(Err(RecordError::Lost));
        if written.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    /// Writes that have failed since the start.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Makes sure that a generation's number is never given out again.
    pub(crate) async fn claim(&self, generation: Generation) -> Result<(), RecordError> {
        self.record(|state| state.next_generation = state.next_generation.max(generation.0 + 1)).await
    }

    /// Notes a generation before its process runs anything.
    pub(crate) async fn begins(&self, entry: LedgerGeneration) -> Result<(), RecordError> {
        self.record(|state| state.generations.push(entry)).await
    }

    /// Notes what a slot must not forget.
    pub(crate) async fn remember(&self, slot: &SlotId, memory: Memory) -> Result<(), RecordError> {
        self.record(|state| state.remember(slot, memory)).await
    }

    /// Strikes off what slots that are no more have remembered.
    pub(crate) async fn keep_slots(&self, keep: impl Fn(&SlotId) -> bool) -> Result<(), RecordError> {
        self.record(|state| state.slots.retain(|known| keep(&known.slot))).await
    }

    /// Notes whether an operator lets these bytes run. Gives back everything that none does.
    pub(crate) async fn deny(&self, sha256: Sha256, denied: bool) -> Result<BTreeSet<Sha256>, RecordError> {
        self.record(|state| {
            if denied {
                state.denied.insert(sha256);
            } else {
                state.denied.remove(&sha256);
            }
        })
        .await?;
        Ok(self.inner.lock().await.state.denied.clone())
    }

    /// What an operator does not let run here.
    pub(crate) async fn denied(&self) -> Vec<Sha256> {
        self.inner.lock().await.state.denied.iter().copied().collect()
    }

    /// Strikes a generation off.
    pub(crate) async fn forget(&self, generation: Generation) -> Result<(), RecordError> {
        self.record(|state| state.generations.retain(|entry| entry.generation != generation)).await
    }
}
