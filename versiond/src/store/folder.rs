//! The folders of the store: made beside, committed by one rename, read back with suspicion.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest;
use supervisor_protocol::Sha256;

use super::archive::Unpacked;
use super::{Installed, StoreError, Unusable};

const ENTRY: &str = "entry";
const RECORD: &str = "artifact.json";
const SCRATCH: &str = ".tmp-";
const SCHEMA: u32 = 1;

/// `artifact.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: u32,
    archive_sha256: Sha256,
    entry_sha256: Sha256,
    /// The archive's member; absent for a program that came as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<String>,
}

/// A folder for one attempt; gone with its owner unless it was committed.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(super) fn new(store: &Path) -> Result<Self, StoreError> {
        let path = store.join(format!("{SCRATCH}{:016x}", rand::random::<u64>()));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|source| StoreError::disk(&path, source))?;
        Ok(Self { path })
    }

    /// Where the bytes are received.
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
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Makes the store and removes what an earlier run left unfinished.
pub(super) fn sweep(store: &Path) -> io::Result<()> {
    fs::create_dir_all(store)?;
    for item in fs::read_dir(store)? {
        let item = item?;
        if item.file_name().to_string_lossy().starts_with(SCRATCH) {
            fs::remove_dir_all(item.path())?;
        }
    }
    Ok(())
}

/// Puts an unpacked program in its place.
pub(super) fn commit(
    scratch: Scratch,
    store: &Path,
    sha256: Sha256,
    unpacked: &Unpacked,
) -> Result<Installed, StoreError> {
    let place = store.join(sha256.to_string());
    let entry_sha256 = unpacked.sha256;
    let record = Record { schema: SCHEMA, archive_sha256: sha256, entry_sha256, member: unpacked.member.clone() };
    let work = || {
        fs::set_permissions(scratch.entry(), fs::Permissions::from_mode(0o555))?;
        File::open(scratch.entry())?.sync_all()?;
        match fs::remove_file(scratch.archive()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = File::create_new(scratch.path.join(RECORD))?;
        file.write_all(&serde_json::to_vec_pretty(&record)?)?;
        file.sync_all()?;
        File::open(&scratch.path)?.sync_all()?;
        // Whatever stands there was found not to be this artifact.
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(&scratch.path, &place)?;
        File::open(store)?.sync_all()
    };
    work().map_err(|source| StoreError::disk(&place, source))?;
    Ok(Installed { path: place.join(ENTRY), archive_sha256: sha256, entry_sha256 })
}

/// What stands in a place of the store, if it is whole. A damaged folder counts as none, so that it is
/// fetched anew.
pub(super) fn installed(place: &Path, sha256: Sha256, asked: Option<&str>) -> Result<Option<Installed>, StoreError> {
    let record = match fs::read(place.join(RECORD)) {
        Ok(bytes) => serde_json::from_slice::<Record>(&bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::disk(place, source)),
    };
    let Some(record) = record.filter(|record| record.schema == SCHEMA && record.archive_sha256 == sha256) else {
        return Ok(None);
    };
    let path = place.join(ENTRY);
    if !hash_file(&path).is_ok_and(|found| found == record.entry_sha256) {
        tracing::warn!(path = %path.display(), "the stored program is damaged; it is fetched again");
        return Ok(None);
    }
    match (record.member, asked) {
        (Some(installed), Some(asked)) if !super::archive::is_named(&installed, asked) => {
            Err(Unusable::OtherEntry { installed, asked: asked.to_owned() }.into())
        }
        (Some(_), _) | (None, _) => {
            Ok(Some(Installed { path, archive_sha256: sha256, entry_sha256: record.entry_sha256 }))
        }
    }
}

fn hash_file(path: &Path) -> io::Result<Sha256> {
    let mut file = File::open(path)?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}
