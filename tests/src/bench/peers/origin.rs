//! The origin behind every contender: as little work as can be, in the thread of the load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a small answer has for a body, in bytes.
pub const SMALL: usize = 64;
/// What a large one has.
pub const LARGE: usize = 1 << 20;
/// What an event of a stream has, in bytes, with its end.
pub const EVENT: usize = 100;
/// How often a stream says something.
pub const EVERY: Duration = Duration::from_secs(1);

/// The answers, made once.
struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
    chunked: Vec<u8>,
    events: Vec<u8>,
}

/// Binds `count` addresses and serves them from the runtime that this is called in.
pub async fn serve(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for number in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("an origin cannot listen")?;
        addresses.push(listener.local_addr()?);
        let answers = Arc::new(Answers::of(number));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, answers.clone()));
            }
        });
    }
    Ok(addresses)
}

impl Answers {
    /// Those of the origin with this number, which each small and large one names.
    fn of(number: usize) -> Self {
        let with_length = |body: &[u8]| {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Origin: {number}\r\nContent-Length: {length}\r\n\r\n"
            );
            [head.as_bytes(), body].concat()
        };
        let chunked =
            |kind: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut pieces = chunked("application/octet-stream").into_bytes();
        for _ in 0..LARGE / 65_536 {
            pieces.extend(b"10000\r\n");
            pieces.extend([b'x'; 65_536]);
            pieces.extend(b"\r\n");
        }
        pieces.extend(b"0\r\n\r\n");
        Self {
            small: with_length(&[b'x'; SMALL]),
            large: with_length(&vec![b'x'; LARGE]),
            chunked: pieces,
            events: chunked("text/event-stream").into_bytes(),
        }
    }
}

async fn connection(mut stream: TcpStream, answers: Arc<Answers>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(1_024);
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        }
        // `…/small`, `…/large`, `…/chunked`, `…/events`: the last segment says what is asked for.
        let line = buffer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let kind = target.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let sent = match kind {
            b"large" => stream.write_all(&answers.large).await,
            b"chunked" => stream.write_all(&answers.chunked).await,
            b"events" => return events(stream, &answers).await,
            _ => stream.write_all(&answers.small).await,
        };
        if sent.is_err() {
            return;
        }
        buffer.clear();
    }
}

/// One event each time, for as long as anybody listens.
async fn events(mut stream: TcpStream, answers: &Answers) {
    if stream.write_all(&answers.events).await.is_err() {
        return;
    }
    let first = tokio::time::Instant::now() + EVERY.mul_f64(rand::random());
    let mut tick = tokio::time::interval_at(first, EVERY);
    for number in 0_u32.. {
        tick.tick().await;
        if stream.write_all(event(number).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One chunk: the number is what a client checks.
fn event(number: u32) -> String {
    let text = format!("data: {number:08} {}\n\n", "x".repeat(EVENT - 17));
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_as_long_as_is_said() {
        assert!(event(7).starts_with(&format!("{EVENT:x}\r\ndata: 00000007 x")));
        assert_eq!(event(7).len(), EVENT + 6);
    }
}
