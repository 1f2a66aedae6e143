//! A stream of server-sent events, taken apart as it comes from a model.
//!
//! [`Parser`] is the grammar, [`ModelStream`] what a model makes of it: payloads, and `[DONE]` behind the last. Both are
//! bounded, and bytes may be split anywhere. [`from_whole`] is for a model that answers without a stream.
//!
//! Must not live here: sockets, the events that a client gets ([`crate::events`]), what a payload says.

/// What a model may say in one event, in bytes.
pub const EVENT_BYTES: usize = 1 << 20;

/// The data of the event that ends a stream.
pub const DONE: &[u8] = b"[DONE]";

/// UTF-8's mark of the byte order.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// What is wrong with a model's answer.
#[derive(Debug, thiserror::Error)]
pub enum SseError {
    #[error("an event is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the stream ended before [DONE]")]
    CutShort,
    #[error("the answer is no event stream, and not JSON either")]
    NotJson(#[source] serde_json::Error),
}

impl SseError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            SseError::TooLarge { .. } => "event_too_large",
            SseError::CutShort => "stream_cut_short",
            SseError::NotJson(_) => "answer_not_json",
        }
    }
}

/// A model's answer while it comes.
#[derive(Debug, Default)]
pub struct ModelStream {
    parser: Parser,
    is_done: bool,
}

impl ModelStream {
    /// With events of so many bytes at most.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { parser: Parser::with_limit(limit), is_done: false }
    }

    /// Puts behind what `payloads` has the data of each event that has ended in these bytes, in order. [`DONE`] is the
    /// last; what follows it is not looked at. Payloads before an error are not lost.
    pub fn push(&mut self, bytes: &[u8], payloads: &mut Vec<Vec<u8>>) -> Result<(), SseError> {
        if self.is_done {
            return Ok(());
        }
        let before = payloads.len();
        let read = self.parser.feed(bytes, payloads);
        let is_done = |payload: &Vec<u8>| payload.trim_ascii() == DONE;
        let Some(at) = payloads.iter().skip(before).position(is_done) else { return read };
        payloads.truncate(before + at);
        payloads.push(DONE.to_vec());
        self.is_done = true;
        Ok(())
    }

    /// Whether [`DONE`] has come: the answer is whole.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// The model has closed the stream. An answer without [`DONE`] is not whole.
    pub fn finish(self) -> Result<(), SseError> {
        if self.is_done { Ok(()) } else { Err(SseError::CutShort) }
    }
}

/// An answer that is one JSON value and not a stream: one payload, and [`DONE`]. What is not JSON has been cut.
pub fn from_whole(body: &[u8]) -> Result<[Vec<u8>; 2], SseError> {
    let _: serde::de::IgnoredAny = serde_json::from_slice(body).map_err(SseError::NotJson)?;
    Ok([body.trim_ascii().to_vec(), DONE.to_vec()])
}

/// Takes a stream apart.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// A mark of the byte order may stand before the first line.
    is_first_line: bool,
    is_broken: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self::with_limit(EVENT_BYTES)
    }
}

impl Parser {
    /// With events of so many bytes at most: their data, and the line that is being read.
    #[must_use]
    pub const fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_cr: false,
            is_first_line: true,
            is_broken: false,
        }
    }

    /// The data of each event that has ended in these bytes, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, SseError> {
        let mut events = Vec::new();
        self.feed(bytes, &mut events)?;
        Ok(events)
    }

    /// As [`Parser::push`], behind what `events` has; those before an error are not lost. After an error there is
    /// nothing more to come.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), SseError> {
        for byte in bytes {
            match byte {
                _ if self.is_broken => return Err(self.too_large()),
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\r' | b'\n' => {
                    self.after_cr = *byte == b'\r';
                    events.extend(self.end_line());
                }
                byte => {
                    self.after_cr = false;
                    if self.line.len() + self.data.len() >= self.limit {
                        self.is_broken = true;
                        return Err(self.too_large());
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(())
    }

    /// Whether the next byte begins an event: none has been begun that has not ended.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        self.line.is_empty() && !self.has_data
    }

    const fn too_large(&self) -> SseError {
        SseError::TooLarge { limit: self.limit }
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_first_line) && line.starts_with(MARK) {
            line.drain(..MARK.len());
        }
        if line.is_empty() {
            return std::mem::take(&mut self.has_data).then(|| std::mem::take(&mut self.data));
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (&line[..], &[][..]),
        };
        // Names, ids and waits are of no use here: ours are written anew.
        if name == b"data" {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend(value);
        }
        None
    }
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
