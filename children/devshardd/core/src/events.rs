//! What a client hears of an inference, and what is stored of it.
//!
//! An inference is a sequence of payloads: the receipt, what the model says, the meta event. [`Record`] is that
//! sequence as bytes: what runs is read from it while it grows, and what is whole is stored and read again. So the
//! event `n` of a replay is the event `n` of the stream.
//!
//! Must not live here: what a model sends ([`crate::sse`]), who listens, and where a record is kept.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
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
    /// The model broke off.
    ModelFailed,
    /// The model was too slow.
    ModelTimeout,
    /// The place of record does not answer.
    StorageUnavailable,
    /// No such event is in the result.
    UnknownCursor,
    /// Another host runs it, for longer than is waited for.
    StillRunning,
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
    #[error("{0}: no such event is in the result")]
    Unknown(Cursor),
}

impl EventError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            EventError::Cursor => "bad_cursor",
            EventError::Format(_) => "unknown_record_format",
            EventError::Torn => "torn_record",
            EventError::Unknown(_) => EndCode::UnknownCursor.code(),
        }
    }
}

impl EndCode {
    pub const ALL: [EndCode; 7] = [
        EndCode::OutcomeUncertain,
        EndCode::ModelUnavailable,
        EndCode::ModelFailed,
        EndCode::ModelTimeout,
        EndCode::StorageUnavailable,
        EndCode::UnknownCursor,
        EndCode::StillRunning,
    ];

    /// As programs read it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            EndCode::OutcomeUncertain => "outcome_uncertain",
            EndCode::ModelUnavailable => "model_unavailable",
            EndCode::ModelFailed => "model_failed",
            EndCode::ModelTimeout => "model_timeout",
            EndCode::StorageUnavailable => "storage_unavailable",
            EndCode::UnknownCursor => "unknown_cursor",
            EndCode::StillRunning => "still_running",
        }
    }

    /// Whether the same request may be sent once more, with hope.
    #[must_use]
    pub const fn may_be_retried(self) -> bool {
        match self {
            EndCode::ModelUnavailable | EndCode::StorageUnavailable | EndCode::StillRunning => true,
            EndCode::OutcomeUncertain | EndCode::ModelFailed | EndCode::ModelTimeout | EndCode::UnknownCursor => false,
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
        let is_plain = n == "0" || !n.starts_with(['0', '+']);
        let n = n.parse().ok().filter(|_| is_plain).ok_or(EventError::Cursor)?;
        Ok(Cursor { inference: inference.parse().map_err(|_| EventError::Cursor)?, n })
    }
}

/// Writes the events of an inference one after the other, each with its number.
#[derive(Debug, Clone, Copy)]
pub struct EventWriter {
    next: Cursor,
}

impl EventWriter {
    /// Of all events of an inference, from 0 on.
    #[must_use]
    pub const fn from_start(inference: InferenceId) -> Self {
        Self { next: Cursor { inference, n: 0 } }
    }

    /// Of the events that follow this one.
    #[must_use]
    pub const fn after(cursor: Cursor) -> Self {
        Self { next: Cursor { inference: cursor.inference, n: cursor.n.saturating_add(1) } }
    }

    /// The number of the next event.
    #[must_use]
    pub const fn next(&self) -> Cursor {
        self.next
    }

    /// Writes the next event behind what `out` has.
    pub fn write(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        write_event(out, self.next, payload);
        *self = Self::after(self.next);
    }
}

/// Writes the event of this number behind what `out` has. Line breaks within the payload begin data lines of their own.
pub fn write_event(out: &mut Vec<u8>, cursor: Cursor, payload: &[u8]) {
    write_fields(out, cursor, None, payload);
}

/// As [`write_event`], for listeners to events of this name.
pub fn write_named_event(out: &mut Vec<u8>, cursor: Cursor, name: &'static str, payload: &[u8]) {
    write_fields(out, cursor, Some(name), payload);
}

/// Writes the event that ends a stream early. It has no id: the cursor stays where it is.
pub fn write_end(out: &mut Vec<u8>, code: EndCode, message: &str) {
    let error = EndBody { code: code.code(), message, retry: code.may_be_retried() };
    out.extend(b"event: error\ndata: ");
    // Writing into a vector does not fail, and JSON has no line breaks of its own.
    let _ = serde_json::to_writer(&mut *out, &EndEvent { error });
    out.extend(b"\n\n");
}

fn write_fields(out: &mut Vec<u8>, cursor: Cursor, name: Option<&str>, payload: &[u8]) {
    use std::io::Write as _;
    // Writing into a vector does not fail.
    let _ = writeln!(out, "id: {cursor}");
    if let Some(name) = name {
        let _ = writeln!(out, "event: {name}");
    }
    let mut rest = payload;
    loop {
        // A CR ends a line for whoever reads, too: what follows it would be a field of the model's own.
        let at = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let (line, behind) = rest.split_at(at.unwrap_or(rest.len()));
        out.extend(b"data: ");
        out.extend(line);
        out.push(b'\n');
        rest = match behind {
            [] => break,
            [b'\r', b'\n', behind @ ..] | [_, behind @ ..] => behind,
        };
    }
    out.push(b'\n');
}

#[derive(Serialize)]
struct EndEvent<'a> {
    error: EndBody<'a>,
}

#[derive(Serialize)]
struct EndBody<'a> {
    code: &'static str,
    message: &'a str,
    retry: bool,
}

/// What the host has signed before the model is asked; bytes are in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
        json(&ReceiptEvent { devshard_receipt: self })
    }
}

/// The payload of the last event; bytes are in base64.
#[must_use]
pub fn meta(mempool: &[String]) -> Vec<u8> {
    json(&MetaEvent { devshard_meta: Meta { mempool } })
}

#[derive(Serialize)]
struct ReceiptEvent<'a> {
    devshard_receipt: &'a Receipt,
}

#[derive(Serialize)]
struct MetaEvent<'a> {
    devshard_meta: Meta<'a>,
}

#[derive(Serialize)]
struct Meta<'a> {
    mempool: &'a [String],
}

fn json(event: &impl Serialize) -> Vec<u8> {
    // Texts and numbers under fixed names are always written.
    serde_json::to_vec(event).unwrap_or_default()
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

    /// The events that a client lacks which has those up to `cursor`, or none. Of a client that has them all, nothing.
    pub fn after(
        &self,
        inference: InferenceId,
        cursor: Option<Cursor>,
    ) -> Result<impl Iterator<Item = (Cursor, &[u8])>, EventError> {
        let first = match cursor {
            None => 0,
            Some(cursor) if cursor.inference == inference && self.get(cursor.n).is_some() => cursor.n.saturating_add(1),
            Some(cursor) => return Err(EventError::Unknown(cursor)),
        };
        Ok((first..=u32::MAX).map_while(move |n| Some((Cursor { inference, n }, self.get(n)?))))
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
#[path = "events_tests.rs"]
mod tests;
