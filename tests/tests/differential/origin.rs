//! The origin behind every proxy: it keeps what it has read, and answers as the path says.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::wire::{Message, Reader};

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Origin {
    pub(crate) fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let kept = kept.clone();
                std::thread::spawn(move || serve(Reader::new(stream), &kept));
            }
        });
        Origin { address, seen }
    }

    pub(crate) fn forget(&self) {
        self.seen.lock().clear();
    }

    pub(crate) fn seen(&self) -> Vec<Message> {
        self.seen.lock().clone()
    }
}

fn serve(mut reader: Reader, kept: &Mutex<Vec<Message>>) {
    while let Some(mut request) = reader.head() {
        if request.fields.iter().any(|(name, _)| name == "expect") {
            let _ = reader.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        reader.body(&mut request, false);
        let path = request.start.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_head = request.start.starts_with("HEAD ");
        kept.lock().push(request);
        let (answer, closes) = answer(&path, is_head);
        if reader.stream.write_all(&answer).is_err() || closes {
            return;
        }
    }
}

/// The bytes of an answer, and whether the connection ends with it.
fn answer(path: &str, is_head: bool) -> (Vec<u8>, bool) {
    let kind = path.split(['?', '/']).nth(1).unwrap_or_default();
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    let with = |lines: &str, body: &[u8]| {
        let lines = format!("{lines}Content-Length: {}\r\n", body.len());
        [head(&lines).as_bytes(), if is_head { &[] } else { body }].concat()
    };
    let big: Vec<u8> = (0..1 << 20).map(|at: u32| u8::try_from(at % 251).unwrap_or_default()).collect();
    match kind {
        "chunked" => (
            [head("Transfer-Encoding: chunked\r\n").as_bytes(), b"5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\n\r\n"]
                .concat(),
            false,
        ),
        "trailers" => (
            [
                head("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n").as_bytes(),
                b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
            ]
            .concat(),
            false,
        ),
        "close" => ([head("Connection: close\r\n").as_bytes(), b"until the end"].concat(), true),
        "nothing" => (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n".to_vec(), false),
        "unchanged" => (b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec(), false),
        "missing" => (b"HTTP/1.1 404 Gone Fishing\r\nContent-Length: 2\r\n\r\nno".to_vec(), false),
        "broken" => (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno".to_vec(), false),
        "moved" => (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere?x=y\r\nContent-Length: 0\r\n\r\n".to_vec(), false),
        "cookies" => (with("Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nX-Empty:\r\nX-Tab: a\tb\r\n", b"ok"), false),
        "early" => ([b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(), with("", b"late")].concat(), false),
        "big" => (with("Content-Type: application/octet-stream\r\n", &big), false),
        "events" => {
            let event = b"10\r\ndata: 012345678\n\r\n";
            let mut bytes = head("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n").into_bytes();
            (0..200).for_each(|_| bytes.extend(event));
            bytes.extend(b"0\r\n\r\n");
            (bytes, false)
        }
        _ => (with("Content-Type: text/plain\r\nX-Hop: kept\r\n", b"hello"), false),
    }
}
