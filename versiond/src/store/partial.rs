//! Bytes that have been received in part. They outlive an attempt, a mirror and a restart; what they are
//! worth only the hash of the whole says.
//!
//! ```text
//! store/.partial/<sha256>         the bytes
//! store/.partial/<sha256>.json    where from, and how many there will be
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::Digest;
use supervisor_protocol::Sha256;

use super::disk::{Disk, Output, gone};
use super::folder::Scratch;

pub(super) const FOLDER: &str = ".partial";

/// Where the bytes are received for one hash.
#[derive(Debug)]
pub(super) struct Partial {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    shared: Shared,
}

#[derive(Debug)]
enum Shared {
    /// Kept for another attempt. Locked, since two writers would mix their bytes.
    Kept(#[expect(dead_code, reason = "held for its lock")] File),
    /// Another supervisor on the same store receives the same: these are thrown away.
    Apart,
}

/// What is known of the bytes that are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Of the address, which may hold a signature.
    mirror: Sha256,
    /// An entity tag or a date, by which the mirror says whether it still has the same bytes.
    validator: Option<String>,
    pub(super) total: u64,
}

/// From where a fetch may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) from: u64,
    pub(super) total: u64,
    /// Only the mirror that gave it understands it.
    pub(super) validator: Option<String>,
}

impl Note {
    pub(super) fn new(url: &str, validator: Option<String>, total: u64) -> Note {
        Note { mirror: of(url), validator, total }
    }
}

impl Partial {
    pub(super) fn open(disk: Arc<dyn Disk>, store: &Path, sha256: Sha256, scratch: &Scratch) -> io::Result<Partial> {
        let folder = store.join(FOLDER);
        match disk.make_folder(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let path = folder.join(sha256.to_string());
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        Ok(match file.try_lock() {
            Ok(()) => Partial { disk, path, shared: Shared::Kept(file) },
            Err(_) => Partial { disk, path: scratch.archive(), shared: Shared::Apart },
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a fetch from this mirror may go on.
    pub(super) fn point(&self, url: &str) -> Option<Point> {
        let note: Note = match &self.shared {
            Shared::Kept(_) => serde_json::from_slice(&fs::read(note_of(&self.path)).ok()?).ok()?,
            Shared::Apart => return None,
        };
        let from = fs::metadata(&self.path).ok()?.len();
        let validator = note.validator.filter(|_| note.mirror == of(url));
        (from > 0 && from <= note.total).then_some(Point { from, total: note.total, validator })
    }

    /// Goes on behind the first `from` bytes.
    pub(super) fn receive(&self, from: u64, note: Option<&Note>) -> io::Result<Box<dyn Output>> {
        if let Shared::Kept(_) = &self.shared {
            let path = note_of(&self.path);
            match note {
                // A note that tears means another beginning, no more.
                Some(note) => self.disk.resume(&path, 0)?.write_all(&serde_json::to_vec(note)?)?,
                None => gone(self.disk.remove_file(&path))?,
            }
        }
        self.disk.resume(&self.path, from)
    }

    /// Forgets what is there. The file stays for its lock.
    pub(super) fn discard(&self) {
        self.disk.remove_file(&note_of(&self.path)).ok();
        self.disk.resume(&self.path, 0).ok();
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Nothing has come, or it has found its place.
        if fs::metadata(&self.path).map_or(true, |metadata| metadata.len() == 0) {
            self.disk.remove_file(&note_of(&self.path)).ok();
            self.disk.remove_file(&self.path).ok();
        }
    }
}

/// Bounds on what is kept of unfinished fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) age: Duration,
    pub(super) bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { age: Duration::from_secs(7 * 24 * 60 * 60), bytes: 4 << 30 }
    }
}

/// One that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remnant {
    pub(super) sha256: Sha256,
    pub(super) bytes: u64,
    pub(super) total: Option<u64>,
    pub(super) age: Duration,
}

/// Those that are to go: the old ones, and of the others the oldest beyond the bound. Pure.
pub(super) fn excess(mut remnants: Vec<Remnant>, bounds: Bounds) -> Vec<Sha256> {
    remnants.sort_by_key(|remnant| remnant.age);
    let mut bytes = 0u64;
    let mut is_excess = |remnant: &Remnant| {
        bytes = bytes.saturating_add(remnant.bytes);
        remnant.age > bounds.age || bytes > bounds.bytes
    };
    remnants.into_iter().filter(|remnant| is_excess(remnant)).map(|remnant| remnant.sha256).collect()
}

/// What is kept in a store.
pub(super) fn remnants(store: &Path) -> Vec<Remnant> {
    let items = fs::read_dir(store.join(FOLDER)).into_iter().flatten().filter_map(Result::ok);
    let remnant = |path: PathBuf| {
        let sha256 = path.file_name()?.to_str()?.parse().ok()?;
        let metadata = fs::metadata(&path).ok()?;
        let note: Option<Note> = fs::read(note_of(&path)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let total = note.map(|note| note.total);
        Some(Remnant { sha256, bytes: metadata.len(), total, age: super::age(&path)? })
    };
    items.filter_map(|item| remnant(item.path())).collect()
}

/// Removes what is beyond the bounds and not being received.
pub(super) fn prune(disk: &dyn Disk, store: &Path, bounds: Bounds) {
    for sha256 in excess(remnants(store), bounds) {
        let path = store.join(FOLDER).join(sha256.to_string());
        // Held until both are gone.
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            disk.remove_file(&note_of(&path)).ok();
            disk.remove_file(&path).ok();
        }
    }
}

fn note_of(path: &Path) -> PathBuf {
    path.with_extension("json")
}

fn of(url: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(url).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_unfinished_fetches_is_bounded_in_age_and_bytes() {
        let bounds = Bounds { age: Duration::from_secs(100), bytes: 10 };
        let remnant = |name: u8, bytes, age| Remnant {
            sha256: Sha256([name; 32]),
            bytes,
            total: None,
            age: Duration::from_secs(age),
        };
        let of = |remnants: &[Remnant]| -> Vec<u8> {
            excess(remnants.to_vec(), bounds).into_iter().map(|sha256| sha256.0[0]).collect()
        };
        assert!(of(&[]).is_empty());
        assert!(of(&[remnant(1, 5, 1), remnant(2, 5, 2)]).is_empty());
        assert_eq!(of(&[remnant(1, 5, 101), remnant(2, 5, 2)]), [1]);
        assert_eq!(of(&[remnant(1, 5, 3), remnant(2, 6, 2), remnant(3, 1, 1)]), [1]);
        assert_eq!(of(&[remnant(1, 11, 1), remnant(2, 1, 2)]), [1, 2]);
    }
}
