//! The store as an operator sees it: what is there, on its way, received in part, or could not be had.

use std::collections::{BTreeMap, BTreeSet};

use supervisor_protocol::admin::{ArtifactState, ArtifactStatus};
use supervisor_protocol::time::millis;
use supervisor_protocol::{Reason, Sha256, Tick};

use super::keep::{Uses, Wholeness};
use super::transfer::Stage;
use super::{Store, StoreError, blocking, collect, partial};
use crate::supervisor::chain;

impl Store {
    /// Every artifact that is known of, with what it is used for.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(&self, uses: &Uses) -> Result<Vec<ArtifactStatus>, StoreError> {
        let store = self.folder.clone();
        let (found, remnants) = blocking(move || {
            let found = collect::look(&store).map_err(|source| StoreError::disk(&store, source))?;
            Ok((found, partial::remnants(&store)))
        })
        .await?;
        let found: BTreeMap<Sha256, _> = found.into_iter().map(|folder| (folder.sha256, folder)).collect();
        let remnants: BTreeMap<Sha256, _> = remnants.into_iter().map(|remnant| (remnant.sha256, remnant)).collect();
        let transfers = self.transfers.all();
        let (memory, now) = (self.memory.lock(), self.clock.now());
        let mut all: BTreeSet<Sha256> = found.keys().chain(remnants.keys()).chain(transfers.keys()).copied().collect();
        all.extend(uses.keys().copied().chain(memory.hashes()));
        let status = |sha256: Sha256| {
            let (folder, remnant, transfer) = (found.get(&sha256), remnants.get(&sha256), transfers.get(&sha256));
            let failure = memory.last(sha256);
            let state = match (folder.map(|folder| folder.wholeness), transfer, remnant) {
                (_, Some(transfer), _) => match transfer.stage {
                    Stage::Queued => ArtifactState::Queued,
                    Stage::Fetching => ArtifactState::Fetching,
                    Stage::Unpacking => ArtifactState::Unpacking,
                },
                (Some(Wholeness::Whole), None, _) => ArtifactState::Installed,
                (_, None, _) if failure.is_some() => ArtifactState::Failed,
                (_, None, Some(_)) => ArtifactState::Partial,
                (Some(Wholeness::Incomplete), None, None) => ArtifactState::Incomplete,
                (None, None, None) => ArtifactState::Absent,
            };
            let received = transfer.map(|transfer| transfer.received).or(remnant.map(|remnant| remnant.bytes));
            let total = transfer.map_or(remnant.and_then(|remnant| remnant.total), |transfer| transfer.total);
            ArtifactStatus {
                sha256,
                state,
                size: folder.map_or(0, |folder| folder.bytes),
                received,
                total,
                used: uses.get(&sha256).into_iter().flatten().cloned().collect(),
                reason: failure.map(|(error, until)| reason(sha256, error, until, now)),
            }
        };
        Ok(all.into_iter().map(status).collect())
    }
}

/// The reason that stands for an error.
fn reason(sha256: Sha256, error: &StoreError, until: Tick, now: Tick) -> Reason {
    let (sha256, retry_in_ms) = (sha256.to_string(), millis(until.since(now)));
    match error {
        StoreError::HashMismatch { found, .. } => {
            Reason::HashMismatch { expected: sha256, found: found.to_string(), retry_in_ms }
        }
        StoreError::Unusable(_) => Reason::ArtifactRefused { sha256, detail: chain(error), retry_in_ms },
        StoreError::Disk { .. } | StoreError::Client { .. } | StoreError::Fetch { .. } => {
            Reason::FetchFailed { sha256, detail: chain(error), retry_in_ms }
        }
    }
}
