//! `PROGRAM pre-upgrade`: what a chain's program does to its data before it is started for the first time by an
//! upgrade plan, once the program before it is gone.
//!
//! Exit 0 is done, 1 is "not implemented" and as good, 30 is a failure, 31 asks for another run. Any other
//! code is a failure too, and so is a signal: whoever goes on from there starts on data that nobody vouches
//! for. Must not live here: which bytes are in effect (that is the catalog's).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use supervisor_protocol::{ServiceName, Sha256, SlotId};
use tokio::sync::watch;
use versiond_core::slot::NotLaunched;

use crate::catalog::CatalogView;
use crate::config::CatalogConfig;
use crate::faults::crash;
use crate::process::oneshot::{self, OneshotError, random_nonce};
use crate::process::{LaunchSpec, Spawner};
use crate::supervisor::child::chain;

/// How long one run may take. Data of a whole chain may be rewritten; the node stands still meanwhile, by its
/// own plan.
const WITHIN: Duration = Duration::from_secs(60 * 60);

/// For the slots of a `cosmovisor:` source.
#[derive(Debug)]
pub(crate) struct PreUpgrade {
    view: watch::Receiver<CatalogView>,
    service: Option<ServiceName>,
    /// How often a run that asks for it is repeated.
    retries: u32,
    /// `<service>/<name>/<sha256>`: an empty file for each program that is done.
    done: PathBuf,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    Again,
    Failed,
}

/// Why the program may not be started.
#[derive(Debug, thiserror::Error)]
enum PreUpgradeError {
    #[error("pre-upgrade exited with code {0}")]
    Code(i32),
    #[error("pre-upgrade asked to be run again, {0} times in a row")]
    Again(u32),
    #[error("pre-upgrade")]
    Run(#[source] OneshotError),
    #[error("pre-upgrade: {path}")]
    Disk { path: PathBuf, source: io::Error },
}

impl PreUpgrade {
    pub(crate) fn new(view: watch::Receiver<CatalogView>, catalog: &CatalogConfig, state_dir: &Path) -> PreUpgrade {
        let (service, retries) = (catalog.service.clone(), catalog.cosmovisor.pre_upgrade_retries);
        PreUpgrade { view, service, retries, done: state_dir.join("pre-upgrade") }
    }

    /// Whether the programs of this slot come by plans.
    pub(super) fn is_for(&self, slot: &SlotId) -> bool {
        self.service.as_ref() == Some(&slot.service)
    }

    /// Runs it where these bytes are in effect by a plan and have not been through it. `launch` is how the
    /// program is started: its process is there already, holds the data directory and waits, and the ledger
    /// says that these bytes may have changed what is in it.
    pub(super) async fn before(
        &self,
        spawner: &Spawner,
        slot: &SlotId,
        sha256: Sha256,
        launch: LaunchSpec,
    ) -> Result<(), NotLaunched> {
        let mark = self.done.join(slot.service.as_str()).join(slot.name.as_str()).join(sha256.to_string());
        if !self.is_for(slot) || !self.is_planned(slot, sha256) || mark.exists() {
            return Ok(());
        }
        tracing::info!(%slot, %sha256, "pre-upgrade");
        crash::before("pre_upgrade");
        let ran = self.run(spawner, launch).await;
        crash::after("pre_upgrade");
        let noted = match ran {
            Ok(()) => self::mark(mark).await,
            Err(error) => Err(error),
        };
        noted.map_err(|error| NotLaunched::Failed(chain(&error)))
    }

    fn is_planned(&self, slot: &SlotId, sha256: Sha256) -> bool {
        let view = self.view.borrow();
        let intent = view.desired.slots.get(slot);
        intent.is_some_and(|intent| {
            let same = intent.artifact.as_ref().is_some_and(|artifact| artifact.sha256 == sha256);
            same && intent.since_height.is_some()
        })
    }

    async fn run(&self, spawner: &Spawner, launch: LaunchSpec) -> Result<(), PreUpgradeError> {
        let argv = launch.argv.iter().take(1).cloned().chain(["pre-upgrade".to_owned()]).collect();
        let spec = LaunchSpec { argv, lock_dir: None, ..launch };
        for _ in 0..=self.retries {
            // The end of one process must not be the end of the next.
            let nonce = random_nonce().map_err(|error| PreUpgradeError::Run(OneshotError::Nonce(error)))?;
            let spec = LaunchSpec { nonce, ..spec.clone() };
            let code = oneshot::finish(spawner, spec, WITHIN).await.map_err(PreUpgradeError::Run)?;
            match ended(code) {
                Ended::Done => return Ok(()),
                Ended::Again => tracing::warn!("pre-upgrade asks to be run again"),
                Ended::Failed => return Err(PreUpgradeError::Code(code)),
            }
        }
        Err(PreUpgradeError::Again(self.retries + 1))
    }
}

/// A mark that nobody knows to be written is none.
async fn mark(path: PathBuf) -> Result<(), PreUpgradeError> {
    crash::before("pre_upgrade_mark");
    let mark = path.clone();
    let noted = tokio::task::spawn_blocking(move || note(&mark)).await;
    crash::after("pre_upgrade_mark");
    noted.unwrap_or_else(|error| Err(PreUpgradeError::Disk { path, source: io::Error::other(error) }))
}

fn ended(code: i32) -> Ended {
    match code {
        0 | 1 => Ended::Done,
        31 => Ended::Again,
        _ => Ended::Failed,
    }
}

/// Durable before the program is started: it is not to go through it again.
fn note(mark: &Path) -> Result<(), PreUpgradeError> {
    let write = || {
        let folder = mark.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        fs::File::create(mark)?.sync_all()?;
        folder.ancestors().take(4).try_for_each(|folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(|source| PreUpgradeError::Disk { path: mark.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream takes every code but 1, 30 and 31 for success.
    #[test]
    fn only_done_and_not_implemented_let_the_program_start() {
        for (code, expected) in [
            (0, Ended::Done),
            (1, Ended::Done),
            (31, Ended::Again),
            (30, Ended::Failed),
            (2, Ended::Failed),
            (127, Ended::Failed),
            (255, Ended::Failed),
        ] {
            assert_eq!(ended(code), expected, "{code}");
        }
    }

    #[test]
    fn a_mark_is_there_once_it_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pre-upgrade/node/node/00ff");
        note(&mark).unwrap();
        note(&mark).unwrap();
        assert!(mark.is_file());
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(note(&folder.path().join("file/node/node/00ff")).is_err());
    }
}
