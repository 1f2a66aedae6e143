use std::io::Cursor;

use ::tar::{Builder, EntryType, Header};
use flate2::Compression as Level;
use flate2::write::GzEncoder;

use super::*;
use crate::store::tests::zipped;

const CAP: u64 = 50_000;

/// A member of a tar archive.
struct Member<'m> {
    name: &'m [u8],
    kind: EntryType,
    data: &'m [u8],
}

const fn file<'m>(name: &'m str, data: &'m [u8]) -> Member<'m> {
    Member { name: name.as_bytes(), kind: EntryType::Regular, data }
}

/// As it is written, without a look at what the names say.
fn tarred(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for member in members {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..member.name.len()].copy_from_slice(member.name);
        header.set_entry_type(member.kind);
        header.set_size(member.data.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder.append(&header, member.data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Level::best());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        // The length counts itself.
        let rest = key.len() + value.len() + 3;
        let length = (1..10).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
        bytes.extend_from_slice(format!("{} {key}={value}\n", length.unwrap()).as_bytes());
    }
    bytes
}

fn of(bytes: &[u8], entry: Option<&str>) -> Result<(Vec<u8>, Option<String>), ExtractError> {
    let mut target = Vec::new();
    let extracted = extract(Cursor::new(bytes), entry, &mut target, CAP)?;
    assert_eq!(extracted.sha256, Sha256(sha2::Sha256::digest(&target).into()));
    assert_eq!(extracted.bytes, target.len() as u64);
    Ok((target, extracted.member))
}

fn refused(bytes: &[u8], entry: Option<&str>) -> Unusable {
    match of(bytes, entry) {
        Err(ExtractError::Unusable(unusable)) => unusable,
        other => panic!("{other:?}"),
    }
}

