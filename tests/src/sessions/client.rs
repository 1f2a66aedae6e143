//! A client of session hosts, written from the contract and not with the product's own code.
//!
//! Must not live here: what is expected of a host beyond that contract.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

const WITHIN: Duration = Duration::from_secs(60);
/// A stream says something at least this often.
const SILENCE: Duration = Duration::from_secs(30);

/// A session: whoever has its key may ask.
#[derive(Debug, Clone)]
pub struct Session {
    key: SigningKey,
    pub escrow: String,
}

/// A signed request, which may be sent more than once.
#[derive(Debug, Clone)]
pub struct Asked {
    path: String,
    body: Bytes,
    signature: String,
    timestamp: String,
}

/// What a client has heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub status: u16,
    /// The id and the data of each event.
    pub events: Vec<(String, String)>,
    pub end: End,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With the meta event.
    Whole,
    /// With a typed code: of an event, or of a refusal.
    Typed(String),
    /// In the middle of it.
    Cut(String),
}

impl Session {
    pub fn new(escrow: &str) -> Session {
        Session::of(escrow, escrow)
    }

    /// The same session in the eyes of whoever has this secret.
    pub fn of(escrow: &str, secret: &str) -> Session {
        let key = SigningKey::from_slice(&Sha256::digest(secret)).expect("a hash is a key");
        Session { key, escrow: escrow.to_owned() }
    }

    /// Asks for the next inference: one diff, and so many tokens.
    pub fn asks(&self, prefix: &str, nonce: u64, tokens: u32) -> Asked {
        self.asks_with(prefix, nonce, tokens, &format!("step {nonce}"))
    }

    /// The same, with these words in the diff.
    pub fn asks_with(&self, prefix: &str, nonce: u64, tokens: u32, words: &str) -> Asked {
        let coded = |text: &str| STANDARD.encode(text);
        let body = json!({
            "diffs": [{"nonce": nonce, "txs": coded(words), "user_sig": coded("me"), "post_state_root": coded("root")}],
            "nonce": nonce,
            "payload": {
                "prompt": coded("one two three"), "model": "echo", "input_length": 3, "max_tokens": tokens,
                "started_at": 0,
            },
            "stream": true,
        });
        self.sign(&format!("{prefix}/sessions/{}/chat/completions", self.escrow), body.to_string())
    }

    pub fn sign(&self, path: &str, body: String) -> Asked {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut digest = Sha256::new();
        digest.update(&self.escrow);
        digest.update(&body);
        digest.update(at.to_be_bytes());
        let (signature, recovery) =
            self.key.sign_prehash_recoverable(&Sha256::digest(digest.finalize())).expect("a hash is signed");
        let bytes = [signature.to_bytes().as_slice(), &[recovery.to_byte()]].concat();
        Asked {
            path: path.to_owned(),
            body: body.into(),
            signature: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            timestamp: at.to_string(),
        }
    }
}

impl Asked {
    /// Spoils the signature, so that it cannot be read as one.
    pub fn forge(&mut self) {
        self.signature.truncate(7);
    }

    /// Sends it to this host, and listens to the end.
    pub async fn send(&self, host: SocketAddr) -> Heard {
        self.resume(host, None, |_| {}).await
    }

    /// Sends it again, for what follows this event; `heard` is called for each event as it comes.
    pub async fn resume(&self, host: SocketAddr, last: Option<&str>, heard: impl FnMut(usize)) -> Heard {
        let (mut events, mut status) = (Vec::new(), 0);
        let end = match self.listen(host, last, &mut status, &mut events, heard).await {
            Ok(end) => end,
            Err(error) => End::Cut(format!("{error:#}")),
        };
        Heard { status, events, end }
    }

