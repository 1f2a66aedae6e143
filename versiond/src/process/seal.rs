//! Bytes that nobody can change between the check and the execution.
//!
//! An ELF file is copied into an anonymous memory file, sealed against every change, hashed *there*
//! and executed from there; what later happens to the path is of no consequence. One that is too large for
//! that is executed from the store's own file, kept open, and hashed again before every execution. Lives
//! here: the copy, the seals and the hash. Must not live here: where the expected hash comes from.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use sha2::Digest as _;
use supervisor_protocol::Sha256;

/// The largest program that is held in memory, in bytes.
pub const MAX_SEALED: u64 = 512 << 20;

const ELF: [u8; 4] = *b"\x7fELF";

/// Why a file was not accepted for execution.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot keep a sealed copy of {}", path.display())]
    Memory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is a script; only programs in ELF format are executed from the store", path.display())]
    Script { path: PathBuf },
    #[error("{} is not a program in ELF format", path.display())]
    NotElf { path: PathBuf },
    #[error("{} has grown while it was copied", path.display())]
    Grown { path: PathBuf },
    #[error(
        "{} is too large for memory, and more than versiond's own user may write it (mode {mode:o}, owner {owner})",
        path.display()
    )]
    Open { path: PathBuf, mode: u32, owner: u32 },
    #[error("{} has the hash {found}, not {expected}", path.display())]
    WrongHash { path: PathBuf, expected: Sha256, found: Sha256 },
}

/// A program whose bytes have been checked.
#[derive(Debug)]
pub struct Sealed {
    sha256: Sha256,
    pub(super) program: Program,
}

/// How a checked program is executed.
#[derive(Debug)]
pub(super) enum Program {
    /// From the sealed copy.
    Memory(File),
    /// From the file itself, by its descriptor: too large for a copy.
    Stored { file: File, path: PathBuf },
    /// By its path: a program that the operator's own configuration names.
    Path(PathBuf),
}

impl Sealed {
    /// The hash of the bytes that are executed.
    #[must_use]
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// The descriptor that is executed; `None` for a program that is executed by path.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.program {
            Program::Memory(file) | Program::Stored { file, .. } => Some(file.as_fd()),
            Program::Path(_) => None,
        }
    }

    /// Whether the bytes could have been changed since they were checked: they lie in the store.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.program, Program::Stored { .. })
    }

    /// Checks a stored program as it is now. Blocking, for as long as it takes to read it.
    pub(super) fn check_again(&self) -> Result<(), SealError> {
        match &self.program {
            Program::Stored { file, path } => {
                check_stored(file, path)?;
                let found = hash(&mut At { file, offset: 0 });
                let found = found.map_err(|source| SealError::Read { path: path.clone(), source })?;
                check_hash(path, Some(self.sha256), found)
            }
            Program::Memory(_) | Program::Path(_) => Ok(()),
        }
    }
}

/// Copies the ELF file at `path` into sealed memory and checks its hash there; one with more than [`MAX_SEALED`]
/// bytes is only opened and checked. Blocking.
///
/// # Errors
/// The file cannot be read, is a script or no ELF file, or hashes to something other than `expected`; or it is too
/// large for a copy, and others may write it.
pub fn seal(path: &Path, expected: Option<Sha256>) -> Result<Sealed, SealError> {
    seal_up_to(MAX_SEALED, path, expected)
}