/// The same members in each kind of archive.
fn archives(members: &[(&str, &[u8])]) -> [(&'static str, Vec<u8>); 3] {
    let kind = |name: &str| match () {
        () if name.starts_with("link:") => EntryType::Symlink,
        () if name.ends_with('/') => EntryType::Directory,
        () => EntryType::Regular,
    };
    let tar: Vec<Member<'_>> = members
        .iter()
        .map(|(name, data)| Member {
            name: name.strip_prefix("link:").unwrap_or(name).as_bytes(),
            kind: kind(name),
            data: if kind(name) == EntryType::Regular { data } else { b"" },
        })
        .collect();
    [("zip", zipped(members)), ("tar.gz", gz(&tarred(&tar))), ("tar.zst", zst(&tarred(&tar)))]
}

#[test]
fn exactly_one_member_is_the_program_in_every_kind_of_archive() {
    let program = (b"1".to_vec(), Some("x/demo".to_owned()));
    for (kind, bytes) in archives(&[("x/", b""), ("x/demo", b"1"), ("link:other", b"/etc/passwd"), ("README", b"2")]) {
        assert_eq!(of(&bytes, Some("demo")).unwrap(), program, "{kind}");
        assert_eq!(of(&bytes, Some("x/demo")).unwrap(), program, "{kind}");
        assert_eq!(of(&bytes, Some("bin/demo")).unwrap(), program, "{kind}: the base name will do");
        assert_eq!(refused(&bytes, Some("other")), Unusable::NotAFile("other".to_owned()), "{kind}");
        assert_eq!(refused(&bytes, Some("none")), Unusable::NoMember("none".to_owned()), "{kind}");
        assert_eq!(refused(&bytes, None), Unusable::NoEntryNamed(3), "{kind}");
    }
    for (kind, bytes) in archives(&[("x/demo", b"1")]) {
        assert_eq!(of(&bytes, None).unwrap(), program, "{kind}");
    }
    for (kind, bytes) in archives(&[("a/demo", b"1"), ("b/demo", b"2"), ("demo", b"3")]) {
        assert_eq!(of(&bytes, Some("demo")).unwrap().0, b"3", "{kind}: a whole path wins");
        assert_eq!(of(&bytes, Some("a/demo")).unwrap().0, b"1", "{kind}");
        let ambiguous = Unusable::Ambiguous { entry: "c/demo".to_owned(), count: 3 };
        assert_eq!(refused(&bytes, Some("c/demo")), ambiguous, "{kind}");
    }
    for (kind, bytes) in archives(&[]) {
        assert_eq!(refused(&bytes, None), Unusable::NoEntryNamed(0), "{kind}");
    }
}

#[test]
fn a_member_that_would_leave_the_archive_refuses_it_whole() {
    let placed = |name: &str| {
        // The writer would not write such a name: it is put in place of one of the same length.
        let mut bytes = zipped(&[("placeholder", b"x"), ("demo", b"1")]);
        let padded = format!("{name:_<11}");
        while let Some(at) = bytes.windows(11).position(|window| window == b"placeholder") {
            bytes[at..at + 11].copy_from_slice(padded.as_bytes());
        }
        bytes
    };
    for name in ["../../../ab", "/etc/passwd", "..\\..\\abcd", "a/../../b"] {
        let tar = tarred(&[file(name, b"x"), file("demo", b"1")]);
        for bytes in [placed(name), gz(&tar), zst(&tar)] {
            assert!(matches!(refused(&bytes, Some("demo")), Unusable::Escapes(_)), "{name}");
        }
    }
    let long = tarred(&[Member { name: b"l", kind: EntryType::GNULongName, data: b"../up\0" }, file("demo", b"1")]);
    assert_eq!(refused(&gz(&long), None), Unusable::Escapes("../up".to_owned()));
}

#[test]
fn no_link_device_or_pipe_is_a_program() {
    let kinds = [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo];
    for kind in kinds.into_iter().chain([EntryType::new(b'V')]) {
        let tar = tarred(&[Member { name: b"demo", kind, data: b"" }]);
        assert_eq!(refused(&gz(&tar), Some("demo")), Unusable::NotAFile("demo".to_owned()), "{kind:?}");
    }
    let folder = tarred(&[file("demo/", b""), Member { name: b"demo", kind: EntryType::Directory, data: b"" }]);
    assert_eq!(refused(&gz(&folder), Some("demo")), Unusable::NoMember("demo".to_owned()));
}

#[test]
fn long_names_are_followed_and_headers_that_change_the_stream_refused() {
    let name = format!("{}/demo", "long".repeat(60));
    let gnu = tarred(&[
        Member { name: b"././@LongLink", kind: EntryType::GNULongName, data: format!("{name}\0").as_bytes() },
        file("long", b"1"),
        file("other", b"2"),
    ]);
    let header = |records: &[(&str, &str)], kind| {
        tarred(&[Member { name: b"PaxHeaders/x", kind, data: &pax(records) }, file("long", b"1"), file("other", b"2")])
    };
    let named = header(&[("mtime", "1.5"), ("path", &name)], EntryType::XHeader);
    let noted = [header(&[("comment", "0123")], EntryType::XGlobalHeader), gnu.clone()].concat();
    for tar in [&gnu, &named] {
        for bytes in [gz(tar), zst(tar)] {
            assert_eq!(of(&bytes, Some("demo")).unwrap(), (b"1".to_vec(), Some(name.clone())));
            // The long name is of the next member alone.
            assert_eq!(of(&bytes, Some("other")).unwrap().0, b"2");
        }
    }
    assert!(of(&gz(&noted), Some("long")).is_ok());
    for (records, kind) in [
        (&[("size", "5")][..], EntryType::XHeader),
        (&[("GNU.sparse.major", "1")], EntryType::XHeader),
        (&[("size", "5")], EntryType::XGlobalHeader),
        (&[("path", "demo")], EntryType::XGlobalHeader),
    ] {
        assert!(matches!(refused(&gz(&header(records, kind)), Some("long")), Unusable::Extended(_)), "{records:?}");
    }
    let sparse = tarred(&[Member { name: b"demo", kind: EntryType::GNUSparse, data: b"1" }]);
    assert!(matches!(refused(&gz(&sparse), None), Unusable::Extended(_)));
    let endless = tarred(&[Member { name: b"l", kind: EntryType::GNULongName, data: &[b'a'; 65_537 - 20_000] }]);
    assert!(matches!(refused(&gz(&endless), None), Unusable::NoEntryNamed(0)));
}

#[test]
fn a_bomb_is_given_up_at_the_cap_whichever_member_it_is() {
    let zeroes = vec![0u8; 60_000];
    for (kind, bytes) in archives(&[("demo", &zeroes)]) {
        assert!(bytes.len() < 2_000, "{kind}");
        assert_eq!(refused(&bytes, None), Unusable::TooLargeUnpacked { cap: CAP }, "{kind}");
    }
    // Of a zip archive only the program is inflated; a stream must be read through.
    let [zip, gz, zst] = archives(&[("demo", b"1"), ("other", &zeroes)]).map(|(_, bytes)| bytes);
    assert_eq!(of(&zip, Some("demo")).unwrap().0, b"1");
    for bytes in [gz, zst] {
        assert_eq!(refused(&bytes, Some("demo")), Unusable::TooLargeUnpacked { cap: CAP });
    }
    assert_eq!(refused(&vec![1; 50_001], None), Unusable::TooLargeUnpacked { cap: CAP });
    assert_eq!(of(&vec![1; 50_000], None).unwrap().0.len(), 50_000);
}

#[test]
fn archives_that_are_not_read_or_broken_are_refused_by_name() {
    for (bytes, name) in [(&b"\xfd7zXZ\0rest"[..], "xz"), (b"BZh91AY", "bzip2"), (b"7z\xbc\xaf\x27\x1crest", "7z")] {
        assert_eq!(refused(bytes, None), Unusable::Format(name));
    }
    for (kind, bytes) in archives(&[("demo", b"a program of some length, of some length")]) {
        for cut in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 30] {
            let broken = of(&bytes[..cut], None);
            assert!(
                matches!(&broken, Err(ExtractError::Unusable(Unusable::Broken { format, .. })) if *format == kind),
                "{kind} cut at {cut}: {broken:?}"
            );
        }
    }
    // Compressed, and no archive.
    assert!(matches!(refused(&gz(&[7; 2_000]), None), Unusable::Broken { format: "tar.gz", .. }));
}

#[test]
fn every_frame_of_a_stream_counts_and_notes_between_them_do_not() {
    let tar = tarred(&[file("demo", b"1"), file("other", &[7; 3_000])]);
    let (one, two) = tar.split_at(700);
    let note = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"note"].concat();
    assert_eq!(of(&[zst(one), note, zst(two)].concat(), Some("other")).unwrap().0, [7; 3_000]);
    assert_eq!(of(&[gz(one), gz(two)].concat(), Some("other")).unwrap().0, [7; 3_000]);
}

#[test]
fn a_source_that_cannot_be_read_is_not_the_archives_fault() {
    struct Fails(Cursor<Vec<u8>>);
    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // A little at a time, so that no buffer holds all of it.
            let most = buffer.len().min(64);
            if self.0.position() > 100 { Err(io::Error::other("the disk")) } else { self.0.read(&mut buffer[..most]) }
        }
    }
    impl Seek for Fails {
        fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let random: Vec<u8> = (0..60_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    for (kind, bytes) in archives(&[("demo", &random[..40_000])]) {
        let result = extract(Fails(Cursor::new(bytes)), None, io::sink(), CAP);
        assert!(matches!(result, Err(ExtractError::Read(_))), "{kind}: {result:?}");
    }
}
