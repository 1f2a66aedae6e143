//! Zip archives: the list of members is at the end, and each is compressed for itself.
//!
//! What is kept of the list is bounded by [`directory`], which looks at it first. Must not live here: a second
//! reading of the list, which might find another one.

use std::io::{BufReader, Read, Seek, Write};

use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;

use super::choice::{Choice, Kind};
use super::{ExtractError, Extracted, Unusable, copy, directory};

pub(super) fn extract<S, T>(mut source: S, entry: Option<&str>, target: T, cap: u64) -> Result<Extracted, ExtractError>
where
    S: Read + Seek,
    T: Write,
{
    directory::check(&mut source)?;
    // Nothing else is taken for the list than what was looked at.
    let at_the_beginning = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive =
        ZipArchive::with_config(at_the_beginning, BufReader::new(source)).map_err(|error| broken(&error))?;
    if archive.has_duplicate_names() {
        return Err(Unusable::Broken { format: "zip", detail: "two members have one name".to_owned() }.into());
    }
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
