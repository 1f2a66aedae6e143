//! The flight recorder of a slot: what its machine was told, to be read at any time, and in
//! `state_dir/flight/SERVICE/VERSION.jsonl` as of the last failure or way back.
//!
//! Must not live here: what a recording is (that is `versiond-core`).

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use supervisor_protocol::{SlotId, Tick};
use tokio_util::task::TaskTracker;
use versiond_core::replay::{Act, Recording};
use versiond_core::slot::{Slot, Step};

/// Shared by reference: the slot's actor writes it, the admin API reads it.
pub(crate) struct Flight {
    path: PathBuf,
    recording: Mutex<Recording>,
    /// A save has been ordered and has not begun, so that it will have everything up to its beginning.
    ordered: AtomicBool,
    /// Held by a save, so that an older one cannot replace a newer.
    saving: Mutex<()>,
}

impl Flight {
    pub(crate) fn new(state_dir: &Path, id: &SlotId, slot: &Slot) -> Arc<Flight> {
        let folder = state_dir.join("flight").join(id.service.as_str());
        Arc::new(Flight {
            path: folder.join(format!("{}.jsonl", id.name)),
            recording: Mutex::new(Recording::begin(id.clone(), slot)),
            ordered: AtomicBool::new(false),
            saving: Mutex::new(()),
        })
    }

    /// Adds what was done to the slot. When something has gone wrong by it, the recording is written by a thread of
    /// its own: a disk that hangs holds nobody up.
    pub(crate) fn note(self: &Arc<Self>, tail: &TaskTracker, act: Act, now: Tick, steps: &[Step], after: &Slot) {
        let is_worth_keeping = self.recording.lock().note(act, now, steps, after);
        if is_worth_keeping && !self.ordered.swap(true, Ordering::AcqRel) {
            let flight = self.clone();
            tail.spawn_blocking(move || flight.save());
        }
    }

    /// The recording as text.
    pub(crate) fn text(&self) -> String {
        // Put into words outside the lock, for which the actor would have to wait.
        let recording = self.recording.lock().clone();
        recording.text()
    }

    fn save(&self) {
        let _alone = self.saving.lock();
        self.ordered.store(false, Ordering::Release);
        if let Err(error) = write(&self.path, self.text().as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "the flight recording is not written");
        }
    }
}

/// Whole or not at all. It is of use after a failure of the slot and not needed after one of the host, so that it is
/// not synchronised.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let beside = path.with_extension("jsonl.tmp");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use supervisor_protocol::{Generation, ServiceName, Sha256, VersionName};
    use versiond_core::catalog::Artifact;
    use versiond_core::memory::Memory;
    use versiond_core::policy::Policy;
    use versiond_core::replay::replay;
    use versiond_core::slot::{Failed, Input, Want};
    use versiond_core::timings::Timings;

    use super::*;

    /// Tells a slot of a failure, as its actor does.
    async fn fail(state_dir: &Path) -> (Arc<Flight>, PathBuf) {
        let id = SlotId { service: ServiceName::new("demo").unwrap(), name: VersionName::new("v1.2").unwrap() };
        let mut slot = Slot::new(Timings::default(), Policy::default(), Memory::default());
        let (flight, tail) = (Flight::new(state_dir, &id, &slot), TaskTracker::new());
        let file = state_dir.join("flight/demo/v1.2.jsonl");
        let artifact =
            Artifact { sha256: Sha256([7; 32]), urls: Vec::new(), size: None, entry: None, irreversible: false };
        let failed = Failed::Fetch("no route".to_owned());
        for input in [Input::Want(Want::Serve(artifact)), Input::FetchFailed(Generation(1), failed)] {
            assert!(!file.exists(), "nothing has gone wrong yet");
            let steps = slot.handle(input.clone(), Generation(1), Tick(1));
            flight.note(&tail, Act::Input { next: Generation(1), input }, Tick(1), &steps, &slot);
        }
        tail.close();
        tail.wait().await;
        (flight, file)
    }

    #[tokio::test]
    async fn a_failure_leaves_a_recording_that_its_owner_alone_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let (flight, file) = fail(folder.path()).await;
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, flight.text());
        assert!(replay(&text).unwrap().is_same);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_recording_that_cannot_be_written_can_still_be_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("flight"), "not a folder").unwrap();
        let (flight, file) = fail(folder.path()).await;
        assert!(!file.exists());
        assert!(replay(&flight.text()).unwrap().is_same);
    }
}
