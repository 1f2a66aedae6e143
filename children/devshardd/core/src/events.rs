//! What a client hears of an inference, and what is stored of it.
//!
//! An inference is a sequence of payloads: the receipt, what the model says, the meta event. [`Record`] is that
//! sequence as bytes: what runs is read from it while it grows, and what is whole is stored and read again. So the
//! event `n` of a replay is the event `n` of the stream.

use std::fmt;
use std::str::FromStr;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::ids::{InferenceId, Nonce};

/// The first byte of a stored record: how the rest is read.
const FORMAT: u8 = 1;

/// Which event a client has: `<inference>:<n>`, with n from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub inference: InferenceId,
    pub n: u32,
}

/// Why a stream ends otherwise than with its meta event. The client may ask again by its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndCode {
    /// The model has been called, and what came of it is not known. It is not called again.
    OutcomeUncertain,
    /// The model did not begin.
    ModelUnavailable,
    /// The model broke off, or was too slow.
    ModelFailed,
    /// The place of record does not answer.
    StorageUnavailable,
    /// No such event is in the result.
    UnknownCursor,
    /// Another host runs it, for longer than is waited for.
    StillRunning,
    /// This host stops before the inference is at its end.
    HostStopping,
}

/// What is wrong with a cursor or a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error("a cursor is `<inference>:<event>`, two numbers")]
    Cursor,
    #[error("the record is of format {0}, and this build reads {FORMAT}")]
    Format(u8),
    #[error("the record ends within an event")]
    Torn,
}

impl EndCode {
    pub const ALL: [EndCode; 7] = [
        EndCode::OutcomeUncertain,
        EndCode::ModelUnavailable,
        EndCode::ModelFailed,
        EndCode::StorageUnavailable,
        EndCode::UnknownCursor,
        EndCode::StillRunning,
        EndCode::HostStopping,
    ];

    /// As programs read it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            EndCode::OutcomeUncertain => "outcome_uncertain",
            EndCode::ModelUnavailable => "model_unavailable",
            EndCode::ModelFailed => "model_failed",
            EndCode::StorageUnavailable => "storage_unavailable",
            EndCode::UnknownCursor => "unknown_cursor",
            EndCode::StillRunning => "still_running",
            EndCode::HostStopping => "host_stopping",
        }
    }

    /// Whether the same request may be sent once more, with hope.
    #[must_use]
    pub const fn may_be_retried(self) -> bool {
        match self {
            EndCode::ModelUnavailable | EndCode::StorageUnavailable | EndCode::StillRunning | EndCode::HostStopping => {
                true
            }
            EndCode::OutcomeUncertain | EndCode::ModelFailed | EndCode::UnknownCursor => false,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.inference, self.n)
    }
}

impl FromStr for Cursor {
    type Err = EventError;

    fn from_str(text: &str) -> Result<Self, EventError> {
        let (inference, n) = text.trim().split_once(':').ok_or(EventError::Cursor)?;
        let inference = InferenceId(inference.parse().map_err(|_| EventError::Cursor)?);
        Ok(Cursor { inference, n: n.parse().map_err(|_| EventError::Cursor)? })
    }
}

/// Writes the event of this number behind what `out` has. Line breaks within the payload begin data lines of their own.
pub fn write_event(out: &mut Vec<u8>, cursor: Cursor, payload: &[u8]) {
    use std::io::Write as _;
    // Writing into a vector does not fail.
    let _ = writeln!(out, "id: {cursor}");
    for line in payload.split(|byte| *byte == b'\n') {
        out.extend(b"data: ");
        out.extend(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// Writes the event that ends a stream early. It has no id: the cursor stays where it is.
pub fn write_end(out: &mut Vec<u8>, code: EndCode, message: &str) {
    let error = json!({"error": {"code": code.code(), "message": message, "retry": code.may_be_retried()}});
    out.extend(format!("event: error\ndata: {error}\n\n").into_bytes());
}

/// What the host has signed before the model is asked; bytes are in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub state_sig: String,
    pub state_hash: String,
    pub nonce: Nonce,
    pub receipt: String,
    /// Seconds since 1970.
    pub confirmed_at: u64,
}

impl Receipt {
    /// The payload of event 0.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let receipt = json!({"devshard_receipt": {
            "state_sig": self.state_sig, "state_hash": self.state_hash, "nonce": self.nonce.0,
            "receipt": self.receipt, "confirmed_at": self.confirmed_at,
        }});
        receipt.to_string().into_bytes()
    }
}

