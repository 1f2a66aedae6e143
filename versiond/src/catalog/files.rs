//! Local programs whose hash is their identity. A file that looks untouched is not read again.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::Digest;
use supervisor_protocol::Sha256;
use versiond_core::catalog::Local;

/// The files that were looked at.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: BTreeMap<Utf8PathBuf, (Stamp, Local)>,
}

/// What changes with a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    /// The file as it is now. Blocking.
    pub(super) fn look(&mut self, path: &Utf8Path) -> io::Result<Local> {
        let mut file = File::open(path)?;
        let before = Stamp::of(&file.metadata()?)?;
        if let Some((stamp, local)) = self.known.get(path)
            && *stamp == before
        {
            return Ok(local.clone());
        }
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        let after = Stamp::of(&std::fs::metadata(path)?)?;
        if after != before {
            return Err(io::Error::other("it changed while it was read"));
        }
        let local = Local { path: path.to_string(), sha256: Sha256(hash.finalize().into()), size: after.size };
        self.known.insert(path.to_owned(), (after, local.clone()));
        Ok(local)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> io::Result<Stamp> {
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(Stamp {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
