//! What the store does to the disk, one operation at a time, so that a test can cut the power between any
//! two. Reading goes past it: what is read is checked.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statvfs::statvfs;

/// A file that is being written.
pub(super) trait Output: Write + Send {
    /// Returns once what was written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// The operations. Only what was synchronised outlives a loss of power: a file's bytes by the file, its name
/// by its folder.
pub(super) trait Disk: Debug + Send + Sync {
    /// Makes a folder that only its owner may use.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that is not there yet.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Opens or makes a file, cuts it off at `from` and goes on there.
    fn resume(&self, path: &Path, from: u64) -> io::Result<Box<dyn Output>>;
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Refuses a folder that is there and not empty.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Each takes the other's place, at once.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Free bytes where `path` is.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// The disk itself.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Output for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for RealDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?))
    }

    fn resume(&self, path: &Path, from: u64) -> io::Result<Box<dyn Output>> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.set_len(from)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Box::new(file))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        Ok(renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let found = statvfs(path)?;
        Ok(found.blocks_available().saturating_mul(found.fragment_size()))
    }
}

/// Makes a file whole or not at all: written and synchronised under another name first.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = disk.resume(&fresh, 0)?;
    file.write_all(bytes)?;
    file.sync()?;
    disk.rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |folder| disk.sync_folder(folder))
}

/// Absent is as good as removed.
pub(super) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
