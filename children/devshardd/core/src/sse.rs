//! A stream of server-sent events, taken apart as it comes from a model.
//!
//! Pure and bounded: bytes may be split anywhere, an event may not be larger than it may.

/// What a model may say in one event, in bytes.
pub const EVENT_BYTES: usize = 1 << 20;

/// The data of the event that ends a stream.
pub const DONE: &[u8] = b"[DONE]";

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("an event is larger than {EVENT_BYTES} bytes")]
    TooLarge,
}

/// Takes a stream apart.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
}

impl Parser {
    /// The data of each event that has ended in these bytes, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, SseError> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\r' | b'\n' => {
                    self.after_cr = *byte == b'\r';
                    events.extend(self.end_line());
                }
                byte => {
                    self.after_cr = false;
                    if self.line.len() + self.data.len() >= EVENT_BYTES {
                        return Err(SseError::TooLarge);
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(events)
    }

    /// Whether something was begun that has not ended.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        self.line.is_empty() && !self.has_data
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::default();
        let events = pieces.iter().flat_map(|piece| parser.push(piece).unwrap());
        events.map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn an_event_is_its_data() {
        for (text, expected) in [
            ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
            ("data:a\r\n\r\ndata: b\r\r", vec!["a", "b"]),
            (": comment\n\nevent: x\nid: 7\ndata: a\ndata: b\n\n", vec!["a\nb"]),
            ("data\n\n", vec![""]),
            ("data: {\"a\": \"b:c\"}\n\n", vec!["{\"a\": \"b:c\"}"]),
            ("event: only\n\n", vec![]),
            ("data: not ended\n", vec![]),
        ] {
            assert_eq!(parsed(&[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(b"data: "), Ok(vec![]));
        assert_eq!(parser.push(&vec![b'x'; EVENT_BYTES]), Err(SseError::TooLarge));
        let mut lines = Parser::default();
        let endless = std::iter::repeat_n(&b"data: xxxxxxx\n"[..], EVENT_BYTES / 7);
        assert!(endless.map(|line| lines.push(line)).any(|pushed| pushed == Err(SseError::TooLarge)));
    }

    proptest! {
        #[test]
        fn where_bytes_are_split_does_not_matter(text in "(data|id|:|\r|\n|\r\n| |x){0,60}", cut in any::<prop::sample::Index>()) {
            let bytes = text.as_bytes();
            let at = cut.index(bytes.len() + 1);
            prop_assert_eq!(parsed(&[&bytes[..at], &bytes[at..]]), parsed(&[bytes]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(parsed(&single), parsed(&[bytes]));
        }
    }
}
