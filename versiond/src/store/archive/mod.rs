//! From verified bytes to the one program in them. Raw bytes are the program; of an archive exactly one
//! member is. Which it is, its content says. Nothing else of an archive is ever written anywhere: what is
//! read comes from a [`Read`], what is kept goes to one [`Write`].

mod choice;
mod directory;
mod tar;
mod zip;
mod zstd;

use std::cell::Cell;
use std::io::{self, Read, Seek, Write};

use sha2::Digest;
use supervisor_protocol::Sha256;

use super::Unusable;
use tar::Compression;

pub(super) use choice::is_named;

/// More members than any release has. What lists them must be held in memory.
const MOST_MEMBERS: usize = 100_000;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    pub sha256: Sha256,
    /// The archive's member; `None` for bytes that are the program themselves.
    pub member: Option<String>,
    pub bytes: u64,
}

/// Why nothing usable was written.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error("the archive cannot be used")]
    Unusable(#[source] Unusable),
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    #[error("the program cannot be written")]
    Write(#[source] io::Error),
}

impl From<Unusable> for ExtractError {
    fn from(unusable: Unusable) -> Self {
        ExtractError::Unusable(unusable)
    }
}

/// Writes the program in `source` to `target`, at most `cap` bytes. Of a compressed archive no more than `cap`
/// bytes are inflated, whichever members they belong to. `entry` names the member, by its whole path or its
/// base name; without it the archive must hold one file alone.
///
/// # Errors
/// There is not exactly one such member, it is no regular file, a bound is exceeded, or a side cannot be read
/// or written. What `target` holds then is not to be used.
pub fn extract<S, T>(source: S, entry: Option<&str>, target: T, cap: u64) -> Result<Extracted, ExtractError>
where
    S: Read + Seek,
    T: Write,
{
    let trouble = Cell::new(None);
    let result = unpack(Watched { source, trouble: &trouble }, entry, target, cap);
    // What a decoder makes of a source that cannot be read is not the archive's fault.
    match (result, trouble.take()) {
        (Err(ExtractError::Unusable(_)), Some(error)) => Err(ExtractError::Read(error)),
        (result, _) => result,
    }
}

fn unpack<S, T>(mut source: S, entry: Option<&str>, target: T, cap: u64) -> Result<Extracted, ExtractError>
where
    S: Read + Seek,
    T: Write,
{
    match recognise(&mut source).map_err(ExtractError::Read)? {
        Format::Zip => zip::extract(source, entry, target, cap),
        Format::Tar(compression) => tar::extract(source, compression, entry, target, cap),
        Format::Unread(name) => Err(Unusable::Format(name).into()),
        Format::Program => {
            let (sha256, bytes) = copy(source, target, cap, ExtractError::Read)?;
            Ok(Extracted { sha256, member: None, bytes })
        }
    }
}

/// Whether the bytes are the program themselves.
pub(super) fn is_program(mut source: impl Read + Seek) -> io::Result<bool> {
    Ok(matches!(recognise(&mut source)?, Format::Program))
}

/// What bytes are, by their beginning.
enum Format {
    Zip,
    Tar(Compression),
    /// An archive of a kind that is not read.
    Unread(&'static str),
    Program,
}

fn recognise(source: &mut (impl Read + Seek)) -> io::Result<Format> {
    let mut magic = Vec::new();
    source.by_ref().take(6).read_to_end(&mut magic)?;
    source.rewind()?;
    Ok(match magic.as_slice() {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Format::Zip,
        [0x1f, 0x8b, ..] => Format::Tar(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Tar(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Format::Unread("xz"),
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c] => Format::Unread("7z"),
        [b'B', b'Z', b'h', ..] => Format::Unread("bzip2"),
        _ => Format::Program,
    })
}

/// Copies at most `cap` bytes, and hashes them. `unread` says what an error of reading means.
fn copy(
    from: impl Read,
    mut target: impl Write,
    cap: u64,
    unread: impl Fn(io::Error) -> ExtractError,
) -> Result<(Sha256, u64), ExtractError> {
    let mut from = from.take(cap.saturating_add(1));
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    let mut total = 0u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unread(error)),
        };
        total += read as u64;
        if total > cap {
            return Err(Unusable::TooLargeUnpacked { cap }.into());
        }
        hash.update(&buffer[..read]);
        target.write_all(&buffer[..read]).map_err(ExtractError::Write)?;
    }
    target.flush().map_err(ExtractError::Write)?;
    Ok((Sha256(hash.finalize().into()), total))
}

/// A source that remembers its first error.
struct Watched<'t, S> {
    source: S,
    trouble: &'t Cell<Option<io::Error>>,
}

impl<S> Watched<'_, S> {
    fn note<V>(&self, result: io::Result<V>) -> io::Result<V> {
        result.map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted && kind != io::ErrorKind::InvalidInput {
                self.trouble.set(Some(error));
            }
            kind.into()
        })
    }
}

impl<S: Read> Read for Watched<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer);
        self.note(read)
    }
}

impl<S: Seek> Seek for Watched<'_, S> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        // A place before the beginning is what a broken archive names.
        let sought = self.source.seek(to);
        self.note(sought)
    }
}

#[cfg(test)]
mod tests;
