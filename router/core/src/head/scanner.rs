//! The machine that follows a connection: head, body, head, …

use super::chunked::Chunked;
use super::{Framing, Head, HeadViolation, MAX_HEAD, grammar};

/// What one feeding led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// How many bytes of the input were taken. Feed the rest again.
    pub used: usize,
    pub step: Step,
}

/// What the taken bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Part of a head that is not complete; the scanner keeps them.
    NeedMore,
    /// The end of a head. Its bytes, whole, are in [`HeadScanner::take_head`].
    Head(Head),
    /// Part of a body: to be passed on.
    Body,
    /// Nothing was taken: the last request asked for an upgrade, and whether it gets one is not known.
    Waiting,
    /// Nothing was taken, and nothing ever will be.
    Violation(HeadViolation),
}

/// Follows the requests of one connection.
#[derive(Debug, Clone)]
pub struct HeadScanner {
    state: State,
    /// The bytes of the head that is being read, or that was read last.
    head: Vec<u8>,
    /// Whether `head` is a whole one, which the next byte of a head replaces.
    complete: bool,
    blank_seen: bool,
    upgrade: bool,
}

#[derive(Debug, Clone)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunked),
    /// After an upgrade request.
    Waiting,
    Refused(HeadViolation),
}

impl Default for HeadScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl HeadScanner {
    /// A scanner at the start of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Head, head: Vec::new(), complete: false, blank_seen: false, upgrade: false }
    }

    /// Takes some of `input`. Call again with what is left, until all of it is used or the step is
    /// [`Step::Waiting`] or [`Step::Violation`].
    pub fn feed(&mut self, input: &[u8]) -> Fed {
        match &mut self.state {
            State::Head => self.head(input),
            State::Length(left) => {
                let used = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= used as u64;
                if *left == 0 {
                    self.next_message();
                }
                Fed { used, step: Step::Body }
            }
            State::Chunked(chunked) => match chunked.feed(input) {
                Ok(used) => {
                    if let Chunked::End = chunked {
                        self.next_message();
                    }
                    Fed { used, step: Step::Body }
                }
                Err(violation) => self.refuse(violation),
            },
            State::Waiting => Fed { used: 0, step: Step::Waiting },
            State::Refused(violation) => Fed { used: 0, step: Step::Violation(*violation) },
        }
    }

    /// The bytes of the head that the last [`Step::Head`] spoke of.
    pub fn take_head(&mut self) -> Vec<u8> {
        self.complete = false;
        std::mem::take(&mut self.head)
    }

    /// The upgrade was not granted: requests follow.
    pub fn resume(&mut self) {
        self.upgrade = false;
        if let State::Waiting = self.state {
            self.next_message();
        }
    }

    /// How many of the next bytes belong to the body whatever they are; the caller may pass them on
    /// unseen if it says so by [`HeadScanner::skip`].
    #[must_use]
    pub const fn free_run(&self) -> u64 {
        match &self.state {
            State::Length(left) => *left,
            State::Chunked(Chunked::Data { left }) => *left,
            State::Head | State::Chunked(_) | State::Waiting | State::Refused(_) => 0,
        }
    }

    /// Counts bytes that were passed on unseen: at most [`HeadScanner::free_run`].
    pub fn skip(&mut self, bytes: u64) {
        match &mut self.state {
            State::Length(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.next_message();
                }
            }
            State::Chunked(chunked) => {
                if let Chunked::Data { left } = chunked {
                    *left = left.saturating_sub(bytes);
                    if *left == 0 {
                        *chunked = Chunked::DataCr;
                    }
                }
            }
            State::Head | State::Waiting | State::Refused(_) => {}
        }
    }

    /// Whether a head has begun and is not complete.
    #[must_use]
    pub fn is_mid_head(&self) -> bool {
        matches!(self.state, State::Head) && (self.blank_seen || !(self.complete || self.head.is_empty()))
    }

    /// Whether the next byte would begin a head, or belongs to one.
    #[must_use]
    pub const fn is_at_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Whether the fate of an upgrade must be known before anything more is taken.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// Whether the last request's body is not complete.
    #[must_use]
    pub const fn is_mid_body(&self) -> bool {
        match self.state {
            State::Length(_) | State::Chunked(_) => true,
            State::Head | State::Waiting | State::Refused(_) => false,
        }
    }

    fn head(&mut self, input: &[u8]) -> Fed {
        if std::mem::take(&mut self.complete) {
            self.head.clear();
        }
        for (at, byte) in input.iter().enumerate() {
            if let Err(violation) = self.head_byte(*byte) {
                return self.refuse(violation);
            }
            if self.head == b"\r\n" {
                // RFC 9112, 2.2: one empty line before a request line is ignored.
                if std::mem::replace(&mut self.blank_seen, true) {
                    return self.refuse(HeadViolation::RequestLine);
                }
                self.head.clear();
            } else if self.head.ends_with(b"\r\n\r\n") {
                return match grammar::parse(&self.head) {
                    Err(violation) => self.refuse(violation),
                    Ok(head) => {
                        self.complete = true;
                        self.upgrade = head.upgrade;
                        self.state = match head.framing {
                            Framing::None => State::Head,
                            Framing::Length(length) => State::Length(length),
                            Framing::Chunked => State::Chunked(Chunked::start()),
                        };
                        if let Framing::None = head.framing {
                            self.next_message();
                        }
                        Fed { used: at + 1, step: Step::Head(head) }
                    }
                };
            }
        }
        Fed { used: input.len(), step: Step::NeedMore }
    }

    /// Keeps one byte of a head, if it may stand where it stands.
    fn head_byte(&mut self, byte: u8) -> Result<(), HeadViolation> {
        let before = self.head.last().copied();
        match (before, byte) {
            (Some(b'\r'), b'\n') => {}
            (Some(b'\r'), _) => return Err(HeadViolation::BareCr),
            (_, b'\n') => return Err(HeadViolation::BareLf),
            (Some(b'\n'), b' ' | b'\t') => return Err(HeadViolation::ObsFold),
            (None, b' ' | b'\t') => return Err(HeadViolation::RequestLine),
            (_, b'\r' | b'\t' | b' '..=b'~' | 0x80..) => {}
            (_, _) => return Err(HeadViolation::Control),
        }
        if self.head.len() == MAX_HEAD {
            return Err(HeadViolation::HeadTooLarge);
        }
        self.head.push(byte);
        Ok(())
    }

    fn next_message(&mut self) {
        self.blank_seen = false;
        self.state = if self.upgrade { State::Waiting } else { State::Head };
    }

    fn refuse(&mut self, violation: HeadViolation) -> Fed {
        self.head = Vec::new();
        self.state = State::Refused(violation);
        Fed { used: 0, step: Step::Violation(violation) }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
