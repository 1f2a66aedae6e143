//! Zip archives: the list of members is at the end, and each is compressed for itself.

use std::io::{BufReader, Read, Seek, Write};

use zip::ZipArchive;
use zip::result::ZipError;

use super::choice::{Choice, Kind};
use super::{ExtractError, Extracted, Unusable, copy};

pub(super) fn extract<S, T>(source: S, entry: Option<&str>, target: T, cap: u64) -> Result<Extracted, ExtractError>
where
    S: Read + Seek,
    T: Write,
{
    let mut archive = ZipArchive::new(BufReader::new(source)).map_err(|error| broken(&error))?;
    let mut choice = Choice::new(entry);
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(|error| broken(&error))?;
        let kind = match () {
            () if member.is_symlink() => Kind::Other,
            () if member.is_dir() => Kind::Folder,
            () if !member.is_file() => Kind::Other,
            () if member.encrypted() => Kind::Encrypted,
            () => Kind::File,
        };
        choice.consider(index, member.name_raw(), kind)?;
    }
    let (index, member) = choice.made()?;
    let chosen = archive.by_index(index).map_err(|error| broken(&error))?;
    if chosen.size() > cap {
        return Err(Unusable::TooLargeUnpacked { cap }.into());
    }
    // It does not inflate, or has another checksum than the archive says.
    let unread = |error: std::io::Error| Unusable::Broken { format: "zip", detail: error.to_string() }.into();
    let (sha256, bytes) = copy(chosen, target, cap, unread)?;
    Ok(Extracted { sha256, member: Some(member), bytes })
}

fn broken(error: &ZipError) -> Unusable {
    Unusable::Broken { format: "zip", detail: error.to_string() }
}