    async fn listen(
        &self,
        host: SocketAddr,
        last: Option<&str>,
        status: &mut u16,
        events: &mut Vec<(String, String)>,
        mut heard: impl FnMut(usize),
    ) -> anyhow::Result<End> {
        let asking = Request::builder().method(Method::POST).uri(&self.path).header(HOST, "localhost");
        let mut asking = asking.body(Full::new(self.body.clone()))?;
        let headers = asking.headers_mut();
        headers.insert("x-devshard-signature", self.signature.parse()?);
        headers.insert("x-devshard-timestamp", self.timestamp.parse()?);
        if let Some(last) = last {
            headers.insert("last-event-id", last.parse()?);
        }
        let stream = TokioIo::new(TcpStream::connect(host).await?);
        let (mut sender, driver) = hyper::client::conn::http1::handshake(stream).await?;
        // What ends the driver also ends the stream, where it is noticed.
        tokio::spawn(driver);
        let response = tokio::time::timeout(WITHIN, sender.send_request(asking)).await??;
        *status = response.status().as_u16();
        let mut body = response.into_body();
        let mut text = String::new();
        while let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await? {
            let Ok(data) = frame?.into_data() else { continue };
            text.push_str(std::str::from_utf8(&data)?);
            while let Some((event, rest)) = text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let of = |name: &str| {
                    let lines = event.lines().filter_map(|line| line.strip_prefix(name));
                    lines.collect::<Vec<_>>().join("\n")
                };
                let (id, kind, data) = (of("id: "), of("event: "), of("data: "));
                if kind == "error" {
                    return Ok(End::Typed(code(&data)));
                }
                let is_meta = data.starts_with("{\"devshard_meta\"");
                events.push((id, data));
                heard(events.len());
                if is_meta {
                    return Ok(End::Whole);
                }
            }
        }
        if *status == 200 { anyhow::bail!("the stream ends without its end") } else { Ok(End::Typed(code(&text))) }
    }
}

impl Heard {
    /// Whether it is everything, from the receipt to the meta event, with the tokens that the engine says.
    pub fn is_whole(&self, tokens: u32) -> Result<(), String> {
        let expected = usize::try_from(tokens).unwrap_or(usize::MAX - 3) + 3;
        if self.end != End::Whole || self.events.len() != expected {
            return Err(format!("{} events of {expected}, {:?}", self.events.len(), self.end));
        }
        for (n, (id, _)) in self.events.iter().enumerate() {
            if id.split(':').nth(1) != Some(&n.to_string()) {
                return Err(format!("event {n} has the id {id}"));
            }
        }
        let words = ["one ", "two ", "three "];
        for (n, (_, data)) in self.events[1..expected - 2].iter().enumerate() {
            let chunk: Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
            if chunk["choices"][0]["delta"]["content"] != words[n % 3] {
                return Err(format!("token {n} is {chunk}"));
            }
        }
        let (first, done) = (&self.events[0].1, &self.events[expected - 2].1);
        if !first.starts_with("{\"devshard_receipt\"") || done != "[DONE]" {
            return Err(format!("it begins with {first} and ends with {done}"));
        }
        Ok(())
    }

    /// The id of the last event.
    pub fn last(&self) -> Option<&str> {
        self.events.last().map(|(id, _)| id.as_str())
    }
}

/// Tells whoever still wants to know.
pub fn told<T>(sender: &UnboundedSender<T>, what: T) {
    // A test that has seen enough does not listen any more.
    sender.send(what).ok();
}

/// Waits until so many streams have told that they have heard this many events.
pub async fn until_heard(told: &mut UnboundedReceiver<usize>, streams: usize, events: usize) -> anyhow::Result<()> {
    let mut open = 0;
    while open < streams {
        open += usize::from(told.recv().await.context("the streams have ended")? == events);
    }
    Ok(())
}

fn code(data: &str) -> String {
    let value: Value = serde_json::from_str(data).unwrap_or_default();
    value["error"]["code"].as_str().map_or_else(|| format!("untyped: {data}"), str::to_owned)
}
