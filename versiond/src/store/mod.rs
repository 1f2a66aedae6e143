//! The store: bytes on disk, named by their hash and never changed.
//!
//! ```text
//! store/<archive sha256>/entry            the program
//! store/<archive sha256>/artifact.json    what it is; its presence is the commit mark
//! store/.tmp-*/                           what is on its way; swept when nobody has it any more
//! store/.partial/                         what has been received in part
//! store/.leases/                          which hashes are in use, and by how many supervisors
//! store/.memory.json                      what is known of bytes that are of no use
//! ```
//!
//! A folder appears whole, by one rename of a folder whose files have been synced, or not at all. Several
//! supervisors may share a store. Must not live here: when to fetch, and what is still needed.

mod adopt;
pub mod archive;
mod collect;
mod disk;
mod error;
mod fetch;
mod folder;
mod keep;
mod lease;
mod list;
mod memory;
mod pace;
mod partial;
mod transfer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use router_dataplane::Clock;
use supervisor_protocol::admin::GcReport;
use supervisor_protocol::{Sha256, Tick};
use tokio::sync::Semaphore;
use versiond_core::catalog::{Artifact, UrlRules};

use crate::catalog::http::Client;
use crate::faults::crash;
use crate::metrics::{Fetched, Fetches};
use crate::store::disk::{Disk, RealDisk};
use crate::store::fetch::Fetch;
use crate::store::folder::Scratch;
use crate::store::lease::Leases;
use crate::store::memory::{Failed, Memory};
use crate::store::partial::Partial;
use crate::store::transfer::{Stage, Transfers};

pub use adopt::{Adopted, Elsewhere, adopt, hash};
pub use collect::Mode;
pub use error::{StoreError, Unusable};
pub use keep::Uses;
pub use pace::Pace;

/// How long a mirror may send nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// Fetches at once; more would only share the same line.
const AT_ONCE: usize = 2;
const MEMORY: &str = ".memory.json";

/// Bounds on what a catalog can make a host store, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub archive: u64,
    pub inflated: u64,
    /// What a fetch leaves free on the disk, for those who serve.
    pub reserve: u64,
    /// How slow a mirror may be.
    pub pace: Pace,
}

impl Default for Limits {
    fn default() -> Self {
        Self { archive: 2 << 30, inflated: 2 << 30, reserve: 64 << 20, pace: Pace::default() }
    }
}

/// A program that is whole, verified and on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub path: PathBuf,
    /// The artifact's identity, which the catalog names.
    pub archive_sha256: Sha256,
    /// Of the program itself, to be checked again at every start.
    pub entry_sha256: Sha256,
}

/// Received bytes, and how many there will be when the mirror says so.
pub type Progress<'p> = dyn Fn(u64, Option<u64>) + Send + Sync + 'p;

/// The store of one host.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    verify: bool,
    limits: Limits,
    client: Client,
    fetches: Fetches,
    at_once: Semaphore,
    /// One fetch per hash, whoever asks; an entry lives as long as somebody waits on it.
    busy: Mutex<BTreeMap<Sha256, Weak<tokio::sync::Mutex<()>>>>,
    transfers: Transfers,
    leases: Arc<Leases>,
    memory: Arc<Mutex<Memory>>,
    /// Held while the memory is written.
    writing: Arc<Mutex<()>>,
    clock: Clock,
}

impl Store {
    /// Opens or makes a store and sweeps what an earlier run left unfinished. `verify` is true but in a
    /// build that breaks the guard on purpose.
    ///
    /// # Errors
    /// The folder cannot be made or read, or there is no HTTP client.
    pub fn open(folder: &Path, verify: bool, rules: UrlRules) -> Result<Store, StoreError> {
        let client = Client::new(rules, SILENCE, None);
        let client = client.map_err(|source| StoreError::Client { source: Arc::new(source) })?;
        Store::open_on(Arc::new(RealDisk), folder, verify, client)
    }

    fn open_on(disk: Arc<dyn Disk>, folder: &Path, verify: bool, client: Client) -> Result<Store, StoreError> {
        let swept = std::fs::create_dir_all(folder).and_then(|()| collect::sweep(&*disk, folder));
        swept.map_err(|source| StoreError::disk(folder, source))?;
        partial::prune(&*disk, folder, partial::Bounds::default());
        let clock = Clock::start();
        let kept = std::fs::read(folder.join(MEMORY)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let memory = kept.map(|kept| Memory::from_kept(kept, clock.now(), wall())).unwrap_or_default();
        Ok(Store {
            folder: folder.to_owned(),
            disk,
            verify,
            limits: Limits::default(),
            client,
            fetches: Fetches::default(),
            at_once: Semaphore::new(AT_ONCE),
            busy: Mutex::new(BTreeMap::new()),
            transfers: Transfers::default(),
            leases: Arc::new(Leases::new(folder)),
            memory: Arc::new(Mutex::new(memory)),
            writing: Arc::default(),
            clock,
        })
    }

    /// The same store with other bounds.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Store {
        Store { limits, ..self }
    }

