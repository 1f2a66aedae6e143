//! A data directory, copied beside its place and put there whole.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

/// What was taken over so far, so that a second run knows it again.
const RECORD: &str = "import-upstream.json";

/// Why a directory was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{}", path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("{} is neither a file, a folder nor a link", .0.display())]
    Kind(PathBuf),
    #[error("it has {needed} bytes, and {free} are free")]
    Room { needed: u64, free: u64 },
}

/// The directories that came from elsewhere: by its source, the number that the file system gave to the copy.
/// A directory that was made anew in its place has another.
#[derive(Debug, Default)]
pub(super) struct Imported {
    state_dir: PathBuf,
    directories: Directories,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Directories {
    directories: BTreeMap<PathBuf, u64>,
}

impl Imported {
    pub(super) fn read(state_dir: &Path) -> io::Result<Imported> {
        let directories = match fs::read(state_dir.join(RECORD)) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Directories::default(),
            Err(error) => return Err(error),
        };
        Ok(Imported { state_dir: state_dir.to_owned(), directories })
    }

    pub(super) fn is_from(&self, source: &Path, copy: &Path) -> bool {
        let number = fs::symlink_metadata(copy).map(|metadata| metadata.ino()).ok();
        number.is_some() && self.directories.directories.get(source).copied() == number
    }

    fn note(&mut self, source: &Path, number: u64) -> io::Result<()> {
        self.directories.directories.insert(source.to_owned(), number);
        let (path, fresh) = (self.state_dir.join(RECORD), self.state_dir.join(format!("{RECORD}.new")));
        fs::write(&fresh, serde_json::to_vec_pretty(&self.directories)?)?;
        File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(&self.state_dir)?.sync_all()
    }
}

/// Copies `from` to `to`, which is not there: whole or not at all, with owners, modes and links.
pub(super) fn folder(from: &Path, to: &Path, imported: &mut Imported) -> Result<(), CopyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CopyError::Disk { path, source }
    };
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(failed(parent))?;
    let needed = size(from)?;
    let free = statvfs(parent).map_err(|errno| CopyError::Disk { path: parent.to_owned(), source: errno.into() })?;
    let free = free.blocks_available().saturating_mul(free.fragment_size());
    if needed > free {
        return Err(CopyError::Room { needed, free });
    }
    let beside = parent.join(format!(".import-{}", to.file_name().unwrap_or_default().to_string_lossy()));
    // Of a run that was interrupted.
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&beside)(error)),
        Ok(()) | Err(_) => {}
    }
    tree(from, &beside)?;
    let number = fs::symlink_metadata(&beside).map_err(failed(&beside))?.ino();
    // Noted first: a crash between the two leaves a number that nothing has.
    imported.note(from, number).map_err(failed(&imported.state_dir))?;
    fs::rename(&beside, to).map_err(failed(to))?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed(parent))
}

fn tree(from: &Path, to: &Path) -> Result<(), CopyError> {
    let unread = |source| CopyError::Disk { path: from.to_owned(), source };
    let unwritten = |source| CopyError::Disk { path: to.to_owned(), source };
    let metadata = fs::symlink_metadata(from).map_err(unread)?;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from).map_err(unread)?, to).map_err(unwritten)?;
        return owned(lchown(to, Some(metadata.uid()), Some(metadata.gid()))).map_err(unwritten);
    }
    if kind.is_file() {
        fs::copy(from, to).map_err(unwritten)?;
    } else if kind.is_dir() {
        DirBuilder::new().mode(0o700).create(to).map_err(unwritten)?;
        for item in fs::read_dir(from).map_err(unread)? {
            let name = item.map_err(unread)?.file_name();
            tree(&from.join(&name), &to.join(&name))?;
        }
    } else if is_trace(&metadata) {
        return Ok(());
    } else {
        return Err(CopyError::Kind(from.to_owned()));
    }
    owned(chown(to, Some(metadata.uid()), Some(metadata.gid()))).map_err(unwritten)?;
    fs::set_permissions(to, metadata.permissions()).map_err(unwritten)?;
    let copy = File::open(to).map_err(unwritten)?;
    if let Ok(modified) = metadata.modified() {
        copy.set_modified(modified).map_err(unwritten)?;
    }
    copy.sync_all().map_err(unwritten)
}

/// A socket or a pipe: what a process that is gone has left.
fn is_trace(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_socket() || metadata.file_type().is_fifo()
}

/// Whoever is not root owns what he copies.
fn owned(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

fn size(from: &Path) -> Result<u64, CopyError> {
    let unread = |source| CopyError::Disk { path: from.to_owned(), source };
    let metadata = fs::symlink_metadata(from).map_err(unread)?;
    let mut bytes = metadata.len();
    if metadata.is_dir() {
        for item in fs::read_dir(from).map_err(unread)? {
            bytes += size(&item.map_err(unread)?.path())?;
        }
    }
    Ok(bytes)
}
