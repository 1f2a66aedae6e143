//! Compressed tar archives: a stream of members, read once to choose the program and once to write it.
//!
//! Long names of GNU and PAX are followed. An extended header that changes what the stream itself says (a
//! size, a file with holes) is refused: readers disagree about those, and no release needs them.

use std::cell::Cell;
use std::io::{self, BufReader, Read, Seek, Write};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, EntryType, PaxExtensions};

use super::choice::{Choice, Kind};
use super::zstd::Frames;
use super::{ExtractError, Extracted, Unusable, copy};

/// The longest extended header that is read.
const LONGEST_HEADER: u64 = 64 << 10;

/// How the stream is compressed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    fn inflate<'s>(self, source: &'s mut (impl Read + Seek)) -> io::Result<Box<dyn Read + 's>> {
        source.rewind()?;
        let source = BufReader::with_capacity(1 << 16, source);
        Ok(match self {
            Compression::Gzip => Box::new(MultiGzDecoder::new(source)),
            Compression::Zstd => Box::new(Frames::new(source)),
        })
    }

    fn broken(self, error: &io::Error) -> ExtractError {
        let format = match self {
            Compression::Gzip => "tar.gz",
            Compression::Zstd => "tar.zst",
        };
        Unusable::Broken { format, detail: error.to_string() }.into()
    }
}

pub(super) fn extract<S, T>(
    mut source: S,
    compression: Compression,
    entry: Option<&str>,
    target: T,
    cap: u64,
) -> Result<Extracted, ExtractError>
where
    S: Read + Seek,
    T: Write,
{
    let mut choice = Choice::new(entry);
    pass(&mut source, compression, cap, |index, name, kind, _| Ok(choice.consider(index, name, kind)?))?;
    let (chosen, member) = choice.made()?;
    let (mut target, mut extracted) = (Some(target), None);
    pass(&mut source, compression, cap, |index, _, _, data| {
        let Some(target) = target.take_if(|_| index == chosen) else { return Ok(()) };
        let (sha256, bytes) = copy(data, target, cap, |error| compression.broken(&error))?;
        extracted = Some(Extracted { sha256, member: Some(member.clone()), bytes });
        Ok(())
    })?;
    extracted.ok_or_else(|| Unusable::NoMember(member).into())
}

/// Shows each member to `visit`: its place, its name, its kind and its bytes.
fn pass(
    source: &mut (impl Read + Seek),
    compression: Compression,
    cap: u64,
    mut visit: impl FnMut(usize, &[u8], Kind, &mut dyn Read) -> Result<(), ExtractError>,
) -> Result<(), ExtractError> {
    let left = Cell::new(Some(cap));
    let stream = Capped { stream: compression.inflate(source).map_err(ExtractError::Read)?, left: &left };
    let broken = |error: io::Error| match left.get() {
        Some(_) => compression.broken(&error),
        None => Unusable::TooLargeUnpacked { cap }.into(),
    };
    let mut archive = Archive::new(stream);
    let mut named: Option<Vec<u8>> = None;
    for (index, member) in archive.entries().map_err(broken)?.raw(true).enumerate() {
        let mut member = member.map_err(broken)?;
        let kind = member.header().entry_type();
        if kind.is_gnu_longname() {
            let mut name = header(&mut member).map_err(broken)?;
            name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
            named = Some(name);
        } else if kind.is_pax_local_extensions() {
            named = path(&header(&mut member).map_err(broken)?)?.or(named);
        } else if kind.is_pax_global_extensions() {
            if path(&header(&mut member).map_err(broken)?)?.is_some() {
                return Err(Unusable::Extended("path for all members".to_owned()).into());
            }
        } else if kind.is_gnu_sparse() {
            return Err(Unusable::Extended("GNU.sparse".to_owned()).into());
        } else if !kind.is_gnu_longlink() {
            let name = named.take().unwrap_or_else(|| member.path_bytes().into_owned());
            visit(index, &name, kind_of(kind, &name), &mut member)?;
        }
    }
    Ok(())
}

fn kind_of(kind: EntryType, name: &[u8]) -> Kind {
    // As a format that is older than folders has them.
    if kind.is_dir() || name.ends_with(b"/") {
        Kind::Folder
    } else if kind.is_file() || kind.is_contiguous() {
        Kind::File
    } else {
        Kind::Other
    }
}

/// The bytes of an extended header.
fn header(member: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    member.take(LONGEST_HEADER + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_HEADER {
        Err(io::Error::other("an extended header is too long"))
    } else {
        Ok(bytes)
    }
}

/// The name that a PAX header gives to the next member.
fn path(header: &[u8]) -> Result<Option<Vec<u8>>, Unusable> {
    let mut name = None;
    for record in PaxExtensions::new(header) {
        let Ok(record) = record else { return Err(Unusable::Extended("one that is not understood".to_owned())) };
        let key = record.key_bytes();
        if key == b"path" {
            name = Some(record.value_bytes().to_vec());
        } else if key == b"size" || key.starts_with(b"GNU.sparse") {
            return Err(Unusable::Extended(String::from_utf8_lossy(key).into_owned()));
        }
    }
    Ok(name)
}

/// A stream that ends with an error after so many bytes, and leaves `None` behind.
struct Capped<'l, R> {
    stream: R,
    left: &'l Cell<Option<u64>>,
}

impl<R: Read> Read for Capped<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.left.set(self.left.get().and_then(|left| left.checked_sub(read as u64)));
        if self.left.get().is_none() { Err(io::Error::other("too many bytes")) } else { Ok(read) }
    }
}