/// The payload of the last event.
#[must_use]
pub fn meta(mempool: &[String]) -> Vec<u8> {
    json!({"devshard_meta": {"mempool": mempool}}).to_string().into_bytes()
}

/// The events of an inference, as they are stored: a byte of format, then each payload behind its length (four bytes,
/// big end first).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Vec<u8>,
    /// Where each payload begins.
    starts: Vec<usize>,
}

impl Default for Record {
    fn default() -> Self {
        Self { bytes: vec![FORMAT], starts: Vec::new() }
    }
}

impl Record {
    /// Reads a stored one.
    pub fn read(bytes: Vec<u8>) -> Result<Record, EventError> {
        match bytes.first() {
            Some(&FORMAT) => {}
            Some(other) => return Err(EventError::Format(*other)),
            None => return Err(EventError::Torn),
        }
        let (mut starts, mut at) = (Vec::new(), 1);
        while at < bytes.len() {
            starts.push(at + 4);
            at = end(&bytes, at + 4).filter(|end| *end <= bytes.len()).ok_or(EventError::Torn)?;
        }
        Ok(Record { bytes, starts })
    }

    /// One more payload. `false`: it is longer than can be written down.
    pub fn push(&mut self, payload: &[u8]) -> bool {
        let Ok(length) = u32::try_from(payload.len()) else { return false };
        self.bytes.extend(length.to_be_bytes());
        self.starts.push(self.bytes.len());
        self.bytes.extend(payload);
        true
    }

    /// How many events there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.starts.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The payload of an event.
    #[must_use]
    pub fn get(&self, n: u32) -> Option<&[u8]> {
        let start = *self.starts.get(usize::try_from(n).ok()?)?;
        self.bytes.get(start..end(&self.bytes, start)?)
    }

    /// As it is stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What both sides commit to: SHA-256 of what is stored.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }
}

/// Where the payload ends that begins at `start`, by the length before it.
fn end(bytes: &[u8], start: usize) -> Option<usize> {
    let length = bytes.get(start.checked_sub(4)?..start)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    start.checked_add(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sse::Parser;

    #[test]
    fn an_event_carries_its_cursor() {
        let mut out = Vec::new();
        write_event(&mut out, Cursor { inference: InferenceId(7), n: 3 }, b"a\nb");
        assert_eq!(String::from_utf8(out).unwrap(), "id: 7:3\ndata: a\ndata: b\n\n");
        assert_eq!("7:3".parse(), Ok(Cursor { inference: InferenceId(7), n: 3 }));
        for text in ["", "7", ":3", "7:", "7:-1", "7:3:1", "7:4294967296"] {
            assert_eq!(text.parse::<Cursor>(), Err(EventError::Cursor), "{text:?}");
        }
    }

    #[test]
    fn an_early_end_says_why_and_leaves_the_cursor() {
        let mut out = Vec::new();
        write_end(&mut out, EndCode::OutcomeUncertain, "its host is gone");
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("event: error\ndata: {\"error\":{\"code\":\"outcome_uncertain\""), "{text}");
        assert!(!text.contains("id:") && text.ends_with("\n\n"), "{text}");
    }

    #[test]
    fn a_record_that_is_cut_is_told() {
        let mut record = Record::default();
        assert!(record.push(b"one") && record.push(b"two"));
        for cut in 2..record.bytes().len() {
            let read = Record::read(record.bytes()[..cut].to_vec());
            // Between two events nothing tells; the row says whether it is whole.
            let is_between = cut == 1 + 4 + 3;
            assert_eq!(read.is_err(), !is_between, "cut at {cut}");
        }
        assert_eq!(Record::read(vec![9]), Err(EventError::Format(9)));
    }

    proptest! {
        #[test]
        fn what_is_stored_is_what_was_said(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut record = Record::default();
            for payload in &payloads {
                prop_assert!(record.push(payload));
            }
            let read = Record::read(record.bytes().to_vec()).unwrap();
            prop_assert_eq!(&read, &record);
            let again: Vec<Vec<u8>> = (0..).map_while(|n| read.get(n).map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(again, payloads);
        }

        #[test]
        fn what_is_written_is_read_the_same(payload in "[a-z\n:{} ]{0,60}") {
            let mut out = Vec::new();
            write_event(&mut out, Cursor { inference: InferenceId(1), n: 0 }, payload.as_bytes());
            let events = Parser::default().push(&out).unwrap();
            prop_assert_eq!(events, vec![payload.into_bytes()]);
        }
    }
}
