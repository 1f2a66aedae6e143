//! Is an answer whole? What went wrong with one operation, and the check of a numbered stream. Pure.

use serde::{Deserialize, Serialize};

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// What the child's binary says of itself.
    pub build: String,
    pub generation: u64,
    /// Where there are several hosts, the one of the child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Why an operation was not whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("status {status}: {detail}")]
    Status { status: u16, detail: String },
    #[error("no answer: {0}")]
    NoAnswer(String),
    #[error("the answer makes no sense: {0}")]
    Malformed(String),
    #[error("broken off after {after}: {how}")]
    BrokenOff { after: String, how: String },
    #[error("event {got} where {expected} was due")]
    Gap { expected: u64, got: u64 },
    #[error("the last event says {said} events, {seen} came, {asked} were asked for")]
    Count { said: u64, seen: u64, asked: u64 },
    #[error("begun by build {} of g{}, continued by build {} of g{}", .0.build, .0.generation, .1.build, .1.generation)]
    TwoOrigins(Origin, Origin),
    #[error("the upload arrived as {0}")]
    Upload(String),
    #[error("answered by build {} of g{}, which may not answer now: {}", .0.build, .0.generation, .1)]
    NotApproved(Origin, String),
}

/// How a fault counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Refused, unanswered or answered wrongly.
    Failed,
    /// Admitted, begun and broken off.
    Cut,
    /// Answered by a binary that is not approved for the slot at this time.
    WrongBinary,
    /// Refused, unanswered or broken off, because the demo itself had killed the supervisor.
    Killed,
}

impl Fault {
    /// How it counts while the supervisor lives.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Fault::BrokenOff { .. } => Verdict::Cut,
            Fault::NotApproved(..) => Verdict::WrongBinary,
            Fault::Connect(_)
            | Fault::Status { .. }
            | Fault::NoAnswer(_)
            | Fault::Malformed(_)
            | Fault::Gap { .. }
            | Fault::Count { .. }
            | Fault::TwoOrigins(..)
            | Fault::Upload(_) => Verdict::Failed,
        }
    }

    /// Whether a host that was killed and started again can be the cause. Nothing excuses an answer that came
    /// and was wrong.
    #[must_use]
    pub const fn may_come_of_a_kill(&self) -> bool {
        match self {
            Fault::Connect(_) | Fault::NoAnswer(_) | Fault::BrokenOff { .. } => true,
            Fault::Status { status, .. } => matches!(*status, 500..=599),
            Fault::Malformed(_)
            | Fault::Gap { .. }
            | Fault::Count { .. }
            | Fault::TwoOrigins(..)
            | Fault::Upload(_)
            | Fault::NotApproved(..) => false,
        }
    }

    /// Whether the host said that it knows no such name.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Fault::Status { status: 404, .. })
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Absent = an ordinary message.
    pub name: Option<String>,
    pub data: String,
}

/// Cuts a byte stream into events. Bytes may come in any pieces.
#[derive(Debug, Default)]
pub struct EventReader {
    pending: Vec<u8>,
}

impl EventReader {
    /// Takes the next bytes and returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.pending.drain(..end + 2).collect();
            events.extend(parse(&String::from_utf8_lossy(&block)));
        }
        events
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut data = Vec::new();
    for line in block.lines() {
        if let Some(name) = line.strip_prefix("event:") {
            event.name = Some(name.trim().to_owned());
        } else if let Some(text) = line.strip_prefix("data:") {
            data.push(text.strip_prefix(' ').unwrap_or(text));
        }
    }
    event.data = data.join("\n");
    (event.name.is_some() || !data.is_empty()).then_some(event)
}

#[derive(Deserialize)]
struct Numbered {
    n: u64,
    #[serde(flatten)]
    origin: Origin,
}

#[derive(Deserialize)]
struct Done {
    events: u64,
    #[serde(flatten)]
    origin: Origin,
}

/// Follows one stream of numbered answers (events, or echoed messages) to its end.
#[derive(Debug)]
pub struct StreamCheck {
    first: u64,
    asked: u64,
    seen: u64,
    origin: Option<Origin>,
    done: bool,
}

impl StreamCheck {
    /// A stream that was asked for this many answers, numbered from `first` on.
    #[must_use]
    pub const fn new(first: u64, asked: u64) -> Self {
        Self { first, asked, seen: 0, origin: None, done: false }
    }

    /// Events seen so far.
    #[must_use]
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether the final event has come.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Who answers it.
    #[must_use]
    pub const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Takes one server-sent event.
    pub fn event(&mut self, event: &Event) -> Result<(), Fault> {
        if self.done {
            return Err(Fault::Malformed("an event after the final one".to_owned()));
        }
        match event.name.as_deref() {
            None | Some("message") => self.numbered(&event.data),
            Some("done") => {
                let done: Done = decode(&event.data)?;
                self.same_origin(done.origin)?;
                if done.events != self.seen || self.seen != self.asked {
                    return Err(Fault::Count { said: done.events, seen: self.seen, asked: self.asked });
                }
                self.done = true;
                Ok(())
            }
            Some(other) => Err(Fault::Malformed(format!("an event of the name {other:?}"))),
        }
    }

