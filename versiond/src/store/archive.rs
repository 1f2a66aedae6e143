//! From verified bytes to the one program in them. Raw bytes are the program; of a zip archive exactly
//! one member is. Nothing else of an archive reaches the disk.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use sha2::Digest;
use supervisor_protocol::Sha256;
use zip::ZipArchive;

use super::{StoreError, Unusable};

/// A program on the disk, not yet in its place.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) sha256: Sha256,
    /// The archive's member; `None` for bytes that are the program themselves.
    pub(super) member: Option<String>,
}

/// Unpacks the program of `archive` into `target`, at most `cap` bytes.
pub(super) fn unpack(archive: &Path, entry: Option<&str>, target: &Path, cap: u64) -> Result<Unpacked, StoreError> {
    let disk = |source| StoreError::disk(archive, source);
    let mut file = File::open(archive).map_err(disk)?;
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(disk)?;
    file.rewind().map_err(disk)?;
    match magic.as_slice() {
        [b'P', b'K', 3 | 5, 4 | 6] => unzip(file, entry, target, cap),
        [0x1f, 0x8b, ..] => Err(Unusable::Format("gzip").into()),
        [0x28, 0xb5, 0x2f, 0xfd] => Err(Unusable::Format("zstd").into()),
        _ => Ok(Unpacked { sha256: copy(file, target, cap)?, member: None }),
    }
}

/// Whether a member is the one that `entry` names: by its whole path, or by its base name.
pub(super) fn is_named(member: &str, entry: &str) -> bool {
    member == entry || base(member) == base(entry)
}

fn unzip(file: File, entry: Option<&str>, target: &Path, cap: u64) -> Result<Unpacked, StoreError> {
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| broken(&error))?;
    let (index, member) = choose(&mut zip, entry)?;
    let chosen = zip.by_index(index).map_err(|error| broken(&error))?;
    if chosen.size() > cap {
        return Err(Unusable::TooLargeUnpacked { cap }.into());
    }
    Ok(Unpacked { sha256: copy(chosen, target, cap)?, member: Some(member) })
}

/// The one member that is the program.
fn choose(zip: &mut ZipArchive<BufReader<File>>, entry: Option<&str>) -> Result<(usize, String), Unusable> {
    let mut files = Vec::new();
    for index in 0..zip.len() {
        let member = zip.by_index_raw(index).map_err(|error| broken(&error))?;
        let name = String::from_utf8_lossy(member.name_raw()).into_owned();
        if leads_out(&name) {
            return Err(Unusable::Escapes(name));
        }
        if !member.is_dir() {
            files.push((index, name, member.is_file() && !member.is_symlink(), member.encrypted()));
        }
    }
    let whole = |(_, name, ..): &&(usize, String, bool, bool)| entry == Some(name.as_str());
    let exact = files.iter().filter(whole).count() == 1;
    let mut found = files.into_iter().filter(|(_, name, ..)| match entry {
        Some(entry) if exact => name == entry,
        Some(entry) => is_named(name, entry),
        None => true,
    });
    let Some((index, name, is_file, encrypted)) = found.next() else {
        return Err(entry.map_or(Unusable::NoEntryNamed(0), |entry| Unusable::NoMember(entry.to_owned())));
    };
    let others = found.count();
    if others > 0 {
        return Err(match entry {
            Some(entry) => Unusable::Ambiguous { entry: entry.to_owned(), count: others + 1 },
            None => Unusable::NoEntryNamed(others + 1),
        });
    }
    if !is_file {
        return Err(Unusable::NotAFile(name));
    }
    if encrypted {
        return Err(Unusable::Encrypted(name));
    }
    Ok((index, name))
}

fn copy(from: impl Read, target: &Path, cap: u64) -> Result<Sha256, StoreError> {
    let disk = |source| StoreError::disk(target, source);
    let mut from = from.take(cap.saturating_add(1));
    let mut to = BufWriter::new(File::create_new(target).map_err(disk)?);
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    let mut total = 0u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            // A member whose data does not inflate, or has another checksum than the archive says.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                return Err(Unusable::Zip(error.to_string()).into());
            }
            Err(error) => return Err(disk(error)),
        };
        total += read as u64;
        if total > cap {
            return Err(Unusable::TooLargeUnpacked { cap }.into());
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(disk)?;
    }
    to.flush().map_err(disk)?;
    Ok(Sha256(hash.finalize().into()))
}

fn leads_out(name: &str) -> bool {
    name.starts_with('/') || name.contains(['\\', '\0']) || name.split('/').any(|part| part == "..")
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn broken(error: &zip::result::ZipError) -> Unusable {
    Unusable::Zip(error.to_string())
}
