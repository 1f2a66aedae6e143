//! Fetches what is to come, one artifact after the other, so that a height that is reached finds its
//! release in the store. It is started when it is in effect, and not by anything here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use supervisor_protocol::catalog::StagedState;
use supervisor_protocol::{ServiceName, Sha256};
use tokio::sync::watch;
use versiond_core::catalog::{Artifact, Staged};

use super::CatalogView;
use crate::config::chain;
use crate::store::Store;

/// Between two looks at what could not be fetched. The store has a pause of its own for each failure.
const RETRY: Duration = Duration::from_secs(30);

/// What has become of each artifact that is to come.
#[derive(Debug, Clone, Default)]
pub(crate) struct StagingStates(Arc<Mutex<BTreeMap<Sha256, StagedState>>>);

impl StagingStates {
    pub(super) fn of(&self, sha256: &Sha256) -> StagedState {
        self.0.lock().get(sha256).cloned().unwrap_or(StagedState::Waiting)
    }

    fn set(&self, sha256: Sha256, state: StagedState) {
        self.0.lock().insert(sha256, state);
    }

    fn keep(&self, wanted: &[(Staged, Option<String>)]) {
        self.0.lock().retain(|sha256, _| wanted.iter().any(|(staged, _)| staged.artifact.sha256 == *sha256));
    }
}

/// Runs until nobody follows the catalog any more. `entries` names the program in the archives of each service.
pub(crate) async fn stage(
    mut views: watch::Receiver<CatalogView>,
    store: Arc<Store>,
    entries: BTreeMap<ServiceName, Option<String>>,
    states: StagingStates,
) {
    loop {
        let wanted = to_come(&views.borrow_and_update(), &entries);
        states.keep(&wanted);
        let mut failed = false;
        for (Staged { artifact, .. }, entry) in wanted {
            let sha256 = artifact.sha256;
            let is_gone = |view: &CatalogView| {
                !view
                    .desired
                    .slots
                    .values()
                    .flat_map(|intent| &intent.staged)
                    .any(|staged| staged.artifact.sha256 == sha256)
            };
            let ensured = tokio::select! {
                ensured = store.ensure(&artifact, entry.as_deref(), &|_, _| {}) => Some(ensured),
                // What is not to come any more, or is in effect, is not this task's to fetch.
                gone = views.wait_for(is_gone) => { if gone.is_err() { return } None }
            };
            failed |= ensured.as_ref().is_some_and(Result::is_err);
            note(&states, &artifact, ensured);
        }
        let retry = async { if failed { tokio::time::sleep(RETRY).await } else { std::future::pending().await } };
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = retry => {}
        }
    }
}

fn note(
    states: &StagingStates,
    artifact: &Artifact,
    ensured: Option<Result<crate::store::Installed, crate::store::StoreError>>,
) {
    let sha256 = artifact.sha256;
    match ensured {
        None => {}
        Some(Ok(_)) => {
            if states.of(&sha256) != StagedState::Fetched {
                tracing::info!(%sha256, "a release to come is staged");
            }
            states.set(sha256, StagedState::Fetched);
        }
        Some(Err(error)) => {
            let detail = chain(&error);
            if !matches!(states.of(&sha256), StagedState::Failed { .. }) {
                tracing::warn!(%sha256, error = detail, "a release to come cannot be staged");
            }
            states.set(sha256, StagedState::Failed { detail });
        }
    }
}

/// What is to come, the next height first.
fn to_come(view: &CatalogView, entries: &BTreeMap<ServiceName, Option<String>>) -> Vec<(Staged, Option<String>)> {
    let slots = view.desired.slots.iter();
    let mut staged: Vec<(Staged, Option<String>)> = slots
        .flat_map(|(slot, intent)| {
            let entry = entries.get(&slot.service).cloned().flatten();
            intent.staged.iter().map(move |staged| (staged.clone(), entry.clone()))
        })
        .collect();
    staged.sort_by_key(|(staged, _)| staged.height);
    staged
}
