//! The one writer of the ledger: every durable step is recorded before it is taken.

use std::sync::Arc;

use supervisor_protocol::Generation;
use tokio::sync::Mutex;

use crate::faults::crash;
use crate::ledger::{LastGood, Ledger, LedgerError, LedgerGeneration, LedgerState};

/// The ledger behind a lock, written off the runtime's threads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    inner: Arc<Mutex<Inner>>,
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
        Recorder { inner: Arc::new(Mutex::new(Inner { ledger: Some(ledger), state })) }
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
        written.await.unwrap_or(Err(RecordError::Lost))
    }

    /// Makes sure that a generation's number is never given out again.
    pub(crate) async fn claim(&self, generation: Generation) -> Result<(), RecordError> {
        self.record(|state| state.next_generation = state.next_generation.max(generation.0 + 1)).await
    }

    /// Notes a generation before its process runs anything. With state of its own it may migrate the slot's
    /// data: whatever served from them before must not come back to them.
    pub(crate) async fn begins(&self, entry: LedgerGeneration, local: bool) -> Result<(), RecordError> {
        self.record(|state| {
            if local {
                state.last_good.retain(|good| good.slot != entry.slot || good.artifact.sha256 == entry.sha256);
            }
            state.generations.push(entry);
        })
        .await
    }

    /// Notes what serves in a slot now.
    pub(crate) async fn serves(&self, good: LastGood) -> Result<(), RecordError> {
        self.record(|state| {
            state.last_good.retain(|entry| entry.slot != good.slot);
            state.last_good.push(good);
        })
        .await
    }

    /// Strikes off what served in slots that are no more, or may not serve again.
    pub(crate) async fn keep_good(&self, keep: impl Fn(&LastGood) -> bool) -> Result<(), RecordError> {
        self.record(|state| state.last_good.retain(keep)).await
    }

    /// Strikes a generation off.
    pub(crate) async fn forget(&self, generation: Generation) -> Result<(), RecordError> {
        self.record(|state| state.generations.retain(|entry| entry.generation != generation)).await
    }
}
