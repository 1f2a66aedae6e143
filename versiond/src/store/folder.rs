//! The folders of the store: made beside, committed by one rename, read back with suspicion.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::Digest;
use supervisor_protocol::Sha256;

use super::archive::{self, ExtractError, Extracted};
use super::disk::{Disk, gone};
use super::keep::DAY;
use super::{Installed, StoreError, Unusable};

pub(super) const ENTRY: &str = "entry";
pub(super) const RECORD: &str = "artifact.json";
pub(super) const SCRATCH: &str = ".tmp-";
const SCHEMA: u32 = 1;

/// `artifact.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    schema: u32,
    archive_sha256: Sha256,
    entry_sha256: Sha256,
    /// The archive's member; absent for a program that came as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<String>,
}

impl Record {
    pub(super) fn into_member(self) -> Option<String> {
        self.member
    }
}

/// A folder for one attempt; gone with its owner unless it was committed. As long as its owner lives it is
/// locked, so that another supervisor on the same store does not sweep it.
#[derive(Debug)]
pub(super) struct Scratch {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    pub(super) fn new(disk: Arc<dyn Disk>, store: &Path) -> Result<Self, StoreError> {
        loop {
            let path = store.join(format!("{SCRATCH}{:016x}", rand::random::<u64>()));
            let failed = |source| StoreError::disk(&path, source);
            disk.make_folder(&path).map_err(failed)?;
            let lock = match File::open(&path) {
                // Another supervisor has swept it between the two.
                Err(error) if error.kind() == io::ErrorKind::NotFound && store.is_dir() => continue,
                opened => opened.map_err(failed)?,
            };
            // Where folders cannot be locked a sweep goes by their age.
            lock.try_lock_shared().ok();
            if path.is_dir() {
                return Ok(Self { disk, path, _lock: lock });
            }
        }
    }

    /// Where the bytes are received that another supervisor receives too.
    pub(super) fn archive(&self) -> PathBuf {
        self.path.join("archive")
    }

    /// Where the program is unpacked.
    pub(super) fn entry(&self) -> PathBuf {
        self.path.join(ENTRY)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After a commit it is not there any more; what cannot be removed is swept at the next start.
        self.disk.remove_folder(&self.path).ok();
    }
}

/// Whether nobody alive has a scratch folder.
pub(super) fn is_abandoned(scratch: &Path) -> bool {
    match File::open(scratch).map(|folder| folder.try_lock()) {
        Ok(Ok(())) => true,
        Ok(Err(TryLockError::WouldBlock)) | Err(_) => false,
        Ok(Err(TryLockError::Error(_))) => super::age(scratch).is_some_and(|age| age > DAY),
    }
}

/// Unpacks the program of the verified `archive` into the scratch folder. Bytes that are the program themselves,
/// whose hash is `found`, are moved there.
pub(super) fn unpack(
    scratch: &Scratch,
    archive: &Path,
    found: Sha256,
    entry: Option<&str>,
    cap: u64,
) -> Result<Extracted, StoreError> {
    let read = |source| StoreError::disk(archive, source);
    let target = scratch.entry();
    let wrote = |source| StoreError::disk(&target, source);
    let file = File::open(archive).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    if archive::is_program(&file).map_err(read)? {
        if size > cap {
            return Err(Unusable::TooLargeUnpacked { cap }.into());
        }
        scratch.disk.rename(archive, &target).map_err(wrote)?;
        return Ok(Extracted { sha256: found, member: None, bytes: size });
    }
    let mut output = BufWriter::with_capacity(1 << 18, scratch.disk.create(&target).map_err(wrote)?);
    archive::extract(file, entry, &mut output, cap).map_err(|error| match error {
        ExtractError::Unusable(unusable) => unusable.into(),
        ExtractError::Read(source) => read(source),
        ExtractError::Write(source) => wrote(source),
    })
}

/// Puts an unpacked program in its place. Another supervisor may do the same at the same time: the place holds
/// one whole folder or the other whole folder at every moment.
pub(super) fn commit(
    scratch: Scratch,
    store: &Path,
    sha256: Sha256,
    unpacked: Extracted,
) -> Result<Installed, StoreError> {
    let place = store.join(sha256.to_string());
    let entry_sha256 = unpacked.sha256;
    let record = Record { schema: SCHEMA, archive_sha256: sha256, entry_sha256, member: unpacked.member };
    let disk = &scratch.disk;
    let work = || {
        disk.set_mode(&scratch.entry(), 0o555)?;
        disk.sync_file(&scratch.entry())?;
        gone(disk.remove_file(&scratch.archive()))?;
        let mut file = disk.create(&scratch.path.join(RECORD))?;
        file.write_all(&serde_json::to_vec_pretty(&record)?)?;
        file.sync()?;
        disk.sync_folder(&scratch.path)?;
        if disk.rename(&scratch.path, &place).is_err() {
            // Something stands there that was found not to be this artifact. It goes with the scratch folder.
            disk.exchange(&scratch.path, &place).or_else(|_| {
                gone(disk.remove_folder(&place))?;
                disk.rename(&scratch.path, &place)
            })?;
        }
        disk.sync_folder(store)
    };
    work().map_err(|source| StoreError::disk(&place, source))?;
    Ok(Installed { path: place.join(ENTRY), archive_sha256: sha256, entry_sha256 })
}

/// The record of a place, if it is one of this artifact.
pub(super) fn record(place: &Path, sha256: Sha256) -> io::Result<Option<Record>> {
    let record = match fs::read(place.join(RECORD)) {
        Ok(bytes) => serde_json::from_slice::<Record>(&bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(record.filter(|record| record.schema == SCHEMA && record.archive_sha256 == sha256))
}

/// What stands in a place of the store, if it is whole. A damaged folder counts as none, so that it is
/// fetched anew.
pub(super) fn installed(place: &Path, sha256: Sha256, asked: Option<&str>) -> Result<Option<Installed>, StoreError> {
    let found = record(place, sha256).map_err(|source| StoreError::disk(place, source))?;
    let Some(record) = found else { return Ok(None) };
    let path = place.join(ENTRY);
    if !hash_file(&path, u64::MAX).is_ok_and(|(found, _)| found == record.entry_sha256) {
        tracing::warn!(path = %path.display(), "the stored program is damaged; it is fetched again");
        return Ok(None);
    }
    match (record.member, asked) {
        (Some(installed), Some(asked)) if !archive::is_named(&installed, asked) => {
            Err(Unusable::OtherEntry { installed, asked: asked.to_owned() }.into())
        }
        (Some(_), _) | (None, _) => {
            Ok(Some(Installed { path, archive_sha256: sha256, entry_sha256: record.entry_sha256 }))
        }
    }
}

/// The hash of the first bytes of a file, and how many there were.
pub(super) fn hash_file(path: &Path, most: u64) -> io::Result<(Sha256, u64)> {
    let (hash, bytes) = begin_hash(path, most)?;
    Ok((Sha256(hash.finalize().into()), bytes))
}

/// The same, to be gone on with.
pub(super) fn begin_hash(path: &Path, most: u64) -> io::Result<(sha2::Sha256, u64)> {
    let mut file = File::open(path)?.take(most);
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hash, bytes)),
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// The bytes that a folder takes, itself not counted.
pub(super) fn size(place: &Path) -> u64 {
    let items = fs::read_dir(place).into_iter().flatten().filter_map(Result::ok);
    items.filter_map(|item| item.metadata().ok()).map(|metadata| metadata.size()).sum()
}