    /// The same store, which counts its fetches here.
    #[must_use]
    pub(crate) fn counted_by(self, fetches: Fetches) -> Store {
        Store { fetches, ..self }
    }

    /// The program of an artifact: at once when it is in the store, else fetched from the first mirror
    /// that has it. `entry` names the archive's member when the artifact does not. A fetch that has just
    /// failed is not repeated before its pause is over: the same error comes back without traffic.
    ///
    /// May be dropped at any point: of what is unfinished, the next attempt takes up what has been received.
    ///
    /// # Errors
    /// No mirror has it, its bytes are of no use, or the disk does not take them.
    pub async fn ensure(
        &self,
        artifact: &Artifact,
        entry: Option<&str>,
        progress: &Progress<'_>,
    ) -> Result<Installed, StoreError> {
        let entry = artifact.entry.as_deref().or(entry).map(str::to_owned);
        let busy = self.busy(artifact.sha256);
        let _alone = busy.lock().await;
        if let Some(installed) = self.installed(artifact.sha256, entry.clone()).await? {
            return Ok(installed);
        }
        let (remembered, mirrors) = {
            let (memory, now) = (self.memory.lock(), self.clock.now());
            let mirrors = memory.mirrors(artifact, now);
            // Of a shorter list nothing may be left but mirrors whose bytes are known to be wrong.
            let only_bad = mirrors.is_empty().then(|| memory.last(artifact.sha256).map(|(error, _)| error.clone()));
            (memory.recall(artifact, now).map(|(error, _)| error).or(only_bad.flatten()), mirrors)
        };
        if let Some(error) = remembered {
            return Err(error);
        }
        match self.fetch_and_install(artifact, &mirrors, entry, progress).await {
            Ok(installed) => {
                self.forgive(artifact.sha256);
                Ok(installed)
            }
            Err(failed) => {
                let error = failed.error.clone();
                self.memory.lock().remember(artifact, failed, self.clock.now(), rand::random());
                self.write_memory();
                Err(error)
            }
        }
    }

