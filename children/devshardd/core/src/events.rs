//! What a client hears of an inference, and what is stored of it.
//!
//! An inference is a sequence of payloads: the receipt, what the model says, the meta event. [`Record`] is that
//! sequence as bytes: what runs is read from it while it grows, and what is whole is stored and read again. So the
//! event `n` of a replay is the event `n` of the stream.
//!
//! Must not live here: what a model sends ([`crate::sse`]), who listens, and where a record is kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{InferenceId, Nonce};
use crate::sse::{DONE, ModelStream};

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
}

impl EventError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            EventError::Cursor => "bad_cursor",
            EventError::Format(_) => "unknown_record_format",
            EventError::Torn => "torn_record",
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

/// Writes the event of this number behind what `out` has. Line breaks within the payload begin data lines of their own.
pub fn write_event(out: &mut Vec<u8>, cursor: Cursor, payload: &[u8]) {
    use std::io::Write as _;
    // Writing into a vector does not fail.
    let _ = writeln!(out, "id: {cursor}");
    write_data(out, payload);
}

/// The data lines of a payload, and the end of its event.
fn write_data(out: &mut Vec<u8>, payload: &[u8]) {
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

/// Writes the event that ends a stream early. It has no id: the cursor stays where it is.
pub fn write_end(out: &mut Vec<u8>, code: EndCode, message: &str) {
    let error = EndBody { code: code.code(), message, retry: code.may_be_retried() };
    out.extend(b"event: error\ndata: ");
    // Writing into a vector does not fail, and JSON has no line breaks of its own.
    let _ = serde_json::to_writer(&mut *out, &EndEvent { error });
    out.extend(b"\n\n");
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
    /// Of the state behind the session's latest step.
    pub state_sig: String,
    pub state_hash: String,
    pub nonce: Nonce,
    /// Of the inference, where this host executes it.
    #[serde(flatten)]
    pub executor: Option<Executor>,
}

/// What an executor says of an inference when it has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Executor {
    pub receipt: String,
    /// Seconds since 1970.
    pub confirmed_at: i64,
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

    /// Writes the events from this one on behind what `out` has, and returns the number of the next.
    pub fn write_from(&self, out: &mut Vec<u8>, inference: InferenceId, from: u32) -> u32 {
        let mut n = from;
        while let Some(payload) = self.get(n) {
            write_event(out, Cursor { inference, n }, payload);
            n += 1;
        }
        n
    }

    /// What the model said: the payloads behind the receipt, `[DONE]` the last.
    pub fn said(&self) -> impl Iterator<Item = &[u8]> {
        let mut is_done = false;
        (1..).map_while(|n| self.get(n)).take_while(move |payload| !std::mem::replace(&mut is_done, *payload == DONE))
    }

    /// That as an event stream without numbers: what an executor commits to by its hash.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.said().for_each(|payload| write_data(&mut body, payload));
        body
    }

    /// The tokens of the prompt and of the answer, as the model counts them. One that does not is believed to have read
    /// `input_length` tokens and to have said one in each event.
    #[must_use]
    pub fn tokens(&self, input_length: u64) -> (u64, u64) {
        let mut events = 0_u64;
        let mut counted = None;
        for payload in self.said().filter(|payload| *payload != DONE) {
            events = events.saturating_add(1);
            // Nearly all have none: they are not read for it.
            if payload.windows(USAGE.len()).any(|window| window == USAGE) {
                counted = serde_json::from_slice::<Used>(payload).ok().and_then(|used| used.usage).or(counted);
            }
        }
        counted.map_or((input_length, events), |usage| (usage.prompt_tokens, usage.completion_tokens))
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

/// What a model says in words: the contents of its events, or of the messages of an answer in one piece. `None`: the body
/// is no event stream that ends with `[DONE]`, or an event of it is no JSON.
#[must_use]
pub fn answer_text(body: &[u8]) -> Option<String> {
    let (mut stream, mut payloads, mut text) = (ModelStream::with_limit(body.len().max(1)), Vec::new(), String::new());
    stream.push(body, &mut payloads).ok()?;
    if !stream.is_done() {
        return None;
    }
    for payload in payloads.iter().filter(|payload| *payload != DONE) {
        let chunk: serde_json::Value = serde_json::from_slice(payload).ok()?;
        for choice in chunk.get("choices")?.as_array()? {
            let said = ["delta", "message"].iter().find_map(|name| choice.get(name)?.get("content")?.as_str());
            text.push_str(said.unwrap_or_default());
        }
    }
    Some(text)
}

/// Where a payload says what it has used.
const USAGE: &[u8] = b"\"usage\"";

#[derive(Deserialize)]
struct Used {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
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
