//! Credentials: files that one generation's user alone may read, under `CREDENTIALS_DIRECTORY`, as systemd gives
//! them. They are read anew for each start, so that a secret that was changed is used from the next start on.
//!
//! Nothing here says what is in one: an error names the credential and the path it comes from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::NotKept;
use crate::config::CredentialSource;
use crate::process::{Account, folders};

/// What a credential has at most, in bytes: as with systemd.
const LARGEST: u64 = 1 << 20;
/// Not in the header of every C library: the other file system that is memory.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// Writes the credentials of one generation into a new folder and gives that to the account.
pub(super) fn write(
    secrets: &Path,
    folder: &Path,
    credentials: &BTreeMap<String, CredentialSource>,
    account: &Account,
) -> Result<(), NotKept> {
    let failed = |path: &Path| {
        let what = path.display().to_string();
        move |source| NotKept::Failed { what, source }
    };
    std::fs::create_dir_all(secrets).map_err(failed(secrets))?;
    for passed in secrets.parent().into_iter().chain([secrets]) {
        folders::let_pass(passed).map_err(failed(passed))?;
    }
    folders::make(folder).map_err(failed(folder))?;
    for (name, from) in credentials {
        let refused = |source| NotKept::Failed { what: format!("the credential {name}, from {from}"), source };
        let bytes = read(from).map_err(refused)?;
        folders::write_secret(&folder.join(name), &bytes).map_err(refused)?;
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o500)).map_err(failed(folder))?;
    folders::give(folder, account).map_err(failed(folder))
}

fn read(from: &CredentialSource) -> io::Result<Vec<u8>> {
    let path = match from {
        CredentialSource::File(path) => path.clone().into_std_path_buf(),
        CredentialSource::Systemd(name) => {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
            let folder = folder.ok_or_else(|| io::Error::other("systemd has loaded no credentials for versiond"))?;
            PathBuf::from(folder).join(name)
        }
    };
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {LARGEST} bytes")));
    }
    Ok(bytes)
}

/// Whether the nearest folder of the path that exists is kept in memory.
pub(super) fn in_memory(path: &Path) -> bool {
    let kind = path.ancestors().find_map(|folder| statfs(folder).ok()).map(|found| found.filesystem_type());
    kind.is_some_and(|kind| kind == TMPFS_MAGIC || kind.0 == RAMFS_MAGIC)
}
