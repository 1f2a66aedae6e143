//! An archive as it was fetched: whatever it is, nothing panics, at most the cap is written, each refusal has a
//! text, and what is named leads nowhere. Nothing of it can come to a place of its own choice: all that is
//! written goes to one sink.

use std::io::{self, Cursor, Write};

use versiond::store::archive::{ExtractError, extract};

/// What is inflated at most.
const CAP: u64 = 1 << 20;

/// Counts what comes.
struct Sink(u64);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        assert!(self.0 <= CAP, "more than the cap was written");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Panics where that does not hold.
pub(crate) fn run(data: &[u8]) {
    for entry in [None, Some("demo"), Some("bin/demo")] {
        let mut sink = Sink(0);
        match extract(Cursor::new(data), entry, &mut sink, CAP) {
            Ok(extracted) => {
                assert_eq!(extracted.bytes, sink.0);
                let member = extracted.member.unwrap_or_default();
                assert!(!member.starts_with('/') && !member.split('/').any(|part| part == ".."), "{member}");
            }
            Err(ExtractError::Unusable(unusable)) => assert!(!unusable.to_string().is_empty()),
            Err(error @ (ExtractError::Read(_) | ExtractError::Write(_))) => panic!("{error:?}: memory does not fail"),
        }
    }
}
