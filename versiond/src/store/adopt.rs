//! A program that is on this machine already, taken into a store by a copy.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use sha2::Digest;
use supervisor_protocol::Sha256;

use super::archive::Extracted;
use super::disk::{Disk, RealDisk};
use super::folder::{self, Scratch};
use super::{Installed, StoreError};

/// What has been installed elsewhere, and what its installer noted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere<'e> {
    pub program: &'e Path,
    /// The artifact's identity.
    pub archive_sha256: Sha256,
    pub entry_sha256: Sha256,
    /// The archive's member; `None` for a program that is the artifact itself.
    pub member: Option<&'e str>,
}

/// Whether there was anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    Copied,
    AlreadyThere,
}

/// Copies a program into the store in `folder`, which no daemon may have open. The copy is what is hashed.
/// Blocking.
///
/// # Errors
/// The program is not the one that was noted, or a side cannot be read or written.
pub fn adopt(folder: &Path, found: &Elsewhere<'_>) -> Result<Adopted, StoreError> {
    let failed = |source| StoreError::disk(folder, source);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let place = folder.join(found.archive_sha256.to_string());
    if let Some(Installed { entry_sha256, .. }) = folder::installed(&place, found.archive_sha256, None)? {
        return if entry_sha256 == found.entry_sha256 {
            Ok(Adopted::AlreadyThere)
        } else {
            Err(StoreError::HashMismatch { expected: entry_sha256, found: found.entry_sha256 })
        };
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let scratch = Scratch::new(disk.clone(), folder)?;
    let (sha256, bytes) = copy(&*disk, found.program, &scratch.entry())?;
    if sha256 != found.entry_sha256 {
        return Err(StoreError::HashMismatch { expected: found.entry_sha256, found: sha256 });
    }
    let extracted = Extracted { sha256, member: found.member.map(str::to_owned), bytes };
    folder::commit(scratch, folder, found.archive_sha256, extracted)?;
    Ok(Adopted::Copied)
}

fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(Sha256, u64), StoreError> {
    let unread = |source| StoreError::disk(from, source);
    let unwritten = |source: io::Error| StoreError::disk(to, source);
    let mut source = std::fs::File::open(from).map_err(unread)?;
    let mut target = disk.create(to).map_err(unwritten)?;
    let (mut hash, mut bytes, mut buffer) = (sha2::Sha256::new(), 0, vec![0u8; 1 << 18]);
    loop {
        match source.read(&mut buffer).map_err(unread)? {
            0 => return Ok((Sha256(hash.finalize().into()), bytes)),
            read => {
                hash.update(&buffer[..read]);
                target.write_all(&buffer[..read]).map_err(unwritten)?;
                bytes += read as u64;
            }
        }
    }
}

/// The hash of a file. Blocking.
///
/// # Errors
/// It cannot be read.
pub fn hash(path: &Path) -> io::Result<Sha256> {
    folder::hash_file(path, u64::MAX).map(|(sha256, _)| sha256)
}
