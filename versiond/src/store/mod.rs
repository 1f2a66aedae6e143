//! The store: bytes on disk, named by their hash and never changed.
//!
//! ```text
//! store/<archive sha256>/entry            the program
//! store/<archive sha256>/artifact.json    what it is; its presence is the commit mark
//! store/.tmp-*/                           what is on its way; swept at start
//! ```
//!
//! A folder appears whole, by one rename of a folder whose files have been synced, or not at all. Must
//! not live here: when to fetch, and what is still needed.

mod archive;
mod error;
mod fetch;
mod folder;
mod memory;
mod pace;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use router_dataplane::Clock;
use supervisor_protocol::Sha256;
use tokio::sync::Semaphore;
use versiond_core::catalog::{Artifact, UrlRules};

use crate::catalog::http::Client;
use crate::faults::crash;
use crate::store::folder::Scratch;
use crate::store::memory::Memory;

pub use error::{StoreError, Unusable};
pub use pace::Pace;

/// How long a mirror may send nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// Fetches at once; more would only share the same line.
const AT_ONCE: usize = 2;

/// Bounds on what a catalog can make a host store, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub archive: u64,
    pub inflated: u64,
    /// How slow a mirror may be.
    pub pace: Pace,
}

impl Default for Limits {
    fn default() -> Self {
        Self { archive: 2 << 30, inflated: 2 << 30, pace: Pace::default() }
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
    verify: bool,
    limits: Limits,
    client: Client,
    at_once: Semaphore,
    /// One fetch per hash, whoever asks; an entry lives as long as somebody waits on it.
    busy: Mutex<BTreeMap<Sha256, Weak<tokio::sync::Mutex<()>>>>,
    memory: Mutex<Memory>,
    clock: Clock,
}

impl Store {
    /// Opens or makes a store and sweeps what an earlier run left unfinished. `verify` is true but in a
    /// build that breaks the guard on purpose.
    pub fn open(folder: &Path, verify: bool, rules: UrlRules) -> Result<Store, StoreError> {
        folder::sweep(folder).map_err(|source| StoreError::disk(folder, source))?;
        let client = Client::new(rules, SILENCE, None);
        let client = client.map_err(|source| StoreError::Client { source: Arc::new(source) })?;
        Ok(Store {
            folder: folder.to_owned(),
            verify,
            limits: Limits::default(),
            client,
            at_once: Semaphore::new(AT_ONCE),
            busy: Mutex::new(BTreeMap::new()),
            memory: Mutex::new(Memory::default()),
            clock: Clock::start(),
        })
    }

    /// The same store with other bounds.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Store {
        Store { limits, ..self }
    }

    /// The program of an artifact: at once when it is in the store, else fetched from the first mirror
    /// that has it. `entry` names the archive's member when the artifact does not. A fetch that has just
    /// failed is not repeated before its pause is over: the same error comes back without traffic.
    ///
    /// May be dropped at any point: what is unfinished goes with it.
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
        let remembered = self.memory.lock().recall(artifact, self.clock.now());
        if let Some(error) = remembered {
            return Err(error);
        }
        let fetched = self.fetch_and_install(artifact, entry, progress).await;
        let now = self.clock.now();
        match &fetched {
            Ok(_) => self.memory.lock().forget(artifact.sha256),
            Err(error) => self.memory.lock().remember(artifact, error, now),
        }
        fetched
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
        blocking(move || folder::installed(&place, sha256, entry.as_deref())).await
    }

    async fn fetch_and_install(
        &self,
        artifact: &Artifact,
        entry: Option<String>,
        progress: &Progress<'_>,
    ) -> Result<Installed, StoreError> {
        // The semaphore is never closed.
        let _turn = self.at_once.acquire().await.ok();
        let scratch = Scratch::new(&self.folder)?;
        let archive = fetch::fetch(&self.client, artifact, &scratch, self.limits, self.verify, progress).await?;
        let (folder, sha256, limit) = (self.folder.clone(), artifact.sha256, self.limits.inflated);
        blocking(move || {
            let unpacked = archive::unpack(&archive, entry.as_deref(), &scratch.entry(), limit)?;
            crash::before("store_commit");
            let installed = folder::commit(scratch, &folder, sha256, &unpacked);
            crash::after("store_commit");
            installed
        })
        .await
    }
}

/// Runs what waits for the disk beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(StoreError::disk(Path::new("the store"), io::Error::other(error))))
}