    /// An artifact that has been installed, as it was; its bytes are checked when they are used.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn find(&self, sha256: Sha256) -> Result<Option<Artifact>, StoreError> {
        let place = self.folder.join(sha256.to_string());
        let (disk, leases, now) = (self.disk.clone(), self.leases.clone(), self.clock.now());
        blocking(move || {
            let record = folder::record(&place, sha256).map_err(|source| StoreError::disk(&place, source))?;
            Ok(record.map(|record| {
                leases.take(&*disk, sha256, now);
                let entry = record.into_member();
                Artifact { sha256, urls: Vec::new(), size: None, entry, irreversible: false }
            }))
        })
        .await
    }

    /// Forgets that a hash has failed: the next attempt is made at once.
    pub fn forgive(&self, sha256: Sha256) {
        if self.memory.lock().forget(sha256) {
            self.write_memory();
        }
    }

    /// How long an artifact that failed is not fetched again.
    #[must_use]
    pub fn pause(&self, sha256: Sha256) -> Option<Duration> {
        let now = self.clock.now();
        self.memory.lock().last(sha256).map(|(_, until)| until.since(now)).filter(|left| !left.is_zero())
    }

    /// A moment, for [`Store::collect`].
    #[must_use]
    pub fn now(&self) -> Tick {
        self.clock.now()
    }

    /// Removes what nothing needs. `uses` hold what every slot needs, looked up at `since` or later.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn collect(&self, uses: Uses, since: Tick, mode: Mode) -> Result<GcReport, StoreError> {
        let (disk, store, leases) = (self.disk.clone(), self.folder.clone(), self.leases.clone());
        blocking(move || collect::collect(&*disk, &store, &leases, &uses, since, mode)).await
    }

    fn busy(&self, sha256: Sha256) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock();
        busy.retain(|_, lock| lock.strong_count() > 0);
        busy.get(&sha256).and_then(Weak::upgrade).unwrap_or_else(|| {
            let lock = Arc::new(tokio::sync::Mutex::new(()));
            busy.insert(sha256, Arc::downgrade(&lock));
            lock
        })
    }

    async fn installed(&self, sha256: Sha256, entry: Option<String>) -> Result<Option<Installed>, StoreError> {
        let place = self.folder.join(sha256.to_string());
        let (disk, leases, now) = (self.disk.clone(), self.leases.clone(), self.clock.now());
        blocking(move || {
            leases.take(&*disk, sha256, now);
            folder::installed(&place, sha256, entry.as_deref())
        })
        .await
    }

    async fn fetch_and_install(
        &self,
        artifact: &Artifact,
        mirrors: &[&str],
        entry: Option<String>,
        progress: &Progress<'_>,
    ) -> Result<Installed, Failed> {
        let transfer = self.transfers.begin(artifact.sha256);
        // The semaphore is never closed.
        let _turn = self.at_once.acquire().await.ok();
        transfer.enter(Stage::Fetching);
        let begun = self.clock.now();
        let installed = self.fetch_in_turn(artifact, mirrors, entry, progress, &transfer).await;
        let fetched = installed.as_ref().map_or_else(|failed| failed.error.as_fetched(), |_| Fetched::Ok);
        self.fetches.ended(fetched, self.clock.now().since(begun));
        installed
    }

    async fn fetch_in_turn(
        &self,
        artifact: &Artifact,
        mirrors: &[&str],
        entry: Option<String>,
        progress: &Progress<'_>,
        transfer: &transfer::Place,
    ) -> Result<Installed, Failed> {
        let beside = |error| Failed { error, mirrors: Vec::new() };
        let sha256 = artifact.sha256;
        let (disk, store) = (self.disk.clone(), self.folder.clone());
        let prepared = blocking(move || prepare(disk, &store, sha256)).await;
        let (scratch, partial) = prepared.map_err(beside)?;
        let report = |received, total| {
            transfer.report(received, total);
            progress(received, total);
        };
        let fetch = Fetch {
            client: &self.client,
            disk: &self.disk,
            artifact,
            partial: &partial,
            limits: self.limits,
            verify: self.verify,
            progress: &report,
            fetches: &self.fetches,
        };
        let found = fetch.run(mirrors).await?;
        transfer.enter(Stage::Unpacking);
        let (store, cap) = (self.folder.clone(), self.limits.inflated);
        let installed = blocking(move || {
            let unpacked = folder::unpack(&scratch, partial.path(), found, entry.as_deref(), cap);
            // What cannot be written now may be later, without another fetch; what is of no use is not kept.
            if let Err(StoreError::Unusable(_)) = &unpacked {
                partial.discard();
            }
            crash::before("store_commit");
            let installed = folder::commit(scratch, &store, sha256, unpacked?)?;
            crash::after("store_commit");
            partial.discard();
            Ok(installed)
        });
        installed.await.map_err(beside)
    }

    /// Writes the memory beside whatever is going on; it is worth a fetch, and not a wait.
    fn write_memory(&self) {
        let (memory, writing, clock) = (self.memory.clone(), self.writing.clone(), self.clock);
        let (disk, path) = (self.disk.clone(), self.folder.join(MEMORY));
        tokio::task::spawn_blocking(move || {
            let _alone = writing.lock();
            let kept = memory.lock().keep(clock.now(), wall());
            let written = serde_json::to_vec(&kept).map_err(io::Error::from);
            if let Err(error) = written.and_then(|bytes| disk::replace(&*disk, &path, &bytes)) {
                tracing::warn!(path = %path.display(), %error, "what has failed is not remembered over a restart");
            }
        });
    }
}

/// Room for an attempt. The store may have been taken away since it was opened.
fn prepare(disk: Arc<dyn Disk>, store: &Path, sha256: Sha256) -> Result<(Scratch, Partial), StoreError> {
    match disk.make_folder(store) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(StoreError::disk(store, error)),
        Ok(()) | Err(_) => {}
    }
    let scratch = Scratch::new(disk.clone(), store)?;
    let partial = Partial::open(disk, store, sha256, &scratch);
    Ok((scratch, partial.map_err(|source| StoreError::disk(store, source))?))
}

/// Runs what waits for the disk beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(StoreError::disk(Path::new("the store"), io::Error::other(error))))
}

/// How long ago something was last changed. A date in the future is now.
fn age(path: &Path) -> Option<Duration> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    Some(modified.elapsed().unwrap_or_default())
}

/// The time of day, in milliseconds.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    supervisor_protocol::time::millis(since)
}