/// As [`seal`], with another bound than [`MAX_SEALED`].
///
/// # Errors
/// As [`seal`].
pub fn seal_up_to(bound: u64, path: &Path, expected: Option<Sha256>) -> Result<Sealed, SealError> {
    let (mut source, size) = open(path)?;
    if size > bound {
        return stored(source, path, expected);
    }
    let read = |error| SealError::Read { path: path.to_owned(), source: error };
    let memory = |error| SealError::Memory { path: path.to_owned(), source: error };

    let mut copy = memory_file().map_err(memory)?;
    // One byte more than allowed shows a file that grows under the copy.
    let copied = io::copy(&mut Read::by_ref(&mut source).take(bound.saturating_add(1)), &mut copy).map_err(read)?;
    if copied > bound {
        return Err(SealError::Grown { path: path.to_owned() });
    }
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| memory(errno.into()))?;

    check_format(&copy, path)?;
    copy.seek(SeekFrom::Start(0)).map_err(memory)?;
    let sha256 = hash(&mut copy).map_err(memory)?;
    check_hash(path, expected, sha256)?;
    Ok(Sealed { sha256, program: Program::Memory(copy) })
}

/// It is executed by this descriptor, not by its path, so that the bytes that are checked are those that run. Of
/// all users only versiond's own could change them, and not while they are executed.
fn stored(file: File, path: &Path, expected: Option<Sha256>) -> Result<Sealed, SealError> {
    check_stored(&file, path)?;
    check_format(&file, path)?;
    let sha256 = hash(&mut At { file: &file, offset: 0 });
    let sha256 = sha256.map_err(|source| SealError::Read { path: path.to_owned(), source })?;
    check_hash(path, expected, sha256)?;
    Ok(Sealed { sha256, program: Program::Stored { file, path: path.to_owned() } })
}

fn check_stored(file: &File, path: &Path) -> Result<(), SealError> {
    let kept = file.metadata().map_err(|source| SealError::Read { path: path.to_owned(), source })?;
    let (mode, owner) = (kept.mode() & 0o7777, kept.uid());
    if mode & 0o222 == 0 && owner == nix::unistd::geteuid().as_raw() {
        Ok(())
    } else {
        Err(SealError::Open { path: path.to_owned(), mode, owner })
    }
}

/// Reads a file from a place of its own: two checks of one descriptor do not disturb each other.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(u64::try_from(count).map_err(io::Error::other)?);
        Ok(count)
    }
}

/// Accepts a program that the operator's configuration names by path, a script too. It is hashed as it
/// is now and executed by its path, so that only who may write there decides what runs. Blocking.
///
/// # Errors
/// The file cannot be read, or hashes to something other than `expected`.
pub fn pin(path: &Path, expected: Option<Sha256>) -> Result<Sealed, SealError> {
    let (mut source, _) = open(path)?;
    let sha256 = hash(&mut source).map_err(|error| SealError::Read { path: path.to_owned(), source: error })?;
    check_hash(path, expected, sha256)?;
    Ok(Sealed { sha256, program: Program::Path(path.to_owned()) })
}

fn open(path: &Path) -> Result<(File, u64), SealError> {
    let read = |source| SealError::Read { path: path.to_owned(), source };
    let kind = std::fs::metadata(path).map_err(read)?;
    // Before the open, which would wait for ever on a pipe.
    if !kind.is_file() {
        return Err(SealError::NotAFile { path: path.to_owned() });
    }
    Ok((File::open(path).map_err(read)?, kind.len()))
}

fn memory_file() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = flags | MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let fd = match memfd_create("child", executable) {
        // A kernel older than 6.3 does not know the flag, and makes every such file executable.
        Err(nix::errno::Errno::EINVAL) => memfd_create("child", flags)?,
        made => made?,
    };
    Ok(File::from(fd))
}

fn check_format(file: &File, path: &Path) -> Result<(), SealError> {
    let mut magic = Vec::new();
    let read = At { file, offset: 0 }.take(4).read_to_end(&mut magic);
    read.map_err(|source| SealError::Read { path: path.to_owned(), source })?;
    if magic.starts_with(b"#!") {
        return Err(SealError::Script { path: path.to_owned() });
    }
    if magic != ELF {
        return Err(SealError::NotElf { path: path.to_owned() });
    }
    Ok(())
}

fn check_hash(path: &Path, expected: Option<Sha256>, found: Sha256) -> Result<(), SealError> {
    match expected {
        Some(expected) if expected != found => Err(SealError::WrongHash { path: path.to_owned(), expected, found }),
        Some(_) | None => Ok(()),
    }
}

