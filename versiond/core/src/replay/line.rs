//! The lines of a recording: a header, the slot at the start, each act with its moment, and the slot at the end,
//! by which a recording that was cut off is told from a whole one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use supervisor_protocol::{SlotId, Tick};

use super::Act;
use crate::slot::Slot;

/// The form of a recording. It changes when a line of an older one can no longer be read as what it meant.
pub const FORMAT: u32 = 1;

/// The version that records, and plays.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Header(Header),
    Start(Box<Slot>),
    Act { at: Tick, act: Act },
    End(Box<Slot>),
}

/// What the recording is of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    schema: u32,
    pub(super) version: String,
    pub(super) slot: SlotId,
}

/// Why a recording cannot be played. Every one names its line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("line {line}: not a line of a recording")]
    Malformed { line: usize, source: serde_json::Error },
    #[error("line {line}: not understood; it was recorded by version {version}, this is {VERSION}")]
    OtherVersion { line: usize, version: String, source: serde_json::Error },
    #[error("line {line}: a recording of schema {found}, this knows {FORMAT}")]
    Schema { line: usize, found: u64 },
    #[error("line {line}: expected {expected}")]
    Misplaced { line: usize, expected: &'static str },
    #[error("line {line}: expected {expected}, and there is nothing; the recording is cut off")]
    CutOff { line: usize, expected: &'static str },
    #[error("line {line}: its moment lies before that of the line above")]
    Backwards { line: usize },
}

// === impl Line ===

impl Line {
    /// As JSON, with its line feed. The keys of every map in it are numbers or strings, so that it has a form.
    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl Header {
    pub(super) fn new(slot: SlotId) -> Header {
        Header { schema: FORMAT, version: VERSION.to_owned(), slot }
    }
}

// === reading ===

/// The lines of a recording as they are read.
pub(super) struct Lines<'t> {
    lines: std::str::Lines<'t>,
    /// The number of the last one.
    number: usize,
    version: Option<String>,
    last: Tick,
}

pub(super) fn read(text: &str) -> Lines<'_> {
    Lines { lines: text.lines(), number: 0, version: None, last: Tick::ZERO }
}

impl<'t> Lines<'t> {
    pub(super) fn header(&mut self) -> Result<Header, LineError> {
        const EXPECTED: &str = "the header of a recording";
        let text = self.text(EXPECTED)?;
        let line = self.number;
        let value: Value = serde_json::from_str(text).map_err(|source| LineError::Malformed { line, source })?;
        // Before anything else of it is read: another form is refused by its number, not by what has changed.
        match value["header"]["schema"].as_u64() {
            Some(schema) if schema == u64::from(FORMAT) => {}
            Some(found) => return Err(LineError::Schema { line, found }),
            None => return Err(self.misplaced(EXPECTED)),
        }
        let header = Header::deserialize(&value["header"]).map_err(|source| LineError::Malformed { line, source })?;
        self.version = Some(header.version.clone());
        Ok(header)
    }

    pub(super) fn start(&mut self) -> Result<Slot, LineError> {
        const EXPECTED: &str = "the slot at the start";
        match self.line(EXPECTED)? {
            Line::Start(slot) => {
                self.last = slot.seen;
                Ok(*slot)
            }
            Line::Header(_) | Line::Act { .. } | Line::End(_) => Err(self.misplaced(EXPECTED)),
        }
    }

    pub(super) fn act_or_end(&mut self) -> Result<Line, LineError> {
        let line = self.line("an act, or the slot at the end")?;
        if let Line::Act { at, .. } = &line {
            if *at < self.last {
                return Err(LineError::Backwards { line: self.number });
            }
            self.last = *at;
        }
        Ok(line)
    }

    pub(super) fn nothing_more(&mut self) -> Result<(), LineError> {
        match self.lines.next() {
            None => Ok(()),
            Some(_) => Err(LineError::Misplaced { line: self.number + 1, expected: "nothing after the end" }),
        }
    }

    pub(super) fn misplaced(&self, expected: &'static str) -> LineError {
        LineError::Misplaced { line: self.number, expected }
    }

    fn line(&mut self, expected: &'static str) -> Result<Line, LineError> {
        let text = self.text(expected)?;
        let line = self.number;
        serde_json::from_str(text).map_err(|source| match self.version.clone().filter(|version| version != VERSION) {
            Some(version) => LineError::OtherVersion { line, version, source },
            None => LineError::Malformed { line, source },
        })
    }

    fn text(&mut self, expected: &'static str) -> Result<&'t str, LineError> {
        self.number += 1;
        self.lines.next().ok_or(LineError::CutOff { line: self.number, expected })
    }
}
