//! A mirror on loopback, which answers each path as it is told and notes what it was asked.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

/// What a path answers.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Everything, whatever part was asked for.
    Body(Bytes),
    /// Says that all of it will come, and breaks off after so many bytes.
    Cut(Bytes, usize),
    /// The part that was asked for, as long as the tag is still this one; breaks off after so many bytes.
    Parts {
        bytes: Bytes,
        tag: Option<&'static str>,
        cut: usize,
    },
    Redirect(String),
    Status(u16),
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) from: Option<usize>,
    pub(super) if_range: Option<String>,
}

/// The mirror. It ends with this.
pub(super) struct Mirror {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Answer>>,
    asked: Mutex<Vec<Asked>>,
}

impl Mirror {
    pub(super) async fn start() -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, stop) = (Arc::<Shared>::default(), CancellationToken::new());
        let (answers, stopped) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            while let Some(Ok((socket, _))) = stopped.run_until_cancelled(listener.accept()).await {
                tokio::spawn(serve(socket, answers.clone()));
            }
        });
        Mirror { address, shared, _stop: stop.drop_guard() }
    }

    pub(super) fn answer(&self, path: &str, answer: Answer) -> String {
        self.shared.answers.lock().insert(path.to_owned(), answer);
        format!("http://{}{path}", self.address)
    }

    pub(super) fn body(&self, path: &str, bytes: &[u8]) -> String {
        self.answer(path, Answer::Body(Bytes::copy_from_slice(bytes)))
    }

    pub(super) fn requests(&self) -> usize {
        self.shared.asked.lock().len()
    }

    /// What was asked since this was last called.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.asked.lock())
    }
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
        line.map(|line| line[name.len() + 2..].to_owned())
    };
    let from =
        header("range").map(|range| range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap());
    let asked = Asked { path: head.split(' ').nth(1).unwrap().to_owned(), from, if_range: header("if-range") };
    shared.asked.lock().push(asked.clone());
    let answer = shared.answers.lock().get(&asked.path).cloned().unwrap_or(Answer::Status(404));
    let (status, extra, body, cut) = match answer {
        Answer::Body(bytes) => (200, String::new(), bytes, usize::MAX),
        Answer::Cut(bytes, cut) => (200, String::new(), bytes, cut),
        Answer::Parts { bytes, tag, cut } => {
            let tagged = tag.map(|tag| format!("etag: {tag}\r\n")).unwrap_or_default();
            let is_same = asked.if_range.as_deref().is_none_or(|asked| Some(asked) == tag);
            match asked.from.filter(|_| is_same) {
                Some(from) if from >= bytes.len() => (416, tagged, Bytes::new(), usize::MAX),
                Some(from) => {
                    let range = format!("content-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
                    (206, tagged + &range, bytes.slice(from..), cut)
                }
                None => (200, tagged, bytes, cut),
            }
        }
        Answer::Redirect(to) => (302, format!("location: {to}\r\n"), Bytes::new(), usize::MAX),
        Answer::Status(status) => (status, String::new(), Bytes::new(), usize::MAX),
    };
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{extra}\r\n", body.len());
    // A client that has gone has seen enough.
    socket.write_all(head.as_bytes()).await.ok();
    socket.write_all(&body[..cut.min(body.len())]).await.ok();
    socket.shutdown().await.ok();
}
