//! Locks that say which hashes this supervisor uses, for another one on the same store: it must not remove
//! them. The kernel gives a lock back with its holder.
//!
//! ```text
//! store/.leases/<sha256>    shared: in use; exclusive: being removed
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use supervisor_protocol::{Sha256, Tick};

use super::disk::{Disk, gone};

const FOLDER: &str = ".leases";

/// What this supervisor has in use.
#[derive(Debug)]
pub(super) struct Leases {
    folder: PathBuf,
    held: Mutex<BTreeMap<Sha256, Held>>,
}

#[derive(Debug)]
struct Held {
    /// `None` where the store cannot be written: then nobody can remove anything either.
    _lock: Option<File>,
    /// When it was last asked for.
    asked: Tick,
}

/// How a lock's file is opened. A file system over a network locks exclusively only what is open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shared,
    Exclusive,
}

/// The right to remove a hash.
#[derive(Debug)]
pub(super) struct Removal {
    path: PathBuf,
    _lock: File,
}

/// Why a hash may not be removed now.
#[derive(Debug)]
pub(super) enum InUse {
    /// By this supervisor, since the uses were looked up.
    Here,
    /// By another supervisor on the same store.
    Elsewhere,
    Unknown(io::Error),
}

impl Leases {
    pub(super) fn new(store: &Path) -> Leases {
        Leases { folder: store.join(FOLDER), held: Mutex::default() }
    }

    /// Notes that a hash is used from now on. Blocking: waits for a removal that is under way.
    pub(super) fn take(&self, disk: &dyn Disk, sha256: Sha256, now: Tick) {
        let mut held = self.held.lock();
        if let Some(held) = held.get_mut(&sha256) {
            held.asked = now;
            return;
        }
        let lock = self.lock(disk, sha256, Kind::Shared, File::lock_shared).inspect_err(|error| {
            tracing::debug!(%sha256, %error, "no lease: the store is not shared in writing");
        });
        held.insert(sha256, Held { _lock: lock.ok().map(|(_, file)| file), asked: now });
    }

    /// The right to remove a hash that has not been asked for since `since`. The own lease is given up.
    pub(super) fn remove(&self, disk: &dyn Disk, sha256: Sha256, since: Tick) -> Result<Removal, InUse> {
        let mut held = self.held.lock();
        if held.get(&sha256).is_some_and(|held| held.asked >= since) {
            return Err(InUse::Here);
        }
        held.remove(&sha256);
        let lock = |file: &File| match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        };
        match self.lock(disk, sha256, Kind::Exclusive, lock) {
            Ok((path, file)) => Ok(Removal { path, _lock: file }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(InUse::Elsewhere),
            Err(error) => Err(InUse::Unknown(error)),
        }
    }

    fn lock(
        &self,
        disk: &dyn Disk,
        sha256: Sha256,
        kind: Kind,
        lock: impl Fn(&File) -> io::Result<()>,
    ) -> io::Result<(PathBuf, File)> {
        let path = self.folder.join(sha256.to_string());
        loop {
            match disk.make_folder(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
            let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            // Nothing stays open for writing, which would keep an operator from mounting the store read-only.
            let file = match kind {
                Kind::Shared => match File::open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    opened => opened?,
                },
                Kind::Exclusive => made,
            };
            lock(&file)?;
            // A removal takes the file along: then the lock is on one that nobody else will find.
            match fs::metadata(&path) {
                Ok(there) if there.ino() == file.metadata()?.ino() => return Ok((path, file)),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Removal {
    /// Takes the lock's file along.
    pub(super) fn done(self, disk: &dyn Disk) -> io::Result<()> {
        gone(disk.remove_file(&self.path))
    }
}
