//! HTTP/1 as bytes: one reader for both ends, which knows nothing of any proxy.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::cases::Case;

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Message {
    /// The request line, or the status line.
    pub(crate) start: String,
    /// In the order in which they came; names in lower case, bytes above ASCII escaped.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether it came to the end that it declared.
    pub(crate) complete: bool,
}

/// What belongs to one connection, or is a proxy's own to say.
const OF_THE_WAY: [&str; 16] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "via",
    "server",
    "date",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-real-ip",
    "forwarded",
];

impl Message {
    /// What is meant for the other end: protocol version, order between different fields, framing and what is said
    /// about the way are each proxy's own.
    pub(crate) fn end_to_end(&self) -> Message {
        let mut fields: Vec<_> =
            self.fields.iter().filter(|(name, _)| !OF_THE_WAY.contains(&name.as_str())).cloned().collect();
        // Stable: of several of one name the order counts.
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut words = self.start.split(' ');
        let start = match words.next() {
            Some(version) if version.starts_with("HTTP/") => words.next().unwrap_or_default().to_owned(),
            Some(method) => format!("{method} {}", words.next().unwrap_or_default()),
            None => String::new(),
        };
        Message { start, fields, body: self.body.clone(), complete: self.complete }
    }

    /// What of this is not in another one.
    pub(crate) fn beside(&self, other: &Message) -> String {
        let theirs: BTreeSet<_> = other.fields.iter().collect();
        let own: Vec<_> = self.fields.iter().filter(|field| !theirs.contains(field)).collect();
        let shown = |body: &[u8]| String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        format!("{:?} {own:?} {} bytes {:?} whole: {}", self.start, self.body.len(), shown(&self.body), self.complete)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads messages from one connection.
pub(crate) struct Reader {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// False at the end of input.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(read) => {
                self.buffer.extend(&piece[..read]);
                read > 0
            }
            Err(_) => false,
        }
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    pub(crate) fn head(&mut self) -> Option<Message> {
        let bytes = self.until(b"\r\n\r\n")?;
        let escaped: String = bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect();
        let mut lines = escaped.split("\r\n");
        let start = lines.next()?.to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Some(Message { start, fields, ..Message::default() })
    }

    /// The body of a request, or of a response that has one.
    pub(crate) fn body(&mut self, message: &mut Message, until_close: bool) {
        if message.field("transfer-encoding").is_some() {
            message.complete = loop {
                let Some(line) = self.until(b"\r\n") else { break false };
                let size = String::from_utf8_lossy(&line).trim().split(';').next().unwrap().to_owned();
                let size = usize::from_str_radix(&size, 16).unwrap();
                if size == 0 {
                    // Trailers, up to an empty line.
                    while self.until(b"\r\n").is_some_and(|line| line != b"\r\n") {}
                    break true;
                }
                let Some(chunk) = self.exactly(size + 2) else { break false };
                message.body.extend(&chunk[..size]);
            };
        } else if let Some(length) = message.field("content-length") {
            let length = length.parse().unwrap();
            if let Some(body) = self.exactly(length) {
                (message.body, message.complete) = (body, true);
            }
        } else if until_close {
            while self.fill() {}
            (message.body, message.complete) = (std::mem::take(&mut self.buffer), true);
        } else {
            message.complete = true;
        }
    }
}

/// Sends a case through a proxy, and reads every answer.
pub(crate) fn ask(proxy: SocketAddr, case: &Case) -> Vec<Message> {
    let mut reader = Reader::new(TcpStream::connect(proxy).unwrap());
    let mut stream = reader.stream.try_clone().unwrap();
    let (first, rest) = (case.bytes.clone(), case.after_100.clone());
    // An upload may be longer than what the buffers on the way take.
    let sender = std::thread::spawn(move || drop(stream.write_all(&first)));
    let mut responses = Vec::new();
    while responses.len() < case.answers {
        let Some(mut response) = reader.head() else { break };
        let status = response.start.split(' ').nth(1).unwrap_or_default().to_owned();
        if status.starts_with('1') {
            let _ = reader.stream.write_all(&rest);
            continue;
        }
        if case.is_head || ["204", "304"].contains(&status.as_str()) {
            response.complete = true;
        } else {
            reader.body(&mut response, true);
        }
        responses.push(response);
    }
    let _ = reader.stream.shutdown(std::net::Shutdown::Both);
    sender.join().unwrap();
    responses
}
