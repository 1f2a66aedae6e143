//! Folders between two users: given to a child's, taken back from it.
//!
//! versiond may be root without the power to pass over permissions, so what it has given away it must take back
//! before it can remove it. Whatever a child's user could change meanwhile is locked before it is looked at.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::Account;

/// That others, and the folder's own group, may pass through a folder.
const PASS: u32 = 0o011;

/// Makes a folder that nobody else may enter; it may be there already.
pub fn make(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Lets everyone pass through a folder of versiond's own, without seeing what is in it.
pub fn let_pass(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let mode = metadata.mode() & 0o7777;
    // The group's too: versiond keeps its own group while it is a child's user towards the file system.
    if mode & PASS != PASS { fs::set_permissions(path, fs::Permissions::from_mode(mode | PASS)) } else { Ok(()) }
}

/// Gives a file or a folder to the account, with all that is in it. Only for what nobody else could change yet.
pub fn give(path: &Path, account: &Account) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), account)?;
        }
    }
    lchown(path, Some(account.uid().as_raw()), Some(account.gid().as_raw()))
}

/// Gives a data directory to the account, unless it is its own already. What is in it is not looked at.
pub fn give_data(path: &Path, account: &Account) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid()) == (account.uid().as_raw(), account.gid().as_raw()) {
        return Ok(());
    }
    lchown(path, Some(account.uid().as_raw()), Some(account.gid().as_raw()))
}

/// A file that its owner alone may read, and nobody may change.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.write_all(bytes)
}

/// Removes a folder with all that is in it, whoever's it is by now.
pub fn remove(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    // From here on its former owner can put nothing else in the place of what is in it.
    if metadata.uid() != geteuid().as_raw() {
        lchown(path, Some(geteuid().as_raw()), Some(getegid().as_raw()))?;
    }
    if metadata.mode() & 0o777 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    for entry in fs::read_dir(path)? {
        remove(&entry?.path())?;
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_away_is_removed_and_what_it_points_to_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (home, outside) = (folder.path().join("home"), folder.path().join("outside"));
        make(&home).unwrap();
        make(&home.join("deep")).unwrap();
        fs::write(home.join("deep/file"), "x").unwrap();
        write_secret(&home.join("secret"), b"s").unwrap();
        assert_eq!(fs::metadata(home.join("secret")).unwrap().mode() & 0o777, 0o400);
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, home.join("deep/link")).unwrap();
        if geteuid().is_root() {
            give(&home, &Account::new(61_234.into(), 61_234.into(), [])).unwrap();
            assert_eq!(fs::metadata(home.join("deep/file")).unwrap().uid(), 61_234);
        }
        fs::set_permissions(home.join("deep"), fs::Permissions::from_mode(0o000)).unwrap();
        remove(&home).unwrap();
        assert!(!home.exists() && outside.join("kept").exists());
        remove(&home).unwrap();
    }
}
