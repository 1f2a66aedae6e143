//! A zip archive's list of members, before anything of it is kept: that it lies where its end says, has as many
//! members as that declares and no more bytes than it may. Reads it through and holds none of it, so that
//! whoever keeps it afterwards needs memory for [`MOST_BYTES`] at most, whatever the archive says.
//!
//! Two readers must not find two lists in one archive: what has more than one end, bytes behind it, or a list
//! that is elsewhere, is refused. Must not live here: what the members are.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::{MOST_MEMBERS, Unusable};

/// More than a list of as many members as there may be ordinarily has.
pub(super) const MOST_BYTES: u64 = 32 << 20;

const END: &[u8] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LENGTH: u64 = 20;
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LENGTH: u64 = 56;
const MEMBER: &[u8] = b"PK\x01\x02";
const MEMBER_LENGTH: usize = 46;

/// What an archive declares of its list of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Declared {
    members: u64,
    bytes: u64,
    /// Where the list begins, and where what declares it does.
    begins: u64,
    ends: u64,
    is_whole: bool,
}

/// Refuses a list that is too long, or is not what the archive declares.
pub(super) fn check(source: &mut (impl Read + Seek)) -> Result<(), Unusable> {
    let declared = declared(source)?;
    let most = MOST_MEMBERS as u64;
    if declared.members > most {
        return Err(Unusable::TooManyMembers { cap: MOST_MEMBERS });
    }
    if declared.bytes > MOST_BYTES {
        return Err(Unusable::DirectoryTooLarge { cap: MOST_BYTES });
    }
    if !declared.is_whole {
        return Err(broken("it is a part of an archive"));
    }
    if declared.begins.checked_add(declared.bytes) != Some(declared.ends) {
        return Err(broken("its list of members is not before its end"));
    }
    source.seek(SeekFrom::Start(declared.begins)).map_err(|error| unread(&error))?;
    let held = members(BufReader::new(source.take(declared.bytes)), declared.members)?;
    if held { Ok(()) } else { Err(broken("its list of members has another length than it declares")) }
}

/// Whether there are exactly so many.
fn members(mut list: impl BufRead, count: u64) -> Result<bool, Unusable> {
    for _ in 0..count {
        let mut header = [0; MEMBER_LENGTH];
        match list.read_exact(&mut header) {
            Ok(()) if header.starts_with(MEMBER) => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(unread(&error)),
        }
        // Its name, its further fields and its comment.
        let rest: u64 = [28, 30, 32].into_iter().map(|at| number(&header, at, 2)).sum();
        let passed = io::copy(&mut list.by_ref().take(rest), &mut io::sink()).map_err(|error| unread(&error))?;
        if passed < rest {
            return Ok(false);
        }
    }
    Ok(list.fill_buf().map_err(|error| unread(&error))?.is_empty())
}

fn declared(source: &mut (impl Read + Seek)) -> Result<Declared, Unusable> {
    let length = source.seek(SeekFrom::End(0)).map_err(|error| unread(&error))?;
    // The comment behind it has at most as many bytes as two can count.
    let most = END_LENGTH as u64 + u64::from(u16::MAX);
    let tail = read(source, length.saturating_sub(most), length.min(most))?;
    let at = tail.windows(END.len()).rposition(|bytes| bytes == END);
    let end = &tail[at.ok_or_else(|| broken("it has no end"))?..];
    if end.len() < END_LENGTH || number(end, 20, 2) != (end.len() - END_LENGTH) as u64 {
        return Err(broken("its end is not the end of the file"));
    }
    let short = Declared {
        members: number(end, 10, 2),
        bytes: number(end, 12, 4),
        begins: number(end, 16, 4),
        ends: length - end.len() as u64,
        is_whole: number(end, 4, 4) == 0 && number(end, 8, 2) == number(end, 10, 2),
    };
    let is_full = short.members == u64::from(u16::MAX) || [short.bytes, short.begins].contains(&u64::from(u32::MAX));
    match short.ends.checked_sub(LOCATOR_LENGTH).filter(|_| is_full) {
        Some(at) => Ok(declared_64(source, at)?.unwrap_or(short)),
        None => Ok(short),
    }
}