fn hash(source: &mut impl Read) -> io::Result<Sha256> {
    struct Hasher(sha2::Sha256);
    impl Write for Hasher {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut reader = io::BufReader::with_capacity(256 << 10, source);
    let mut hasher = Hasher(sha2::Sha256::new());
    io::copy(&mut reader, &mut hasher)?;
    Ok(Sha256(hasher.0.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn sha256(bytes: &[u8]) -> Sha256 {
        Sha256(sha2::Sha256::digest(bytes).into())
    }

    #[test]
    fn what_is_not_a_program_is_refused_by_kind() {
        let of = |bytes: &[u8]| seal(file(bytes).path(), None).map(|_| ()).unwrap_err();
        assert!(matches!(of(b"#!/bin/sh\n"), SealError::Script { .. }));
        assert!(matches!(of(b"text"), SealError::NotElf { .. }));
        assert!(matches!(of(b""), SealError::NotElf { .. }));
        assert!(matches!(seal(Path::new("/proc"), None), Err(SealError::NotAFile { .. })));
        assert!(matches!(seal(Path::new("/nowhere"), None), Err(SealError::Read { .. })));
    }

    #[test]
    fn p6_a_wrong_hash_is_refused_and_names_both() {
        let bytes = b"\x7fELF and more";
        let right = sha256(bytes);
        assert_eq!(seal(file(bytes).path(), Some(right)).unwrap().sha256(), right);
        let wrong = sha256(b"other");
        match seal(file(bytes).path(), Some(wrong)) {
            Err(SealError::WrongHash { expected, found, .. }) => assert_eq!((expected, found), (wrong, right)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(pin(file(b"#!/bin/sh").path(), Some(wrong)), Err(SealError::WrongHash { .. })));
    }

    /// F67: what is too large for a copy is accepted only where nobody else may write it, and checked at each start.
    #[test]
    fn f67_p6_a_program_too_large_for_memory_is_checked_where_it_lies() {
        use std::os::unix::fs::PermissionsExt as _;
        let bytes = b"\x7fELF and more";
        let (right, stored) = (sha256(bytes), file(bytes));
        let mode = |mode| std::fs::set_permissions(stored.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let seal = |expected| seal_up_to(4, stored.path(), expected);
        for open in [0o600, 0o575, 0o557] {
            mode(open);
            assert!(matches!(seal(None), Err(SealError::Open { .. })), "{open:o}");
        }
        mode(0o555);
        assert!(matches!(seal(Some(sha256(b"other"))), Err(SealError::WrongHash { .. })));
        let sealed = seal(Some(right)).unwrap();
        assert_eq!((sealed.sha256(), sealed.is_stored()), (right, true));
        sealed.check_again().unwrap();
        mode(0o755);
        assert!(matches!(sealed.check_again(), Err(SealError::Open { .. })));
        std::fs::write(stored.path(), b"\x7fELF and less").unwrap();
        mode(0o555);
        assert!(matches!(sealed.check_again(), Err(SealError::WrongHash { .. })));

        let script = file(b"#!/bin/sh\nexit 0\n");
        std::fs::set_permissions(script.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
        assert!(matches!(seal_up_to(4, script.path(), None), Err(SealError::Script { .. })));
    }

    #[test]
    fn f67_the_sealed_copy_cannot_be_changed_in_any_way() {
        let sealed = seal(file(b"\x7fELF and more").path(), None).unwrap();
        let Program::Memory(copy) = &sealed.program else { panic!("not in memory") };
        let mut writer = copy;
        writer.seek(SeekFrom::Start(0)).unwrap();
        assert!(writer.write(b"x").is_err());
        assert!(copy.set_len(1).is_err());
        assert!(copy.set_len(100).is_err());
        assert!(fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE)).is_err());
    }
}