    /// Takes one numbered answer: `{n, build, generation}`.
    pub fn numbered(&mut self, text: &str) -> Result<(), Fault> {
        let Numbered { n, origin } = decode(text)?;
        self.same_origin(origin)?;
        let expected = self.first + self.seen;
        if n != expected {
            return Err(Fault::Gap { expected, got: n });
        }
        self.seen += 1;
        Ok(())
    }

    /// The answer has ended cleanly: that is right only after the final event.
    pub fn end(&self) -> Result<(), Fault> {
        if self.done { Ok(()) } else { Err(self.broken_off("end of input")) }
    }

    /// The answer has ended in another way, which is never right: a final event is not yet the end.
    #[must_use]
    pub fn broken_off(&self, how: &str) -> Fault {
        let last = if self.done { " and the final one" } else { "" };
        Fault::BrokenOff { after: format!("{} of {} events{last}", self.seen, self.asked), how: how.to_owned() }
    }

    fn same_origin(&mut self, origin: Origin) -> Result<(), Fault> {
        match &self.origin {
            None => {
                self.origin = Some(origin);
                Ok(())
            }
            Some(first) if *first == origin => Ok(()),
            Some(first) => Err(Fault::TwoOrigins(first.clone(), origin)),
        }
    }
}

/// Reads a JSON answer.
pub fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        let shown: String = text.chars().take(120).collect();
        Fault::Malformed(format!("{error} in {shown:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u64, generation: u64) -> Event {
        Event { name: None, data: format!(r#"{{"n":{n},"build":"a","generation":{generation}}}"#) }
    }

    fn done(events: u64) -> Event {
        let data = format!(r#"{{"events":{events},"build":"a","generation":7}}"#);
        Event { name: Some("done".to_owned()), data }
    }

    fn feed(asked: u64, events: &[Event]) -> Result<(), Fault> {
        let mut check = StreamCheck::new(1, asked);
        events.iter().try_for_each(|event| check.event(event))?;
        check.end()
    }

    #[test]
    fn a_whole_stream_is_whole() {
        assert_eq!(feed(3, &[message(1, 7), message(2, 7), message(3, 7), done(3)]), Ok(()));
    }

    #[test]
    fn a_gap_in_the_numbers_is_found() {
        let gap = feed(3, &[message(1, 7), message(3, 7), done(3)]);
        assert_eq!(gap, Err(Fault::Gap { expected: 2, got: 3 }));
        assert_eq!(gap.unwrap_err().verdict(), Verdict::Failed);
        assert!(matches!(feed(2, &[message(1, 7), message(1, 7)]), Err(Fault::Gap { expected: 2, got: 1 })));
        assert!(matches!(feed(2, &[message(2, 7)]), Err(Fault::Gap { expected: 1, got: 2 })));
    }

    #[test]
    fn a_stream_without_its_final_event_is_cut_even_when_every_event_came() {
        let cut = feed(2, &[message(1, 7), message(2, 7)]).unwrap_err();
        assert_eq!(cut.verdict(), Verdict::Cut);
        assert_eq!(feed(2, &[]).unwrap_err().verdict(), Verdict::Cut);
    }

    #[test]
    fn a_stream_that_breaks_off_after_its_final_event_is_cut() {
        let mut check = StreamCheck::new(1, 1);
        [message(1, 7), done(1)].iter().try_for_each(|event| check.event(event)).unwrap();
        assert_eq!(check.broken_off("reset").verdict(), Verdict::Cut);
        assert_eq!(check.end(), Ok(()));
    }

    #[test]
    fn a_final_event_that_counts_otherwise_is_found() {
        assert!(matches!(feed(3, &[message(1, 7), done(3)]), Err(Fault::Count { seen: 1, .. })));
        assert!(matches!(feed(3, &[message(1, 7), done(1)]), Err(Fault::Count { asked: 3, .. })));
        assert!(matches!(feed(1, &[message(1, 7), done(1), message(2, 7)]), Err(Fault::Malformed(_))));
    }

    #[test]
    fn a_stream_that_changes_its_generation_is_found() {
        assert!(matches!(feed(2, &[message(1, 7), message(2, 8)]), Err(Fault::TwoOrigins(..))));
    }

    #[test]
    fn events_are_read_from_bytes_in_any_pieces() {
        let text = b": hello\n\nid: 1\ndata: {\"n\":1}\n\nevent: done\ndata: x\ndata: y\n\nda";
        let whole = EventReader::default().push(text);
        let expected = [
            Event { name: None, data: "{\"n\":1}".to_owned() },
            Event { name: Some("done".to_owned()), data: "x\ny".to_owned() },
        ];
        assert_eq!(whole, expected);
        let mut reader = EventReader::default();
        let in_pieces: Vec<Event> = text.iter().flat_map(|byte| reader.push(&[*byte])).collect();
        assert_eq!(in_pieces, expected);
    }
}