/// What stands in the longer form for fields that are too short; `None` when there is none at this place.
fn declared_64(source: &mut (impl Read + Seek), at: u64) -> Result<Option<Declared>, Unusable> {
    let locator = read(source, at, LOCATOR_LENGTH)?;
    if !locator.starts_with(LOCATOR) {
        return Ok(None);
    }
    let misplaced = || broken("its longer end is not before its end");
    let ends = at.checked_sub(END_64_LENGTH).filter(|ends| *ends == number(&locator, 8, 8)).ok_or_else(misplaced)?;
    let end = read(source, ends, END_64_LENGTH)?;
    if !end.starts_with(END_64) || number(&end, 4, 8) != END_64_LENGTH - 12 {
        return Err(misplaced());
    }
    let alone = number(&locator, 4, 4) == 0 && number(&locator, 16, 4) <= 1 && number(&end, 16, 8) == 0;
    Ok(Some(Declared {
        members: number(&end, 32, 8),
        bytes: number(&end, 40, 8),
        begins: number(&end, 48, 8),
        ends,
        is_whole: alone && number(&end, 24, 8) == number(&end, 32, 8),
    }))
}

fn read(source: &mut (impl Read + Seek), at: u64, length: u64) -> Result<Vec<u8>, Unusable> {
    let mut bytes = Vec::new();
    source.seek(SeekFrom::Start(at)).map_err(|error| unread(&error))?;
    source.take(length).read_to_end(&mut bytes).map_err(|error| unread(&error))?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(broken("it ends early")) }
}

/// The number in so many bytes from this place, the least first.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn unread(error: &io::Error) -> Unusable {
    broken(&error.to_string())
}

fn broken(detail: &str) -> Unusable {
    Unusable::Broken { format: "zip", detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::store::archive::{ExtractError, extract};
    use crate::store::tests::zipped;

    /// Counts what is read of it.
    struct Counted {
        bytes: Cursor<Vec<u8>>,
        read: u64,
    }

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.bytes.read(buffer)?;
            self.read += read as u64;
            Ok(read)
        }
    }

    impl Seek for Counted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.bytes.seek(to)
        }
    }

    fn refused(bytes: Vec<u8>) -> Unusable {
        match extract(Cursor::new(bytes), Some("demo"), io::sink(), 1 << 20) {
            Err(ExtractError::Unusable(unusable)) => unusable,
            other => panic!("{other:?}"),
        }
    }

    fn is_broken(bytes: Vec<u8>, because: &str) {
        let unusable = refused(bytes);
        let Unusable::Broken { format: "zip", detail } = &unusable else { panic!("{unusable:?}") };
        assert!(detail.contains(because), "{detail}");
    }

    /// The archive with a number of its end changed.
    fn with(mut bytes: Vec<u8>, at: usize, width: usize, to: u64) -> Vec<u8> {
        let end = bytes.len() - END_LENGTH;
        bytes[end + at..end + at + width].copy_from_slice(&to.to_le_bytes()[..width]);
        bytes
    }

    /// An archive of these bytes before its end in the longer form, which declares so many members and bytes.
    fn long(before: &[u8], members: u64, bytes: u64) -> Vec<u8> {
        let ends = before.len() as u64;
        let words = [members, members, bytes, ends.saturating_sub(bytes)].map(u64::to_le_bytes).concat();
        let end = [END_64, &44u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8], &words].concat();
        let locator = [LOCATOR, &[0; 4], &ends.to_le_bytes(), &1u32.to_le_bytes()].concat();
        let short = [END, &[0; 4], &[0xff; 12], &[0; 2]].concat();
        [before, &end, &locator, &short].concat()
    }

    fn two() -> Vec<u8> {
        zipped(&[("demo", b"1"), ("other", b"2")])
    }

    /// Everything before the end, and how much of it is the list.
    fn list(bytes: &[u8]) -> (&[u8], u64) {
        let end = bytes.len() - END_LENGTH;
        (&bytes[..end], number(bytes, end + 12, 4))
    }

    #[test]
    fn a_zip_that_declares_a_huge_list_of_members_is_refused_before_it_is_read() {
        let header = [MEMBER, &[0; MEMBER_LENGTH - 4]].concat();
        let most = MOST_MEMBERS;
        // As many as it says, more than there may be.
        let many = [b"PK\x03\x04".to_vec(), header.repeat(most + 1)].concat();
        // Each with a comment as long as they come: few, and too long.
        let mut commented = header;
        commented[32..34].copy_from_slice(&[0xff; 2]);
        commented.extend([b' '; 0xffff]);
        let (count, all) = (600, [b"PK\x03\x04".to_vec(), commented.repeat(600)].concat());
        for (bytes, expected) in [
            (long(&many, most as u64 + 1, (many.len() - 4) as u64), Unusable::TooManyMembers { cap: most }),
            (long(&all, count, (all.len() - 4) as u64), Unusable::DirectoryTooLarge { cap: MOST_BYTES }),
            // It has none of what it declares.
            (long(b"PK\x03\x04", u64::MAX, 0), Unusable::TooManyMembers { cap: most }),
            (long(b"PK\x03\x04", 1, u64::MAX), Unusable::DirectoryTooLarge { cap: MOST_BYTES }),
            (with(two(), 12, 4, u64::from(u32::MAX) - 1), Unusable::DirectoryTooLarge { cap: MOST_BYTES }),
        ] {
            let mut counted = Counted { bytes: Cursor::new(bytes.clone()), read: 0 };
            assert_eq!(check(&mut counted), Err(expected.clone()));
            assert!(counted.read < 70_000, "{} bytes were read for {expected}", counted.read);
            assert_eq!(refused(bytes), expected);
        }
        assert!(Unusable::DirectoryTooLarge { cap: MOST_BYTES }.to_string().contains("33554432 bytes"));
    }

    #[test]
    fn a_zip_whose_list_of_members_is_another_than_it_declares_is_refused() {
        let two = two();
        check(&mut Cursor::new(&two)).unwrap();
        let (before, bytes) = list(&two);
        let length = "another length than it declares";
        for members in [0, 1, 3] {
            let lies = with(with(two.clone(), 8, 2, members), 10, 2, members);
            is_broken(lies, length);
            is_broken(long(before, members, bytes), length);
        }
        extract(Cursor::new(long(before, 2, bytes)), Some("demo"), io::sink(), 9).unwrap();
        is_broken(with(two.clone(), 12, 4, bytes - 1), "not before its end");
        is_broken(with(with(two.clone(), 12, 4, bytes - 1), 16, 4, before.len() as u64 - bytes + 1), length);
        // What one reader takes for the end, and another does not.
        is_broken([&two[..], b"behind"].concat(), "not the end of the file");
        is_broken(with([&two[..], &two[two.len() - END_LENGTH..]].concat(), 12, 4, 1), "not before its end");
        is_broken([b"PK\x03\x04", &two[..]].concat(), "not before its end");
        is_broken(with(two.clone(), 4, 2, 1), "a part of an archive");
        is_broken(with(two, 8, 2, 1), "a part of an archive");
    }

    #[test]
    fn a_zip_with_one_name_twice_is_refused_and_a_comment_is_not() {
        let mut bytes = zipped(&[("demo", b"1"), ("omed", b"2")]);
        while let Some(at) = bytes.windows(4).position(|window| window == b"omed") {
            bytes[at..at + 4].copy_from_slice(b"demo");
        }
        is_broken(bytes, "two members have one name");
        let commented = [with(two(), 20, 2, 5), b"hello".to_vec()].concat();
        extract(Cursor::new(commented), Some("demo"), io::sink(), 9).unwrap();
        assert_eq!(refused(zipped(&[])), Unusable::NoMember("demo".to_owned()));
    }
}
